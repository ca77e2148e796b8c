//! Small ordered containers.
//!
//! The maps of the engine hold a handful of entries, or entries in the order of a growing number. A B-tree for each of
//! them would be a sixth of the shipped code, so these two do the work.

use std::ops::{Deref, DerefMut};

/// A map of few entries, kept in the order of insertion and searched one by one.
///
/// Keys apart from boxed values: maps with keys alike share most of their machine code.
#[derive(Clone, Debug)]
pub struct SmallMap<K, V> {
    keys: Vec<K>,
    values: Vec<Box<V>>,
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }
}

impl<K: PartialEq, V> SmallMap<K, V> {
    /// Sets the value of `key`.
    pub fn insert(&mut self, key: K, value: V) {
        let value = Box::new(value);
        match self.place(&key).and_then(|place| self.values.get_mut(place)) {
            Some(known) => *known = value,
            None => {
                self.keys.push(key);
                self.values.push(value);
            }
        }
    }

    /// Takes out the value of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        self.keys.remove(place);
        Some(*self.values.remove(place))
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(self.place(key)?).map(|value| &**value)
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.values.get_mut(place).map(|value| &mut **value)
    }

    /// The values, oldest first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter().map(|value| &**value)
    }

    /// The values, oldest first, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut().map(|value| &mut **value)
    }

    /// Takes out all values, oldest first.
    pub fn take(&mut self) -> Vec<Box<V>> {
        self.keys.clear();
        std::mem::take(&mut self.values)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn place(&self, key: &K) -> Option<usize> {
        self.keys.iter().position(|known| known == key)
    }
}

/// A queue of boxes in one piece: taking the first moves the pointers behind it, and every queue shares the code for it.
#[derive(Clone, Debug)]
pub struct Line<T>(Vec<Box<T>>);

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Line<T> {
    type Target = Vec<Box<T>>;

    fn deref(&self) -> &Vec<Box<T>> {
        &self.0
    }
}

impl<T> DerefMut for Line<T> {
    fn deref_mut(&mut self) -> &mut Vec<Box<T>> {
        &mut self.0
    }
}

impl<T> Line<T> {
    /// Adds to the front.
    pub fn push_front(&mut self, item: Box<T>) {
        self.0.insert(0, item);
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<Box<T>> {
        self.take(0)
    }

    /// Takes one out of its place.
    pub fn take(&mut self, index: usize) -> Option<Box<T>> {
        if index < self.0.len() { Some(self.0.remove(index)) } else { None }
    }
}

/// A queue that is drained from the front: each item is moved at most twice.
#[derive(Clone, Debug)]
pub struct Drain<T> {
    added: Vec<Box<T>>,
    /// The older ones, oldest last.
    next: Vec<Box<T>>,
}

impl<T> Default for Drain<T> {
    fn default() -> Self {
        Self { added: Vec::new(), next: Vec::new() }
    }
}

impl<T> Drain<T> {
    /// Adds to the end.
    pub fn push(&mut self, item: T) {
        self.added.push(Box::new(item));
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<T> {
        if self.next.is_empty() {
            std::mem::swap(&mut self.added, &mut self.next);
            self.next.reverse();
        }
        self.next.pop().map(|item| *item)
    }
}

/// A map whose keys are numbers that only grow, so that the newest entry is always the last. Entries that are taken out
/// leave a gap until half of them are gaps.
#[derive(Clone, Debug)]
pub struct Sequence<V> {
    entries: Vec<(u64, Option<Box<V>>)>,
    len: usize,
}

impl<V> Default for Sequence<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), len: 0 }
    }
}

impl<V> Sequence<V> {
    /// Adds an entry. Invariant: `key` is greater than all before it.
    pub fn push(&mut self, key: u64, value: V) {
        debug_assert!(self.entries.last().is_none_or(|last| last.0 < key), "keys only grow");
        self.entries.push((key, Some(Box::new(value))));
        self.len += 1;
    }

    /// Takes out the value of `key`.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let index = self.index(key)?;
        let value = self.entries.get_mut(index)?.1.take()?;
        self.len -= 1;
        if self.len * 2 < self.entries.len() {
            self.entries.retain(|entry| entry.1.is_some());
        }
        Some(*value)
    }

    /// The value of `key`.
    pub fn get(&self, key: u64) -> Option<&V> {
        self.entries.get(self.index(key)?)?.1.as_deref()
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let index = self.index(key)?;
        self.entries.get_mut(index)?.1.as_deref_mut()
    }

    /// The values, oldest first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().filter_map(|entry| entry.1.as_deref())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn index(&self, key: u64) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.0.cmp(&key)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_find_what_is_left() {
        let mut map = Sequence::default();
        for key in 1..=10 {
            map.push(key, key * 10);
        }
        assert_eq!((map.remove(3), map.remove(3)), (Some(30), None));
        assert_eq!((map.get(4), map.get(11), map.len()), (Some(&40), None, 9));
        *map.get_mut(10).unwrap() = 7;
        assert_eq!(map.values().last(), Some(&7));
        for key in 1..=10 {
            assert_eq!(map.remove(key).is_some(), key != 3, "{key}");
            assert_eq!((map.get(key), map.len()), (None, map.values().count()));
        }
        map.push(11, 1);
        assert_eq!((map.get(11), map.len()), (Some(&1), 1));
    }

    #[test]
    fn drains_keep_the_order_while_they_grow() {
        let mut items = Drain::default();
        let mut out = Vec::new();
        for number in 0..10 {
            items.push(2 * number);
            items.push(2 * number + 1);
            out.extend(items.pop());
        }
        out.extend(std::iter::from_fn(|| items.pop()));
        assert_eq!(out, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn small_maps_replace_and_keep_their_order() {
        let mut map = SmallMap::default();
        map.insert("b", 1);
        map.insert("a", 2);
        map.insert("b", 3);
        assert_eq!(map.values().copied().collect::<Vec<_>>(), [3, 2]);
        assert_eq!((map.remove(&"b"), map.get(&"b")), (Some(3), None));
    }
}
