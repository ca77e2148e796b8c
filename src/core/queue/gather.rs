//! The way in: operations join the queue, merge with what waits, and are gathered into commits.

use super::*;
use crate::core::text::{concat, digits, short};

impl Queue {
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
            return Err(Error::local(
                "idempotency_conflict",
                concat(&["the key ", short(key, 60), " is already in use"]),
            )
            .param("idempotencyKey"));
        }
        let row = new.row.clone();
        outcome.rows.push(row.clone());
        if new.kind == OpKind::Delete && how.is_shared() && self.cancel_unsent(&row, &how, &mut outcome) {
            return Ok(outcome);
        }
        // Without a journal a write is as safe as it gets as soon as it is here.
        let waiting = if how.wait == Wait::Queued && !self.durable {
            outcome.settled.push((how.ticket, Ok(None)));
            None
        } else {
            Some((how.ticket, how.wait))
        };
        if new.kind == OpKind::Update
            && how.is_shared()
            && let Some(seq) = self.mergeable(&new)
        {
            let (early, waiting) = if bug::on(Bug::MergedSettlesEarly) { (waiting, None) } else { (None, waiting) };
            if let Some((ticket, _)) = early {
                outcome.settled.push((ticket, Ok(None)));
            }
            self.merge_into(seq, new, waiting, wall);
        } else {
            let mut replaced =
                if new.kind == OpKind::Delete { self.drop_unsent_updates(&row, &mut outcome) } else { Vec::new() };
            let seq = self.insert(new, wall, rng, true);
            if let Some(op) = self.ops.get_mut(seq.0) {
                for update in &mut replaced {
                    op.waiting.append(&mut update.waiting);
                }
                op.wait(waiting);
                op.replaced = replaced;
            }
            self.rows.push(row, seq);
            self.place(seq, how, wall, rng);
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
        how: Enqueue,
        wall: WallTime,
        rng: &mut Rng,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        for op in &ops {
            self.check(op)?;
        }
        let key = CommitKey(Rc::from(how.key.unwrap_or_else(|| rng.uuid())));
        for known in self.receipts.iter() {
            if known.0 == key {
                outcome.settled.push((how.ticket, known.1.clone()));
                return Ok(outcome);
            }
        }
        if let Some(tickets) = self.repeats.get_mut(&key) {
            tickets.push(how.ticket);
            return Ok(outcome);
        }
        self.repeats.insert(key.clone(), Vec::new());
        let mut seqs = Vec::with_capacity(ops.len());
        for op in ops {
            seqs.push(self.insert(op, wall, rng, false));
        }
        let (queued, confirmed) = match how.wait {
            Wait::Queued if !self.durable => {
                outcome.settled.push((how.ticket, Ok(Some(receipt_json(&key.0, "queued", SyncId(0), None)))));
                (None, None)
            }
            Wait::Queued => (Some(how.ticket), None),
            Wait::Confirmed => (None, Some(how.ticket)),
        };
        let mut commit = self.new_commit(key, seqs, Lane::Direct { queued, confirmed }, wall);
        commit.terms = how.terms;
        self.commits.push(commit);
        Ok(outcome)
    }

    pub(super) fn check(&self, new: &NewOp) -> Result<(), Error> {
        if self.ops.len() >= PENDING_OPS_MAX {
            return Err(Error::local("outbox_full", "100000 writes are waiting to be sent"));
        }
        let size = new.input.as_ref().map_or(0, String::len);
        if size > OP_BYTES_MAX {
            let message = concat(&[
                "the fields take ",
                &digits(size as u64),
                " bytes as JSON, at most ",
                &digits(OP_BYTES_MAX as u64),
                " can be written at once",
            ]);
            return Err(Error::local("write_too_large", message).param("data"));
        }
        Ok(())
    }

    /// A delete of a row that the server has never heard of: nothing needs to be sent.
    pub(super) fn cancel_unsent(&mut self, row: &RowKey, how: &Enqueue, outcome: &mut Outcome) -> bool {
        let Some(seqs) = self.rows.get(row) else { return false };
        // Only a create that starts the row's pending operations proves that no server has the row.
        let starts = seqs.first().and_then(|seq| self.ops.get(seq.0)).is_some_and(|op| op.kind == OpKind::Create);
        // What the journal has would come back if this page went away before the journal had heard of the delete.
        let recorded = |seq: &OpSeq| self.ops.get(seq.0).is_some_and(|op| op.recorded || op.offered);
        if !starts || seqs.iter().any(|seq| recorded(seq) || !self.is_unsent(*seq)) {
            return false;
        }
        for seq in self.rows.remove(row).unwrap_or_default() {
            if let Some(op) = self.take_out(seq) {
                outcome.settle_all(&op.waiting, &Ok(None));
            }
        }
        outcome.settled.push((how.ticket, Ok(None)));
        true
    }

    /// Takes out updates that a delete makes pointless; whoever waits for them waits for the delete.
    pub(super) fn drop_unsent_updates(&mut self, row: &RowKey, outcome: &mut Outcome) -> Vec<Op> {
        let mut updates = Vec::new();
        while let Some(&seq) = self.rows.get(row).and_then(|seqs| seqs.last()) {
            // What the journal has stays: who reads the delete there would not know what it made pointless.
            let stays = |op: &Op| op.kind != OpKind::Update || op.recorded || op.offered;
            if self.ops.get(seq.0).is_none_or(stays) || !self.is_unsent(seq) {
                break;
            }
            if let Some(seqs) = self.rows.get_mut(row) {
                seqs.pop();
            }
            let Some(mut update) = self.take_out(seq) else { break };
            // A ticket that waits only for the queue is done; the rest share the delete's fate.
            outcome.settle_queued(&mut update.waiting);
            updates.push(update);
        }
        updates
    }

    /// Removes an unsent operation from its commit.
    pub(super) fn take_out(&mut self, seq: OpSeq) -> Option<Op> {
        if let Some(index) = self.commits.iter().rposition(|commit| commit.ops.contains(&seq))
            && let Some(commit) = self.commits.get_mut(index)
        {
            remove_seq(&mut commit.ops, seq);
            commit.dirty = true;
            if commit.ops.is_empty() {
                self.removals.push(commit.order);
                self.commits.take(index);
            }
        }
        self.ops.remove(seq.0)
    }

    /// Whether no server has seen the operation: only the first commit can be on its way.
    pub(super) fn is_unsent(&self, seq: OpSeq) -> bool {
        let fixed = |commit: &Commit| (commit.sent || commit.foreign) && commit.ops.contains(&seq);
        !self.commits.iter().any(|commit| fixed(commit)) && !self.acked.iter().any(|acked| acked.ops.contains(&seq))
    }

    /// The waiting update that a new one may merge into: the row's newest operation, unguarded, in the open commit.
    pub(super) fn mergeable(&self, new: &NewOp) -> Option<OpSeq> {
        if new.read_at.is_some() || new.on_stale.is_some() {
            return None;
        }
        let seq = *self.rows.get(&new.row)?.last()?;
        let op = self.ops.get(seq.0)?;
        let tail = self.commits.last()?;
        let fits = op.kind == OpKind::Update && !op.is_guarded();
        (fits && tail.open && tail.ops.contains(&seq)).then_some(seq)
    }

    pub(super) fn merge_into(&mut self, seq: OpSeq, mut new: NewOp, waiting: Option<(Ticket, Wait)>, wall: WallTime) {
        let Some(op) = self.ops.get_mut(seq.0) else { return };
        let before = op.bytes();
        let input = new.input.unwrap_or_else(|| "{}".to_owned());
        let merged = merge(op.input.as_deref().unwrap_or("{}"), &input);
        op.patch = Some(stamped(&merged, wall));
        op.input = Some(merged);
        if op.recorded || op.offered {
            let since = op.since.take().unwrap_or_else(|| Merged { input: "{}".to_owned(), waited: op.waiting.len() });
            op.since = Some(Merged { input: merge(&since.input, &input), ..since });
        }
        op.stamp = wall;
        self.refers_ahead |= !new.refers_to.is_empty();
        op.refers_to.append(&mut new.refers_to);
        op.wait(waiting);
        let grown = op.bytes().saturating_sub(before);
        if let Some(tail) = self.commits.last_mut() {
            tail.bytes += grown;
            tail.dirty = true;
        }
    }

    pub(super) fn insert(&mut self, mut new: NewOp, wall: WallTime, rng: &mut Rng, optimistic: bool) -> OpSeq {
        if optimistic && new.transaction_id.is_none() {
            new.transaction_id = Some(transaction_id(wall, rng));
        }
        self.push_op(new, wall, optimistic)
    }

    pub(super) fn push_op(&mut self, new: NewOp, wall: WallTime, optimistic: bool) -> OpSeq {
        self.next_op += 1;
        let seq = OpSeq(self.next_op);
        self.refers_ahead = !new.refers_to.is_empty() || (self.refers_ahead && !self.ops.is_empty());
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
        let op = Op {
            new,
            patch,
            waiting: Vec::new(),
            replaced: Vec::new(),
            stamp: wall,
            optimistic,
            recorded: false,
            since: None,
            offered: false,
            offered_since: None,
        };
        self.ops.push(seq.0, op);
        seq
    }

    /// Puts an operation into the commit it belongs to.
    pub(super) fn place(&mut self, seq: OpSeq, how: Enqueue, wall: WallTime, rng: &mut Rng) {
        let Some(op) = self.ops.get(seq.0) else { return };
        let (bytes, row) = (op.bytes(), op.row.clone());
        if !how.is_shared() {
            let key = how.key.unwrap_or_else(|| rng.uuid());
            let mut commit = self.new_commit(CommitKey(Rc::from(key)), vec![seq], Lane::Model, wall);
            commit.terms = how.terms;
            self.commits.push(commit);
            return;
        }
        // A create that an earlier unsent commit refers to belongs there, or the reference would come first.
        if op.kind == OpKind::Create && self.refers_ahead {
            let ops = &self.ops;
            let refers = |other: &OpSeq| ops.get(other.0).is_some_and(|op| op.refers_to.contains(&row));
            let found = self.commits.iter().position(|commit| {
                commit.open && commit.ops.len() < 2 * COMMIT_OPS_MAX && commit.ops.iter().any(refers)
            });
            // It must not overtake other writes of its row: a delete, or a commit of the application's own.
            let overtakes = |index: usize| {
                let is_of_row = |other: &OpSeq| ops.get(other.0).is_some_and(|op| op.row == row);
                self.commits.iter().skip(index + 1).any(|commit| commit.ops.iter().any(is_of_row))
            };
            if let Some(index) = found.filter(|index| !overtakes(*index) || bug::on(Bug::CreateOvertakes))
                && let Some(commit) = self.commits.get_mut(index)
            {
                commit.ops.push(seq);
                commit.bytes += bytes;
                commit.dirty = true;
                return;
            }
        }
        let tail = self
            .commits
            .last_mut()
            .filter(|tail| tail.open && tail.ops.len() < COMMIT_OPS_MAX && tail.bytes + bytes <= COMMIT_BYTES_MAX);
        if let Some(tail) = tail {
            tail.ops.push(seq);
            tail.bytes += bytes;
            tail.dirty = true;
            return;
        }
        let mut commit = self.new_commit(CommitKey(Rc::from(rng.uuid())), vec![seq], Lane::Model, wall);
        commit.open = true;
        self.commits.push(commit);
    }

    pub(super) fn new_commit(&mut self, key: CommitKey, ops: Vec<OpSeq>, lane: Lane, created: WallTime) -> Box<Commit> {
        let order = self.take_order();
        let mut bytes = 0;
        for seq in &ops {
            bytes += self.ops.get(seq.0).map_or(0, Op::bytes);
        }
        Box::new(Commit {
            key,
            order,
            ops,
            bytes,
            lane,
            terms: None,
            open: false,
            sent: false,
            attempts: 0,
            faults: 0,
            created,
            dirty: true,
            journaling: 0,
            recorded: false,
            foreign: false,
            refused: None,
        })
    }
}

/// `input` with `updatedAt` set, as the page shows it until the server's stamp arrives. Inputs hold no base fields.
pub(super) fn stamped(input: &str, wall: WallTime) -> String {
    let fields = input.trim_ascii_end().strip_suffix('}').unwrap_or("{");
    let mut out = String::with_capacity(input.len() + 44);
    out.push_str(fields);
    out.push_str(if fields.trim_ascii_end().ends_with('{') { "\"updatedAt\":\"" } else { ",\"updatedAt\":\"" });
    out.push_str(&wall.to_iso());
    out.push_str("\"}");
    out
}

/// `tx_<ms>_<nine letters or digits>` (engine.md 2.3).
fn transaction_id(wall: WallTime, rng: &mut Rng) -> String {
    let mut out = String::from("tx_");
    crate::core::json::write_u64(&mut out, wall.0);
    out.push('_');
    for _ in 0..9 {
        out.push(char::from_digit(rng.below(36) as u32, 36).unwrap_or('0'));
    }
    out
}
