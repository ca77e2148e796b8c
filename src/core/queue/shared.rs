//! The queue as the tabs of one identity share it: commits that come from the journal or from another tab, and what the
//! sending tab says became of them.
//!
//! Every tab holds all commits, in one order, so that each shows all edits and any can go on sending when the sender is
//! gone. A commit that another tab has made is never altered here.

use super::*;
use crate::core::schema::Schema;

/// Version of the records written here.
const RECORD_VERSION: u64 = 1;

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
            for commit in &mut self.commits {
                commit.journaling = 0;
                commit.dirty = false;
            }
            self.settle_queued(&mut outcome);
        }
        outcome
    }

    /// Sets whether this tab sends: then it may alter what it has journaled but not sent.
    pub fn set_sender(&mut self, sender: bool) {
        self.sender = sender;
        if !sender {
            self.in_flight = None;
        }
    }

    /// Whether there is something to send.
    pub fn has_unsent(&self) -> bool {
        !self.commits.is_empty()
    }

    /// A number that orders places made from now on behind this one.
    pub(super) fn take_order(&mut self) -> u64 {
        self.next_order = (((self.next_order >> 32) + 1) << 32) | u64::from(self.tab);
        self.next_order
    }

    /// Takes in a commit from the journal or another tab. One that is here already is left as it is, or replaced when
    /// its maker has altered it since. The rows that it touches.
    ///
    /// # Errors
    /// When the record cannot be read: `storage_record_unreadable`, or `storage_newer_version`.
    pub fn restore(&mut self, order: u64, text: &str, replace: bool, schema: &Schema) -> Result<Vec<RowKey>, Error> {
        let unreadable =
            |why: &str| Error::local("storage_record_unreadable", format!("journal record {order:x}: {why}"));
        let root = Value::parse(text).map_err(|error| unreadable(&error.to_string()))?;
        let version = root.get_u64("v").unwrap_or(0);
        if version > RECORD_VERSION {
            let message = format!("a newer version of the application has written journal record {order:x}");
            return Err(Error::local("storage_newer_version", message));
        }
        let key = root.get_string("key").filter(|key| !key.is_empty()).ok_or_else(|| unreadable("no key"))?;
        let known = self.commits.iter().any(|commit| commit.order == order || *commit.key.0 == *key);
        if (known && !replace) || self.acked.iter().any(|acked| *acked.key.0 == *key) {
            return Ok(Vec::new());
        }
        let atomic = root.get_bool("atomic").unwrap_or(false);
        let created = WallTime(root.get_u64("createdAt").unwrap_or(0));
        let mut parsed = Vec::new();
        let mut locals = root.at("local").elements();
        for item in root.at("operations").elements() {
            let operation = Operation::parse(item).map_err(|error| unreadable(&error.message))?;
            let local = locals.next();
            parsed.push((operation, local.and_then(|local| local.get("defaults"))));
        }
        if parsed.is_empty() {
            return Err(unreadable("no operations"));
        }
        let mut seqs = Vec::with_capacity(parsed.len());
        let mut touched = Vec::with_capacity(parsed.len());
        for (operation, defaults) in parsed {
            let model = schema.resolve(&operation.model).unwrap_or(ModelIndex(u16::MAX));
            let row: RowKey = (model, RowId::from(operation.id.as_deref().unwrap_or_default()));
            touched.push(row.clone());
            let here = if known || replace { self.named(operation.transaction_id.as_deref()) } else { None };
            if let Some(seq) = here {
                self.detach(seq);
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
                read_at: operation.read_at,
                on_stale: operation.on_stale,
                transaction_id: operation.transaction_id,
            };
            let seq = self.push_op(new, created, !atomic);
            if !atomic {
                self.rows.entry(row).or_default().push(seq);
            }
            seqs.push(seq);
        }
        let lane = if atomic { Lane::Direct { queued: None, confirmed: None } } else { Lane::Model };
        let mut commit = self.new_commit(CommitKey(Rc::from(key)), seqs, lane, created);
        commit.order = order;
        commit.dirty = false;
        commit.foreign = true;
        commit.attempts = u32::try_from(root.get_u64("attempts").unwrap_or(0)).unwrap_or(u32::MAX);
        commit.reads = root.get("reads").map(|reads| reads.raw.to_owned());
        self.next_order = self.next_order.max(order);
        if let Some(index) = self.commits.iter().position(|other| other.order == order) {
            self.commits.remove(index);
        }
        // Never in front of what is on its way.
        let at = self.commits.iter().position(|other| !other.sent && other.order > order).unwrap_or(self.commits.len());
        self.commits.insert(at, commit);
        for row in &touched {
            self.sort_row(row);
        }
        Ok(touched)
    }

    /// The sending tab says that a commit is no longer in the journal: what is still in it was given up by its maker.
    pub fn drop_commit(&mut self, order: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let index = self.commits.iter().position(|commit| commit.order == order && !commit.sent);
        let commit = index.and_then(|index| self.commits.remove(index));
        for seq in commit.map(|commit| commit.ops).unwrap_or_default() {
            let Some(op) = self.ops.remove(seq.0) else { continue };
            self.unlink(&op.row, seq, op.optimistic, &mut outcome);
            outcome.settle_all(&op.waiting, &Ok(None));
        }
        outcome
    }

    /// The sending tab has an answer for a commit.
    pub fn handle_shared_result(&mut self, result: &MutationResult, cursor: SyncId) -> Outcome {
        let mut outcome = Outcome::default();
        let index = self.commits.iter().position(|commit| *commit.key.0 == *result.client_tx_id);
        if let Some(commit) = index.and_then(|index| self.commits.remove(index)) {
            self.commits.push_front(commit);
            self.accept_front(result, cursor, &mut outcome);
        }
        outcome
    }

    /// The sending tab says that the server has refused an operation, or a commit of the application's own, for good.
    pub fn handle_shared_refusal(&mut self, name: &str, error: &Error, rng: &mut Rng) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(seq) = self.named(Some(name)) {
            self.detach(seq);
            self.reject_op(seq, error, 1, &mut outcome);
        } else if let Some(index) = self.commits.iter().position(|commit| *commit.key.0 == *name)
            && let Some(commit) = self.commits.remove(index)
        {
            self.commits.push_front(commit);
            self.refuse_front(error, rng, &mut outcome);
        }
        outcome
    }

    /// What the outbox shows: one JSON object per commit that is not confirmed.
    pub fn write_outbox(&self, out: &mut Vec<String>) {
        for commit in &self.commits {
            let stage = if commit.sent {
                "sent"
            } else if self.durable && commit.is_journaled() {
                "journaled"
            } else {
                "applied"
            };
            out.push(self.entry(&commit.key, stage, &commit.ops, commit.attempts, commit.created));
        }
        for acked in &self.acked {
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

    /// The operation of this name.
    fn named(&self, name: Option<&str>) -> Option<OpSeq> {
        let name = name?;
        let ops = self.commits.iter().flat_map(|commit| commit.ops.iter());
        ops.copied().find(|seq| self.ops.get(seq.0).is_some_and(|op| op.transaction_id.as_deref() == Some(name)))
    }

    /// Takes an operation out of its commit, and the commit out of the queue when it was the last.
    fn detach(&mut self, seq: OpSeq) {
        if let Some(index) = self.commits.iter().position(|commit| commit.ops.contains(&seq))
            && let Some(commit) = self.commits.get_mut(index)
        {
            remove_seq(&mut commit.ops, seq);
            if commit.ops.is_empty() {
                self.commits.remove(index);
            }
        }
    }

    /// Puts a row's pending operations into the order in which they will be sent.
    fn sort_row(&mut self, row: &RowKey) {
        let Some(seqs) = self.rows.get_mut(row).filter(|seqs| seqs.len() > 1) else { return };
        let mut sorted = Vec::with_capacity(seqs.len());
        let acked = self.acked.iter().flat_map(|acked| acked.ops.iter());
        for seq in acked.chain(self.commits.iter().flat_map(|commit| commit.ops.iter())) {
            if seqs.contains(seq) {
                sorted.push(*seq);
            }
        }
        if sorted.len() == seqs.len() {
            *seqs = sorted;
        }
    }
}
