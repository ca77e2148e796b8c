//! A browser's storage, its locks and channels, as several engines share them. The device does what it is told at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use ablo_wasm::core::input::{Change, Input};
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{
    Database, ObjectStore, Record, StoreChange, StoreFailure, StoreFailureKind, StoreRequest,
};

use serde_json::json;

use crate::harness::{Bench, tasks};

pub(crate) const STORED: &str = r#""authToken":"ek_test_1","persistence":"indexeddb""#;

pub(crate) type Records = BTreeMap<(ObjectStore, String), Vec<u8>>;

/// A browser's storage, its locks and channels, shared by tabs.
#[derive(Default)]
pub(crate) struct Device {
    pub(crate) databases: BTreeMap<String, Records>,
    /// Requests fail with this until it is taken away.
    pub(crate) failure: Option<StoreFailureKind>,
    /// Who holds the lock, and who waits for it: tabs by number.
    pub(crate) lock: VecDeque<usize>,
}

/// One tab on a device.
pub(crate) struct Tab {
    pub(crate) bench: Bench,
    pub(crate) no: usize,
    pub(crate) device: Rc<RefCell<Device>>,
    pub(crate) open: BTreeMap<Database, String>,
    pub(crate) posts: Vec<String>,
    pub(crate) channel: bool,
}

impl Tab {
    pub(crate) fn new(device: &Rc<RefCell<Device>>, no: usize) -> Self {
        let mut tab = Self {
            bench: Bench::with(&format!(r#"{STORED},"syncGroups":[]"#)),
            no,
            device: device.clone(),
            open: BTreeMap::new(),
            posts: Vec::new(),
            channel: false,
        };
        // Two tabs must not draw the same ids.
        tab.bench.reseed(no as u128 + 1, &format!(r#"{STORED},"syncGroups":[]"#));
        tab
    }

    pub(crate) fn started(device: &Rc<RefCell<Device>>, no: usize) -> Self {
        let mut tab = Self::new(device, no);
        tab.bench.start();
        tab.serve();
        tab
    }

    /// Fulfils what the engine asks of the device until it asks for nothing more.
    pub(crate) fn serve(&mut self) {
        loop {
            let index = self.bench.outputs.iter().position(|output| {
                !matches!(
                    output,
                    Output::OpenSocket { .. }
                        | Output::SendFrame(..)
                        | Output::CloseSocket { .. }
                        | Output::Fetch(..)
                        | Output::AskCredential(_)
                )
            });
            let Some(index) = index else { return };
            match self.bench.outputs.remove(index) {
                Output::Store(task, database, request) => {
                    let answer = self.fulfil(database, request);
                    self.bench.input(Input::Stored(task, answer));
                }
                Output::CloseStores => self.open.clear(),
                Output::RequestLock { steal, .. } => self.lock(steal),
                Output::ReleaseLock => self.device.borrow_mut().lock.retain(|no| *no != self.no),
                Output::OpenChannel(_) => self.channel = true,
                Output::CloseChannel => self.channel = false,
                Output::Post(text) => self.posts.push(text),
                other => panic!("not the device's: {other:?}"),
            }
        }
    }

    pub(crate) fn lock(&mut self, steal: bool) {
        let mut device = self.device.borrow_mut();
        if steal {
            device.lock.retain(|no| *no != self.no);
            device.lock.push_front(self.no);
        } else if !device.lock.contains(&self.no) {
            device.lock.push_back(self.no);
        }
        let held = device.lock.front() == Some(&self.no);
        drop(device);
        if held {
            self.bench.input(Input::Lock(true));
        }
    }

    pub(crate) fn fulfil(&mut self, database: Database, request: StoreRequest) -> Result<Vec<Record>, StoreFailure> {
        let mut device = self.device.borrow_mut();
        if let Some(kind) = device.failure.filter(|_| database == Database::Identity) {
            return Err(StoreFailure { kind, message: "as told".into() });
        }
        if let StoreRequest::Open { name } = &request {
            device.databases.entry(name.clone()).or_default();
            self.open.insert(database, name.clone());
            return Ok(Vec::new());
        }
        let lost = || StoreFailure { kind: StoreFailureKind::Lost, message: "not open".into() };
        let name = self.open.get(&database).ok_or_else(lost)?;
        let records = device.databases.get_mut(name).ok_or_else(lost)?;
        match request {
            StoreRequest::Open { .. } => {}
            StoreRequest::Read { store, from, to } => {
                let range = records.range((store, from)..(store, to));
                return Ok(range.map(|((_, key), value)| (key.clone(), value.clone())).collect());
            }
            StoreRequest::Write { changes, .. } => {
                for change in changes {
                    match change {
                        StoreChange::Put { store, key, value } => drop(records.insert((store, key), value)),
                        StoreChange::Remove { store, from, to } => {
                            records.retain(|(at, key), _| *at != store || *key < from || *key >= to);
                        }
                    }
                }
            }
            StoreRequest::Delete => {
                let name = self.open.remove(&database).unwrap_or_default();
                device.databases.remove(&name);
            }
        }
        Ok(Vec::new())
    }

    /// Goes online: identity, snapshot if asked for, socket, catch-up.
    pub(crate) fn connect(&mut self, head: u64, rows: &[serde_json::Value]) {
        self.reach(head, rows);
        self.bench.frames();
    }

    /// Connects, and leaves what the tab sends at once.
    pub(crate) fn reach(&mut self, head: u64, rows: &[serde_json::Value]) {
        self.bench.answer_identity();
        self.serve();
        if self.bench.has_request("/sync/bootstrap") {
            self.bench.answer_bootstrap(head, &tasks(rows));
        }
        self.serve();
        self.bench.open();
        self.serve();
        self.bench.answer_sync(head, &[]);
        self.serve();
    }

    pub(crate) fn turn(&mut self) {
        self.bench.turn();
        self.serve();
    }
}

/// Carries what a tab has posted to others.
pub(crate) fn deliver(from: &mut Tab, to: &mut Tab) {
    for text in std::mem::take(&mut from.posts) {
        if to.channel {
            to.bench.input(Input::Posted(text));
            to.serve();
        }
    }
}

pub(crate) fn device() -> Rc<RefCell<Device>> {
    Rc::default()
}

pub(crate) fn journal_len(device: &Rc<RefCell<Device>>) -> usize {
    let device = device.borrow();
    let keys = device.databases.values().flat_map(BTreeMap::keys);
    keys.filter(|(store, key)| *store == ObjectStore::Journal && key.starts_with("j/")).count()
}

/// The next write of the journal is aborted.
pub(crate) fn abort_write(tab: &mut Tab) {
    let is_write = |output: &Output| matches!(output, Output::Store(_, Database::Identity, StoreRequest::Write { .. }));
    let index = tab.bench.outputs.iter().position(is_write).expect("a write");
    let Output::Store(task, ..) = tab.bench.outputs.remove(index) else { panic!("a request to the device") };
    let failure = StoreFailure { kind: StoreFailureKind::Aborted, message: "as told".into() };
    tab.bench.input(Input::Stored(task, Err(failure)));
}

pub(crate) fn lose_lock(tab: &mut Tab) {
    tab.device.borrow_mut().lock.clear();
    tab.bench.input(Input::Lock(false));
}

pub(crate) fn journal(device: &Rc<RefCell<Device>>) -> Vec<String> {
    let device = device.borrow();
    let records = device.databases.values().flatten().filter(|((_, key), _)| key.starts_with("j/"));
    records.map(|(_, record)| String::from_utf8(record.clone()).expect("text")).collect()
}

/// The network is gone, and the engine knows.
pub(crate) fn offline(device: &Rc<RefCell<Device>>, no: usize) -> Tab {
    let mut tab = Tab::new(device, no);
    tab.bench.input(Input::Offline);
    tab.bench.start();
    tab.serve();
    tab
}

pub(crate) fn update(title: &str) -> Change {
    Change::Update(json!({ "title": title }).to_string())
}

pub(crate) fn first_visit(device: &Rc<RefCell<Device>>) -> Tab {
    let mut tab = Tab::started(device, 1);
    tab.connect(10, &[json!({"id":"t1","title":"A","rank":1}), json!({"id":"t2","title":"B","rank":2})]);
    tab
}

/// The first holds the lock, both are connected.
pub(crate) fn two_tabs() -> (Rc<RefCell<Device>>, Tab, Tab) {
    let device = device();
    let first = first_visit(&device);
    let mut second = Tab::started(&device, 2);
    second.connect(10, &[]);
    (device, first, second)
}

/// A timer that is due and stays due would have the page do nothing else.
pub(crate) fn is_at_rest(tab: &mut Tab) -> bool {
    tab.bench.turn();
    tab.bench.engine.poll_timeout().is_none_or(|(at, _)| at > tab.bench.now.mono)
}
