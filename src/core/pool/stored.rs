//! Confirmed rows as a record of the cache, to be taken in again without being read.
//!
//! A record is the model's number and the state that the rows stand for, each followed by a space; then each row's
//! length, whether it is archived (1 or 0), place and length of the id in it, each followed by a space, and its text; in
//! the end the hash of all that. A row whose id is escaped says that it is at 0, where no id can be. Whoever damages a
//! record without its hash is found out, so a row needs no checking before it is asked for.

use super::{Chunk, Pool, RowText};
use crate::core::id::{ModelIndex, SyncId};
use crate::core::index::hash_id;
use crate::core::json::{Value, write_u64};
use crate::core::text::hex;

const HASH_DIGITS: u32 = 8;

impl Pool {
    /// Makes a record of confirmed rows from slot `from` on, of about `bytes`, empty if there are none; and the slot to go
    /// on with, or `None` when that was all. `cursor` is what the rows stand for.
    pub fn write_record(&self, model: ModelIndex, from: u32, bytes: usize, cursor: SyncId) -> (String, Option<u32>) {
        let mut out = String::new();
        let mut next = None;
        let Some(rows) = self.rows(model) else { return (out, next) };
        for slot in from..u32::try_from(rows.marks.len()).unwrap_or(u32::MAX) {
            let Some(text) = rows.base(slot) else { continue };
            if out.len() > bytes {
                next = Some(slot);
                break;
            }
            if out.is_empty() {
                put(&mut out, u64::from(model.0));
                put(&mut out, cursor.0);
            }
            let (id_at, id_len) = rows.id_place(slot);
            put(&mut out, text.len() as u64);
            put(&mut out, u64::from(rows.is_base_archived(slot)));
            put(&mut out, u64::from(id_at));
            put(&mut out, u64::from(id_len));
            out.push_str(text.as_str());
        }
        if !out.is_empty() {
            out.push_str(&hash(&out));
        }
        (out, next)
    }

    /// Takes the rows of a record in. `None` when it is not as [`Pool::write_record`] made it: then some of the rows may be
    /// here, and others not.
    pub fn read_record(&mut self, record: Vec<u8>) -> Option<()> {
        let chunk = Chunk::new(String::from_utf8(record).ok()?);
        let end = chunk.len().checked_sub(HASH_DIGITS as usize)?;
        if chunk.get(end..)? != hash(chunk.get(..end)?) {
            return None;
        }
        let mut at = 0;
        let model = ModelIndex(u16::try_from(take(&chunk, &mut at)?).ok()?);
        let cursor = SyncId(take(&chunk, &mut at)?);
        while at < end {
            let len = take_len(&chunk, &mut at)?;
            let archived = take(&chunk, &mut at)? == 1;
            let id_at = take_len(&chunk, &mut at)?;
            let id_len = take_len(&chunk, &mut at)?;
            let place = at..at.checked_add(len)?;
            at = place.end;
            let row = chunk.get(place.clone())?;
            let text = RowText::slice(&chunk, place);
            if id_at > 0 {
                let id = row.get(id_at..id_at.checked_add(id_len)?)?;
                self.put_base_scanned(model, id, text, archived, cursor);
            } else {
                let id = Value::known_object(row).get_string("id")?;
                self.put_base_scanned(model, &id, text, archived, cursor);
            }
        }
        Some(())
    }
}

/// The hash of a record, as it stands at its end.
fn hash(text: &str) -> String {
    hex(u64::from(hash_id(0, text)), HASH_DIGITS)
}

fn put(out: &mut String, number: u64) {
    write_u64(out, number);
    out.push(' ');
}

/// The number at `at`, which is then behind its space.
fn take(text: &str, at: &mut usize) -> Option<u64> {
    let mut number = 0_u64;
    loop {
        let byte = *text.as_bytes().get(*at)?;
        *at += 1;
        match byte {
            b' ' => return Some(number),
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            _ => return None,
        }
    }
}

fn take_len(text: &str, at: &mut usize) -> Option<usize> {
    usize::try_from(take(text, at)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::schema::Schema;

    const MODEL: ModelIndex = ModelIndex(1);
    /// More than 32 bits.
    const CURSOR: SyncId = SyncId(9_000_000_000_000);

    fn empty() -> Pool {
        let schema = r#"{"v":3,"models":{"tasks":{"typename":"Task"},"notes":{"typename":"Note"}}}"#;
        Pool::new(&Schema::parse(schema).unwrap(), 7)
    }

    fn records(pool: &Pool, bytes: usize) -> Vec<String> {
        let (mut from, mut all) = (Some(0), Vec::new());
        while let Some(slot) = from {
            let (record, next) = pool.write_record(MODEL, slot, bytes, CURSOR);
            all.push(record);
            from = next;
        }
        all
    }

    fn rows(pool: &Pool) -> Vec<(String, String, SyncId)> {
        let row = |slot| {
            let row = super::super::RowRef { model: MODEL, slot };
            (pool.id(row).unwrap().to_owned(), pool.base(row).unwrap().as_str().to_owned(), pool.stamp(row))
        };
        pool.base_slots(MODEL).map(row).collect()
    }

    #[test]
    fn nothing_makes_no_record() {
        assert_eq!(empty().write_record(MODEL, 0, 100, SyncId(1)), (String::new(), None));
        assert_eq!(empty().write_record(ModelIndex(7), 0, 100, SyncId(1)), (String::new(), None));
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(
            ids in prop::collection::btree_set("[a\"\\\\é/ ]{1,6}", 0..12),
            before in "[a\"é]{0,9}", archived: bool, bytes in 0_usize..400,
        ) {
            let mut pool = empty();
            for (at, id) in ids.iter().enumerate() {
                let mut row = serde_json::json!({"a": {"id": before}, "id": id, "n": at});
                if archived {
                    row["archivedAt"] = "2026".into();
                }
                pool.put_base(MODEL, id, RowText::own(row.to_string()), CURSOR);
            }
            let mut again = empty();
            for record in records(&pool, bytes) {
                prop_assert!(record.is_empty() || again.read_record(record.into_bytes()).is_some());
            }
            prop_assert_eq!(rows(&again), rows(&pool));
            let archives = |pool: &Pool| pool.rows(MODEL).map(|rows| rows.archived);
            prop_assert_eq!(archives(&again), archives(&pool));
        }

        #[test]
        fn damage_is_found_out(at: prop::sample::Index, bit in 0_u8..8, cut: bool) {
            let mut pool = empty();
            for id in ["a", "b", "c"] {
                pool.put_base(MODEL, id, RowText::own(format!(r#"{{"id":"{id}","title":"é"}}"#)), CURSOR);
            }
            let mut record = records(&pool, 1000).remove(0).into_bytes();
            let at = at.index(record.len());
            if cut {
                record.truncate(at);
            } else {
                record[at] ^= 1 << bit;
            }
            prop_assert_eq!(empty().read_record(record), None);
        }

        /// Nor does a record that was made with its hash to do harm.
        #[test]
        fn hostile_records_are_harmless(text in "[0-9 a{}\":id é]{0,60}", id_at in any::<u32>(), len in any::<u32>()) {
            for body in [text.clone(), format!("1 9 {len} 0 {id_at} 3 {text}"), format!("1 9 {} 0 {id_at} {len} {text}", text.len())] {
                let record = format!("{body}{}", hash(&body));
                let mut pool = empty();
                pool.read_record(record.into_bytes());
                for (id, ..) in rows(&pool) {
                    prop_assert!(pool.find(MODEL, &id).is_some());
                }
            }
        }
    }
}
