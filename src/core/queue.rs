//! The write queue: pending operations on top of confirmed rows, gathered into commits, sent one at a time in order.
//!
//! It knows operations, their order and their fate. It does not know rows' confirmed text (callers pass it to
//! [`Queue::overlay`]), nor sockets (callers send what [`Queue::next_frame`] returns), nor the clock.
//!
//! The life of an operation: *applied* (in the queue, visible) → *journaled* → *sent* → *acknowledged* → gone, when the
//! delta that carries it has been applied to the confirmed row. A commit keeps one idempotency key for ever; only a
//! commit that was refused, and so had no effect, is split into commits with keys of their own.
//!
//! Order: the order of the calls. Two exceptions, both within what no server has seen: an update merges into an unsent
//! update of the same row, and a create is put before operations that refer to it (docs/decisions/write-order.md).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::error::Error;
use super::id::{CommitKey, ModelIndex, RowId, SyncId};
use super::input::Ticket;
use super::json::{ObjectWriter, Value, merge, write_array};
use super::output::JournalOp;
use super::rng::Rng;
use super::time::{Instant, WallTime};
use super::wire::{self, ClientFrame, MutationResult, OnStale, OpKind, Operation};

/// Most operations in one commit of model writes (engine.md 2.9).
pub const COMMIT_OPS_MAX: usize = 50;
/// A commit of model writes takes no further operation past this many bytes of input.
pub const COMMIT_BYTES_MAX: usize = 256 * 1024;
/// Largest input of one operation. Frames far above it are refused by servers and intermediaries.
pub const OP_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most operations waiting at once.
pub const PENDING_OPS_MAX: usize = 100_000;
/// A commit that is not answered for so long is sent again, under the same key.
pub const ANSWER_MS: u64 = 15_000;
/// Times a commit may fail for a reason that may lie in the commit itself before it counts as refused.
pub const FAULTS_MAX: u32 = 5;
/// Receipts of finished direct commits that are remembered, so that a repeated key is answered from here.
const RECEIPTS_MAX: usize = 1000;
/// First and longest pause before a commit is sent again.
const RETRY_BASE_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 30_000;

/// A row, by model and id.
pub type RowKey = (ModelIndex, RowId);

/// Place of an operation in the order of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpSeq(u64);

/// When a ticket settles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// When the write is safe on the device; in memory mode when it is applied.
    #[default]
    Queued,
    /// When the server confirmed it and its delta is here.
    Confirmed,
}

/// An operation to enqueue.
#[derive(Clone, Debug)]
pub struct NewOp {
    /// What to do.
    pub kind: OpKind,
    /// The row.
    pub row: RowKey,
    /// The model's name in the commit.
    pub model: String,
    /// The text of the object of fields to send.
    pub input: Option<String>,
    /// For creates, the text of the object that the page shows meanwhile besides `input`: id, stamps, defaults.
    pub defaults: Option<String>,
    /// Rows that `input` refers to.
    pub refers_to: Vec<RowKey>,
    /// The watermark, if it is guarded.
    pub read_at: Option<SyncId>,
    /// What the server does when the row moved.
    pub on_stale: Option<OnStale>,
    /// The caller's name for the operation.
    pub transaction_id: Option<String>,
}

/// How an operation joins the queue.
#[derive(Clone, Debug)]
pub struct Enqueue {
    /// Who waits for it, and for what.
    pub ticket: Ticket,
    /// When the ticket settles.
    pub wait: Wait,
    /// The caller's idempotency key: the commit is the caller's own then.
    pub key: Option<String>,
}

#[derive(Debug)]
struct Op {
    kind: OpKind,
    row: RowKey,
    model: String,
    input: Option<String>,
    /// What goes over the confirmed row: `input` and the local stamps.
    patch: Option<String>,
    defaults: Option<String>,
    refers_to: Vec<RowKey>,
    read_at: Option<SyncId>,
    on_stale: Option<OnStale>,
    transaction_id: Option<String>,
    waiting: Vec<(Ticket, Wait)>,
    stamp: WallTime,
    optimistic: bool,
}

impl Op {
    fn is_guarded(&self) -> bool {
        self.read_at.is_some() || self.on_stale.is_some()
    }

    fn bytes(&self) -> usize {
        self.input.as_ref().map_or(0, String::len)
    }

    fn wire(&self) -> Operation {
        Operation {
            kind: self.kind,
            model: self.model.clone(),
            id: Some(self.row.1.as_str().to_owned()),
            input: self.input.clone(),
            transaction_id: self.transaction_id.clone(),
            read_at: self.read_at,
            on_stale: self.on_stale,
        }
    }
}

/// Who made a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Model writes: optimistic, gathered, split on refusal.
    Model,
    /// `commits.create`: as given, atomic. At most one of the two waits.
    Direct {
        /// Settles when the commit is safe.
        queued: Option<Ticket>,
        /// Settles when it is confirmed.
        confirmed: Option<Ticket>,
    },
}

#[derive(Debug)]
struct Commit {
    key: CommitKey,
    order: u64,
    ops: Vec<OpSeq>,
    bytes: usize,
    lane: Lane,
    reads: Option<String>,
    /// Whether further model writes may join.
    open: bool,
    sent: bool,
    attempts: u32,
    faults: u32,
    created: WallTime,
    /// Changed since the journal last took it.
    dirty: bool,
    /// Journal writes under way.
    journaling: u32,
}

impl Commit {
    fn is_journaled(&self) -> bool {
        !self.dirty && self.journaling == 0
    }
}

#[derive(Debug)]
struct Acked {
    key: CommitKey,
    order: u64,
    ops: Vec<OpSeq>,
    /// The delta to wait for. `None`: the server named none; the next catch-up settles it.
    threshold: Option<SyncId>,
    lane: Lane,
    receipt: String,
}

/// What became of tickets and rows when the queue moved.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tickets to settle.
    pub settled: Vec<(Ticket, Result<Option<String>, Error>)>,
    /// Rows whose pending operations changed.
    pub rows: Vec<RowKey>,
    /// Operations that were refused, with the reason.
    pub rejected: Vec<Rejected>,
    /// Stale notifications of a commit: its key and the text of the array.
    pub notified: Option<(String, String)>,
    /// The server refused the credential, not the write.
    pub credential: Option<Error>,
    /// A ticket named by one of these keys is waiting for what another already waits for.
    pub acknowledged: bool,
}

/// A refused operation.
#[derive(Debug)]
pub struct Rejected {
    /// What it was.
    pub kind: OpKind,
    /// The row.
    pub row: RowKey,
    /// The text of what it would have written.
    pub input: Option<String>,
    /// The operation's name.
    pub transaction_id: Option<String>,
    /// When it was made.
    pub created: WallTime,
    /// Times it was sent.
    pub attempts: u32,
    /// Why it was refused.
    pub error: Error,
}

/// What pending operations make of a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Readers see this text.
    Shown(String),
    /// Readers see no row.
    Hidden,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    durable: bool,
    ops: BTreeMap<OpSeq, Op>,
    /// Optimistic operations of each row, in order.
    rows: BTreeMap<RowKey, Vec<OpSeq>>,
    commits: VecDeque<Commit>,
    acked: VecDeque<Acked>,
    /// The first commit is on its way since then.
    in_flight: Option<Instant>,
    /// The first commit is not sent before then.
    retry_at: Option<Instant>,
    next_op: u64,
    next_order: u64,
    removals: Vec<u64>,
    receipts: VecDeque<(CommitKey, Result<Option<String>, Error>)>,
    /// Tickets of repeated keys, settled with the commit they repeat.
    repeats: BTreeMap<CommitKey, Vec<Ticket>>,
}

impl Queue {
    /// An empty queue. With `durable`, a commit is sent only after the journal has it.
    pub fn new(durable: bool) -> Self {
        Self {
            durable,
            ops: BTreeMap::new(),
            rows: BTreeMap::new(),
            commits: VecDeque::new(),
            acked: VecDeque::new(),
            in_flight: None,
            retry_at: None,
            next_op: 0,
            next_order: 0,
            removals: Vec::new(),
            receipts: VecDeque::new(),
            repeats: BTreeMap::new(),
        }
    }

    /// Adds a model write.
    ///
    /// # Errors
    /// `outbox_full`, `write_too_large`, or `idempotency_conflict` when the caller's key is in use.
    pub fn enqueue(&mut self, new: NewOp, how: Enqueue, wall: WallTime, rng: &mut Rng) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        self.check(&new)?;
        if let Some(key) = &how.key
            && self.commits.iter().any(|commit| *commit.key.0 == **key)
        {
            return Err(Error::local("idempotency_conflict", format!("the key {key:.60} is already in use"))
                .param("idempotencyKey"));
        }
        let row = new.row.clone();
        outcome.rows.push(row.clone());
        if new.kind == OpKind::Delete && how.key.is_none() && self.cancel_unsent(&row, &how, &mut outcome) {
            return Ok(outcome);
        }
        let waiting = (how.ticket, how.wait);
        if new.kind == OpKind::Update
            && how.key.is_none()
            && let Some(seq) = self.mergeable(&new)
        {
            self.merge_into(seq, new, waiting, wall);
        } else {
            let absorbed =
                if new.kind == OpKind::Delete { self.drop_unsent_updates(&row, &mut outcome) } else { Vec::new() };
            let seq = self.insert(new, wall, rng, true);
            if let Some(op) = self.ops.get_mut(&seq) {
                op.waiting = absorbed;
                op.waiting.push(waiting);
            }
            self.rows.entry(row).or_default().push(seq);
            self.place(seq, how.key, wall, rng);
        }
        if !self.durable {
            self.settle_queued(&mut outcome);
        }
        Ok(outcome)
    }

    /// Adds a direct commit.
    ///
    /// # Errors
    /// `outbox_full` or `write_too_large`.
    pub fn enqueue_direct(
        &mut self,
        ops: Vec<NewOp>,
        reads: Option<String>,
        how: Enqueue,
        wall: WallTime,
        rng: &mut Rng,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        for op in &ops {
            self.check(op)?;
        }
        let key = CommitKey(Rc::from(how.key.unwrap_or_else(|| rng.uuid())));
        if let Some((_, receipt)) = self.receipts.iter().find(|(known, _)| *known == key) {
            outcome.settled.push((how.ticket, receipt.clone()));
            return Ok(outcome);
        }
        if self.commits.iter().any(|commit| commit.key == key) || self.repeats.contains_key(&key) {
            self.repeats.entry(key).or_default().push(how.ticket);
            return Ok(outcome);
        }
        self.repeats.insert(key.clone(), Vec::new());
        let seqs: Vec<OpSeq> = ops.into_iter().map(|op| self.insert(op, wall, rng, false)).collect();
        let (queued, confirmed) = match how.wait {
            Wait::Queued => (Some(how.ticket), None),
            Wait::Confirmed => (None, Some(how.ticket)),
        };
        let commit = self.new_commit(key, seqs, Lane::Direct { queued, confirmed }, wall);
        self.commits.push_back(Commit { reads, ..commit });
        if !self.durable {
            self.settle_queued(&mut outcome);
        }
        Ok(outcome)
    }

    /// Changes for the journal since it was last asked.
    pub fn take_journal_ops(&mut self) -> Vec<JournalOp> {
        if !self.durable {
            for commit in &mut self.commits {
                commit.dirty = false;
            }
            self.removals.clear();
            return Vec::new();
        }
        let mut out: Vec<JournalOp> = self.removals.drain(..).map(|order| JournalOp::Remove { order }).collect();
        let dirty: Vec<usize> =
            self.commits.iter().enumerate().filter(|(_, commit)| commit.dirty).map(|(index, _)| index).collect();
        for index in dirty {
            let Some(record) = self.commits.get(index).map(|commit| self.record(commit)) else { continue };
            if let Some(commit) = self.commits.get_mut(index) {
                commit.dirty = false;
                commit.journaling += 1;
                out.push(JournalOp::Put { order: commit.order, record });
            }
        }
        out
    }

    /// The journal has the records of these places.
    pub fn handle_journaled(&mut self, orders: &[u64]) -> Outcome {
        for commit in &mut self.commits {
            if orders.contains(&commit.order) {
                commit.journaling = commit.journaling.saturating_sub(1);
            }
        }
        let mut outcome = Outcome::default();
        self.settle_queued(&mut outcome);
        outcome
    }

    /// The journal refused the records of these places: they are offered again.
    pub fn handle_journal_failed(&mut self, orders: &[u64]) {
        for commit in &mut self.commits {
            if orders.contains(&commit.order) {
                commit.journaling = commit.journaling.saturating_sub(1);
                commit.dirty = true;
            }
        }
    }

    /// The next commit to send over an open socket, if one is due. Seals it.
    pub fn next_frame(&mut self, now: Instant) -> Option<String> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if !self.commits.front().is_some_and(Commit::is_journaled) {
            return None;
        }
        self.put_referred_first();
        self.retry_at = None;
        self.in_flight = Some(now);
        let commit = self.commits.front_mut()?;
        commit.sent = true;
        commit.open = false;
        commit.attempts = commit.attempts.saturating_add(1);
        let operations = commit.ops.iter().filter_map(|seq| self.ops.get(seq)).map(Op::wire).collect();
        let frame = ClientFrame::Commit(wire::Commit {
            operations,
            client_tx_id: commit.key.0.as_ref().to_owned(),
            reads: commit.reads.clone(),
        });
        Some(frame.write())
    }

    /// The socket closed: what was on its way is sent again over the next one, under the same key. Being offline uses
    /// up no attempt.
    pub fn handle_disconnected(&mut self) {
        self.in_flight = None;
        self.retry_at = None;
    }

    /// The server closed the connection because a frame was too big: the commit on its way is to blame.
    pub fn handle_too_big(&mut self, rng: &mut Rng) -> Outcome {
        let mut outcome = Outcome::default();
        if self.in_flight.take().is_some() {
            let error = Error::local("write_too_large", "the server refused a frame of this size");
            self.refuse_front(&error, rng, &mut outcome);
        }
        outcome
    }

    /// An answer has been missing for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.in_flight.is_some_and(|sent| now >= sent.after(ANSWER_MS)) {
            self.in_flight = None;
        }
    }

    /// When to call again: an answer or a repeat is due.
    pub fn deadline(&self) -> Option<Instant> {
        let answer = self.in_flight.map(|sent| sent.after(ANSWER_MS));
        answer.or(if self.commits.is_empty() { None } else { self.retry_at })
    }

    /// The server answered a commit.
    pub fn handle_result(&mut self, now: Instant, result: &MutationResult, cursor: SyncId, rng: &mut Rng) -> Outcome {
        let mut outcome = Outcome::default();
        let known =
            self.commits.front().is_some_and(|commit| commit.sent && *commit.key.0 == *result.client_tx_id.as_str());
        if !known {
            return outcome;
        }
        self.in_flight = None;
        match &result.error {
            _ if result.success => self.accept_front(result, cursor, &mut outcome),
            Some(error) => self.handle_refusal(now, error, rng, &mut outcome),
            None => {}
        }
        outcome
    }

    /// Confirmed rows are complete up to `cursor`: operations that they contain have done their work.
    pub fn handle_cursor(&mut self, cursor: SyncId) -> Outcome {
        let mut outcome = Outcome::default();
        if self.acked.iter().all(|acked| acked.threshold.is_none_or(|id| id > cursor)) {
            return outcome;
        }
        for acked in std::mem::take(&mut self.acked) {
            if acked.threshold.is_some_and(|id| id <= cursor) {
                self.finish(acked, &mut outcome);
            } else {
                self.acked.push_back(acked);
            }
        }
        outcome
    }

    /// A catch-up was answered completely: what the server accepted without naming a delta is in it.
    pub fn handle_caught_up(&mut self, cursor: SyncId) -> Outcome {
        for acked in &mut self.acked {
            acked.threshold = acked.threshold.or(Some(cursor));
        }
        self.handle_cursor(cursor)
    }

    /// The login is over or the client is disposed: everything that waits fails.
    pub fn fail_all(&mut self, error: &Error) -> Outcome {
        let mut outcome = Outcome::default();
        let mut tickets: Vec<Ticket> = self.ops.values().flat_map(|op| op.waiting.iter().map(|one| one.0)).collect();
        let lanes = self.commits.iter().map(|commit| commit.lane).chain(self.acked.iter().map(|acked| acked.lane));
        tickets.extend(lanes.filter_map(|lane| match lane {
            Lane::Direct { queued, confirmed } => queued.or(confirmed),
            Lane::Model => None,
        }));
        tickets.extend(std::mem::take(&mut self.repeats).into_values().flatten());
        outcome.settled = tickets.into_iter().map(|ticket| (ticket, Err(error.clone()))).collect();
        outcome.rows = std::mem::take(&mut self.rows).into_keys().collect();
        let durable = self.durable;
        *self = Self { next_op: self.next_op, next_order: self.next_order, ..Self::new(durable) };
        outcome
    }

    /// What pending operations make of a row whose confirmed text is `base`. `None`: nothing is pending.
    pub fn overlay(&self, row: &RowKey, base: Option<&str>) -> Option<Overlay> {
        let seqs = self.rows.get(row)?;
        let mut text: Option<String> = None;
        let mut present = base.is_some();
        for op in seqs.iter().filter_map(|seq| self.ops.get(seq)) {
            let below = if present { text.as_deref().or(base) } else { None };
            match op.kind {
                OpKind::Create => {
                    let patch = op.input.as_deref().unwrap_or("{}");
                    text = Some(match below {
                        Some(below) => merge(below, patch),
                        None => merge(op.defaults.as_deref().unwrap_or("{}"), patch),
                    });
                    present = true;
                }
                OpKind::Update | OpKind::Archive | OpKind::Unarchive => {
                    if let Some(below) = below {
                        text = Some(merge(below, op.patch.as_deref().unwrap_or("{}")));
                    }
                }
                OpKind::Delete => present = false,
            }
        }
        Some(match (present, text) {
            (true, Some(text)) => Overlay::Shown(text),
            (true, None) => Overlay::Shown(base.unwrap_or_default().to_owned()),
            (false, _) => Overlay::Hidden,
        })
    }

    /// Whether anything is pending on the row.
    pub fn is_pending(&self, row: &RowKey) -> bool {
        self.rows.contains_key(row)
    }

    /// Rows with pending operations.
    pub fn pending_rows(&self) -> impl Iterator<Item = &RowKey> {
        self.rows.keys()
    }

    /// Operations not yet confirmed.
    pub fn pending_count(&self) -> usize {
        self.ops.len()
    }

    /// Whether the server accepted something whose delta is not here yet.
    pub fn awaits_echo(&self) -> bool {
        !self.acked.is_empty()
    }

    /// Makes `ticket` wait for the newest pending operation of a row. False when there is none.
    pub fn wait_for(&mut self, row: &RowKey, ticket: Ticket) -> bool {
        let newest = self.rows.get(row).and_then(|seqs| seqs.last());
        let op = newest.and_then(|seq| self.ops.get_mut(seq));
        op.map(|op| op.waiting.push((ticket, Wait::Confirmed))).is_some()
    }

    fn check(&self, new: &NewOp) -> Result<(), Error> {
        if self.ops.len() >= PENDING_OPS_MAX {
            return Err(Error::local("outbox_full", "100000 writes are waiting to be sent"));
        }
        let size = new.input.as_ref().map_or(0, String::len);
        if size > OP_BYTES_MAX {
            let message =
                format!("the fields take {size} bytes as JSON, at most {OP_BYTES_MAX} can be written at once");
            return Err(Error::local("write_too_large", message).param("data"));
        }
        Ok(())
    }

    /// A delete of a row that the server has never heard of: nothing needs to be sent.
    fn cancel_unsent(&mut self, row: &RowKey, how: &Enqueue, outcome: &mut Outcome) -> bool {
        let Some(seqs) = self.rows.get(row) else { return false };
        // Only a create that starts the row's pending operations proves that no server has the row.
        let starts = seqs.first().and_then(|seq| self.ops.get(seq)).is_some_and(|op| op.kind == OpKind::Create);
        if !starts || seqs.iter().any(|seq| !self.is_unsent(*seq)) {
            return false;
        }
        for seq in self.rows.remove(row).unwrap_or_default() {
            for (ticket, _) in self.take_out(seq) {
                outcome.settled.push((ticket, Ok(None)));
            }
        }
        outcome.settled.push((how.ticket, Ok(None)));
        true
    }

    /// Updates that a delete makes pointless; their waiting tickets go with the delete.
    fn drop_unsent_updates(&mut self, row: &RowKey, outcome: &mut Outcome) -> Vec<(Ticket, Wait)> {
        let Some(seqs) = self.rows.get(row).cloned() else { return Vec::new() };
        let doomed: Vec<OpSeq> = seqs
            .iter()
            .rev()
            .take_while(|seq| self.ops.get(seq).is_some_and(|op| op.kind == OpKind::Update) && self.is_unsent(**seq))
            .copied()
            .collect();
        let mut waiting = Vec::new();
        for seq in doomed {
            if let Some(seqs) = self.rows.get_mut(row) {
                seqs.retain(|other| *other != seq);
            }
            waiting.extend(self.take_out(seq));
        }
        // A ticket that waits only for the queue is done; the rest share the delete's fate.
        waiting.retain(|(ticket, wait)| {
            let queued = *wait == Wait::Queued;
            if queued {
                outcome.settled.push((*ticket, Ok(None)));
            }
            !queued
        });
        waiting
    }

    /// Removes an unsent operation from its commit; returns who waited.
    fn take_out(&mut self, seq: OpSeq) -> Vec<(Ticket, Wait)> {
        if let Some(index) = self.commits.iter().position(|commit| commit.ops.contains(&seq))
            && let Some(commit) = self.commits.get_mut(index)
        {
            commit.ops.retain(|other| *other != seq);
            commit.dirty = true;
            if commit.ops.is_empty() {
                self.removals.push(commit.order);
                self.commits.remove(index);
            }
        }
        self.ops.remove(&seq).map(|op| op.waiting).unwrap_or_default()
    }

    fn is_unsent(&self, seq: OpSeq) -> bool {
        self.commits.iter().any(|commit| !commit.sent && commit.ops.contains(&seq))
    }

    /// The waiting update that a new one may merge into: the row's newest operation, unguarded, in the open commit.
    fn mergeable(&self, new: &NewOp) -> Option<OpSeq> {
        if new.read_at.is_some() || new.on_stale.is_some() {
            return None;
        }
        let seq = *self.rows.get(&new.row)?.last()?;
        let op = self.ops.get(&seq)?;
        let tail = self.commits.back()?;
        let fits = op.kind == OpKind::Update && !op.is_guarded();
        (fits && tail.open && tail.ops.contains(&seq)).then_some(seq)
    }

    fn merge_into(&mut self, seq: OpSeq, new: NewOp, waiting: (Ticket, Wait), wall: WallTime) {
        let Some(op) = self.ops.get_mut(&seq) else { return };
        let before = op.bytes();
        let input = new.input.unwrap_or_else(|| "{}".to_owned());
        let merged = merge(op.input.as_deref().unwrap_or("{}"), &input);
        op.patch = Some(stamped(&merged, wall));
        op.input = Some(merged);
        op.stamp = wall;
        op.refers_to.extend(new.refers_to);
        op.waiting.push(waiting);
        let grown = op.bytes().saturating_sub(before);
        if let Some(tail) = self.commits.back_mut() {
            tail.bytes += grown;
            tail.dirty = true;
        }
    }

    fn insert(&mut self, new: NewOp, wall: WallTime, rng: &mut Rng, optimistic: bool) -> OpSeq {
        self.next_op += 1;
        let seq = OpSeq(self.next_op);
        let patch = match new.kind {
            OpKind::Create | OpKind::Delete => None,
            OpKind::Update => new.input.as_deref().map(|input| stamped(input, wall)),
            OpKind::Archive => {
                let mut out = String::new();
                let mut object = ObjectWriter::new(&mut out);
                object.str("archivedAt", &wall.to_iso());
                object.end();
                Some(stamped(&out, wall))
            }
            OpKind::Unarchive => Some(stamped(r#"{"archivedAt":null}"#, wall)),
        };
        let transaction_id = new.transaction_id.or_else(|| optimistic.then(|| transaction_id(wall, rng)));
        let op = Op {
            kind: new.kind,
            row: new.row,
            model: new.model,
            input: new.input,
            patch,
            defaults: new.defaults,
            refers_to: new.refers_to,
            read_at: new.read_at,
            on_stale: new.on_stale,
            transaction_id,
            waiting: Vec::new(),
            stamp: wall,
            optimistic,
        };
        self.ops.insert(seq, op);
        seq
    }

    /// Puts an operation into the commit it belongs to.
    fn place(&mut self, seq: OpSeq, key: Option<String>, wall: WallTime, rng: &mut Rng) {
        let Some(op) = self.ops.get(&seq) else { return };
        let (bytes, row) = (op.bytes(), op.row.clone());
        if let Some(key) = key {
            let commit = self.new_commit(CommitKey(Rc::from(key)), vec![seq], Lane::Model, wall);
            self.commits.push_back(commit);
            return;
        }
        // A create that an earlier unsent commit refers to belongs there, or the reference would come first.
        if op.kind == OpKind::Create {
            let ops = &self.ops;
            let refers = |other: &OpSeq| ops.get(other).is_some_and(|op| op.refers_to.contains(&row));
            let fits = |commit: &&mut Commit| {
                commit.open && commit.ops.len() < 2 * COMMIT_OPS_MAX && commit.ops.iter().any(refers)
            };
            if let Some(commit) = self.commits.iter_mut().find(fits) {
                commit.ops.push(seq);
                commit.bytes += bytes;
                commit.dirty = true;
                return;
            }
        }
        let tail = self
            .commits
            .back_mut()
            .filter(|tail| tail.open && tail.ops.len() < COMMIT_OPS_MAX && tail.bytes + bytes <= COMMIT_BYTES_MAX);
        if let Some(tail) = tail {
            tail.ops.push(seq);
            tail.bytes += bytes;
            tail.dirty = true;
            return;
        }
        let mut commit = self.new_commit(CommitKey(Rc::from(rng.uuid())), vec![seq], Lane::Model, wall);
        commit.open = true;
        self.commits.push_back(commit);
    }

    fn new_commit(&mut self, key: CommitKey, ops: Vec<OpSeq>, lane: Lane, created: WallTime) -> Commit {
        self.next_order += 1;
        let bytes = ops.iter().filter_map(|seq| self.ops.get(seq)).map(Op::bytes).sum();
        Commit {
            key,
            order: self.next_order,
            ops,
            bytes,
            lane,
            reads: None,
            open: false,
            sent: false,
            attempts: 0,
            faults: 0,
            created,
            dirty: true,
            journaling: 0,
        }
    }

    /// Settles tickets that wait only for their write to be safe.
    fn settle_queued(&mut self, outcome: &mut Outcome) {
        let durable = self.durable;
        for commit in self.commits.iter_mut().filter(|commit| !durable || commit.is_journaled()) {
            for seq in &commit.ops {
                let Some(op) = self.ops.get_mut(seq) else { continue };
                op.waiting.retain(|(ticket, wait)| {
                    let queued = *wait == Wait::Queued;
                    if queued {
                        outcome.settled.push((*ticket, Ok(None)));
                    }
                    !queued
                });
            }
            if let Lane::Direct { queued, .. } = &mut commit.lane
                && let Some(ticket) = queued.take()
            {
                outcome.settled.push((ticket, Ok(Some(receipt_json(&commit.key.0, "queued", SyncId(0), None)))));
            }
        }
    }

    /// Within the first commit, moves creates before operations that refer to them.
    fn put_referred_first(&mut self) {
        let Some(commit) = self.commits.front_mut() else { return };
        if commit.sent || commit.lane != Lane::Model {
            return;
        }
        let mut at = 0;
        // Each move puts a create further forward and never back again, so this ends; the count is a belt.
        let mut moves = commit.ops.len() * commit.ops.len();
        while at < commit.ops.len() {
            let refers = commit.ops.get(at).and_then(|seq| self.ops.get(seq)).map(|op| &op.refers_to);
            let later = refers.filter(|refers| !refers.is_empty()).and_then(|refers| {
                commit.ops.iter().skip(at + 1).position(|seq| {
                    self.ops.get(seq).is_some_and(|op| op.kind == OpKind::Create && refers.contains(&op.row))
                })
            });
            match later {
                Some(offset) if moves > 0 => {
                    moves -= 1;
                    let seq = commit.ops.remove(at + 1 + offset);
                    commit.ops.insert(at, seq);
                }
                Some(_) | None => at += 1,
            }
        }
    }

    fn accept_front(&mut self, result: &MutationResult, cursor: SyncId, outcome: &mut Outcome) {
        let Some(mut commit) = self.commits.pop_front() else { return };
        self.retry_at = None;
        outcome.acknowledged = true;
        if let Some(notifications) = &result.notifications {
            self.hold(&mut commit, notifications, outcome);
            outcome.notified = Some((result.client_tx_id.clone(), notifications.clone()));
        }
        let receipt = receipt_json(&commit.key.0, "confirmed", result.last_sync_id, result.notifications.as_deref());
        let named = result.last_sync_id > SyncId(0);
        let deletes_only = commit.ops.iter().all(|seq| self.ops.get(seq).is_none_or(|op| op.kind == OpKind::Delete));
        let threshold = if named {
            Some(result.last_sync_id)
        } else if deletes_only {
            // Nothing will follow: the row was not there (protocol.md 10.5).
            Some(SyncId(0))
        } else {
            None
        };
        let acked =
            Acked { key: commit.key, order: commit.order, ops: commit.ops, threshold, lane: commit.lane, receipt };
        if acked.threshold.is_some_and(|id| id <= cursor) {
            self.finish(acked, outcome);
        } else {
            self.acked.push_back(acked);
        }
    }

    /// Takes out operations that the server held back because their row moved (protocol.md 10.6).
    fn hold(&mut self, commit: &mut Commit, notifications: &str, outcome: &mut Outcome) {
        let Ok(list) = Value::parse(notifications) else { return };
        let held: Vec<String> = list.elements().filter_map(|item| Some(item.get_str("id")?.into_owned())).collect();
        let (gone, kept): (Vec<OpSeq>, Vec<OpSeq>) = commit.ops.iter().partition(|seq| {
            self.ops.get(seq).is_some_and(|op| held.iter().any(|id| id == op.row.1.as_str()) && op.optimistic)
        });
        commit.ops = kept;
        let mut error = Error::wire("stale_context", "the row changed; the server held the write back");
        error.details = Some(format!("{{\"notifications\":{notifications}}}"));
        for seq in gone {
            self.reject_op(seq, &error, commit.attempts, outcome);
        }
    }

    fn finish(&mut self, acked: Acked, outcome: &mut Outcome) {
        for seq in &acked.ops {
            let Some(op) = self.ops.remove(seq) else { continue };
            self.unlink(&op.row, *seq, op.optimistic, outcome);
            outcome.settled.extend(op.waiting.into_iter().map(|(ticket, _)| (ticket, Ok(None))));
        }
        self.removals.push(acked.order);
        if let Lane::Direct { confirmed, .. } = acked.lane {
            let receipt = Ok(Some(acked.receipt));
            outcome.settled.extend(confirmed.map(|ticket| (ticket, receipt.clone())));
            self.remember(&acked.key, receipt, outcome);
        }
    }

    fn handle_refusal(&mut self, now: Instant, error: &Error, rng: &mut Rng, outcome: &mut Outcome) {
        use super::error::{Category, Recovery, code_spec};
        let Some(commit) = self.commits.front_mut() else { return };
        let recovery = error.recovery();
        let auth = code_spec(&error.code).is_some_and(|spec| spec.category == Category::Auth);
        if auth
            && matches!(recovery, Recovery::AccessCredentialExpiry | Recovery::SessionExpiry | Recovery::AuthBlocked)
        {
            // The credential is to blame; the write waits until that is settled.
            outcome.credential = Some(error.clone());
            return;
        }
        if error.is_retryable() || (code_spec(&error.code).is_none() && reads_as_temporary(&error.message)) {
            let category = code_spec(&error.code).map(|spec| spec.category);
            if !matches!(category, Some(Category::RateLimit | Category::Transport)) || error.code == "commit_failed" {
                commit.faults += 1;
            }
            if commit.faults < FAULTS_MAX {
                let pause = RETRY_BASE_MS.saturating_mul(1 << commit.attempts.min(12)).min(RETRY_MAX_MS);
                let pause = error.retry_after_ms.unwrap_or(pause / 2 + rng.below(pause / 2 + 1));
                self.retry_at = Some(now.after(pause));
                return;
            }
        }
        let gone = matches!(error.code.as_ref(), "entity_not_found" | "mutate_update_entity_not_found");
        let one_delete = matches!(commit.ops.as_slice(), [seq]
            if self.ops.get(seq).is_some_and(|op| op.kind == OpKind::Delete));
        if gone && one_delete && commit.lane == Lane::Model {
            // Deleting what is not there has succeeded.
            let done = MutationResult {
                client_tx_id: String::new(),
                server_tx_id: String::new(),
                success: true,
                last_sync_id: SyncId(0),
                ops: 1,
                notifications: None,
                error: None,
            };
            self.accept_front(&done, SyncId(0), outcome);
            return;
        }
        self.refuse_front(error, rng, outcome);
    }

    /// The first commit is refused for good: split it, or when it is one operation or atomic, reject it.
    fn refuse_front(&mut self, error: &Error, rng: &mut Rng, outcome: &mut Outcome) {
        let Some(commit) = self.commits.pop_front() else { return };
        self.retry_at = None;
        if commit.lane == Lane::Model && commit.ops.len() > 1 {
            let (left, right) = commit.ops.split_at(commit.ops.len() / 2);
            for half in [right, left] {
                let key = CommitKey(Rc::from(rng.uuid()));
                let mut part = self.new_commit(key, half.to_vec(), Lane::Model, commit.created);
                part.attempts = commit.attempts;
                self.commits.push_front(part);
            }
            self.removals.push(commit.order);
            // Places in the journal follow the order of sending.
            self.renumber();
            return;
        }
        self.removals.push(commit.order);
        for seq in &commit.ops {
            self.reject_op(*seq, error, commit.attempts, outcome);
        }
        if let Lane::Direct { queued, confirmed } = commit.lane {
            outcome.settled.extend(queued.or(confirmed).map(|ticket| (ticket, Err(error.clone()))));
            self.remember(&commit.key, Err(error.clone()), outcome);
        }
    }

    /// Gives unsent commits fresh places where splitting put them out of order.
    fn renumber(&mut self) {
        let mut last = 0;
        for commit in &mut self.commits {
            if commit.order <= last {
                self.removals.push(commit.order);
                self.next_order += 1;
                commit.order = self.next_order;
                commit.dirty = true;
                commit.journaling = 0;
            }
            last = commit.order;
        }
    }

    /// Rejects one operation, and with a create what was built on it and is still here.
    fn reject_op(&mut self, seq: OpSeq, error: &Error, attempts: u32, outcome: &mut Outcome) {
        let Some(op) = self.ops.remove(&seq) else { return };
        self.unlink(&op.row, seq, op.optimistic, outcome);
        if op.optimistic && op.kind == OpKind::Create {
            let dependants: Vec<OpSeq> = self
                .rows
                .get(&op.row)
                .into_iter()
                .flatten()
                .copied()
                .filter(|other| *other > seq && self.is_unsent(*other))
                .take_while(|other| self.ops.get(other).is_some_and(|op| op.kind != OpKind::Create))
                .collect();
            for other in dependants {
                let kind = self.ops.get(&other).map(|op| op.kind);
                if let Some(seqs) = self.rows.get_mut(&op.row) {
                    seqs.retain(|seq| *seq != other);
                }
                let Some(dependant) = self.ops.get(&other) else { continue };
                let (input, id, stamp) = (dependant.input.clone(), dependant.transaction_id.clone(), dependant.stamp);
                let waiting = self.take_out(other);
                // A delete of a row that never came to be has what it wanted.
                let result = if kind == Some(OpKind::Delete) { Ok(None) } else { Err(error.clone()) };
                outcome.settled.extend(waiting.into_iter().map(|(ticket, _)| (ticket, result.clone())));
                if let Some(kind) = kind.filter(|kind| *kind != OpKind::Delete) {
                    let row = op.row.clone();
                    let error = error.clone();
                    outcome.rejected.push(Rejected {
                        kind,
                        row,
                        input,
                        transaction_id: id,
                        created: stamp,
                        attempts: 0,
                        error,
                    });
                }
            }
            if self.rows.get(&op.row).is_some_and(Vec::is_empty) {
                self.rows.remove(&op.row);
            }
        }
        outcome.settled.extend(op.waiting.into_iter().map(|(ticket, _)| (ticket, Err(error.clone()))));
        if op.optimistic {
            outcome.rejected.push(Rejected {
                kind: op.kind,
                row: op.row,
                input: op.input,
                transaction_id: op.transaction_id,
                created: op.stamp,
                attempts,
                error: error.clone(),
            });
        }
    }

    fn unlink(&mut self, row: &RowKey, seq: OpSeq, optimistic: bool, outcome: &mut Outcome) {
        if !optimistic {
            return;
        }
        if let Some(seqs) = self.rows.get_mut(row) {
            seqs.retain(|other| *other != seq);
            if seqs.is_empty() {
                self.rows.remove(row);
            }
        }
        outcome.rows.push(row.clone());
    }

    fn remember(&mut self, key: &CommitKey, result: Result<Option<String>, Error>, outcome: &mut Outcome) {
        for ticket in self.repeats.remove(key).unwrap_or_default() {
            outcome.settled.push((ticket, result.clone()));
        }
        // A refused commit had no effect: the same key may be tried again.
        if result.is_ok() {
            self.receipts.push_back((key.clone(), result));
            if self.receipts.len() > RECEIPTS_MAX {
                self.receipts.pop_front();
            }
        }
    }

    /// A commit as the journal keeps it.
    fn record(&self, commit: &Commit) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.u64("v", 1);
        object.str("key", &commit.key.0);
        object.u64("createdAt", commit.created.0);
        object.u64("attempts", u64::from(commit.attempts));
        object.bool("atomic", commit.lane != Lane::Model);
        let ops = commit.ops.iter().filter_map(|seq| self.ops.get(seq));
        write_array(object.key("operations"), ops, |out, op| op.wire().write(out));
        if let Some(reads) = &commit.reads {
            object.raw("reads", reads);
        }
        object.end();
        out
    }
}

fn receipt_json(key: &str, status: &str, last_sync_id: SyncId, notifications: Option<&str>) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    object.str("id", key);
    object.str("status", status);
    if last_sync_id > SyncId(0) {
        object.u64("lastSyncId", last_sync_id.0);
    }
    if let Some(notifications) = notifications {
        object.raw("notifications", notifications);
    }
    object.end();
    out
}

/// `input` with `updatedAt` set, as the page shows it until the server's stamp arrives.
fn stamped(input: &str, wall: WallTime) -> String {
    let mut stamp = String::new();
    let mut object = ObjectWriter::new(&mut stamp);
    object.str("updatedAt", &wall.to_iso());
    object.end();
    merge(input, &stamp)
}

/// `tx_<ms>_<nine letters or digits>` (engine.md 2.3).
fn transaction_id(wall: WallTime, rng: &mut Rng) -> String {
    let mut out = String::from("tx_");
    super::json::write_u64(&mut out, wall.0);
    out.push('_');
    for _ in 0..9 {
        out.push(char::from_digit(rng.below(36) as u32, 36).unwrap_or('0'));
    }
    out
}

/// Texts of errors without a known code that speak of a passing trouble (protocol.md 10.5).
fn reads_as_temporary(message: &str) -> bool {
    let message = message.to_lowercase();
    ["timeout", "timed out", "connection reset", "connection refused", "network error", "failed to fetch"]
        .iter()
        .any(|text| message.contains(text))
}
