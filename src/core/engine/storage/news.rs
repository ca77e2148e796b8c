//! What other tabs have written since this one has read: taken from the journal and the cache.

use super::*;

impl Engine {
    /// This tab sends from now on: first it learns what others have written since it has read.
    pub(in crate::core::engine) fn catch_up_with_tabs(&mut self) {
        let from = log_key(self.storage.generation, self.storage.log_number + 1);
        let request = StoreRequest::Read { store: ObjectStore::Cache, from, to: LAST.to_owned() };
        self.storage.adopting = true;
        self.ask(Database::Identity, request, Job::CatchUpCache);
        self.read_journal_again(Vec::new());
    }

    /// Messages of other tabs may be missing: those sent before this tab joined, or never sent by one that is gone.
    pub(in crate::core::engine) fn read_journal_again(&mut self, asked: Vec<u64>) {
        let known = self.queue.settled_orders();
        self.ask(Database::Identity, all(ObjectStore::Journal, ""), Job::CatchUpJournal(known, asked));
    }

    /// Takes in what other tabs have said. Records are taken from the journal alone: news of them may be late. And what
    /// became of parts of a commit is believed only when it is known that there are parts.
    pub(in crate::core::engine) fn read_news(&mut self) {
        if self.storage.jobs.values().any(|job| matches!(job, Job::CatchUpJournal(..) | Job::News { .. })) {
            return;
        }
        let texts = std::mem::take(&mut self.storage.tabs.later);
        let puts = std::mem::take(&mut self.storage.tabs.puts);
        match puts.iter().min() {
            // Refused writes are behind all others: they are read too.
            Some(from) => {
                let request = all(ObjectStore::Journal, from);
                self.ask(Database::Identity, request, Job::News { texts, puts });
            }
            None => self.handle_news(&texts),
        }
    }
}
