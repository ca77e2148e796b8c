//! Which operations wait for which row.

use super::{OpSeq, RowKey};
use crate::core::index::{Index, hash_id};

/// The operations of each row that has some, oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingRows {
    index: Index,
    rows: Vec<(RowKey, Vec<OpSeq>)>,
}

impl PendingRows {
    /// Adds an operation behind the others of its row.
    pub(super) fn push(&mut self, row: RowKey, seq: OpSeq) {
        if let Some(seqs) = self.get_mut(&row) {
            seqs.push(seq);
            return;
        }
        self.index.insert(hash(&row), self.rows.len() as u32);
        self.rows.push((row, vec![seq]));
    }

    pub(super) fn get(&self, row: &RowKey) -> Option<&Vec<OpSeq>> {
        self.rows.get(self.find(row)?).map(|entry| &entry.1)
    }

    pub(super) fn get_mut(&mut self, row: &RowKey) -> Option<&mut Vec<OpSeq>> {
        let place = self.find(row)?;
        self.rows.get_mut(place).map(|entry| &mut entry.1)
    }

    /// Takes all operations of a row out.
    pub(super) fn remove(&mut self, row: &RowKey) -> Option<Vec<OpSeq>> {
        let place = self.find(row)?;
        let last = self.rows.len() - 1;
        if let Some((row, _)) = self.rows.last() {
            // The last one takes the place.
            let hash = hash(row);
            self.index.remove(hash, last as u32);
            if place != last {
                self.index.insert(hash, place as u32);
            }
        }
        if place != last {
            self.index.remove(hash(row), place as u32);
        }
        Some(self.rows.swap_remove(place).1)
    }

    /// The rows, in no order that means anything.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.rows.iter().map(|entry| &entry.0)
    }

    fn find(&self, row: &RowKey) -> Option<usize> {
        let is_it = |place| self.rows.get(place as usize).is_some_and(|entry| entry.0 == *row);
        self.index.find(hash(row), is_it).map(|place| place as usize)
    }
}

fn hash(row: &RowKey) -> u32 {
    hash_id(u64::from(row.0.0), &row.1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{ModelIndex, RowId};

    #[test]
    fn rows_keep_their_operations_when_others_go() {
        let row = |id: u64| (ModelIndex(0), RowId(id.to_string().into()));
        let mut rows = PendingRows::default();
        for seq in 0..100 {
            rows.push(row(seq % 10), OpSeq(seq));
        }
        for gone in [3, 9, 0, 5] {
            assert_eq!(rows.remove(&row(gone)).map(|seqs| seqs.len()), Some(10));
            assert_eq!(rows.remove(&row(gone)), None);
        }
        assert_eq!(rows.keys().count(), 6);
        for left in [1, 2, 4, 6, 7, 8] {
            assert_eq!(rows.get(&row(left)).and_then(|seqs| seqs.last()), Some(&OpSeq(90 + left)));
        }
    }
}
