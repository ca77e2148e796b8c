//! What lasts: the records that a store keeps, and the batches that change them.
//!
//! The engine never writes; it says what to write. [`Stored::apply`] is the meaning of a [`StoreChange`] in memory, for
//! stores that are one (the simulation's), and the reference for those that are not (SQLite).

use std::collections::BTreeMap;

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::time::WallTime;

use super::claim::Fence;
use super::participant::Text;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Its tenant.
    pub organization: Text,
    /// Its model: the typename in lower case.
    pub model: Text,
    /// Its id.
    pub id: Text,
    /// The row, as JSON text.
    pub data: Text,
    /// The last change of it.
    pub last_sync_id: SyncId,
}

/// What a change did to its row. Not the letter on the wire: that depends on who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The row is new.
    Insert,
    /// Fields changed.
    Update,
    /// The row is gone.
    Delete,
    /// It was archived.
    Archive,
    /// It is live again; an `Update` with the next id follows.
    Restore,
    /// Only its groups changed, because a parent's did.
    Reroute,
}

impl Verb {
    /// All verbs with the letter that stores keep.
    const LETTERS: [(Self, &'static str); 6] = [
        (Self::Insert, "I"),
        (Self::Update, "U"),
        (Self::Delete, "D"),
        (Self::Archive, "A"),
        (Self::Restore, "C"),
        (Self::Reroute, "R"),
    ];

    /// The letter that stores keep.
    pub fn letter(self) -> &'static str {
        Self::LETTERS.iter().find(|(verb, _)| *verb == self).map_or("U", |(_, letter)| letter)
    }

    /// Reads the letter.
    pub fn parse(letter: &str) -> Option<Self> {
        Self::LETTERS.iter().find(|(_, known)| *known == letter).map(|(verb, _)| *verb)
    }
}

/// One change in the history: everything about it but the row, which is sent as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelta {
    /// Its place in the stream.
    pub id: SyncId,
    /// The tenant.
    pub organization: Text,
    /// The model: the typename in lower case.
    pub model: Text,
    /// The row.
    pub row: Text,
    /// What happened.
    pub verb: Verb,
    /// The row's further groups before, `None` when there was no row.
    pub groups_before: Option<Vec<Text>>,
    /// The row's further groups after, `None` when there is no row.
    pub groups_after: Option<Vec<Text>>,
    /// Fields that were written; `None` means all of them. For stale checks.
    pub fields: Option<Vec<Text>>,
    /// Fields that became `[]` or `{}`: sent as `null` (protocol.md 9.2).
    pub emptied: Vec<Text>,
    /// Who did it: kind and id.
    pub actor: Text,
    /// When.
    pub at: WallTime,
}

/// An accepted commit, remembered so that repeating it has no second effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommit {
    /// The tenant.
    pub organization: Text,
    /// The idempotency key.
    pub key: Text,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// The answer, as JSON text.
    pub receipt: Text,
    /// When it was accepted.
    pub at: WallTime,
}

/// An applied operation with a name, remembered per participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// The tenant.
    pub organization: Text,
    /// Who sent it: kind and id.
    pub participant: Text,
    /// The sender's name for it.
    pub transaction_id: Text,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// The last delta it caused, or the head then.
    pub sync_id: SyncId,
    /// When it was applied.
    pub at: WallTime,
}

/// An issued key. The token itself is never kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// SHA-256 of the token, lower-case hexadecimal.
    pub hash: Text,
    /// The participant, as JSON text.
    pub record: Text,
    /// When it stops working.
    pub expires_at: WallTime,
}

/// Everything that one step of the engine changed. Atomic: all of it becomes durable or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreChange {
    /// The new head, when it moved.
    pub head: Option<SyncId>,
    /// Model names: lower case, then as spelled.
    pub models: Vec<(Text, Text)>,
    /// Rows that are new or changed.
    pub rows: Vec<StoredRow>,
    /// Rows that are gone: organization, model, id.
    pub removed: Vec<(Text, Text, Text)>,
    /// New history.
    pub deltas: Vec<StoredDelta>,
    /// New idempotency records.
    pub commits: Vec<StoredCommit>,
    /// New operation records.
    pub transactions: Vec<StoredTransaction>,
    /// Keys issued.
    pub keys: Vec<StoredKey>,
    /// Claims are granted under fences up to this one; a later run begins behind it.
    pub fence: Option<Fence>,
    /// History up to and including this id is forgotten.
    pub history_floor: Option<SyncId>,
    /// Idempotency records from before this moment are forgotten.
    pub forget_before: Option<WallTime>,
    /// Keys that ended before this moment are forgotten.
    pub forget_keys_before: Option<WallTime>,
}

impl StoreChange {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The highest id ever given out.
    pub head: SyncId,
    /// History up to and including this id is gone.
    pub history_floor: SyncId,
    /// Claims may have been granted under fences up to this one.
    pub fence: Fence,
    /// Idempotency records from before this moment are gone.
    pub forgotten: WallTime,
    /// Model names: lower case to spelling.
    pub models: BTreeMap<Text, Text>,
    /// Rows by organization, model and id.
    pub rows: BTreeMap<(Text, Text, Text), StoredRow>,
    /// History by id.
    pub deltas: BTreeMap<SyncId, StoredDelta>,
    /// Idempotency records by organization and key.
    pub commits: BTreeMap<(Text, Text), StoredCommit>,
    /// Operation records by organization, participant and name.
    pub transactions: BTreeMap<(Text, Text, Text), StoredTransaction>,
    /// Issued keys by hash.
    pub keys: BTreeMap<Text, StoredKey>,
}

impl Stored {
    /// Makes a change.
    pub fn apply(&mut self, change: StoreChange) {
        self.head = self.head.max(change.head.unwrap_or_default());
        self.fence = self.fence.max(change.fence.unwrap_or_default());
        self.models.extend(change.models);
        for row in change.rows {
            self.rows.insert((row.organization.clone(), row.model.clone(), row.id.clone()), row);
        }
        for key in change.removed {
            self.rows.remove(&key);
        }
        self.deltas.extend(change.deltas.into_iter().map(|delta| (delta.id, delta)));
        for commit in change.commits {
            self.commits.insert((commit.organization.clone(), commit.key.clone()), commit);
        }
        for record in change.transactions {
            let key = (record.organization.clone(), record.participant.clone(), record.transaction_id.clone());
            self.transactions.insert(key, record);
        }
        self.keys.extend(change.keys.into_iter().map(|key| (key.hash.clone(), key)));
        if let Some(floor) = change.history_floor {
            self.history_floor = self.history_floor.max(floor);
            self.deltas = self.deltas.split_off(&SyncId(floor.0.saturating_add(1)));
        }
        if let Some(moment) = change.forget_before {
            self.forgotten = self.forgotten.max(moment);
            self.commits.retain(|_, commit| commit.at >= moment);
            self.transactions.retain(|_, record| record.at >= moment);
        }
        if let Some(moment) = change.forget_keys_before {
            self.keys.retain(|_, key| key.expires_at >= moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_read_back() {
        for (verb, letter) in Verb::LETTERS {
            assert_eq!((Verb::parse(letter), verb.letter()), (Some(verb), letter));
        }
    }
}
