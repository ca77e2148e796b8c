//! What should be: every write that was issued and what became of it, and a naive server that takes in what the real one
//! made durable.
//!
//! The oracle never looks into an engine. It sees what the application asked for, what crossed the network, and what the
//! store was given.

use std::collections::{BTreeMap, BTreeSet};

use ablo_server::engine::{StoreChange, StoredDelta, Verb};
use ablo_wasm::core::id::{ModelIndex, SyncId};
use ablo_wasm::core::json::Value;
use ablo_wasm::core::wire::{Commit, OpKind, Operation};

use crate::shop;

/// A row: model and id.
pub(crate) type Row = (ModelIndex, String);
/// Who issued a write: one incarnation of one client. 0 is the agent.
pub(crate) type Author = u32;
/// The agent.
pub(crate) const AGENT: Author = 0;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule was broken.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

/// The result of everything that may find a violation.
pub(crate) type Check<T = ()> = Result<T, Violation>;

/// A violation as a result.
pub(crate) fn broken<T>(rule: &'static str, what: impl Into<String>) -> Check<T> {
    Err(Violation { rule, what: what.into() })
}

/// What became of a write, as far as its author has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing final yet.
    Open,
    /// It was refused for good.
    Rejected,
    /// Its author is gone: it may or may not have been applied.
    Abandoned,
}

/// What a write was based on: a row as of some id. The server refuses the write when others have changed it since.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) row: Row,
    pub(crate) read_at: SyncId,
    /// It counts as a whole; otherwise only the fields that are written do.
    pub(crate) whole: bool,
    /// A claim has set it, so changes of the same participant do not count, whoever made them.
    pub(crate) claimed: bool,
}

/// A change of a row that is durable.
#[derive(Clone, Debug)]
struct Made {
    id: SyncId,
    by: Author,
    /// The participant, kind and id.
    actor: String,
    /// `None`: all of them.
    fields: Option<BTreeSet<String>>,
}

/// A write that was issued.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) author: Author,
    /// The tabs of this device share it.
    pub(crate) device: Option<usize>,
    /// Its author was told that the device has it.
    pub(crate) safe: bool,
    /// Its refusal was told, so the device must keep a letter.
    pub(crate) letter: bool,
    /// Pending writes of the row that its author saw: it must come after them.
    pub(crate) saw: Vec<u32>,
    pub(crate) kind: OpKind,
    pub(crate) row: Row,
    /// The birth of the row that its author saw.
    pub(crate) birth: Option<u32>,
    /// The text of the title that it writes.
    pub(crate) title: Option<String>,
    /// The server's head when it was issued.
    pub(crate) head: SyncId,
    /// For a delete in a tab: the client's name for it, as its outbox says.
    pub(crate) name: Option<String>,
    pub(crate) guard: Option<Guard>,
    /// It shows at once; `commits.create` does not.
    pub(crate) optimistic: bool,
    /// The key that it was last sent under.
    pub(crate) key: Option<String>,
    /// A delete that its client took back together with the create before it.
    pub(crate) cancelled: bool,
    /// A delete of a row whose create was refused in another tab: it need not be sent.
    pub(crate) moot: bool,
    /// Durable at the server since this id.
    pub(crate) applied: Option<SyncId>,
    pub(crate) fate: Fate,
}

/// An idempotency key and what it stands for.
#[derive(Clone, Debug)]
struct Key {
    payload: String,
    /// The numbers of the writes in each operation.
    ops: Vec<Vec<u32>>,
    refused: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RefRow {
    members: BTreeMap<String, String>,
    archived: bool,
}

/// A state of a row that was durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: SyncId,
    /// The text's fingerprint; `None`: there is no row.
    pub(crate) text: Option<u64>,
    /// The row's birth, and the writes in it.
    pub(crate) birth: Option<u32>,
    pub(crate) markers: Vec<u32>,
    /// Snapshots leave it out.
    pub(crate) archived: bool,
}

/// Counts for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) commits: u64,
    pub(crate) repeats: u64,
    pub(crate) refusals: u64,
    pub(crate) rejected: u64,
}

/// Everything that should be.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By number, the first is 1.
    ops: Vec<Op>,
    keys: BTreeMap<String, Key>,
    /// By author and the client's name of an operation: its writes, and the last key it was sent under.
    names: BTreeMap<(Author, String), (Vec<u32>, String)>,
    /// Writes that the server refused when they came alone.
    refused_alone: BTreeSet<u32>,
    rows: BTreeMap<Row, RefRow>,
    owners: BTreeMap<String, ModelIndex>,
    history: BTreeMap<Row, Vec<Version>>,
    made: BTreeMap<Row, Vec<Made>>,
    applied_names: BTreeSet<(String, String)>,
    durable_keys: BTreeSet<String>,
    last_applied: BTreeMap<(Author, Row), u32>,
    /// Writes that must not be applied any more: one whose author had seen them has come before.
    overtaken: BTreeMap<u32, u32>,
    /// Incarnations on a device, by device.
    devices: BTreeMap<Author, usize>,
    /// The optimistic writes of an author on a row, in order.
    by_row: BTreeMap<(Author, Row), Vec<u32>>,
    head: SyncId,
    /// There are claims: what a participant changes while it holds a row is its own, whichever client it was.
    claims: bool,
    pub(crate) counts: Counts,
}

impl Oracle {
    /// Of a world with claims, or without.
    pub(crate) fn new(claims: bool) -> Self {
        Self { claims, ..Self::default() }
    }

    /// The number that the next write will have.
    pub(crate) fn next_number(&self) -> u32 {
        self.ops.len() as u32 + 1
    }

    /// An incarnation lives on a device: its tabs speak for each other.
    pub(crate) fn settle_on(&mut self, author: Author, device: usize) {
        self.devices.insert(author, device);
    }

    /// Whose writes a client may send: its own, or those of all tabs of its device.
    fn family(&self, author: Author) -> Author {
        self.devices.get(&author).map_or(author, |device| Author::MAX - *device as Author)
    }

    /// The client calls a delete by this name.
    pub(crate) fn name(&mut self, number: u32, name: Option<String>) {
        self.op_mut(number).into_iter().for_each(|op| op.name.clone_from(&name));
    }

    /// The author is told that the device has the write.
    pub(crate) fn promise(&mut self, number: u32) {
        self.op_mut(number).into_iter().for_each(|op| op.safe = true);
    }

    /// The device has lost what it had: it may still be applied, or not.
    pub(crate) fn forget_promises(&mut self, device: usize) {
        for op in self.ops.iter_mut().filter(|op| op.device == Some(device)) {
            // Tabs that have not heard of a refusal can learn of it nowhere now.
            let unknown = op.fate == Fate::Open || op.letter;
            op.safe = false;
            op.letter = false;
            if unknown && op.applied.is_none() {
                op.fate = Fate::Abandoned;
            }
        }
    }

    /// A refusal was told to somebody who is gone, and is nowhere in writing.
    pub(crate) fn reopen(&mut self, number: u32) {
        if let Some(op) = self.op_mut(number) {
            op.fate = if op.safe { Fate::Open } else { Fate::Abandoned };
            op.letter = false;
        }
    }

    /// The device has a letter about it.
    pub(crate) fn told(&mut self, number: u32) {
        self.op_mut(number).into_iter().for_each(|op| op.fate = Fate::Rejected);
    }

    /// Whether the server has refused it, as the only one of its commit.
    pub(crate) fn is_refused_alone(&self, number: u32) -> bool {
        self.refused_alone.contains(&number)
    }

    /// The device must keep a letter about it.
    pub(crate) fn expect_letter(&mut self, number: u32) {
        if let Some(op) = self.op_mut(number).filter(|op| op.fate == Fate::Rejected) {
            op.letter = true;
        }
    }

    /// Whether another tab has written to the row of a write, and that is not all in what is confirmed.
    pub(crate) fn is_shared(&self, number: u32, cursor: SyncId) -> bool {
        let Some(op) = self.op(number).filter(|op| op.device.is_some()) else { return false };
        self.ops.iter().any(|other| {
            other.device == op.device
                && other.author != op.author
                && other.row == op.row
                && other.applied.is_none_or(|at| at > cursor.min(op.head))
        })
    }

    /// The writes that a text shows and that the server does not have yet.
    pub(crate) fn unapplied(&self, device: Option<usize>, text: &str) -> Vec<u32> {
        let pending = |number: &u32| {
            self.op(*number).is_some_and(|op| op.device == device && op.optimistic && op.applied.is_none())
        };
        shop::markers(text).into_iter().filter(pending).collect()
    }

    /// The application issued a write.
    pub(crate) fn issue(&mut self, op: Op) -> u32 {
        self.counts.writes += 1;
        let number = self.next_number();
        if op.optimistic {
            self.by_row.entry((op.author, op.row.clone())).or_default().push(number);
        }
        self.ops.push(op);
        number
    }

    pub(crate) fn op(&self, number: u32) -> Option<&Op> {
        self.ops.get((number as usize).checked_sub(1)?)
    }

    fn op_mut(&mut self, number: u32) -> Option<&mut Op> {
        self.ops.get_mut((number as usize).checked_sub(1)?)
    }

    /// All writes with their numbers.
    pub(crate) fn ops(&self) -> impl DoubleEndedIterator<Item = (u32, &Op)> {
        self.ops.iter().enumerate().map(|(index, op)| (index as u32 + 1, op))
    }

    /// The application or the agent made a commit of its own under a key: each operation is one write.
    pub(crate) fn declare(&mut self, key: &str, ops: &[u32]) {
        let ops = ops.iter().map(|number| vec![*number]).collect();
        self.keys.insert(key.to_owned(), Key { payload: String::new(), ops, refused: false });
    }

    /// A client gives a commit to a socket.
    pub(crate) fn sent(&mut self, author: Author, commit: &Commit, payload: &str) -> Check {
        let key = &commit.client_tx_id;
        // When it was made is said only when the server may have it already.
        let payload =
            payload.rsplit_once(",\"createdAt\":").map_or_else(|| payload.to_owned(), |(rest, _)| format!("{rest}}}"));
        let payload = payload.as_str();
        if let Some(known) = self.keys.get_mut(key) {
            if known.payload.is_empty() {
                payload.clone_into(&mut known.payload);
            } else if known.payload == payload {
                self.counts.repeats += 1;
            } else {
                return broken("key-content", format!("key {key} stood for {} and now for {payload}", known.payload));
            }
            known.refused = false;
            let numbers: Vec<u32> = known.ops.iter().flatten().copied().collect();
            for number in numbers {
                self.op_mut(number).into_iter().for_each(|op| op.key = Some(key.clone()));
            }
            return Ok(());
        }
        let mut ops = Vec::new();
        for operation in &commit.operations {
            ops.push(self.recognise(author, key, operation)?);
        }
        self.keys.insert(key.clone(), Key { payload: payload.to_owned(), ops, refused: false });
        Ok(())
    }

    /// Which writes an operation on its way carries.
    fn recognise(&mut self, author: Author, key: &str, operation: &Operation) -> Check<Vec<u32>> {
        let Some(name) = operation.transaction_id.clone() else {
            return broken("nameless", format!("an operation without a name under the unknown key {key}"));
        };
        let family = self.family(author);
        if let Some((numbers, last)) = self.names.get_mut(&(family, name.clone())) {
            if !self.keys.get(last).is_some_and(|known| known.refused) {
                return broken("second-key", format!("{name} was sent as {last}, never refused, and now as {key}"));
            }
            key.clone_into(last);
            let numbers = numbers.clone();
            for number in &numbers {
                self.op_mut(*number).into_iter().for_each(|op| op.key = Some(key.to_owned()));
            }
            return Ok(numbers);
        }
        let id = operation.id.clone().unwrap_or_default();
        let Some(model) = shop::model_of(&operation.model) else {
            return broken("unknown-model", format!("{} was sent by a typed write", operation.model));
        };
        let row = (model, id);
        let numbers = match operation.kind {
            OpKind::Create | OpKind::Update => shop::markers(operation.input.as_deref().unwrap_or("{}")),
            OpKind::Delete | OpKind::Archive | OpKind::Unarchive => {
                let fits = |op: &Op| {
                    self.family(op.author) == family
                        && op.kind == operation.kind
                        && op.row == row
                        && op.key.is_none()
                        && !op.cancelled
                        && op.optimistic
                        && op.fate != Fate::Rejected
                        && (op.device.is_none() || op.name.as_ref() == Some(&name))
                };
                self.ops().find(|(_, op)| fits(op)).map(|(number, _)| number).into_iter().collect()
            }
        };
        if numbers.is_empty() {
            return broken("invented", format!("{name} on {row:?} was sent and never issued"));
        }
        for number in &numbers {
            let Some(op) = self.op(*number) else { return broken("invented", format!("write {number} was sent")) };
            if self.family(op.author) != family || op.row != row || op.key.is_some() {
                return broken("invented", format!("write {number} on {row:?} was sent as another operation: {op:?}"));
            }
            self.op_mut(*number).into_iter().for_each(|op| op.key = Some(key.to_owned()));
        }
        self.names.insert((family, name), (numbers.clone(), key.to_owned()));
        Ok(numbers)
    }

    /// The server refused a commit.
    pub(crate) fn refused(&mut self, key: &str) {
        self.counts.refusals += 1;
        if let Some(known) = self.keys.get_mut(key) {
            known.refused = true;
            if known.ops.len() == 1 {
                self.refused_alone.extend(known.ops.iter().flatten());
            }
        }
    }

    /// A change became durable that carries this commit out.
    pub(crate) fn durable(&mut self, participant: &str, commit: Option<&Commit>, change: &StoreChange) -> Check {
        for delta in &change.deltas {
            if delta.id <= self.head {
                return broken("sync-id", format!("delta {} after head {}", delta.id.0, self.head.0));
            }
            self.head = delta.id;
        }
        self.head = self.head.max(change.head.unwrap_or_default());
        for stored in &change.commits {
            if !self.durable_keys.insert(stored.key.to_string()) {
                return broken("twice", format!("key {} was carried out twice", stored.key));
            }
        }
        if let (Some(commit), false) = (commit, change.commits.is_empty()) {
            self.counts.commits += 1;
            self.carry_out(participant, commit, change)?;
        }
        for stored in &change.rows {
            let Some(model) = shop::model_of(&stored.model) else { continue };
            let row = (model, stored.id.to_string());
            let expected = self.rows.get(&row);
            let found = RefRow::read(&stored.data);
            if expected != Some(&found) {
                return broken("server-row", format!("{row:?} is {} and should be {expected:?}", stored.data));
            }
            let text = Some(fingerprint(&stored.data));
            let (birth, markers) = (shop::birth(&stored.data), shop::markers(&stored.data));
            let version = Version { id: stored.last_sync_id, text, birth, markers, archived: found.archived };
            self.history.entry(row).or_default().push(version);
        }
        for (_, model, id) in &change.removed {
            let Some(model) = shop::model_of(model) else { continue };
            let row = (model, id.to_string());
            if self.rows.contains_key(&row) {
                return broken("server-row", format!("{row:?} is gone and should not be"));
            }
            let last = change.deltas.iter().rev().find(|delta| *delta.row == **id).map_or(self.head, |delta| delta.id);
            self.history.entry(row).or_default().push(Version {
                id: last,
                text: None,
                birth: None,
                markers: Vec::new(),
                archived: false,
            });
        }
        Ok(())
    }

    fn carry_out(&mut self, participant: &str, commit: &Commit, change: &StoreChange) -> Check {
        let Some(key) = self.keys.get(&commit.client_tx_id).cloned() else {
            return broken("invented", format!("the server carried out the unknown key {}", commit.client_tx_id));
        };
        let at = change.deltas.last().map_or(self.head, |delta| delta.id);
        for (operation, numbers) in commit.operations.iter().zip(&key.ops) {
            if let Some(name) = &operation.transaction_id
                && !self.applied_names.insert((participant.to_owned(), name.clone()))
            {
                continue;
            }
            let fields = fields_of(operation);
            for number in numbers {
                // Without a delta nothing was changed: what was to be deleted was gone.
                if let Some(delta) = change.deltas.first() {
                    self.check_guard(*number, &delta.actor, fields.as_ref())?;
                }
                if let Some(by) = self.overtaken.get(number) {
                    return broken("order", format!("write {number} was applied after {by}, whose author had seen it"));
                }
                let Some(op) = self.op_mut(*number) else { continue };
                let author = op.author;
                if op.applied.is_some() {
                    return broken("twice", format!("write {number} was applied twice: {op:?}"));
                }
                if op.fate == Fate::Rejected {
                    return broken("rejected-trace", format!("write {number} was rejected and is applied: {op:?}"));
                }
                op.applied = Some(at);
                let (row, saw) = (op.row.clone(), op.saw.clone());
                for seen in saw {
                    if self.op(seen).is_some_and(|op| op.applied.is_none()) {
                        self.overtaken.insert(seen, *number);
                    }
                }
                let last = self.last_applied.insert((author, row.clone()), *number).unwrap_or(0);
                // The agent's requests overtake each other; a client's socket keeps their order.
                if last > *number && author != AGENT {
                    return broken("order", format!("write {number} on {row:?} was applied after {last}"));
                }
            }
            self.apply(operation)?;
            let Some(model) = shop::model_of(&operation.model) else { continue };
            let row = (model, operation.id.clone().unwrap_or_default());
            let is_it = |delta: &&StoredDelta| {
                let same = shop::model_of(&delta.model) == Some(model) && *delta.row == *row.1;
                // Another row's change that moves this one between groups changes nothing in it.
                same && delta.verb != Verb::Reroute
            };
            // What was so before is no change: a row archived once more.
            let Some(id) = change.deltas.iter().rev().find(is_it).map(|delta| delta.id) else { continue };
            let by = numbers.first().and_then(|number| self.op(*number)).map_or(AGENT, |op| self.family(op.author));
            let actor = change.deltas.first().map(|delta| delta.actor.to_string()).unwrap_or_default();
            self.made.entry(row).or_default().push(Made { id, by, actor, fields });
        }
        Ok(())
    }

    /// A commit with this key was sent.
    pub(crate) fn knows_key(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// A write may be applied only while what it was based on is as its author saw it, but for the author's own changes.
    fn check_guard(&self, number: u32, actor: &str, fields: Option<&BTreeSet<String>>) -> Check {
        let Some((op, guard)) = self.op(number).and_then(|op| Some((op, op.guard.as_ref()?))) else { return Ok(()) };
        let touches = |made: &Made| match (fields, &made.fields) {
            (Some(fields), Some(made)) if !guard.whole => !fields.is_disjoint(made),
            (_, _) => true,
        };
        let mut later = self.made.get(&guard.row).into_iter().flatten().filter(|made| made.id > guard.read_at);
        let others = |made: &Made| {
            let same = (guard.claimed || self.claims) && made.actor == actor;
            made.by != self.family(op.author) && !same
        };
        if let Some(made) = later.find(|made| others(made) && touches(made)) {
            let rule = if guard.claimed { "unseen" } else { "guard" };
            return broken(rule, format!("write {number} is applied over {made:?}, which it had not seen: {op:?}"));
        }
        Ok(())
    }

    /// The last change of a row up to an id that somebody else than this participant has made.
    pub(crate) fn last_by_others(&self, row: &Row, who: &str, head: SyncId) -> Option<SyncId> {
        let made = self.made.get(row)?.iter().rev();
        made.filter(|made| made.id <= head && made.actor != who).map(|made| made.id).next()
    }

    fn apply(&mut self, operation: &Operation) -> Check {
        let Some(model) = shop::model_of(&operation.model) else {
            return broken("server-accepts", format!("the unknown model {}", operation.model));
        };
        let id = operation.id.clone().unwrap_or_default();
        let row = (model, id.clone());
        let input = RefRow::read(operation.input.as_deref().unwrap_or("{}"));
        match operation.kind {
            OpKind::Create => {
                if self.owners.contains_key(&id) {
                    return broken("server-accepts", format!("a second create of {row:?}"));
                }
                let mut created = input;
                created.archived = false;
                let mut text = String::new();
                ablo_wasm::core::json::write_str(&mut text, &id);
                created.members.insert("id".to_owned(), text);
                self.owners.insert(id, model);
                self.rows.insert(row, created);
            }
            OpKind::Update => {
                let Some(known) = self.rows.get_mut(&row) else {
                    return broken("server-accepts", format!("an update of {row:?}, which is not there"));
                };
                known.members.extend(input.members.into_iter().filter(|(name, _)| name != "id"));
            }
            OpKind::Delete => {
                if self.rows.remove(&row).is_some() {
                    self.owners.remove(&id);
                }
            }
            OpKind::Archive | OpKind::Unarchive => match self.rows.get_mut(&row) {
                Some(known) => known.archived = operation.kind == OpKind::Archive,
                None => return broken("server-accepts", format!("archiving {row:?}, which is not there")),
            },
        }
        Ok(())
    }

    /// The author is told that a write was rejected.
    pub(crate) fn rejected(&mut self, number: u32, code: &str) -> Check {
        let Some(op) = self.op(number).cloned() else { return Ok(()) };
        if op.fate == Fate::Abandoned || code == "client_disposed" || code == "session_expired" {
            self.abandon(number);
            if op.fate == Fate::Abandoned && op.device.is_some() {
                self.cancel_dependants(number, &op);
            }
            return Ok(());
        }
        if op.fate == Fate::Rejected {
            // Another tab hears of it, and may have deletes of its own that were made before it did.
            if op.device.is_some() {
                self.cancel_dependants(number, &op);
            }
            return Ok(());
        }
        if let Some(at) = op.applied {
            let what = format!("write {number} was applied at {} and rejected with {code}: {op:?}", at.0);
            return broken("rejected-trace", what);
        }
        // A model write is rejected only when the server refused it alone, or when it was built on a create that was.
        let alone = self.refused_alone.contains(&number);
        let built_on = || {
            self.ops().any(|(other, base)| {
                other < number
                    && self.family(base.author) == self.family(op.author)
                    && base.row == op.row
                    && base.kind == OpKind::Create
                    && (base.fate == Fate::Rejected || self.refused_alone.contains(&other))
            })
        };
        // Or when it was left out in favour of a delete that was refused.
        let replaced = || {
            self.ops().skip(number as usize).any(|(other, delete)| {
                self.family(delete.author) == self.family(op.author)
                    && delete.row == op.row
                    && delete.kind == OpKind::Delete
                    && self.refused_alone.contains(&other)
            })
        };
        if op.optimistic && !alone && (self.is_on_its_way(&op) || !(built_on() || replaced())) {
            let what = format!("write {number} was rejected with {code} though the server never refused it: {op:?}");
            return broken("neighbour-rejected", what);
        }
        self.counts.rejected += 1;
        self.op_mut(number).into_iter().for_each(|op| op.fate = Fate::Rejected);
        self.cancel_dependants(number, &op);
        Ok(())
    }

    /// Deletes of a row that never came to be have what they wanted.
    fn cancel_dependants(&mut self, number: u32, op: &Op) {
        if op.kind != OpKind::Create || !op.optimistic {
            return;
        }
        let family = self.family(op.author);
        let later = self.ops().skip(number as usize);
        let later = later.filter(|(_, other)| other.optimistic && other.row == op.row);
        let later = later.filter(|(_, other)| self.family(other.author) == family);
        let dependants = later.take_while(|(_, other)| other.kind != OpKind::Create || op.device.is_some());
        let deletes = dependants.filter(|(_, other)| other.kind == OpKind::Delete && !self.is_on_its_way(other));
        let deletes: Vec<u32> = deletes.map(|(number, _)| number).collect();
        for delete in deletes {
            if op.device.is_some() {
                self.op_mut(delete).into_iter().for_each(|op| op.moot = true);
            } else {
                self.cancel(delete);
            }
        }
    }

    /// It was sent, and the server did not refuse it.
    fn is_on_its_way(&self, op: &Op) -> bool {
        op.key.as_ref().is_some_and(|key| self.keys.get(key).is_none_or(|known| !known.refused))
    }

    /// A delete was taken back together with everything before it that no server has heard of.
    pub(crate) fn cancel(&mut self, number: u32) {
        let Some(op) = self.op(number) else { return };
        let numbers = self.by_row.get(&(op.author, op.row.clone())).map(Vec::as_slice).unwrap_or_default();
        let earlier: Vec<u32> = numbers.iter().copied().take_while(|other| *other <= number).collect();
        for number in earlier {
            let idle = self.op(number).is_some_and(|op| op.applied.is_none() && !self.is_on_its_way(op));
            if idle && let Some(op) = self.op_mut(number).filter(|op| op.kind == OpKind::Delete) {
                op.cancelled = true;
            }
        }
    }

    /// The author is told that a write is confirmed.
    pub(crate) fn confirmed(&self, number: u32) -> Check {
        let Some(op) = self.op(number) else { return Ok(()) };
        if op.applied.is_some() || op.fate == Fate::Abandoned || self.is_superseded(number) {
            return Ok(());
        }
        broken("confirmed-early", format!("write {number} is confirmed and the server does not have it: {op:?}"))
    }

    /// Whether a write that was never sent has become pointless by later ones of its author.
    pub(crate) fn is_superseded(&self, number: u32) -> bool {
        let Some(op) = self.op(number).filter(|op| op.optimistic && !self.is_on_its_way(op)) else { return false };
        if op.kind == OpKind::Delete {
            return op.cancelled || op.moot;
        }
        let numbers = self.by_row.get(&(op.author, op.row.clone())).map(Vec::as_slice).unwrap_or_default();
        let later = numbers.iter().rev().take_while(|other| **other > number).filter_map(|other| self.op(*other));
        later.into_iter().any(|other| other.kind == OpKind::Delete && other.fate != Fate::Rejected)
    }

    /// Whether a write was left out in favour of a delete that was refused then.
    pub(crate) fn is_replaced(&self, number: u32) -> bool {
        let Some(op) = self.op(number).filter(|op| op.optimistic && !self.is_on_its_way(op)) else { return false };
        let numbers = self.by_row.get(&(op.author, op.row.clone())).map(Vec::as_slice).unwrap_or_default();
        let mut later = numbers.iter().filter(|other| **other > number).filter_map(|other| self.op(*other));
        later.any(|other| other.kind == OpKind::Delete && other.fate == Fate::Rejected)
    }

    /// The author is gone: nobody can be told what becomes of the write.
    pub(crate) fn abandon(&mut self, number: u32) {
        let open = |op: &&mut Op| op.fate == Fate::Open && op.applied.is_none() && !op.safe;
        if let Some(op) = self.op_mut(number).filter(open) {
            op.fate = Fate::Abandoned;
        }
    }

    /// The writes that the client's name of an operation stands for.
    pub(crate) fn named(&self, author: Author, name: &str) -> Vec<u32> {
        self.names.get(&(self.family(author), name.to_owned())).map(|(numbers, _)| numbers.clone()).unwrap_or_default()
    }

    /// The oldest operation of a refused commit of the application's own whose refusal has not been told.
    pub(crate) fn refused_direct(&self, author: Author, kind: OpKind, id: &str) -> Option<u32> {
        let fits = |op: &Op| {
            self.family(op.author) == self.family(author)
                && op.kind == kind
                && op.row.1 == id
                && !op.optimistic
                && op.fate == Fate::Open
                && op.key.as_ref().is_some_and(|key| self.keys.get(key).is_some_and(|known| known.refused))
        };
        self.ops().find(|(_, op)| fits(op)).map(|(number, _)| number)
    }

    /// The durable states of a row, oldest first.
    pub(crate) fn versions(&self, row: &Row) -> &[Version] {
        self.history.get(row).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a row's text, which may have changes from after the cursor in it, lacks none from before.
    pub(crate) fn is_complete(&self, row: &Row, text: &str, cursor: SyncId) -> bool {
        let versions = self.versions(row);
        let from = versions.iter().rposition(|version| version.id <= cursor);
        let (now, later) = versions.split_at(from.map_or(0, |from| from + 1));
        let birth = shop::birth(text);
        let complete = |version: &Version| {
            version.birth == birth && version.markers.iter().all(|number| shop::carries(text, 'm', *number))
        };
        now.last().is_some_and(complete) || later.iter().any(|version| version.text.is_some() && version.birth == birth)
    }

    /// Everything durable has ids up to this.
    pub(crate) fn head(&self) -> SyncId {
        self.head
    }

    /// After everything healed: each write was applied, or its author knows that it was not.
    pub(crate) fn check_nothing_lost(&self) -> Check {
        for (number, op) in self.ops() {
            let accounted = op.applied.is_some() || op.fate != Fate::Open || self.is_superseded(number);
            if !accounted {
                return broken("lost", format!("write {number} was neither applied nor rejected: {op:?}"));
            }
        }
        Ok(())
    }

    /// Whether a row of the reference is shown to a participant with these groups.
    pub(crate) fn shows(&self, groups: &BTreeSet<String>, row: &Row) -> bool {
        if groups.contains(&format!("org:{}", shop::ORGANIZATION)) {
            return true;
        }
        let member = |row: &Row, name: &str| self.rows.get(row)?.members.get(name).cloned();
        let task = match row.0 {
            shop::TASKS => Some(row.clone()),
            shop::NOTES => member(row, "taskId").and_then(|id| Some((shop::TASKS, text_of(&id)?))),
            _ => None,
        };
        let team = task.and_then(|task| text_of(&member(&task, "teamId")?));
        team.is_some_and(|team| groups.contains(&format!("team:{team}")))
    }

    /// The rows that should be, with whether they are archived.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Row, bool)> {
        self.rows.iter().map(|(row, known)| (row, known.archived))
    }
}

/// The fields that an operation writes; `None`: all of them.
fn fields_of(operation: &Operation) -> Option<BTreeSet<String>> {
    match operation.kind {
        OpKind::Update => Some(RefRow::read(operation.input.as_deref().unwrap_or("{}")).members.into_keys().collect()),
        OpKind::Archive | OpKind::Unarchive => Some(BTreeSet::from(["archivedAt".to_owned()])),
        OpKind::Create | OpKind::Delete => None,
    }
}

fn text_of(raw: &str) -> Option<String> {
    Value::parse(raw).ok()?.as_str().map(std::borrow::Cow::into_owned)
}

impl RefRow {
    /// A text's members without what the server adds.
    fn read(text: &str) -> Self {
        const STAMPS: [&str; 4] = ["organizationId", "createdBy", "createdAt", "updatedAt"];
        let mut row = Self::default();
        let Ok(value) = Value::parse(text) else { return row };
        for (key, member) in value.members() {
            let key = key.decode();
            if key == "archivedAt" {
                row.archived = !member.is_null();
            } else if !STAMPS.contains(&key.as_ref()) {
                row.members.insert(key.into_owned(), member.raw.to_owned());
            }
        }
        row
    }
}

/// A number that stands for a row's text, whatever the order of its members.
pub(crate) fn fingerprint(text: &str) -> u64 {
    let Ok(value) = Value::parse(text) else { return 0 };
    let members: BTreeMap<_, _> = value.members().map(|(key, member)| (key.decode(), member.raw)).collect();
    let mut hash = crate::trace::Hash::default();
    for (key, raw) in members {
        hash.text(&key);
        hash.text(raw);
    }
    hash.value()
}
