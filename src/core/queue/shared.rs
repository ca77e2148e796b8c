//! The queue as the tabs of one identity share it: commits that come from the journal or from another tab, and what the
//! sending tab says became of them.
//!
//! Every tab holds all commits, in one order, so that each shows all edits and any can go on sending when the sender is
//! gone. A commit that another tab has made is never altered here.

use super::*;
use crate::core::schema::Schema;
use crate::core::text::{concat, contains, hex};

/// Version of the records written here.
const RECORD_VERSION: u64 = 1;
/// Bits of a place that tell the parts of a commit apart: it has at most twice [`COMMIT_OPS_MAX`] operations.
const PARTS_BITS: u32 = 7;
/// The other lower bits of a place are the tab's.
const TAB_MASK: u64 = (1 << (32 - PARTS_BITS)) - 1;

/// Says why an operation of this name was refused, if it is known to be.
pub type Refusal<'a> = &'a dyn Fn(&str) -> Option<Error>;

/// Whether the places in the journal are those of parts of one commit.
pub fn same_commit(a: u64, b: u64) -> bool {
    a >> PARTS_BITS == b >> PARTS_BITS
}

impl Queue {
    /// Sets what makes places in the journal unique among tabs.
    pub fn set_tab(&mut self, tab: u32) {
        self.tab = tab;
    }

    /// Whether commits are sent only after the journal has them. Without a journal they are as safe as they get.
    pub fn set_durable(&mut self, durable: bool) -> Outcome {
        self.durable = durable;
        let mut outcome = Outcome::default();
        if !durable {
            for commit in self.commits.iter_mut() {
                commit.journaling = 0;
                commit.dirty = false;
            }
            self.settle_queued(None, &mut outcome);
        }
        outcome
    }

    /// Sets whether this tab sends: then it may alter what it has journaled but not sent.
    pub fn set_sender(&mut self, sender: bool) {
        self.sender = sender || bug::on(Bug::FollowerSends);
    }

    /// The journal has this place: what is written here from now on comes behind it.
    pub fn note_order(&mut self, order: u64) {
        self.next_order = self.next_order.max(order);
    }

    /// Whether this tab sends, and so knows all that the journal has.
    pub fn is_sender(&self) -> bool {
        self.sender
    }

    /// Another tab sends from now on: what the journal has, or will have, is for that tab.
    pub fn stop_sending(&mut self) {
        self.set_sender(false);
        self.retry_at = None;
        self.done.clear();
        for commit in self.commits.iter_mut() {
            commit.open = false;
            commit.sent = false;
            // Whether the journal has it is for the journal to say.
            commit.refused = None;
            commit.foreign |= commit.recorded || commit.journaling > 0;
        }
    }

    /// Leaves to the tab that sends what the journal has, as the journal has it: what was done to it here since is taken
    /// back, or done by commits of its own. Nothing may be on its way to the journal.
    pub fn take_back(&mut self, wall: WallTime, rng: &mut Rng) -> Outcome {
        let (mut fresh, mut younger) = (Vec::new(), Vec::<OpSeq>::new());
        let take_back = !bug::on(Bug::AlteredAfterLoss);
        for mut commit in std::mem::take(&mut *self.commits) {
            let ours = |seq: &OpSeq| self.ops.get(seq.0).is_some_and(|op| !op.recorded);
            let is_new = !commit.recorded && commit.ops.iter().all(ours);
            if commit.dirty && !is_new && take_back {
                for seq in std::mem::take(&mut commit.ops) {
                    if self.ops.get(seq.0).is_some_and(|op| !op.recorded) {
                        // What was merged into a write came before whatever else was done to its row.
                        let at = younger.iter().rposition(|other| *other < seq).map_or(0, |before| before + 1);
                        younger.insert(at, seq);
                        continue;
                    }
                    commit.ops.push(seq);
                    if let Some(seq) = self.split_op(seq, wall, rng) {
                        fresh.push(seq);
                    }
                }
                commit.dirty = false;
            }
            commit.foreign |= !commit.dirty;
            if !commit.ops.is_empty() {
                self.commits.push(commit);
            }
        }
        fresh.append(&mut younger);
        let rows = self.rows_of(&fresh);
        if !fresh.is_empty() {
            let commit = self.new_commit(CommitKey(Rc::from(rng.uuid())), fresh, Lane::Model, wall);
            // Commits that the journal has not heard of, and no others, are still to be written, and younger.
            let at = self.commits.iter().position(|commit| commit.dirty).unwrap_or(self.commits.len());
            let behind = self.commits.split_off(at);
            self.commits.push(commit);
            for mut commit in behind {
                if commit.dirty {
                    commit.order = self.take_order();
                }
                self.commits.push(commit);
            }
        }
        for row in &rows {
            self.sort_row(row);
        }
        Outcome { rows, ..Outcome::default() }
    }

    /// What was merged into an operation that the journal has, as an operation of its own.
    fn split_op(&mut self, seq: OpSeq, wall: WallTime, rng: &mut Rng) -> Option<OpSeq> {
        let op = self.ops.get_mut(seq.0)?;
        let Merged { input, waited } = op.since.take()?;
        let waiting = op.waiting.split_off(waited.min(op.waiting.len()));
        let new = NewOp {
            kind: op.kind,
            row: op.row.clone(),
            model: op.model.clone(),
            input: Some(input),
            defaults: None,
            refers_to: std::mem::take(&mut op.refers_to),
            read_at: None,
            on_stale: None,
            transaction_id: None,
        };
        let row = new.row.clone();
        let seq = self.insert(new, wall, rng, true);
        self.rows.push(row, seq);
        if let Some(op) = self.ops.get_mut(seq.0) {
            op.waiting = waiting;
        }
        Some(seq)
    }

    /// The journal may be a new one: it is offered everything again.
    pub fn offer_again(&mut self) {
        for commit in self.commits.iter_mut() {
            commit.dirty = true;
        }
    }

    /// The record of this place is damaged: it is offered again, if what it said is still known. Says whether it is.
    pub fn mend(&mut self, order: u64) -> bool {
        let commit = self.commits.iter_mut().find(|commit| commit.order == order);
        if let Some(commit) = commit {
            commit.dirty = true;
            return true;
        }
        false
    }

    /// Puts what no journal has yet behind what was read from it: writes made before it was read come later.
    pub fn put_new_last(&mut self) {
        let mut new = Vec::new();
        for commit in std::mem::take(&mut *self.commits) {
            let list = if commit.foreign || commit.sent { &mut *self.commits } else { &mut new };
            list.push(commit);
        }
        for mut commit in new {
            commit.order = self.take_order();
            let rows = self.rows_of(&commit.ops);
            self.commits.push(commit);
            for row in &rows {
                self.sort_row(row);
            }
        }
    }

    /// Whether there is something to send.
    pub fn has_unsent(&self) -> bool {
        !self.commits.is_empty()
    }

    /// A place behind all others: a count, the tab, and room for the parts that a refused commit is split into.
    pub(super) fn take_order(&mut self) -> u64 {
        let tab = u64::from(self.tab) & TAB_MASK;
        self.next_order = (((self.next_order >> 32) + 1) << 32) | (tab << PARTS_BITS);
        self.next_order
    }

    /// Takes in a commit from the journal or another tab. One that is here already is left as it is, or replaced when
    /// its maker has altered it since. What became of rows: operations that the maker has given up are gone.
    ///
    /// # Errors
    /// When the record cannot be read: `storage_record_unreadable`, or `storage_newer_version`.
    pub fn restore(
        &mut self,
        order: u64,
        text: &str,
        replace: bool,
        schema: &Schema,
        refusal: Refusal<'_>,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let unreadable = |why: &str| {
            Error::local("storage_record_unreadable", concat(&["journal record ", &hex(order, 1), ": ", why]))
        };
        let here = self.commits.iter().find(|commit| commit.order == order);
        // What is on its way, or altered here, is newer than any record of it; under another key only the sender's is.
        let ahead = |commit: &Commit| {
            let same_key = contains(text, &commit.key.0);
            let altered = commit.sent || commit.dirty || commit.journaling > 0;
            if self.sender { altered || !same_key } else { altered && same_key }
        };
        if here.is_some_and(|commit| !replace || ahead(commit) || record(&self.ops, commit) == text) {
            return Ok(outcome);
        }
        let root = Value::parse(text).map_err(|error| unreadable(&error.message()))?;
        let version = root.get_u64("v").unwrap_or(0);
        if version > RECORD_VERSION {
            let message = concat(&["newer code has written journal record ", &hex(order, 1)]);
            return Err(Error::local("storage_newer_version", message));
        }
        let mut key = root.get_string("key").filter(|key| !key.is_empty()).ok_or_else(|| unreadable("no key"))?;
        if bug::on(Bug::RestoredNewKey) {
            key.push('+');
        }
        let atomic = root.get_bool("atomic").unwrap_or(false);
        if atomic && refusal(&key).is_some() {
            self.removals.push(order);
            return Ok(outcome);
        }
        let same =
            |commit: &Commit| *commit.key.0 == *key && (!replace || atomic || commit.order != order || ahead(commit));
        // What is left of one that was replaced has no place: it says nothing about the rest.
        let done = |acked: &Acked| acked.order > 0 && *acked.key.0 == *key;
        let refused = root.get("error").and_then(Error::from_body);
        if let Some(known) = self.commits.iter_mut().find(|commit| same(commit)) {
            if !ahead(known) {
                known.refused = refused;
            }
            return Ok(outcome);
        }
        if self.acked.iter().any(|acked| done(acked)) {
            return Ok(outcome);
        }
        let created = WallTime(root.get_u64("createdAt").unwrap_or(0));
        let mut found = false;
        let mut parsed = Vec::new();
        let mut locals = root.at("local").elements();
        for item in root.at("operations").elements() {
            let operation = Operation::parse(item).map_err(|error| unreadable(&error.message))?;
            let local = locals.next();
            found = true;
            // Refused, and known to be: whoever was told is gone before the record was.
            if operation.transaction_id.as_deref().and_then(refusal).is_none() {
                parsed.push((operation, local.and_then(|local| local.get("defaults"))));
            }
        }
        if !found {
            return Err(unreadable("no operations"));
        }
        // Done with, but whoever was to take it out may be gone.
        if parsed.is_empty() || self.done.contains(&order) || self.removals.contains(&order) {
            self.removals.push(order);
            return Ok(outcome);
        }
        let mut seqs = Vec::with_capacity(parsed.len());
        let mut touched = Vec::with_capacity(parsed.len());
        let mut moved = false;
        for (operation, defaults) in parsed {
            let model = schema.resolve(&operation.model).unwrap_or(ModelIndex(u16::MAX));
            let row: RowKey = (model, RowId::from(operation.id.as_deref().unwrap_or_default()));
            touched.push(row.clone());
            if let Some(seq) = self.named(&row, operation.transaction_id.as_deref()) {
                self.detach(seq);
                moved = true;
                if let Some(op) = self.ops.get_mut(seq.0) {
                    op.patch = operation.input.as_deref().map(|input| gather::stamped(input, created));
                    op.input = operation.input;
                }
                seqs.push(seq);
                continue;
            }
            let new = NewOp {
                kind: operation.kind,
                row: row.clone(),
                model: operation.model,
                input: operation.input,
                defaults: defaults.map(|defaults| defaults.raw.to_owned()),
                refers_to: Vec::new(),
                read_at: operation.read_at.filter(|_| !bug::on(Bug::GuardForgotten)),
                on_stale: operation.on_stale,
                transaction_id: operation.transaction_id,
            };
            let seq = self.push_op(new, created, !atomic);
            if !atomic {
                self.rows.push(row, seq);
            }
            seqs.push(seq);
        }
        for seq in &seqs {
            if let Some(op) = self.ops.get_mut(seq.0) {
                op.recorded = true;
                op.since = None;
                op.offered = false;
            }
        }
        let lane = if atomic { Lane::Direct { queued: None, confirmed: None } } else { Lane::Model };
        let mut commit = self.new_commit(CommitKey(Rc::from(key)), seqs, lane, created);
        commit.order = order;
        commit.dirty = false;
        commit.recorded = true;
        commit.foreign = true;
        commit.attempts = u32::try_from(root.get_u64("attempts").unwrap_or(0)).unwrap_or(u32::MAX);
        commit.terms = root.get("terms").map(|terms| terms.raw.to_owned());
        commit.refused = refused;
        self.note_order(order);
        let old = self.commits.iter().position(|commit| commit.order == order);
        if let Some(old) = old.and_then(|index| self.commits.take(index)) {
            // Its place is taken by the new one.
            self.put_down((Commit { order: 0, ..*old }, false), None, refusal, &mut outcome);
        }
        // Behind what is on its way, and behind all that came before it: some of that may be behind what was on its way.
        let is_older = |other: &Commit| other.order > 0 && (other.order < order) != bug::on(Bug::RestoreReversed);
        let last = self.commits.iter().rposition(|other| other.sent || is_older(other));
        let at = last.map_or(0, |last| last + 1);
        moved |= at < self.commits.len();
        self.commits.insert(at, commit);
        for row in touched.iter().filter(|_| moved) {
            self.sort_row(row);
        }
        outcome.rows.append(&mut touched);
        Ok(outcome)
    }

    /// Place of the first commit that another tab is to send.
    pub fn first_order(&self) -> Option<u64> {
        self.commits.iter().find(|commit| commit.foreign && commit.is_journaled()).map(|commit| commit.order)
    }

    /// Whether there is a commit at this place.
    pub fn knows(&self, order: u64) -> bool {
        self.commits.iter().any(|commit| commit.order == order) || self.acked.iter().any(|acked| acked.order == order)
    }

    /// Places of the commits that other tabs may have finished: those that are as the journal had them.
    pub fn settled_orders(&self) -> Vec<u64> {
        let mut orders = Vec::new();
        for commit in self.commits.iter() {
            if !commit.sent && commit.is_journaled() && commit.foreign {
                orders.push(commit.order);
            }
        }
        orders
    }

    /// The journal has these places and no others: whichever of `candidates` is not among them is done with.
    pub fn keep_journaled(&mut self, candidates: &[u64], orders: &[u64], refusal: Refusal<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        for order in candidates.iter().filter(|order| !orders.contains(order)) {
            if let Some(taken) = self.take_settled(*order) {
                self.put_down(taken, None, refusal, &mut outcome);
            }
        }
        outcome
    }

    /// The commit, and whether it was the first.
    fn take_settled(&mut self, order: u64) -> Option<(Commit, bool)> {
        let settled = |commit: &Commit| !commit.sent && !commit.dirty && commit.journaling == 0;
        let index = self.commits.iter().position(|commit| commit.order == order && settled(commit))?;
        self.commits.take(index).map(|commit| (*commit, index == 0))
    }

    /// What is not in the journal any more was refused, if something says so, or else it was accepted: then it shows
    /// until confirmed rows are complete up to `threshold`, or without one until the next catch-up.
    fn put_down(
        &mut self,
        (mut commit, first): (Commit, bool),
        threshold: Option<SyncId>,
        refusal: Refusal<'_>,
        outcome: &mut Outcome,
    ) {
        let mut refused = Vec::new();
        for seq in std::mem::take(&mut commit.ops) {
            let name = self.ops.get(seq.0).and_then(|op| op.transaction_id.as_deref());
            match name.and_then(refusal) {
                Some(error) => refused.push((seq, error)),
                None => commit.ops.push(seq),
            }
        }
        let Commit { key, order, ops, lane, attempts, .. } = commit;
        if let (Lane::Direct { .. }, Some(error)) = (lane, refusal(&key.0)) {
            for seq in ops {
                self.reject_op(seq, &error, attempts, outcome);
            }
            outcome.fail_direct(lane, &error);
            self.remember(&key, Err(error), outcome);
            return;
        }
        let mut rows = self.rows_of(&ops);
        if !ops.is_empty() {
            let receipt = receipt_json(&key.0, "confirmed", SyncId(0), None);
            self.acked.push(Box::new(Acked { key, order, ops, threshold, asked: false, lane, receipt }));
        }
        // What comes after the first commit stays behind it.
        for row in rows.iter().filter(|_| !first) {
            self.sort_row(row);
        }
        outcome.rows.append(&mut rows);
        for (seq, error) in refused {
            self.reject_op(seq, &error, attempts, outcome);
        }
    }

    /// Takes out what is known to be refused and was not sent yet, if this tab sends. What is left of a commit is a part.
    pub fn drop_refused(&mut self, refusal: Refusal<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.sender {
            return outcome;
        }
        let mut refused = Vec::new();
        for commit in self.commits.iter_mut().filter(|commit| !commit.sent) {
            for seq in &commit.ops {
                let name = self.ops.get(seq.0).and_then(|op| op.transaction_id.as_deref());
                if let Some(error) = name.and_then(refusal) {
                    refused.push((*seq, error));
                    commit.key = CommitKey::default();
                }
            }
        }
        for (seq, error) in refused {
            self.reject_op(seq, &error, 0, &mut outcome);
            self.take_out(seq);
        }
        for commit in self.commits.iter_mut().filter(|commit| commit.key.0.is_empty()) {
            commit.key = part_key(&self.ops, &commit.ops);
            commit.dirty = true;
        }
        outcome
    }

    /// Another tab, whose rows were complete up to `threshold`, has taken a commit out of the journal.
    pub fn retire(&mut self, order: u64, threshold: SyncId, cursor: SyncId, refusal: Refusal<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(taken) = self.take_settled(order) {
            self.put_down(taken, Some(threshold), refusal, &mut outcome);
            let mut done = self.handle_cursor(cursor);
            outcome.settled.append(&mut done.settled);
            outcome.rows.append(&mut done.rows);
        }
        outcome
    }

    /// The sending tab has an answer for a commit.
    pub fn handle_shared_result(&mut self, result: &MutationResult, cursor: SyncId) -> Outcome {
        let mut outcome = Outcome::default();
        let index = self.commits.iter().position(|commit| *commit.key.0 == *result.client_tx_id);
        if let Some(commit) = index.and_then(|index| self.commits.take(index)) {
            self.note_done(commit.order);
            self.commits.push_front(commit);
            self.accept_front(result, cursor, &mut outcome);
        }
        outcome
    }

    /// What has become of a commit; nothing when it is not known.
    pub fn receipt(&self, key: &str) -> Settled {
        for known in self.receipts.iter() {
            if *known.0.0 == *key {
                return known.1.clone();
            }
        }
        let waits = self.commits.iter().any(|commit| *commit.key.0 == *key)
            || self.acked.iter().any(|acked| *acked.key.0 == *key);
        Ok(if waits { Some(receipt_json(key, "queued", SyncId(0), None)) } else { None })
    }

    /// What the outbox shows: one JSON object per commit that is not confirmed.
    pub fn write_outbox(&self, out: &mut Vec<String>) {
        for commit in self.commits.iter() {
            let stage = if commit.sent {
                "sent"
            } else if self.durable && commit.is_journaled() {
                "journaled"
            } else {
                "applied"
            };
            out.push(self.entry(&commit.key, stage, &commit.ops, commit.attempts, commit.created));
        }
        for acked in self.acked.iter() {
            let created = acked.ops.first().and_then(|seq| self.ops.get(seq.0)).map_or(WallTime(0), |op| op.stamp);
            out.push(self.entry(&acked.key, "sent", &acked.ops, 1, created));
        }
    }

    fn entry(&self, key: &CommitKey, stage: &str, ops: &[OpSeq], attempts: u32, created: WallTime) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("id", &key.0);
        object.str("stage", stage);
        wire::write_operations(object.key("operations"), &operations(&self.ops, ops));
        object.u64("attempts", u64::from(attempts));
        object.u64("createdAt", created.0);
        object.end();
        out
    }

    /// The row's operation of this name.
    fn named(&self, row: &RowKey, name: Option<&str>) -> Option<OpSeq> {
        let name = name?;
        let is_it = |seq: &&OpSeq| self.ops.get(seq.0).is_some_and(|op| op.transaction_id.as_deref() == Some(name));
        self.rows.get(row)?.iter().find(is_it).copied()
    }

    fn rows_of(&self, seqs: &[OpSeq]) -> Vec<RowKey> {
        let mut rows = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(op) = self.ops.get(seq.0) {
                rows.push(op.row.clone());
            }
        }
        rows
    }

    /// Takes an operation out of its commit, and the commit out of the queue when it was the last. Otherwise what
    /// is left is a part, of which there is a record under this key.
    fn detach(&mut self, seq: OpSeq) {
        for acked in self.acked.iter_mut() {
            remove_seq(&mut acked.ops, seq);
        }
        if let Some(index) = self.commits.iter().position(|commit| commit.ops.contains(&seq))
            && let Some(commit) = self.commits.get_mut(index)
        {
            remove_seq(&mut commit.ops, seq);
            commit.key = part_key(&self.ops, &commit.ops);
            if commit.ops.is_empty() {
                self.commits.take(index);
            }
        }
    }

    /// Puts a row's pending operations into the order in which they will be sent.
    fn sort_row(&mut self, row: &RowKey) {
        let Some(seqs) = self.rows.get_mut(row).filter(|seqs| seqs.len() > 1) else { return };
        let mut sorted = Vec::with_capacity(seqs.len());
        let mut sort = |ops: &[OpSeq]| {
            for seq in ops {
                if seqs.contains(seq) {
                    sorted.push(*seq);
                }
            }
        };
        for acked in self.acked.iter() {
            sort(&acked.ops);
        }
        for commit in self.commits.iter() {
            sort(&commit.ops);
        }
        if sorted.len() == seqs.len() {
            *seqs = sorted;
        }
    }
}
