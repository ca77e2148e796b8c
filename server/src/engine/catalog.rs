//! The models that the server knows, and all the names that senders have for them (protocol.md section 1).
//!
//! With a schema, its models and no others. Without one, every name is a model: matched without regard to case, spelled
//! as first seen, where a read (which names typenames exactly) beats a write (which sends them in lower case).

use std::collections::BTreeMap;

use ablo_wasm::core::id::ModelIndex;
use ablo_wasm::core::schema::{Model, Schema};

use super::participant::Text;

/// Most models that a server without a schema will learn.
const LEARNED_MODELS_MAX: usize = 1000;
/// Longest model name it will learn.
const NAME_MAX: usize = 200;

/// A model's place in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub u16);

/// What is known about a model.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name that stores use: the typename in lower case.
    pub stored: Text,
    /// The typename, exact.
    pub typename: Text,
    /// Schema key, or the typename without a schema. Kind of the groups `<key>:<id>`, and the word in operations.
    pub key: Text,
    /// Kind of the rows' groups, when the model is a scope root.
    pub scope: Option<Text>,
    /// Its place in the schema.
    model: Option<ModelIndex>,
    /// Whether the spelling is sure.
    sure: bool,
    /// False for models found in the store that the schema no longer has: kept, never shown.
    served: bool,
}

impl Entry {
    /// The row's own group: by scope kind for a scope root, by schema key otherwise.
    pub(super) fn group(&self, id: &str) -> String {
        format!("{}:{id}", self.scope.as_ref().unwrap_or(&self.key))
    }
}

/// All models.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    schema: Option<Schema>,
    entries: Vec<Entry>,
    by_stored: BTreeMap<Text, Slot>,
}

impl Catalog {
    pub(super) fn new(schema: Option<Schema>) -> Self {
        let mut catalog = Self::default();
        for (index, model) in schema.iter().flat_map(Schema::iter) {
            catalog.push(Entry {
                stored: model.typename.to_lowercase().into(),
                typename: model.typename.as_str().into(),
                key: model.key.as_str().into(),
                scope: model.scope.as_deref().map(Text::from),
                model: Some(index),
                sure: true,
                served: true,
            });
        }
        catalog.schema = schema;
        catalog
    }

    fn push(&mut self, entry: Entry) -> Slot {
        let slot = Slot(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        self.by_stored.insert(entry.stored.clone(), slot);
        self.entries.push(entry);
        slot
    }

    /// The slot of a model found in the store.
    pub(super) fn restore(&mut self, stored: &Text, spelling: Option<&Text>) -> Slot {
        if let Some(slot) = self.by_stored.get(stored) {
            return *slot;
        }
        let typename = spelling.unwrap_or(stored).clone();
        self.push(Entry {
            stored: stored.clone(),
            key: typename.clone(),
            sure: typename != *stored,
            typename,
            scope: None,
            model: None,
            served: self.schema.is_none(),
        })
    }

    /// The model that a sender means, if there is one.
    pub(super) fn resolve(&self, name: &str) -> Option<Slot> {
        match &self.schema {
            Some(schema) => schema.resolve(name).map(|index| Slot(index.0)),
            None => self.by_stored.get(name.to_lowercase().as_str()).copied(),
        }
    }

    /// As [`Catalog::resolve`]; without a schema, an unknown name becomes a model. `sure` says that the sender spells
    /// typenames exactly. The second part tells that the spelling is new and must be stored.
    pub(super) fn learn(&mut self, name: &str, sure: bool) -> Option<(Slot, bool)> {
        if self.schema.is_some() {
            return self.resolve(name).map(|slot| (slot, false));
        }
        if let Some(slot) = self.resolve(name) {
            let entry = self.entries.get_mut(usize::from(slot.0))?;
            let respell = sure && !entry.sure;
            entry.sure |= sure;
            if respell && *entry.typename != *name {
                entry.typename = name.into();
                entry.key = entry.typename.clone();
                return Some((slot, true));
            }
            return Some((slot, false));
        }
        if self.entries.len() >= LEARNED_MODELS_MAX || name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let entry = Entry {
            stored: name.to_lowercase().into(),
            typename: name.into(),
            key: name.into(),
            scope: None,
            model: None,
            sure,
            served: true,
        };
        Some((self.push(entry), true))
    }

    /// What is known about a model. A slot comes from this catalog, so there is an entry.
    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[usize::from(slot.0)]
    }

    /// The model's declaration, with a schema.
    pub(super) fn model(&self, slot: Slot) -> Option<&Model> {
        self.schema.as_ref()?.model(self.entry(slot).model?)
    }

    /// The models that are shown.
    pub(super) fn served(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let numbered = self.entries.iter().enumerate();
        numbered
            .filter(|(_, entry)| entry.served)
            .map(|(index, entry)| (Slot(u16::try_from(index).unwrap_or(u16::MAX)), entry))
    }

    /// Whether every name is a model.
    pub(super) fn is_open(&self) -> bool {
        self.schema.is_none()
    }

    /// The models whose rows form groups of this kind.
    pub(super) fn of_group_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = Slot> + 'a {
        self.served()
            .filter(move |(_, entry)| &*entry.key == kind || entry.scope.as_deref() == Some(kind))
            .map(|(slot, _)| slot)
    }

    /// The slot of a schema key.
    pub(super) fn of_key(&self, key: &str) -> Option<Slot> {
        self.entries.iter().position(|entry| &*entry.key == key).and_then(|index| u16::try_from(index).ok()).map(Slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_schema_reads_decide_the_spelling() {
        let mut catalog = Catalog::new(None);
        let (slot, new) = catalog.learn("task", false).unwrap();
        assert!(new);
        assert_eq!(&*catalog.entry(slot).typename, "task");
        assert_eq!(catalog.learn("Task", true), Some((slot, true)));
        assert_eq!(catalog.learn("TASK", true), Some((slot, false)));
        assert_eq!(&*catalog.entry(slot).typename, "Task");
        assert_eq!(catalog.resolve("tAsK"), Some(slot));
        assert_eq!(catalog.learn("", false), None);
    }
}
