//! One organization's rows, and the overlay in which a commit is tried before it counts.
//!
//! Rows are their JSON text. Nothing here knows what an operation means; that is `commit`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::Value;

use super::catalog::{Catalog, Slot};
use super::group::{self, Extra};
use super::participant::Text;

/// Longest chain of parents that hands groups down.
const PARENT_DEPTH_MAX: usize = 16;

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its JSON text.
    pub text: Text,
    /// Whether `archivedAt` is set.
    pub archived: bool,
    /// Its further groups.
    pub extra: Extra,
    /// The last change of it.
    pub last: SyncId,
}

impl Row {
    pub(super) fn new(text: Text, extra: Extra, last: SyncId) -> Self {
        Self { archived: is_archived(&text), text, extra, last }
    }

    /// The member `field`, if the row has it.
    pub(super) fn get(&self, field: &str) -> Option<Value<'_>> {
        Value::parse(&self.text).ok()?.get(field)
    }
}

fn is_archived(text: &str) -> bool {
    // Most rows do not even mention the field: looking for the word is far cheaper than reading the row.
    text.contains("archivedAt")
        && Value::parse(text).ok().and_then(|row| row.get("archivedAt")).is_some_and(|at| !at.is_null())
}

/// Rows of one model by id. A tree, so that whatever lists them does so in the same order each time.
pub(super) type Table = BTreeMap<Text, Row>;

/// All rows of an organization.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    tables: BTreeMap<Slot, Table>,
    /// Which model an id belongs to: ids are unique across models (protocol.md section 1).
    owners: BTreeMap<Text, Slot>,
}

impl Tenant {
    pub(super) fn put(&mut self, slot: Slot, id: Text, row: Row) {
        self.owners.insert(id.clone(), slot);
        self.tables.entry(slot).or_default().insert(id, row);
    }

    pub(super) fn remove(&mut self, slot: Slot, id: &str) {
        if let Some(table) = self.tables.get_mut(&slot) {
            table.remove(id);
        }
        if self.owners.get(id) == Some(&slot) {
            self.owners.remove(id);
        }
    }

    pub(super) fn get(&self, slot: Slot, id: &str) -> Option<&Row> {
        self.tables.get(&slot)?.get(id)
    }

    /// The row with the id as it is kept.
    pub(super) fn entry(&self, slot: Slot, id: &str) -> Option<(&Text, &Row)> {
        self.tables.get(&slot)?.get_key_value(id)
    }

    pub(super) fn owner(&self, id: &str) -> Option<Slot> {
        self.owners.get(id).copied()
    }

    pub(super) fn rows(&self, slot: Slot) -> impl Iterator<Item = (&Text, &Row)> {
        self.tables.get(&slot).into_iter().flatten()
    }

    /// Works out the further groups of all rows, after a load. Parents may come after children, hence the passes.
    pub(super) fn route_all(&mut self, catalog: &Catalog) {
        let routed = |slot: &Slot| catalog.model(*slot).is_some_and(group::has_extra);
        let slots: Vec<Slot> = self.tables.keys().copied().filter(routed).collect();
        for _ in 0..PARENT_DEPTH_MAX {
            let mut moved: Vec<(Slot, Text, Extra)> = Vec::new();
            for &slot in &slots {
                for (id, row) in self.rows(slot) {
                    let parent = |slot, id: &str| self.get(slot, id).map(|row| row.extra.clone());
                    let extra = group::extra_groups(catalog, slot, &row.text, parent);
                    if extra != row.extra {
                        moved.push((slot, id.clone(), extra));
                    }
                }
            }
            if moved.is_empty() {
                return;
            }
            for (slot, id, extra) in moved {
                if let Some(row) = self.tables.get_mut(&slot).and_then(|table| table.get_mut(&id)) {
                    row.extra = extra;
                }
            }
        }
    }
}

/// A tenant with changes on top that may still be dropped.
pub(super) struct Stage<'a> {
    base: &'a Tenant,
    rows: BTreeMap<(Slot, Text), Option<Row>>,
    owners: BTreeMap<Text, Option<Slot>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(base: &'a Tenant) -> Self {
        Self { base, rows: BTreeMap::new(), owners: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, slot: Slot, id: &Text, row: Row) {
        self.owners.insert(id.clone(), Some(slot));
        self.rows.insert((slot, id.clone()), Some(row));
    }

    pub(super) fn remove(&mut self, slot: Slot, id: &Text) {
        self.owners.insert(id.clone(), None);
        self.rows.insert((slot, id.clone()), None);
    }

    pub(super) fn get(&self, slot: Slot, id: &str) -> Option<&Row> {
        match self.rows.get(&(slot, Arc::from(id))) {
            Some(staged) => staged.as_ref(),
            None => self.base.get(slot, id),
        }
    }

    pub(super) fn owner(&self, id: &str) -> Option<Slot> {
        match self.owners.get(id) {
            Some(staged) => *staged,
            None => self.base.owner(id),
        }
    }

    /// Ids of the rows of a model whose field has this text.
    pub(super) fn ids_with(&self, slot: Slot, field: &str, value: &str) -> Vec<Text> {
        let fits = |row: &Row| row.get(field).and_then(Value::as_json_str).is_some_and(|text| text.is(value));
        let untouched = self.base.rows(slot).filter(|(id, _)| !self.rows.contains_key(&(slot, (*id).clone())));
        let mut ids: Vec<Text> = untouched.filter(|(_, row)| fits(row)).map(|(id, _)| id.clone()).collect();
        let staged = self.rows.iter().filter(|((staged, _), row)| *staged == slot && row.as_ref().is_some_and(fits));
        ids.extend(staged.map(|((_, id), _)| id.clone()));
        ids.sort();
        ids
    }

    /// The changes: rows by model and id, `None` for those that are gone.
    pub(super) fn into_rows(self) -> BTreeMap<(Slot, Text), Option<Row>> {
        self.rows
    }
}
