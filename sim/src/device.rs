//! A device: the databases of a browser profile, its lock and its channel, as far as they outlive a tab.
//!
//! Nothing here knows the time or takes chances: `tabs` decides when a request is done and what goes wrong.

use std::collections::{BTreeMap, VecDeque};

use ablo_wasm::core::id::TaskId;
use ablo_wasm::core::store::{Database, ObjectStore, Record, StoreChange, StoreRequest};

use crate::oracle::Author;

/// Relaxed writes that may be lost together; the system writes older ones to the disk in its own time.
const UNSYNCED_MAX: usize = 20;

type Records = BTreeMap<String, Vec<u8>>;

/// One object store: what its readers see, and what of it the disk has.
#[derive(Clone, Debug, Default)]
struct Shelf {
    now: Records,
    disk: Records,
    unsynced: VecDeque<Vec<StoreChange>>,
}

/// A database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    journal: Shelf,
    cache: Shelf,
}

/// An open connection of a tab.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) name: String,
    pub(crate) place: usize,
    pub(crate) author: Author,
    pub(crate) database: Database,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) place: usize,
    pub(crate) author: Author,
    pub(crate) database: Database,
    pub(crate) name: String,
    pub(crate) task: TaskId,
    /// The connection that it was made on; 0 when it goes on without.
    pub(crate) connection: u64,
    pub(crate) request: StoreRequest,
}

/// Who waits for the lock: a tab, and which of its requests.
pub(crate) type Claim = (usize, Author, u64);

/// A lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lock {
    pub(crate) holder: Option<Claim>,
    pub(crate) waiting: VecDeque<Claim>,
}

/// The device.
#[derive(Debug, Default)]
pub(crate) struct Device {
    databases: BTreeMap<String, Base>,
    /// A record was damaged: what it was about may be gone.
    pub(crate) damaged: bool,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    /// What its tabs are still to be told.
    pub(crate) untold: usize,
    next: u64,
    /// Transactions on an object store follow each other; the last one ends then.
    pub(crate) busy: BTreeMap<(String, ObjectStore), u64>,
    pub(crate) locks: BTreeMap<String, Lock>,
    pub(crate) channel: BTreeMap<Author, (usize, String)>,
    /// Messages keep their order: by receiver, when the last one arrives.
    pub(crate) posted: BTreeMap<Author, u64>,
}

impl Shelf {
    fn change(records: &mut Records, change: &StoreChange) {
        match change {
            StoreChange::Put { key, value, .. } => drop(records.insert(key.clone(), value.clone())),
            StoreChange::Remove { from, to, .. } => records.retain(|key, _| key < from || key >= to),
        }
    }

    fn write(&mut self, changes: Vec<StoreChange>, strict: bool) {
        changes.iter().for_each(|change| Self::change(&mut self.now, change));
        self.unsynced.push_back(changes);
        let keep = if strict { 0 } else { UNSYNCED_MAX };
        while self.unsynced.len() > keep {
            let synced = self.unsynced.pop_front().unwrap_or_default();
            synced.iter().for_each(|change| Self::change(&mut self.disk, change));
        }
    }

    /// The power fails: the disk has so many of the writes that it need not have.
    fn lose_power(&mut self, kept: usize) {
        for changes in self.unsynced.drain(..).take(kept) {
            changes.iter().for_each(|change| Self::change(&mut self.disk, change));
        }
        self.now = self.disk.clone();
    }
}

impl Base {
    fn shelf(&self, store: ObjectStore) -> &Shelf {
        match store {
            ObjectStore::Journal => &self.journal,
            ObjectStore::Cache => &self.cache,
        }
    }

    fn shelf_mut(&mut self, store: ObjectStore) -> &mut Shelf {
        match store {
            ObjectStore::Journal => &mut self.journal,
            ObjectStore::Cache => &mut self.cache,
        }
    }

    pub(crate) fn read(&self, store: ObjectStore, from: &str, to: &str) -> Vec<Record> {
        let records = self.shelf(store).now.iter();
        let inside = records.filter(|(key, _)| key.as_str() >= from && key.as_str() < to);
        inside.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn write(&mut self, changes: &[StoreChange], strict: bool) {
        for store in [ObjectStore::Journal, ObjectStore::Cache] {
            let here: Vec<StoreChange> = changes.iter().filter(|change| store_of(change) == store).cloned().collect();
            if !here.is_empty() {
                self.shelf_mut(store).write(here, strict);
            }
        }
    }

    /// Records of an object store whose keys begin like this, as text.
    pub(crate) fn texts(&self, store: ObjectStore, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let records = self.shelf(store).now.iter().filter(move |(key, _)| key.starts_with(prefix));
        records.filter_map(|(key, value)| Some((key.as_str(), std::str::from_utf8(value).ok()?)))
    }

    pub(crate) fn keys(&self, store: ObjectStore) -> Vec<String> {
        self.shelf(store).now.keys().cloned().collect()
    }

    /// A record is damaged.
    pub(crate) fn damage(&mut self, store: ObjectStore, key: &str, how: impl Fn(&mut Vec<u8>)) {
        let shelf = self.shelf_mut(store);
        for records in [&mut shelf.now, &mut shelf.disk] {
            records.get_mut(key).into_iter().for_each(&how);
        }
    }

    pub(crate) fn lose_power(&mut self, mut kept: impl FnMut(usize) -> usize) {
        for shelf in [&mut self.journal, &mut self.cache] {
            let at_most = shelf.unsynced.len();
            shelf.lose_power(kept(at_most + 1));
        }
    }
}

/// Where a change is made.
pub(crate) fn store_of(change: &StoreChange) -> ObjectStore {
    match change {
        StoreChange::Put { store, .. } | StoreChange::Remove { store, .. } => *store,
    }
}

/// The object stores that a request needs.
pub(crate) fn scope(request: &StoreRequest) -> Vec<ObjectStore> {
    match request {
        StoreRequest::Read { store, .. } => vec![*store],
        StoreRequest::Write { changes, .. } => {
            let stores = [ObjectStore::Journal, ObjectStore::Cache];
            stores.into_iter().filter(|store| changes.iter().any(|change| store_of(change) == *store)).collect()
        }
        StoreRequest::Open { .. } | StoreRequest::Delete => vec![ObjectStore::Journal, ObjectStore::Cache],
    }
}

impl Device {
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn base(&self, name: &str) -> Option<&Base> {
        self.databases.get(name)
    }

    pub(crate) fn base_mut(&mut self, name: &str) -> &mut Base {
        self.databases.entry(name.to_owned()).or_default()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.databases.remove(name);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.databases.keys().cloned().collect()
    }

    pub(crate) fn databases(&self) -> &BTreeMap<String, Base> {
        &self.databases
    }

    pub(crate) fn databases_mut(&mut self) -> impl Iterator<Item = &mut Base> {
        self.databases.values_mut()
    }

    /// Records of all journals whose keys begin like this.
    pub(crate) fn journals(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.databases.values().flat_map(move |base| base.texts(ObjectStore::Journal, prefix))
    }
}
