//! One organization's rows, and the overlay in which a commit is tried before it counts.
//!
//! Rows are their JSON text. Nothing here knows what an operation means; that is `commit`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::Value;

use super::catalog::{Catalog, Slot};
use super::group::{self, Extra, Routing};
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
    /// Ids of the rows whose groups it inherits.
    pub parents: Extra,
    /// The last change of it.
    pub last: SyncId,
}

impl Row {
    pub(super) fn new(text: Text, routing: Routing, last: SyncId) -> Self {
        Self { archived: is_archived(&text), text, extra: routing.extra, parents: routing.parents, last }
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
    /// Rows by the id of a row whose groups they inherit, whether that row exists or not.
    children: BTreeMap<Text, BTreeSet<(Slot, Text)>>,
}

impl Tenant {
    pub(super) fn put(&mut self, slot: Slot, id: Text, row: Row) {
        for parent in row.parents.iter() {
            self.children.entry(parent.clone()).or_default().insert((slot, id.clone()));
        }
        self.owners.insert(id.clone(), slot);
        let parents = row.parents.clone();
        if let Some(old) = self.tables.entry(slot).or_default().insert(id.clone(), row) {
            self.orphan(slot, &id, old.parents.iter().filter(|parent| !parents.contains(parent)));
        }
    }

    pub(super) fn remove(&mut self, slot: Slot, id: &str) {
        let removed = self.tables.get_mut(&slot).and_then(|table| table.remove_entry(id));
        if let Some((id, old)) = removed {
            self.orphan(slot, &id, old.parents.iter());
        }
        if self.owners.get(id) == Some(&slot) {
            self.owners.remove(id);
        }
    }

    /// Forgets that these are parents of a row.
    fn orphan<'p>(&mut self, slot: Slot, id: &Text, parents: impl Iterator<Item = &'p Text>) {
        for parent in parents {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(&(slot, id.clone()));
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
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
            let mut moved: Vec<(Slot, Text, Row)> = Vec::new();
            for &slot in &slots {
                for (id, row) in self.rows(slot) {
                    let parent = |slot, id: &str| self.get(slot, id).map(|row| row.extra.clone());
                    let routing = group::route(catalog, slot, &row.text, parent);
                    if routing.extra != row.extra || routing.parents != row.parents {
                        moved.push((slot, id.clone(), Row::new(row.text.clone(), routing, row.last)));
                    }
                }
            }
            if moved.is_empty() {
                return;
            }
            for (slot, id, row) in moved {
                self.put(slot, id, row);
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

    /// The rows that inherit the groups of the row with this id.
    pub(super) fn children(&self, parent: &Text) -> BTreeSet<(Slot, Text)> {
        let settled = self.base.children.get(parent).into_iter().flatten();
        let mut found: BTreeSet<_> = settled.filter(|key| !self.rows.contains_key(*key)).cloned().collect();
        let inherits = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.parents.contains(parent));
        found.extend(self.rows.iter().filter(|(_, row)| inherits(row)).map(|(key, _)| key.clone()));
        found
    }

    /// The changes: rows by model and id, `None` for those that are gone.
    pub(super) fn into_rows(self) -> BTreeMap<(Slot, Text), Option<Row>> {
        self.rows
    }
}
