//! What the browser does for tabs of one person on one device: storage, lock, channel; and what happens to tabs: they
//! are frozen, crash, lose their storage, come back.

use ablo_wasm::core::id::TaskId;
use ablo_wasm::core::input::Input;
use ablo_wasm::core::json::Value;
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{
    Database, ObjectStore, Record, StoreChange, StoreFailure, StoreFailureKind, StoreRequest,
};
use ablo_wasm::core::wire::{OpKind, Operation};

use crate::device::{Connection, Job, Lock, scope};
use crate::oracle::{Author, Check, Fate, broken};
use crate::shop;
use crate::world::{Event, World};

/// A browser gives up waiting for other tabs to let go of a database.
const BLOCKED_MS: u64 = 10_000;
/// A busy tab hears an answer of its storage so late at most.
const LATE_MS: u64 = 4_000;

impl World {
    /// What an engine asks of the browser.
    pub(crate) fn serve_tab(&mut self, no: usize, output: Output) {
        let author = self.clients[no].author;
        match output {
            Output::Store(task, database, request) => self.ask_storage(no, task, database, request),
            Output::CloseStores => {
                self.clients[no].stores = Default::default();
                let device = self.device(no);
                device.connections.retain(|_, connection| connection.author != author);
                // What has begun is finished all the same.
                device.jobs.values_mut().filter(|job| job.author == author).for_each(|job| job.connection = 0);
                let client = &mut self.clients[no];
                // One that is disposed of has given the lock back before.
                if !client.disposing || client.claim != 0 {
                    client.memory = true;
                    self.stats.given_up += 1;
                }
            }
            Output::RequestLock { name, steal } => self.request_lock(no, name, steal),
            Output::ReleaseLock => self.let_go(no),
            Output::OpenChannel(name) => drop(self.device(no).channel.insert(author, (no, name))),
            Output::Post(text) => self.post(no, &text),
            Output::CloseChannel => drop(self.device(no).channel.remove(&author)),
            _ => {}
        }
    }

    pub(crate) fn device(&mut self, no: usize) -> &mut crate::device::Device {
        let index = self.clients[no].persona.device.unwrap_or(0);
        &mut self.devices[index]
    }

    fn ask_storage(&mut self, no: usize, task: TaskId, database: Database, request: StoreRequest) {
        self.stats.stored += 1;
        let now = self.now;
        let author = self.clients[no].author;
        let trouble = self.plan.on.store_trouble && !self.healing;
        let slow = self.plan.on.slow_device && self.disk.percent(30);
        let mut delay = if slow { self.disk.below(400) } else { self.disk.below(3) };
        let index = usize::from(database == Database::Identity);
        if let StoreRequest::Open { name } = &request {
            let failure = match self.disk.below(100) {
                0..2 if trouble => Some(StoreFailureKind::Blocked),
                2..3 if trouble => Some(StoreFailureKind::Unknown),
                _ => None,
            };
            if failure == Some(StoreFailureKind::Blocked) {
                delay = BLOCKED_MS;
            }
            let old = self.clients[no].stores[index].connection;
            let device = self.device(no);
            device.connections.remove(&old);
            let connection = device.number();
            if failure.is_none() {
                let open = Connection { name: name.clone(), place: no, author, database };
                device.connections.insert(connection, open);
            }
            let handle = &mut self.clients[no].stores[index];
            handle.name.clone_from(name);
            handle.connection = connection;
            handle.turn_at = handle.turn_at.max(now) + delay;
            let at = handle.turn_at;
            if let Some(kind) = failure {
                self.tell(no, author, at - now, Input::Stored(task, Err(failed(kind))));
            } else {
                let name = name.clone();
                let job = Job { place: no, author, database, name, task, connection, request };
                self.begin_job(no, job, at);
            }
            return;
        }
        let handle = &self.clients[no].stores[index];
        let (name, connection, turn_at) = (handle.name.clone(), handle.connection, handle.turn_at);
        if !self.device(no).connections.contains_key(&connection) {
            let after = turn_at.max(now) - now;
            self.tell(no, author, after, Input::Stored(task, Err(failed(StoreFailureKind::Lost))));
            return;
        }
        let mut at = turn_at.max(now);
        let device = self.device(no);
        for store in scope(&request) {
            let busy = device.busy.entry((name.clone(), store)).or_default();
            at = at.max(*busy);
        }
        at += delay;
        for store in scope(&request) {
            device.busy.insert((name.clone(), store), at);
        }
        if matches!(request, StoreRequest::Delete) {
            self.clients[no].stores[index].turn_at = at;
        }
        let job = Job { place: no, author, database, name, task, connection, request };
        self.begin_job(no, job, at);
    }

    fn begin_job(&mut self, no: usize, job: Job, at: u64) {
        let index = self.clients[no].persona.device.unwrap_or(0);
        let device = &mut self.devices[index];
        let number = device.number();
        device.jobs.insert(number, job);
        let now = self.now;
        self.at(at - now, Event::Device(index, number));
    }

    /// A transaction comes to its end.
    pub(crate) fn device_works(&mut self, index: usize, number: u64) -> Check {
        let Some(job) = self.devices[index].jobs.remove(&number) else { return Ok(()) };
        let result = self.fulfil(index, &job)?;
        let kind = result.as_ref().map_or_else(|failure| format!("{:?}", failure.kind), |_| "ok".to_owned());
        self.trace.note(number, &kind, || format!("           c{}.{} {:?} {kind}", job.place, job.author, job.task));
        if self.is_current(job.place, job.author) {
            // Done, and the tab has not heard of it yet. Answers of an object store keep their order.
            let late = self.plan.on.late_answers && !self.healing && self.disk.percent(20);
            let after = match self.plan.on.slow_device && !self.healing {
                _ if late => self.disk.below(LATE_MS),
                true => self.disk.below(120),
                false => 0,
            };
            let now = self.now;
            let client = &mut self.clients[job.place];
            let mut at = now + after;
            for store in scope(&job.request) {
                let last = client.answered.entry((job.database, store)).or_default();
                at = at.max(*last);
                *last = at;
            }
            self.tell(job.place, job.author, at - now, Input::Stored(job.task, result));
        }
        if self.plan.on.cold_looks && self.disk.percent(4) {
            self.look_cold(index)?;
        }
        self.compare_tabs(index)
    }

    fn fulfil(&mut self, index: usize, job: &Job) -> Check<Result<Vec<Record>, StoreFailure>> {
        let device = &mut self.devices[index];
        if job.connection != 0 && !device.connections.contains_key(&job.connection) {
            return Ok(Err(failed(StoreFailureKind::Lost)));
        }
        match &job.request {
            StoreRequest::Open { name } => {
                device.base_mut(name);
                Ok(Ok(Vec::new()))
            }
            StoreRequest::Read { store, from, to } => {
                Ok(Ok(device.base(&job.name).map(|base| base.read(*store, from, to)).unwrap_or_default()))
            }
            StoreRequest::Write { changes, strict } => {
                let trouble = self.plan.on.store_trouble && !self.healing;
                let weak = trouble && self.plan.on.weak_disk;
                let failure = match self.disk.below(200) {
                    0..2 if trouble => Some(StoreFailureKind::Quota),
                    2..4 if trouble => Some(StoreFailureKind::Aborted),
                    4..20 if weak => Some(StoreFailureKind::Aborted),
                    _ => None,
                };
                if let Some(kind) = failure {
                    return Ok(Err(failed(kind)));
                }
                if self.devices[index].base(&job.name).is_none() {
                    return Ok(Err(failed(StoreFailureKind::Lost)));
                }
                self.devices[index].base_mut(&job.name).write(changes, *strict);
                self.check_journal(index, job.author, changes)?;
                Ok(Ok(Vec::new()))
            }
            StoreRequest::Delete => {
                let name = job.name.clone();
                self.delete_database(index, &name);
                Ok(Ok(Vec::new()))
            }
        }
    }

    /// A database is gone, and with it what was promised; who has it open is told.
    fn delete_database(&mut self, index: usize, name: &str) {
        let device = &mut self.devices[index];
        device.remove(name);
        let open: Vec<u64> =
            device.connections.iter().filter(|(_, one)| one.name == name).map(|(number, _)| *number).collect();
        for number in open {
            self.lose_connection(index, number);
        }
        self.oracle.forget_promises(index);
    }

    /// The browser closes a connection: what is under way on it is aborted, then the tab is told.
    fn lose_connection(&mut self, index: usize, number: u64) {
        let device = &mut self.devices[index];
        let Some(connection) = device.connections.remove(&number) else { return };
        let lost: Vec<u64> =
            device.jobs.iter().filter(|(_, job)| job.connection == number).map(|(number, _)| *number).collect();
        for number in lost {
            let Some(job) = self.devices[index].jobs.remove(&number) else { continue };
            let kind = self.disk.pick(&[StoreFailureKind::Aborted, StoreFailureKind::Lost]);
            self.tell(job.place, job.author, 0, Input::Stored(job.task, Err(failed(kind))));
        }
        self.tell(connection.place, connection.author, 0, Input::StoreClosed(connection.database));
    }

    /// The browser has something to say to a tab.
    fn tell(&mut self, no: usize, author: Author, after: u64, input: Input) {
        self.device(no).untold += 1;
        self.at(after, Event::Told(no, author, input));
    }

    fn request_lock(&mut self, no: usize, name: String, steal: bool) {
        self.let_go(no);
        let author = self.clients[no].author;
        let number = self.device(no).number();
        self.clients[no].claim = number;
        let claim = (no, author, number);
        self.stats.stolen += u64::from(steal);
        let lock = self.device(no).locks.entry(name.clone()).or_default();
        if steal {
            let victim = lock.holder.replace(claim);
            self.at(0, Event::Lock(claim, true));
            if let Some(victim) = victim {
                self.at(0, Event::Lock(victim, false));
            }
        } else {
            lock.waiting.push_back(claim);
            self.grant(no, &name);
        }
    }

    /// Gives the lock back, or stops waiting for it.
    pub(crate) fn let_go(&mut self, no: usize) {
        let author = self.clients[no].author;
        self.clients[no].claim = 0;
        let mut freed = Vec::new();
        for (name, lock) in &mut self.device(no).locks {
            lock.waiting.retain(|claim| claim.1 != author);
            if lock.holder.is_some_and(|holder| holder.1 == author) {
                lock.holder = None;
                freed.push(name.clone());
            }
        }
        freed.iter().for_each(|name| self.grant(no, name));
    }

    fn grant(&mut self, no: usize, name: &str) {
        let Some(lock) = self.device(no).locks.get_mut(name) else { return };
        if lock.holder.is_none()
            && let Some(next) = lock.waiting.pop_front()
        {
            lock.holder = Some(next);
            let after = self.disk.below(5);
            self.at(after, Event::Lock(next, true));
        }
    }

    /// The browser says what became of a request for the lock.
    pub(crate) fn lock_told(&mut self, claim: (usize, Author, u64), held: bool) -> Check {
        let (no, author, number) = claim;
        if !self.is_current(no, author) || self.clients[no].claim != number {
            return Ok(());
        }
        let still = self.device(no).locks.values().any(|lock| lock.holder == Some(claim));
        if held && !still {
            return Ok(());
        }
        self.input(no, Input::Lock(held))
    }

    fn post(&mut self, no: usize, text: &str) {
        let author = self.clients[no].author;
        let now = self.now;
        let Some((_, name)) = self.device(no).channel.get(&author).cloned() else { return };
        let others: Vec<(Author, usize)> = self
            .device(no)
            .channel
            .iter()
            .filter(|(other, (_, room))| **other != author && *room == name)
            .map(|(other, (place, _))| (*other, *place))
            .collect();
        for (other, place) in others {
            let after = if self.plan.on.slow_channel { self.disk.below(150) } else { self.disk.below(3) };
            let last = self.device(no).posted.entry(other).or_default();
            *last = (*last).max(now + after);
            let after = *last - now;
            self.tell(place, other, after, Input::Posted(text.to_owned()));
        }
    }

    /// A tab is gone without a word. What it has asked of the storage is done up to some point.
    pub(crate) fn tab_gone(&mut self, no: usize) {
        let author = self.clients[no].author;
        let Some(index) = self.clients[no].persona.device else { return };
        let device = &mut self.devices[index];
        device.channel.remove(&author);
        device.connections.retain(|_, connection| connection.author != author);
        let mine: Vec<u64> =
            device.jobs.iter().filter(|(_, job)| job.author == author).map(|(number, _)| *number).collect();
        let kept = self.disk.index(mine.len() + 1);
        for (place, number) in mine.iter().enumerate() {
            if place < kept {
                self.devices[index].jobs.get_mut(number).into_iter().for_each(|job| job.connection = 0);
            } else {
                self.devices[index].jobs.remove(number);
            }
        }
        self.let_go(no);
        self.unsettle(index);
    }

    /// Whoever knew of a refusal may be gone, and the device does not have it in writing: all is open again.
    fn unsettle(&mut self, index: usize) {
        let open: Vec<u32> = self
            .oracle
            .ops()
            .filter(|(_, op)| op.device == Some(index) && op.fate == Fate::Rejected && op.letter)
            .filter(|(number, _)| !self.has_refusal(index, *number))
            .map(|(number, _)| number)
            .collect();
        open.into_iter().for_each(|number| self.oracle.reopen(number));
    }

    /// Whether a record of a device carries a write. Deletes have no number: the name, or row and kind must do.
    pub(crate) fn is_recorded(&self, index: usize, prefix: &'static str, number: u32) -> bool {
        self.any_record(index, prefix, number, |_| true)
    }

    fn any_record(&self, index: usize, prefix: &'static str, number: u32, which: fn(&str) -> bool) -> bool {
        let Some(op) = self.oracle.op(number) else { return true };
        let is_it = |operation: Operation| {
            let named = op.name.is_some() && operation.transaction_id == op.name;
            operation.kind == op.kind && operation.id.as_ref() == Some(&op.row.1) && (!op.optimistic || named)
        };
        self.devices[index].journals(prefix).filter(|(_, record)| which(record)).any(|(_, record)| match op.kind {
            OpKind::Create | OpKind::Update => shop::carries(record, 'm', number),
            OpKind::Delete | OpKind::Archive | OpKind::Unarchive => Value::parse(record).is_ok_and(|record| {
                record.at("operations").elements().any(|item| Operation::parse(item).is_ok_and(is_it))
            }),
        })
    }

    /// A journal takes in the writes of a tab in their order: it has none without those made before.
    fn check_journal(&self, index: usize, author: Author, changes: &[StoreChange]) -> Check {
        let put = |change: &StoreChange| match change {
            StoreChange::Put { key, value, .. } if key.starts_with("j/") => Some(value.clone()),
            _ => None,
        };
        let mut newest = 0;
        for record in changes.iter().filter_map(put).filter_map(|value| String::from_utf8(value).ok()) {
            let mine = |number: &u32| self.oracle.op(*number).is_some_and(|op| op.author == author);
            newest = record_markers(&record).into_iter().filter(mine).max().unwrap_or(0).max(newest);
        }
        if newest == 0 || self.devices[index].damaged || self.plan.lying {
            return Ok(());
        }
        for (number, op) in self.oracle.ops().take(newest as usize - 1).filter(|(_, op)| op.author == author) {
            let marked = matches!(op.kind, OpKind::Create | OpKind::Update);
            let due = marked && op.fate == Fate::Open && op.applied.is_none() && !self.oracle.is_superseded(number);
            let due = due && !self.oracle.is_replaced(number);
            if due && !self.is_recorded(index, "j/", number) && !self.has_letter(index, number) {
                let what = format!("the device has write {newest} and not {number}, made before it: {op:?}");
                return broken("journal-order", what);
            }
        }
        Ok(())
    }

    pub(crate) fn has_letter(&self, index: usize, number: u32) -> bool {
        self.is_recorded(index, "l/", number)
    }

    /// Whether the device has it in writing that a write was refused.
    fn has_refusal(&self, index: usize, number: u32) -> bool {
        let is_refused = |record: &str| Value::parse(record).is_ok_and(|record| record.get("error").is_some());
        self.has_letter(index, number) || self.any_record(index, "j/", number, is_refused)
    }

    /// A refusal of a tab's write is told, and of one that the server has refused, not what was built on it, the device
    /// knows by then: whoever sends next must not get another answer.
    pub(crate) fn refusal_told(&mut self, no: usize, number: u32) -> Check {
        let client = &self.clients[no];
        let Some(index) = client.persona.device.filter(|_| !client.memory) else { return Ok(()) };
        self.oracle.expect_letter(number);
        let due = self.oracle.op(number).is_some_and(|op| op.letter) && self.oracle.is_refused_alone(number);
        if due && !self.devices[index].damaged && !self.has_refusal(index, number) {
            return broken("letter", format!("{} tells of a refusal of {number} that can get lost", client.name()));
        }
        Ok(())
    }

    /// Something happens to a tab, or to its device.
    pub(crate) fn tab_trouble(&mut self, no: usize) -> Check {
        let Some(index) = self.clients[no].persona.device else { return Ok(()) };
        if self.clients[no].disposed || self.clients[no].disposing {
            return Ok(());
        }
        let trouble = self.plan.on.store_trouble;
        match self.disk.below(12) {
            0..4 if self.plan.on.tab_crashes => self.crash_tab(no),
            4..8 if self.plan.on.freezing => self.freeze(no),
            8 if self.plan.on.power_loss => self.lose_power(index),
            9 if trouble => {
                let open: Vec<u64> = self.devices[index].connections.keys().copied().collect();
                if !open.is_empty() {
                    let number = self.disk.pick(&open);
                    self.lose_connection(index, number);
                }
                Ok(())
            }
            10 if trouble && self.disk.percent(20) => {
                let names = self.devices[index].names();
                for name in names {
                    self.delete_database(index, &name);
                }
                Ok(())
            }
            11 if trouble && self.disk.percent(20) => {
                self.damage_record(index);
                Ok(())
            }
            _ => self.look_cold(index),
        }
    }

    fn damage_record(&mut self, index: usize) {
        let names = self.devices[index].names();
        if names.is_empty() {
            return;
        }
        let pick = self.disk.index(names.len());
        let Some(name) = names.get(pick) else { return };
        let store = if self.disk.percent(50) { ObjectStore::Journal } else { ObjectStore::Cache };
        let keys = self.devices[index].base_mut(name).keys(store);
        if keys.is_empty() {
            return;
        }
        let pick = self.disk.index(keys.len());
        let Some(key) = keys.get(pick) else { return };
        let cut = self.disk.percent(50);
        self.devices[index].base_mut(name).damage(store, key, |value| {
            if cut {
                value.truncate(value.len() / 2);
            } else {
                value.iter_mut().take(3).for_each(|byte| *byte = 0xff);
            }
        });
        self.devices[index].damaged = true;
        self.oracle.forget_promises(index);
    }

    /// Whether a tab crashes between two things that its engine wants done.
    pub(crate) fn crashes_now(&mut self, no: usize) -> bool {
        let client = &self.clients[no];
        let may = client.persona.device.is_some() && !client.disposed && !self.healing;
        may && self.plan.on.tab_crashes && self.disk.below(2_000) == 0
    }

    pub(crate) fn crash_tab(&mut self, no: usize) -> Check {
        self.stats.tab_crashes += 1;
        let links: Vec<u64> = self.clients[no].links.values().copied().collect();
        for link in links {
            let told = self.faults.percent(70);
            self.cut(link, told, false)?;
        }
        self.tab_gone(no);
        let author = self.clients[no].author;
        self.clients[no].disposed = true;
        self.abandon(author);
        let after = self.disk.below(4_000);
        self.at(after, Event::Reborn(no));
        Ok(())
    }

    /// The whole device goes down at once.
    fn lose_power(&mut self, index: usize) -> Check {
        self.stats.power_losses += 1;
        for no in 0..self.clients.len() {
            let client = &self.clients[no];
            if client.persona.device == Some(index) && !client.disposed {
                self.crash_tab(no)?;
            }
        }
        let jobs = std::mem::take(&mut self.devices[index].jobs);
        let kept = self.disk.index(jobs.len() + 1);
        for job in jobs.into_values().take(kept) {
            // Nobody is there to be answered.
            drop(self.fulfil(index, &job)?);
        }
        for base in self.devices[index].databases_mut() {
            base.lose_power(|count| self.disk.index(count));
        }
        self.unsettle(index);
        self.look_cold(index)
    }

    fn freeze(&mut self, no: usize) -> Check {
        if self.clients[no].frozen {
            return Ok(());
        }
        self.stats.frozen += 1;
        self.clients[no].frozen = true;
        let author = self.clients[no].author;
        let after = self.disk.pick(&[500, 3_000, 20_000, 90_000]);
        let after = self.disk.range(100, after);
        self.at(after, Event::Thaw(no, author));
        Ok(())
    }

    /// A frozen tab goes on: first it learns whether it still has the lock.
    pub(crate) fn thaw(&mut self, no: usize) -> Check {
        self.clients[no].frozen = false;
        let (locks, others): (Vec<Input>, Vec<Input>) = std::mem::take(&mut self.clients[no].backlog)
            .into_iter()
            .partition(|input| matches!(input, Input::Lock(_)));
        let author = self.clients[no].author;
        self.clients[no].thawing = true;
        for input in locks.into_iter().chain(others) {
            if self.is_current(no, author) {
                self.input(no, input)?;
            }
        }
        self.clients[no].thawing = false;
        Ok(())
    }

    /// Whether the tabs of all devices are at rest: nothing under way, empty journals, one tab that leads.
    pub(crate) fn are_devices_quiet(&self) -> bool {
        self.devices.iter().enumerate().all(|(index, device)| {
            let is_here = |holder: &Lock| {
                holder.holder.is_some_and(|(no, author, _)| self.is_current(no, author) && !self.clients[no].memory)
            };
            device.jobs.is_empty()
                && (device.damaged || device.journals("j/").next().is_none())
                && device.locks.values().filter(|lock| is_here(lock)).count() == 1
                && self.clients.iter().all(|one| one.persona.device != Some(index) || !one.memory)
        })
    }

    /// After everything healed: who was told of a refusal finds it on the device.
    pub(crate) fn check_letters(&mut self) -> Check {
        // Told in a tab that is gone; another one had heard of it in time.
        let open = self.oracle.ops().filter(|(_, op)| op.fate == Fate::Open && op.applied.is_none());
        let open = open.filter_map(|(number, op)| Some((number, op.device?)));
        let told: Vec<u32> =
            open.filter(|(number, index)| self.has_letter(*index, *number)).map(|(number, _)| number).collect();
        told.into_iter().for_each(|number| self.oracle.told(number));
        for (number, op) in self.oracle.ops() {
            let Some(index) = op.device else { continue };
            if op.fate == Fate::Rejected && op.letter && op.applied.is_none() && !self.has_letter(index, number) {
                return broken("letter", format!("write {number} was refused and no letter says so: {op:?}"));
            }
        }
        Ok(())
    }
}

/// The numbers of the writes in a journal's record.
fn record_markers(record: &str) -> Vec<u32> {
    let Ok(root) = Value::parse(record) else { return Vec::new() };
    let operations = root.at("operations").elements().filter_map(|item| Operation::parse(item).ok());
    operations.flat_map(|operation| shop::markers(operation.input.as_deref().unwrap_or("{}"))).collect()
}

fn failed(kind: StoreFailureKind) -> StoreFailure {
    StoreFailure { kind, message: "simulated".to_owned() }
}
