//! Keys and records of what is stored.

use crate::core::store::{ObjectStore, StoreChange, StoreRequest};
use crate::core::text::{concat, hex, parse_hex};

/// Behind all keys.
pub(super) const LAST: &str = "~";
pub(super) const META: &str = "meta";
const GENERATION_DIGITS: u32 = 12;
const JOURNAL: &str = "j/";
pub(super) const LETTERS: &str = "l/";

/// All records from a key on.
pub(super) fn all(store: ObjectStore, from: &str) -> StoreRequest {
    StoreRequest::Read { store, from: from.to_owned(), to: LAST.to_owned() }
}

/// The first key behind this one.
pub(super) fn after(key: &str) -> String {
    concat(&[key, "\0"])
}

pub(super) fn journal_key(order: u64) -> String {
    concat(&[JOURNAL, &hex(order, 16)])
}

pub(super) fn journal_order(key: &str) -> Option<u64> {
    parse_hex(key.strip_prefix(JOURNAL)?)
}

pub(super) fn letter_id(key: &str) -> Option<&str> {
    key.strip_prefix(LETTERS)
}

pub(super) fn log_key(generation: u64, number: u64) -> String {
    in_generation(generation, &concat(&["/g/", &hex(number, 8)]))
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

/// A key of a generation of the cache.
pub(super) fn in_generation(generation: u64, rest: &str) -> String {
    concat(&[&hex(generation, GENERATION_DIGITS), rest])
}

/// The generation that a key belongs to.
pub(super) fn generation_of(key: &str) -> Option<u64> {
    parse_hex(key.get(..GENERATION_DIGITS as usize)?)
}
