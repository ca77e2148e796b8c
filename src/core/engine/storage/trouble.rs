//! When the storage fails: what is given up, in which order, and who is told.

use super::*;

impl Engine {
    /// Goes on in memory: visibly, and without failing a write.
    pub(super) fn give_up(&mut self, failure: &StoreFailure) {
        if matches!(self.storage.stage, Stage::Memory | Stage::Purging) {
            return;
        }
        self.note_problem(failure);
        if self.storage.stage == Stage::Hidden || self.storage.stage == Stage::Reading {
            // What could be read is shown all the same.
            self.show_cache();
        }
        self.storage.stage = Stage::Memory;
        self.storage.jobs.take();
        self.emit(Output::CloseStores);
        self.leave_tabs();
        self.queue.set_sender(true);
        let outcome = self.queue.set_durable(false);
        self.take_outcome(outcome);
    }

    pub(super) fn give_up_cache(&mut self, failure: &StoreFailure) {
        if std::mem::replace(&mut self.storage.cache_lost, true) {
            return;
        }
        self.note_problem(failure);
        self.storage.checkpoint = None;
        self.storage.log = String::new();
        let change = StoreChange::Remove { store: ObjectStore::Cache, from: String::new(), to: LAST.to_owned() };
        self.ask(Database::Identity, StoreRequest::Write { changes: vec![change], strict: false }, Job::Quiet);
    }

    fn note_problem(&mut self, failure: &StoreFailure) {
        let code = match failure.kind {
            StoreFailureKind::Unavailable => "storage_unavailable",
            StoreFailureKind::Blocked => "storage_open_timeout",
            StoreFailureKind::Newer => "storage_newer_version",
            StoreFailureKind::Lost => "storage_connection_lost",
            StoreFailureKind::Quota => "storage_quota_exceeded",
            StoreFailureKind::Aborted => "storage_aborted",
            StoreFailureKind::WrongKey => "storage_wrong_key",
            StoreFailureKind::Unknown => "storage_failed",
        };
        self.storage_problem(Error::local(code, failure.message.clone()));
    }

    pub(in crate::core::engine) fn storage_problem(&mut self, error: Error) {
        self.emit(Output::Event("storage:problem", error.to_json()));
        self.storage.problem = Some(error);
        self.announce_status();
    }

    /// A record that cannot be read stays where it is, for `storage.export()`, and is reported.
    pub(super) fn set_aside(&mut self, key: String, text: String, mut error: Error) {
        error.message = concat(&["a stored write (", &key, ") cannot be read and is set aside: ", &error.message]);
        if !self.storage.aside.iter().any(|(other, _)| *other == key) {
            self.storage.aside.push((key, text));
        }
        self.storage_problem(error);
    }

    /// The records that were set aside, as the text of an object.
    pub fn records_aside(&self) -> String {
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        for (key, record) in &self.storage.aside {
            object.str(key, record);
        }
        object.end();
        text
    }
}
