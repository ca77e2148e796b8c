//! Finds places by ids: a table of hashes and places. What is in a place is the caller's.
//!
//! The hash is small and seeded. It is no defence against a server that wants collisions: that could as well send garbage.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of an id: eight bytes at a time, each folded in with a multiplication.
pub fn hash_id(seed: u64, id: &str) -> u32 {
    let bytes = id.as_bytes();
    let mut state = seed ^ (bytes.len() as u64);
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        state = mix(state ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    let tail = rest.iter().fold(0_u64, |word, &byte| (word << 8) | u64::from(byte));
    let state = mix(mix(state ^ tail));
    (state >> 32) as u32
}

/// Places by hash: open addressing, linear probing, at most seven eighths full. Not for more than 2^31 places.
#[derive(Debug, Default)]
pub struct Index {
    /// Hash and place + 1; `(_, 0)` is free. Their number is a power of two.
    cells: Vec<(u32, u32)>,
    len: usize,
}

impl Index {
    /// The place with this hash for which `is_it` holds.
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let at = self.probe(hash, |other, place| other == hash && is_it(place))?;
        self.cells.get(at)?.1.checked_sub(1)
    }

    /// Adds a place that is not there.
    pub fn insert(&mut self, hash: u32, place: u32) {
        self.reserve(1);
        if let Some(at) = self.probe(hash, |_, _| false)
            && let Some(cell) = self.cells.get_mut(at)
        {
            *cell = (hash, place + 1);
            self.len += 1;
        }
    }

    /// Takes a place out.
    pub fn remove(&mut self, hash: u32, place: u32) {
        let Some(mut hole) = self.probe(hash, |_, other| other == place) else { return };
        let mask = self.cells.len() - 1;
        if self.cells.get(hole).is_none_or(|cell| cell.1 == 0) {
            return;
        }
        self.len -= 1;
        // What lies behind moves up, unless it would come to lie before its own beginning.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(&(other, taken)) = self.cells.get(at) else { return };
            if taken == 0 {
                break;
            }
            if at.wrapping_sub(other as usize) & mask >= at.wrapping_sub(hole) & mask {
                self.cells.swap(at, hole);
                hole = at;
            }
        }
        if let Some(cell) = self.cells.get_mut(hole) {
            cell.1 = 0;
        }
    }

    /// Makes room for more.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len + additional;
        if wanted <= self.cells.len() / 8 * 7 {
            return;
        }
        let size = (wanted + wanted / 7 + 8).next_power_of_two();
        for (hash, taken) in std::mem::replace(&mut self.cells, vec![(0, 0); size]) {
            if taken != 0
                && let Some(at) = self.probe(hash, |_, _| false)
                && let Some(cell) = self.cells.get_mut(at)
            {
                *cell = (hash, taken);
            }
        }
    }

    /// The first cell on the way of `hash` that is wanted, or else the free one at its end.
    fn probe(&self, hash: u32, mut is_it: impl FnMut(u32, u32) -> bool) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let &(other, taken) = self.cells.get(at)?;
            if taken == 0 || is_it(other, taken - 1) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(MULTIPLIER);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_index_finds_what_a_list_finds(steps in prop::collection::vec((0_u32..40, any::<bool>()), 0..400)) {
            // Few hashes, so that many places are on the way of others; the highest wrap around.
            let hash_of = |place: u32| [0, 1, 2, u32::MAX, u32::MAX - 1][place as usize % 5];
            let mut index = Index::default();
            let mut list = Vec::new();
            for (place, add) in steps {
                let known = list.iter().position(|other| *other == place);
                match known {
                    None if add => {
                        index.insert(hash_of(place), place);
                        list.push(place);
                    }
                    Some(at) if !add => {
                        index.remove(hash_of(place), place);
                        list.swap_remove(at);
                    }
                    Some(_) => {}
                    None => index.remove(hash_of(place), place),
                }
                for place in 0..40 {
                    let found = index.find(hash_of(place), |other| other == place);
                    prop_assert_eq!(found, list.contains(&place).then_some(place));
                }
            }
        }
    }

    #[test]
    fn similar_ids_spread() {
        let mut buckets = [0_u32; 256];
        for number in 0..25_600_u32 {
            buckets[(hash_id(7, &format!("task_{number}")) & 255) as usize] += 1;
        }
        let worst = buckets.iter().max().unwrap();
        assert!(*worst < 160, "{worst} of 100 expected");
        assert_ne!(hash_id(1, "a"), hash_id(2, "a"));
        assert_ne!(hash_id(1, "a"), hash_id(1, "a\0"));
    }
}
