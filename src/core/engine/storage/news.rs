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
        self.ask(Database::Identity, all(ObjectStore::Journal, ""), Job::CatchUpJournal(asked));
    }

    /// Takes in what other tabs have said. Records are taken from the journal alone: news of them may be late. And what
    /// became of parts of a commit is believed only when it is known that there are parts.
    pub(in crate::core::engine) fn read_news(&mut self) {
        if self.storage.is_doing(&|job| matches!(job, Job::CatchUpJournal(..) | Job::News { .. })) {
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

    /// Makes of the queue what the journal says. Answers come in the order of the questions: what was read before, and
    /// was late, is older than this.
    pub(super) fn adopt_journal(&mut self, records: Vec<Record>, asked: &[u64]) {
        let mut gone = Vec::new();
        for order in asked {
            let key = journal_key(*order);
            if !records.iter().any(|(other, _)| *other == key) {
                gone.push(remove(&key));
            }
        }
        if !gone.is_empty() {
            // Whoever asked may not know the refused writes either, and looks there first.
            gone.push(put(LETTERS.to_owned(), String::new()));
        }
        let known = self.queue.settled_orders();
        let mut news = self.adopt_records(records, &[], &known);
        // Whoever journaled it may be gone before telling anybody; or somebody has not heard that it is done.
        news.reverse();
        news.append(&mut gone);
        if !self.storage.tabs.leads {
            self.share_seen(&news);
        } else if !news.is_empty() {
            self.share_journal(&news);
        }
    }

    /// Takes in records of the journal; whichever of `known` has none is done with. Those that were news.
    pub(super) fn adopt_records(&mut self, records: Vec<Record>, told: &[String], known: &[u64]) -> Vec<StoreChange> {
        let mut orders = Vec::new();
        for (key, _) in &records {
            orders.push(journal_order(key).unwrap_or(0));
        }
        let news = self.restore(records, true, told);
        let outcome = self.queue.keep_journaled(known, &orders, &|name| refusal(&self.storage.letters, name));
        self.take_outcome(outcome);
        let texts = std::mem::take(&mut self.storage.tabs.later);
        self.handle_results(&texts);
        self.storage.tabs.later = texts;
        news
    }
}
