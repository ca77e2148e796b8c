//! What has been done before: accepted commits by key, applied operations by name (protocol.md 10.2, 10.7).
//!
//! Only successes are remembered: a refused commit had no effect, and the same key comes again when the cause is gone.
//! They are remembered for a while only. A commit that says it is older than that may have been carried out and
//! forgotten, and is refused.

use std::collections::{BTreeMap, VecDeque};

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::time::WallTime;
use ablo_wasm::core::wire::Operation;
use sha2::{Digest, Sha256};

use super::catalog::Catalog;
use super::participant::Text;
use super::storage::{StoredCommit, StoredTransaction};

/// How long a success is remembered, unless the configuration says otherwise.
pub const IDEMPOTENCY_WINDOW_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most successes remembered; the oldest go first.
const RECORDS_MAX: usize = 1_000_000;
/// The store is told to forget this often, or oftener when the window is short.
const FORGET_STEP_MS: u64 = 3600 * 1000;

/// A commit's place: organization and key.
type CommitKey = (Text, Text);
/// An operation's place: organization, participant, name.
type TransactionKey = (Text, Text, Text);

/// Everything remembered.
#[derive(Debug)]
pub(super) struct Remembered {
    window: u64,
    commits: BTreeMap<CommitKey, StoredCommit>,
    transactions: BTreeMap<TransactionKey, StoredTransaction>,
    commit_order: VecDeque<(WallTime, CommitKey)>,
    transaction_order: VecDeque<(WallTime, TransactionKey)>,
    /// Successes up to here may be forgotten. Never goes back, so that a longer window after a restart is no promise
    /// about what the shorter one has deleted.
    forgotten: WallTime,
    /// What this run has told the store of it.
    told: WallTime,
}

impl Remembered {
    pub(super) fn new(window: u64) -> Self {
        Self {
            window,
            commits: BTreeMap::new(),
            transactions: BTreeMap::new(),
            commit_order: VecDeque::new(),
            transaction_order: VecDeque::new(),
            forgotten: WallTime(0),
            told: WallTime(0),
        }
    }

    pub(super) fn restore(
        &mut self,
        forgotten: WallTime,
        commits: impl Iterator<Item = StoredCommit>,
        transactions: impl Iterator<Item = StoredTransaction>,
    ) {
        self.forgotten = forgotten;
        let mut commits: Vec<_> = commits.collect();
        commits.sort_by_key(|commit| commit.at);
        commits.into_iter().for_each(|commit| self.add_commit(commit));
        let mut transactions: Vec<_> = transactions.collect();
        transactions.sort_by_key(|record| record.at);
        transactions.into_iter().for_each(|record| self.add_transaction(record));
    }

    pub(super) fn add_commit(&mut self, commit: StoredCommit) {
        let key = (commit.organization.clone(), commit.key.clone());
        self.commit_order.push_back((commit.at, key.clone()));
        self.commits.insert(key, commit);
    }

    pub(super) fn add_transaction(&mut self, record: StoredTransaction) {
        let key = (record.organization.clone(), record.participant.clone(), record.transaction_id.clone());
        self.transaction_order.push_back((record.at, key.clone()));
        self.transactions.insert(key, record);
    }

    /// How often [`forget`](Self::forget) has something to say to the store.
    pub(super) fn step(&self) -> u64 {
        FORGET_STEP_MS.min(self.window / 24).max(1)
    }

    /// Drops what is too old. The result tells the store to do the same, now and then.
    pub(super) fn forget(&mut self, now: WallTime) -> Option<WallTime> {
        let limit = WallTime(now.0.saturating_sub(self.window));
        self.forgotten = self.forgotten.max(limit);
        // A record may have been replaced by a younger one under the same key: then only the order entry goes.
        while let Some((at, key)) = self.commit_order.front() {
            if *at >= limit && self.commits.len() <= RECORDS_MAX {
                break;
            }
            self.forgotten = self.forgotten.max(*at);
            if self.commits.get(key).is_some_and(|commit| commit.at == *at) {
                self.commits.remove(key);
            }
            self.commit_order.pop_front();
        }
        while let Some((at, key)) = self.transaction_order.front() {
            if *at >= limit && self.transactions.len() <= RECORDS_MAX {
                break;
            }
            if self.transactions.get(key).is_some_and(|record| record.at == *at) {
                self.transactions.remove(key);
            }
            self.transaction_order.pop_front();
        }
        if self.forgotten.0 < self.told.0.saturating_add(self.step()) {
            return None;
        }
        self.told = self.forgotten;
        Some(self.told)
    }

    /// Whether a success of something made at this moment may have been forgotten.
    pub(super) fn may_have_forgotten(&self, now: WallTime, created_at: u64) -> bool {
        created_at <= now.0.saturating_sub(self.window).max(self.forgotten.0)
    }

    /// The window, for people.
    pub(super) fn window_text(&self) -> String {
        crate::args::format_duration(self.window)
    }

    pub(super) fn commit(&self, now: WallTime, organization: &Text, key: &str) -> Option<&StoredCommit> {
        let found = self.commits.get(&(organization.clone(), key.into()));
        found.filter(|commit| commit.at.0.saturating_add(self.window) > now.0)
    }

    pub(super) fn transaction(
        &self,
        now: WallTime,
        organization: &Text,
        participant: &Text,
        name: &str,
    ) -> Option<&StoredTransaction> {
        let found = self.transactions.get(&(organization.clone(), participant.clone(), name.into()));
        found.filter(|record| record.at.0.saturating_add(self.window) > now.0)
    }
}

/// What an operation says, the same however its sender spelled the model and whichever way it came.
pub(super) fn operation_digest(operation: &Operation, catalog: &Catalog) -> [u8; 32] {
    let mut hasher = Sha256::new();
    feed(&mut hasher, operation, catalog);
    hasher.finalize().into()
}

/// What a whole commit says. The names of its operations do not count: HTTP senders have none.
pub(super) fn commit_digest(operations: &[Operation], reads: Option<&str>, catalog: &Catalog) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for operation in operations {
        feed(&mut hasher, operation, catalog);
        part(&mut hasher, operation.read_at.map(|mark| mark.0.to_string()).as_deref());
        part(&mut hasher, operation.on_stale.map(|mode| mode.name()));
    }
    part(&mut hasher, reads);
    hasher.finalize().into()
}

fn feed(hasher: &mut Sha256, operation: &Operation, catalog: &Catalog) {
    let model = catalog.resolve(&operation.model).map(|slot| catalog.entry(slot).stored.to_string());
    part(hasher, Some(operation.kind.name()));
    part(hasher, Some(&model.unwrap_or_else(|| operation.model.to_lowercase())));
    part(hasher, operation.id.as_deref());
    part(hasher, operation.input.as_deref());
}

/// Adds a part with its length, so that no two lists of parts read alike.
fn part(hasher: &mut Sha256, text: Option<&str>) {
    match text {
        None => hasher.update([0]),
        Some(text) => {
            hasher.update([1]);
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
}

/// The id that a skipped operation counts with.
pub(super) fn skipped(record: Option<&StoredTransaction>, digest: &[u8; 32]) -> Option<SyncId> {
    record.filter(|record| record.digest == *digest).map(|record| record.sync_id)
}
