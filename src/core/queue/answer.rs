//! The way out: what the server's answers, and the stream's progress, make of commits.

use super::*;
use crate::core::error::{Category, Recovery, code_spec};
use crate::core::json::write_u64;
use crate::core::text::{concat, contains};

impl Queue {
    /// The server answered a commit.
    pub fn handle_result(&mut self, now: Instant, result: &MutationResult, cursor: SyncId, rng: &mut Rng) -> Outcome {
        let mut outcome = Outcome::default();
        let sent = self.commits.first().filter(|commit| commit.sent);
        if sent.is_some_and(|commit| *commit.key.0 != *result.client_tx_id) {
            return outcome;
        }
        self.in_flight = None;
        match &result.error {
            // To what was sent before another tab became the sender.
            _ if sent.is_none() => {}
            _ if result.success => self.accept_front(result, cursor, &mut outcome),
            Some(error) => self.handle_refusal(now, error, rng, &mut outcome),
            None => {}
        }
        outcome
    }

    /// The server closed the connection because a frame was too big: the commit on its way is to blame.
    pub fn handle_too_big(&mut self) {
        if self.in_flight.take().is_some() && self.commits.first().is_some_and(|commit| commit.sent) {
            let error = Error::local("write_too_large", "the server refused a frame of this size");
            self.refuse_front(&error);
        }
    }

    /// Confirmed rows are complete up to `cursor`: operations that they contain have done their work.
    pub fn handle_cursor(&mut self, cursor: SyncId) -> Outcome {
        let mut outcome = Outcome::default();
        if self.acked.iter().all(|acked| acked.threshold.is_none_or(|id| id > cursor)) {
            return outcome;
        }
        for acked in std::mem::take(&mut *self.acked) {
            if acked.threshold.is_some_and(|id| id <= cursor) {
                self.finish(*acked, &mut outcome);
            } else {
                self.acked.push(acked);
            }
        }
        outcome
    }

    /// A catch-up is asked for.
    pub fn handle_catch_up(&mut self) {
        for acked in self.acked.iter_mut() {
            acked.asked = true;
        }
    }

    /// A catch-up was answered completely: what the server had accepted before it was asked for is in it, whether it
    /// has named a delta or not.
    pub fn handle_caught_up(&mut self, cursor: SyncId) -> Outcome {
        for acked in self.acked.iter_mut() {
            if acked.asked {
                acked.threshold = Some(cursor);
            }
        }
        self.handle_cursor(cursor)
    }

    /// The login is over or the client is disposed: everything that waits fails.
    pub fn fail_all(&mut self, error: &Error) -> Outcome {
        let mut outcome = Outcome::default();
        for op in self.ops.values() {
            outcome.settle_all(&op.waiting, &Err(error.clone()));
        }
        for commit in self.commits.iter() {
            outcome.fail_direct(commit.lane, error);
        }
        for acked in self.acked.iter() {
            outcome.fail_direct(acked.lane, error);
        }
        for tickets in self.repeats.take() {
            for ticket in *tickets {
                outcome.settled.push((ticket, Err(error.clone())));
            }
        }
        outcome.rows = self.pending_rows();
        let Self { durable, sender, tab, next_op, next_order, .. } = *self;
        *self = Self { sender, tab, next_op, next_order, ..Self::new(durable) };
        outcome
    }

    pub(super) fn accept_front(&mut self, result: &MutationResult, cursor: SyncId, outcome: &mut Outcome) {
        let Some(mut commit) = self.commits.pop_front() else { return };
        self.retry_at = None;
        outcome.acknowledged = true;
        if let Some(notifications) = &result.notifications {
            self.hold(&mut commit, notifications, outcome);
            outcome.notified = Some((result.client_tx_id.clone(), notifications.clone()));
        }
        let receipt = receipt_json(&commit.key.0, "confirmed", result.last_sync_id, result.notifications.as_deref());
        let named = result.last_sync_id > SyncId(0);
        let deletes_only = commit.ops.iter().all(|seq| self.ops.get(seq.0).is_none_or(|op| op.kind == OpKind::Delete));
        let threshold = if named {
            Some(result.last_sync_id)
        } else if deletes_only {
            // Nothing will follow: the row was not there (protocol.md 10.5).
            Some(SyncId(0))
        } else {
            None
        };
        let acked = Box::new(Acked {
            key: commit.key,
            order: commit.order,
            ops: commit.ops,
            threshold,
            asked: false,
            lane: commit.lane,
            receipt,
        });
        if acked.threshold.is_some_and(|id| id <= cursor) || bug::on(Bug::AckDropsPending) {
            self.finish(*acked, outcome);
        } else {
            self.acked.push(acked);
        }
    }

    /// Takes out operations that the server held back because their row moved (protocol.md 10.6).
    pub(super) fn hold(&mut self, commit: &mut Commit, notifications: &str, outcome: &mut Outcome) {
        let Ok(list) = Value::parse(notifications) else { return };
        let terms = Value::known_object(commit.terms.as_deref().unwrap_or_default());
        let reads = terms.get("reads").is_some();
        let is_held = |op: &Op| {
            let is_named = |item: Value<'_>| item.get_str("id").is_some_and(|id| id == op.row.1.as_str());
            // A read dependency holds the whole commit, and is named instead of what was to be written (10.4).
            let notifies = op.on_stale == Some(OnStale::Notify);
            op.optimistic && (reads || (notifies && list.elements().any(is_named)))
        };
        let mut gone = Vec::new();
        for seq in std::mem::take(&mut commit.ops) {
            let list = if self.ops.get(seq.0).is_some_and(is_held) { &mut gone } else { &mut commit.ops };
            list.push(seq);
        }
        let mut error = Error::wire("stale_context", "the row changed; the server held the write back");
        error.details = Some(concat(&["{\"notifications\":", notifications, "}"]));
        for seq in gone {
            self.reject_op(seq, &error, commit.attempts, outcome);
        }
    }

    pub(super) fn finish(&mut self, acked: Acked, outcome: &mut Outcome) {
        for seq in &acked.ops {
            let Some(op) = self.ops.remove(seq.0) else { continue };
            self.unlink(&op.row, *seq, op.optimistic, outcome);
            outcome.settle_all(&op.waiting, &Ok(None));
        }
        self.removals.push(acked.order);
        if let Lane::Direct { queued, confirmed } = acked.lane {
            let receipt = Ok(Some(acked.receipt));
            // Another tab may have sent it before this one heard that its journal has it.
            if let Some(ticket) = queued.or(confirmed) {
                outcome.settled.push((ticket, receipt.clone()));
            }
            self.remember(&acked.key, receipt, outcome);
        }
    }

    pub(super) fn handle_refusal(&mut self, now: Instant, error: &Error, rng: &mut Rng, outcome: &mut Outcome) {
        let Some(commit) = self.commits.first_mut() else { return };
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
            if self.ops.get(seq.0).is_some_and(|op| op.kind == OpKind::Delete));
        if gone && one_delete && matches!(commit.lane, Lane::Model) {
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
        self.refuse_front(error);
    }

    /// The first commit is refused for good: split it, or when it is one operation or atomic, reject it as soon as that
    /// is on the disk. Another tab that takes over before may send it again, and get another answer.
    pub(super) fn refuse_front(&mut self, error: &Error) {
        let Some(mut commit) = self.commits.pop_front() else { return };
        self.retry_at = None;
        if matches!(commit.lane, Lane::Model) && commit.ops.len() > 1 && !bug::on(Bug::RefusalTakesNeighbours) {
            let (left, right) = commit.ops.split_at(commit.ops.len() / 2);
            // The parts share the place of the whole: other tabs may have put writes right behind it.
            for (half, offset) in [(right, left.len()), (left, 0)] {
                let key = part_key(&self.ops, half);
                let mut part = self.new_commit(key, half.to_vec(), Lane::Model, commit.created);
                part.attempts = commit.attempts;
                if !bug::on(Bug::PartsBehind) {
                    part.order = commit.order + offset as u64;
                }
                part.foreign = commit.foreign;
                self.commits.push_front(part);
            }
            if bug::on(Bug::PartsBehind) {
                self.removals.push(commit.order);
            }
            return;
        }
        commit.refused = Some(error.clone());
        commit.dirty = !bug::on(Bug::RefusalNotAwaited);
        self.commits.push_front(commit);
    }

    /// Rejects what the journal says was refused, if this tab sends.
    pub fn reject_refused(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        while self.sender
            && let Some(commit) = self.commits.first()
            && commit.refused.is_some()
            && (commit.is_journaled() || !self.durable)
        {
            self.reject_front(&mut outcome);
        }
        outcome
    }

    fn reject_front(&mut self, outcome: &mut Outcome) {
        let Some(mut commit) = self.commits.pop_front() else { return };
        let Some(error) = &commit.refused.take() else { return };
        self.removals.push(commit.order);
        // Whoever waited only for the queue has had an answer: the refusal reaches the application as an event.
        let untold =
            matches!(commit.lane, Lane::Direct { queued: None, confirmed: None }) && !bug::on(Bug::RefusedUnheard);
        for (index, seq) in commit.ops.iter().enumerate() {
            if let Some(op) = self.ops.get(seq.0).filter(|_| untold) {
                let mut letter = commit.key.0.as_ref().to_owned();
                if index > 0 {
                    letter.push('/');
                    write_u64(&mut letter, index as u64);
                }
                outcome.rejected.push(Rejected { letter, ..op.rejected(commit.attempts, error) });
            }
            self.reject_op(*seq, error, commit.attempts, outcome);
        }
        if matches!(commit.lane, Lane::Direct { .. }) {
            outcome.fail_direct(commit.lane, error);
            self.remember(&commit.key, Err(error.clone()), outcome);
        }
    }

    /// Rejects one operation, and with a create what was built on it and is still here.
    pub(super) fn reject_op(&mut self, seq: OpSeq, error: &Error, attempts: u32, outcome: &mut Outcome) {
        let Some(op) = self.ops.remove(seq.0) else { return };
        self.unlink(&op.row, seq, op.optimistic, outcome);
        if bug::on(Bug::RollbackTakesTwo) {
            self.rows.get_mut(&op.row).and_then(Vec::pop);
        }
        if op.optimistic && op.kind == OpKind::Create {
            for other in self.rows.get(&op.row).cloned().unwrap_or_default() {
                if other <= seq || !self.is_unsent(other) {
                    continue;
                }
                if self.ops.get(other.0).is_none_or(|op| op.kind == OpKind::Create) {
                    break;
                }
                self.unlink(&op.row, other, true, outcome);
                let Some(dependant) = self.take_out(other) else { continue };
                // A delete of a row that never came to be has what it wanted.
                if dependant.kind == OpKind::Delete {
                    outcome.settle_all(&dependant.waiting, &Ok(None));
                } else {
                    outcome.settle_all(&dependant.waiting, &Err(error.clone()));
                    outcome.rejected.push(dependant.rejected(0, error));
                }
            }
        }
        if op.optimistic {
            for update in op.replaced.iter().rev() {
                outcome.rejected.push(update.rejected(0, error));
            }
            outcome.rejected.push(op.rejected(attempts, error));
        }
        outcome.settle_all(&op.waiting, &Err(error.clone()));
    }

    pub(super) fn unlink(&mut self, row: &RowKey, seq: OpSeq, optimistic: bool, outcome: &mut Outcome) {
        if !optimistic {
            return;
        }
        if let Some(seqs) = self.rows.get_mut(row) {
            remove_seq(seqs, seq);
            if seqs.is_empty() {
                self.rows.remove(row);
            }
        }
        outcome.rows.push(row.clone());
    }

    pub(super) fn remember(&mut self, key: &CommitKey, result: Result<Option<String>, Error>, outcome: &mut Outcome) {
        for ticket in self.repeats.remove(key).unwrap_or_default() {
            outcome.settled.push((ticket, result.clone()));
        }
        // A refused commit had no effect: the same key may be tried again.
        if result.is_ok() {
            self.receipts.push(Box::new((key.clone(), result)));
            if self.receipts.len() > RECEIPTS_MAX {
                self.receipts.pop_front();
            }
        }
    }
}

impl Outcome {
    /// Fails who waits for a direct commit.
    pub(super) fn fail_direct(&mut self, lane: Lane, error: &Error) {
        if let Lane::Direct { queued, confirmed } = lane
            && let Some(ticket) = queued.or(confirmed)
        {
            self.settled.push((ticket, Err(error.clone())));
        }
    }
}

/// Texts of errors without a known code that speak of a passing trouble (protocol.md 10.5).
fn reads_as_temporary(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["timeout", "timed out", "connection reset", "connection refused", "network error", "failed to fetch"]
        .iter()
        .any(|text| contains(&message, text))
}
