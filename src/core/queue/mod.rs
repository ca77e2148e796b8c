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

mod answer;
mod gather;
mod rows;
mod shared;

pub use shared::{Refusal, same_commit};

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::bug::{self, Bug};
use super::error::Error;
use super::id::{CommitKey, ModelIndex, RowId, SyncId};
use super::input::Ticket;
use super::json::{ObjectWriter, Value, merge};
use super::map::{Line, Sequence, SmallMap};
use super::output::JournalOp;
use super::rng::Rng;
use super::time::{Instant, WallTime};
use super::wire::{self, ClientFrame, MutationResult, OnStale, OpKind, Operation};
use crate::core::text::concat;
use rows::PendingRows;

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
/// Finished places that are remembered: word of them may still come from the tab that made them.
const DONE_MAX: usize = 1000;
/// First and longest pause before a commit is sent again.
const RETRY_BASE_MS: u64 = 200;
const RETRY_MAX_MS: u64 = 30_000;

/// A row, by model and id.
pub type RowKey = (ModelIndex, RowId);

/// Place of an operation in the order of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpSeq(u64);

/// What a ticket settles with.
type Settled = Result<Option<String>, Error>;

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
    /// Rows that `input` refers to and that nobody knows yet: their creates may come later and must go first.
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
    /// What it depends on (`terms` of [`wire::Commit`]): a commit of its own then.
    pub terms: Option<String>,
}

impl Enqueue {
    /// Whether it may share a commit with other writes.
    fn is_shared(&self) -> bool {
        self.key.is_none() && self.terms.is_none()
    }
}

#[derive(Debug)]
struct Op {
    /// What it does, with what was merged into it.
    new: NewOp,
    /// What goes over the confirmed row: `input` and the local stamps.
    patch: Option<String>,
    waiting: Vec<(Ticket, Wait)>,
    /// For a delete, the unsent updates that it made pointless: refused with it, they are told too.
    replaced: Vec<Op>,
    stamp: WallTime,
    optimistic: bool,
    /// The journal has it, in this or an earlier form.
    recorded: bool,
    /// What was merged into it since.
    since: Option<Merged>,
    /// It is on its way to the journal, with what was merged into it before.
    offered: bool,
    offered_since: Option<Merged>,
}

/// What was merged into an operation after it was offered to the journal.
#[derive(Debug)]
struct Merged {
    input: String,
    /// How many of those who wait for the operation wait for what came before.
    waited: usize,
}

impl Deref for Op {
    type Target = NewOp;

    fn deref(&self) -> &NewOp {
        &self.new
    }
}

impl DerefMut for Op {
    fn deref_mut(&mut self) -> &mut NewOp {
        &mut self.new
    }
}

impl Op {
    /// The journal has it as it was offered.
    fn note_recorded(&mut self) {
        if std::mem::take(&mut self.offered) {
            self.recorded = true;
            self.offered_since = None;
        }
    }

    /// The journal did not take it.
    fn note_unrecorded(&mut self) {
        if std::mem::take(&mut self.offered) {
            if let Some(mut before) = self.offered_since.take() {
                if let Some(after) = &self.since {
                    before.input = merge(&before.input, &after.input);
                }
                self.since = Some(before);
            } else if !self.recorded {
                self.since = None;
            }
        }
    }

    fn wait(&mut self, waiting: Option<(Ticket, Wait)>) {
        if let Some(waiting) = waiting {
            self.waiting.push(waiting);
        }
    }

    fn is_guarded(&self) -> bool {
        self.read_at.is_some() || self.on_stale.is_some()
    }

    fn bytes(&self) -> usize {
        self.input.as_ref().map_or(0, String::len)
    }

    fn rejected(&self, attempts: u32, error: &Error) -> Rejected {
        Rejected {
            kind: self.kind,
            model: self.model.clone(),
            row: self.row.clone(),
            optimistic: self.optimistic,
            input: self.input.clone(),
            transaction_id: self.transaction_id.clone(),
            letter: self.transaction_id.clone().unwrap_or_default(),
            created: self.stamp,
            attempts,
            error: error.clone(),
        }
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
    terms: Option<String>,
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
    /// The journal has it, in this or an earlier form.
    recorded: bool,
    /// From the journal or another tab: not altered here.
    foreign: bool,
    /// The server's last word, if it was a refusal. Nothing follows from it before the journal has it.
    refused: Option<Error>,
}

impl Commit {
    fn is_journaled(&self) -> bool {
        (!self.dirty && self.journaling == 0) || bug::on(Bug::JournalNotAwaited)
    }
}

#[derive(Debug)]
struct Acked {
    key: CommitKey,
    order: u64,
    ops: Vec<OpSeq>,
    /// The delta to wait for. `None`: the server named none; the next catch-up settles it.
    threshold: Option<SyncId>,
    /// A catch-up has been asked for since.
    asked: bool,
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

impl Outcome {
    /// Settles all who wait, alike.
    fn settle_all(&mut self, waiting: &[(Ticket, Wait)], result: &Settled) {
        for (ticket, _) in waiting {
            self.settled.push((*ticket, result.clone()));
        }
    }

    /// Settles those who wait only for the queue; the others go on waiting.
    fn settle_queued(&mut self, waiting: &mut Vec<(Ticket, Wait)>) {
        for (ticket, wait) in std::mem::take(waiting) {
            if wait == Wait::Queued {
                self.settled.push((ticket, Ok(None)));
            } else {
                waiting.push((ticket, wait));
            }
        }
    }
}

/// A refused operation.
#[derive(Debug)]
pub struct Rejected {
    /// What it was.
    pub kind: OpKind,
    /// The model's name in the commit.
    pub model: String,
    /// The row.
    pub row: RowKey,
    /// Whether it showed before the server had it.
    pub optimistic: bool,
    /// The text of what it would have written.
    pub input: Option<String>,
    /// The operation's name.
    pub transaction_id: Option<String>,
    /// What the outbox calls it. Other tabs know by it that it was refused.
    pub letter: String,
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
    /// Whether this tab sends.
    sender: bool,
    /// Distinguishes this tab's places in the journal from those of others.
    tab: u32,
    ops: Sequence<Op>,
    /// Optimistic operations of each row, in order.
    rows: PendingRows,
    commits: Line<Commit>,
    acked: Line<Acked>,
    /// A commit is on its way since then: the first, or one that was sent before this tab lost the lock.
    in_flight: Option<Instant>,
    /// The first commit is not sent before then.
    retry_at: Option<Instant>,
    next_op: u64,
    next_order: u64,
    /// Whether an operation here may refer to a row whose create comes later.
    refers_ahead: bool,
    removals: Vec<u64>,
    /// Places that this tab has lately taken out of the journal as the one that sends, or of whose commits another tab
    /// has told that the server accepted them.
    done: Vec<u64>,
    receipts: Line<(CommitKey, Settled)>,
    /// Tickets of repeated keys, settled with the commit they repeat.
    repeats: SmallMap<CommitKey, Vec<Ticket>>,
}

impl Queue {
    /// An empty queue. With `durable`, a commit is sent only after the journal has it.
    pub fn new(durable: bool) -> Self {
        Self {
            durable,
            sender: true,
            tab: 0,
            ops: Sequence::default(),
            rows: PendingRows::default(),
            commits: Line::default(),
            acked: Line::default(),
            in_flight: None,
            retry_at: None,
            next_op: 0,
            next_order: 0,
            refers_ahead: false,
            removals: Vec::new(),
            done: Vec::new(),
            receipts: Line::default(),
            repeats: SmallMap::default(),
        }
    }

    /// Changes for the journal since it was last asked.
    pub fn take_journal_ops(&mut self) -> Vec<JournalOp> {
        if !self.durable {
            for commit in self.commits.iter_mut() {
                commit.dirty = false;
            }
            self.removals.clear();
            return Vec::new();
        }
        // Before the journal has it: what is sent again after a crash must be the same.
        for index in 0..self.commits.len() {
            self.put_referred_first(index);
        }
        let mut out = Vec::new();
        for order in std::mem::take(&mut self.removals) {
            // The tab that sends takes out what is done; the word of two tabs could come in the wrong order.
            if self.sender {
                self.note_done(order);
                out.push(JournalOp::Remove { order });
            }
        }
        for commit in self.commits.iter_mut() {
            if std::mem::take(&mut commit.dirty) {
                commit.journaling += 1;
                for seq in &commit.ops {
                    if let Some(op) = self.ops.get_mut(seq.0) {
                        op.offered = true;
                        op.offered_since = op.since.take();
                    }
                }
                // Only the tab that sends knows whether a commit is still here to be altered.
                commit.open &= self.sender;
                commit.foreign |= !self.sender;
                out.push(JournalOp::Put { order: commit.order, record: record(&self.ops, commit) });
            }
        }
        out
    }

    fn note_done(&mut self, order: u64) {
        self.done.push(order);
        if self.done.len() > DONE_MAX {
            self.done.remove(0);
        }
    }

    /// The journal has the records of these places.
    pub fn handle_journaled(&mut self, orders: &[u64]) -> Outcome {
        for commit in self.commits.iter_mut() {
            if orders.contains(&commit.order) {
                commit.journaling = commit.journaling.saturating_sub(1);
                commit.recorded = true;
                for seq in &commit.ops {
                    if let Some(op) = self.ops.get_mut(seq.0) {
                        op.note_recorded();
                    }
                }
            }
        }
        let mut outcome = Outcome::default();
        self.settle_queued(Some(orders), &mut outcome);
        outcome
    }

    /// The journal refused the changes of these places: they are offered again.
    pub fn handle_journal_failed(&mut self, orders: &[u64]) {
        for commit in self.commits.iter_mut() {
            if orders.contains(&commit.order) {
                commit.journaling = commit.journaling.saturating_sub(1);
                commit.dirty = true;
                for seq in &commit.ops {
                    if let Some(op) = self.ops.get_mut(seq.0) {
                        op.note_unrecorded();
                    }
                }
            }
        }
        // Places that no commit has any more were to be emptied, or are by now.
        for order in orders {
            if !self.commits.iter().any(|commit| commit.order == *order) && !bug::on(Bug::JournalRemovalsLost) {
                self.removals.push(*order);
            }
        }
    }

    /// The next commit to send over an open socket, if one is due. Seals it.
    pub fn next_frame(&mut self, now: Instant) -> Option<String> {
        if !self.sender || self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if !self.commits.first().is_some_and(|commit| commit.is_journaled()) {
            return None;
        }
        if !self.durable {
            self.put_referred_first(0);
        }
        self.retry_at = None;
        self.in_flight = Some(now);
        let commit = self.commits.first_mut()?;
        // A server that has forgotten the key would apply it twice: it can tell by the age.
        let created_at = (commit.foreign || commit.attempts > 0).then_some(commit.created.0);
        commit.sent = true;
        commit.open = false;
        commit.attempts = commit.attempts.saturating_add(1);
        if bug::on(Bug::NewKeyOnRetry) && commit.attempts > 1 {
            commit.key = CommitKey(Rc::from(concat(&[&commit.key.0, "+"])));
        }
        if bug::on(Bug::RemovedWhenSent) {
            self.removals.push(commit.order);
        }
        let operations = operations(&self.ops, &commit.ops);
        let frame = ClientFrame::Commit(wire::Commit {
            operations,
            client_tx_id: commit.key.0.as_ref().to_owned(),
            terms: commit.terms.clone(),
            created_at,
        });
        Some(frame.write())
    }

    /// Whether a write under this claim is waiting or on its way.
    pub fn is_claimed(&self, claim: &str) -> bool {
        let names = |terms: &String| Value::known_object(terms).get_str("claim").is_some_and(|id| id == claim);
        self.commits.iter().any(|commit| commit.terms.as_ref().is_some_and(names))
    }

    /// The socket closed: what was on its way is sent again over the next one, under the same key. Being offline uses
    /// up no attempt.
    pub fn handle_disconnected(&mut self) {
        if self.in_flight.take().is_some() && bug::on(Bug::ResendForgotten) {
            self.commits.pop_front();
        }
        self.retry_at = None;
    }

    /// Whether an answer has been missing for too long. It is not sent again over the same socket: an answer to the first
    /// would be taken for one to the second.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.in_flight.is_some_and(|sent| now >= sent.after(ANSWER_MS))
    }

    /// The machine slept: nobody could answer.
    pub fn handle_woken(&mut self, now: Instant) {
        if let Some(sent) = &mut self.in_flight {
            *sent = now;
        }
    }

    /// When to call again: an answer or a repeat is due.
    pub fn deadline(&self) -> Option<Instant> {
        let answer = self.in_flight.map(|sent| sent.after(ANSWER_MS));
        // What is on its way to the journal goes when it is there.
        let ready = self.commits.first().is_some_and(|commit| commit.is_journaled());
        answer.or(if ready { self.retry_at } else { None })
    }

    /// What pending operations make of a row whose confirmed text is `base`. `None`: nothing is pending.
    pub fn overlay(&self, row: &RowKey, base: Option<&str>) -> Option<Overlay> {
        let seqs = self.rows.get(row)?;
        let mut text: Option<String> = None;
        let mut present = base.is_some();
        for seq in seqs {
            let Some(op) = self.ops.get(seq.0) else { continue };
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
        self.rows.get(row).is_some()
    }

    /// Rows with pending operations.
    pub fn pending_rows(&self) -> Vec<RowKey> {
        let mut out = Vec::new();
        // Order: callers treat each row by itself, and the hash is a fixed one.
        for row in self.rows.keys() {
            out.push(row.clone());
        }
        out
    }

    /// Operations not yet confirmed.
    pub fn pending_count(&self) -> usize {
        self.ops.len()
    }

    /// Whether the server accepted something whose delta is not here yet.
    pub fn expects_echo(&self) -> bool {
        !self.acked.is_empty()
    }

    /// Makes `ticket` wait for the newest pending operation of a row. False when there is none.
    pub fn wait_for(&mut self, row: &RowKey, ticket: Ticket) -> bool {
        let newest = self.rows.get(row).and_then(|seqs| seqs.last());
        let op = newest.and_then(|seq| self.ops.get_mut(seq.0));
        op.map(|op| op.waiting.push((ticket, Wait::Confirmed))).is_some()
    }

    /// Settles tickets that wait only for the journal to have these places: in a long queue only those are looked at.
    fn settle_queued(&mut self, orders: Option<&[u64]>, outcome: &mut Outcome) {
        for commit in self.commits.iter_mut() {
            let meant = |orders: &[u64]| orders.iter().any(|order| same_commit(*order, commit.order));
            if !commit.is_journaled() || !orders.is_none_or(meant) {
                continue;
            }
            for seq in &commit.ops {
                if let Some(op) = self.ops.get_mut(seq.0) {
                    outcome.settle_queued(&mut op.waiting);
                }
            }
            if let Lane::Direct { queued, .. } = &mut commit.lane
                && let Some(ticket) = queued.take()
            {
                outcome.settled.push((ticket, Ok(Some(receipt_json(&commit.key.0, "queued", SyncId(0), None)))));
            }
        }
    }

    /// Within a commit, moves creates before operations that refer to them.
    fn put_referred_first(&mut self, index: usize) {
        let Some(commit) = self.commits.get_mut(index) else { return };
        if commit.sent || !commit.dirty && self.durable || !matches!(commit.lane, Lane::Model) {
            return;
        }
        let mut at = 0;
        // Each move puts a create further forward and never back again, so this ends; the count is a belt.
        let mut moves = commit.ops.len() * commit.ops.len();
        while at < commit.ops.len() {
            let refers = commit.ops.get(at).and_then(|seq| self.ops.get(seq.0)).map(|op| &op.refers_to);
            let later = refers.filter(|refers| !refers.is_empty()).and_then(|refers| {
                let mut passed: Vec<&RowKey> = Vec::new();
                commit.ops.iter().skip(at + 1).position(|seq| {
                    let Some(op) = self.ops.get(seq.0) else { return false };
                    // The first of a row's writes only: one before the create, a delete say, must stay before it.
                    let first = !passed.contains(&&op.row);
                    passed.push(&op.row);
                    op.kind == OpKind::Create && first && refers.contains(&op.row)
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
}

/// A commit as the journal keeps it.
fn record(ops: &Sequence<Op>, commit: &Commit) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    object.u64("v", 1);
    object.str("key", &commit.key.0);
    object.u64("createdAt", commit.created.0);
    object.u64("attempts", u64::from(commit.attempts));
    object.bool("atomic", !matches!(commit.lane, Lane::Model));
    wire::write_operations(object.key("operations"), &operations(ops, &commit.ops));
    let mut list = object.array("local");
    for seq in &commit.ops {
        let mut local = ObjectWriter::new(list.item());
        if let Some(defaults) = ops.get(seq.0).and_then(|op| op.defaults.as_deref()) {
            local.raw("defaults", defaults);
        }
        local.end();
    }
    list.end();
    if let Some(terms) = &commit.terms {
        object.raw("terms", terms);
    }
    if let Some(error) = &commit.refused {
        object.raw("error", &error.to_json());
    }
    object.end();
    out
}

/// The key of a part of a commit: the same whoever splits it, since the record of it may not reach the next sender.
fn part_key(ops: &Sequence<Op>, seqs: &[OpSeq]) -> CommitKey {
    let mut rng = Rng::new(0);
    for seq in seqs {
        if let Some(name) = ops.get(seq.0).and_then(|op| op.transaction_id.as_deref()) {
            rng.stir(name);
        }
    }
    CommitKey(Rc::from(rng.uuid()))
}

fn operations(ops: &Sequence<Op>, seqs: &[OpSeq]) -> Vec<Operation> {
    let mut out = Vec::with_capacity(seqs.len());
    for seq in seqs {
        if let Some(op) = ops.get(seq.0) {
            out.push(op.wire());
        }
    }
    out
}

/// Takes an operation out of a list that holds it at most once.
fn remove_seq(seqs: &mut Vec<OpSeq>, seq: OpSeq) {
    if let Some(index) = seqs.iter().position(|other| *other == seq) {
        seqs.remove(index);
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
