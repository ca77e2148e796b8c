//! Keys and records of what is stored.

use crate::core::store::{ObjectStore, StoreChange, StoreRequest};

/// Behind all keys.
pub(super) const LAST: &str = "~";
pub(super) const META: &str = "meta";
const JOURNAL: &str = "j/";
pub(super) const LETTERS: &str = "l/";

/// All records from a key on.
pub(super) fn all(store: ObjectStore, from: &str) -> StoreRequest {
    StoreRequest::Read { store, from: from.to_owned(), to: LAST.to_owned() }
}

/// The first key behind this one.
pub(super) fn after(key: &str) -> String {
    [key, "\0"].concat()
}

pub(super) fn journal_key(order: u64) -> String {
    format!("{JOURNAL}{order:016x}")
}

pub(super) fn journal_order(key: &str) -> Option<u64> {
    u64::from_str_radix(key.strip_prefix(JOURNAL)?, 16).ok()
}

pub(super) fn letter_id(key: &str) -> Option<&str> {
    key.strip_prefix(LETTERS)
}

pub(super) fn log_key(generation: u64, number: u64) -> String {
    format!("{generation:012x}/g/{number:08x}")
}

pub(super) fn put(key: String, text: String) -> StoreChange {
    StoreChange::Put { store: ObjectStore::Journal, key, value: text.into_bytes() }
}

pub(super) fn put_cache(key: String, text: String) -> StoreChange {
    StoreChange::Put { store: ObjectStore::Cache, key, value: text.into_bytes() }
}

pub(super) fn remove(key: &str) -> StoreChange {
    StoreChange::Remove { store: ObjectStore::Journal, from: key.to_owned(), to: after(key) }
}
