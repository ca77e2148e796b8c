//! Forgetting: what is stored of an identity is deleted before anybody is told that the session is over.

use super::*;
use crate::core::input::Ticket;

impl Engine {
    /// Deletes everything that is stored of this identity, and ends.
    pub(in crate::core::engine) fn purge(&mut self, ticket: Ticket) {
        self.share_purge();
        self.connection.stop(self.now.mono);
        self.perform_actions();
        self.forget_everything(&Error::local("client_disposed", "everything stored here was deleted"));
        self.phase = Phase::Disposed;
        self.purge_storage(Output::Settle(ticket, Ok(None)));
        self.announce_status();
    }

    /// Another tab has deleted everything of this identity.
    pub(in crate::core::engine) fn handle_purged(&mut self) {
        let error = Error::local("session_expired", "another tab has deleted what was stored and ended the session");
        self.connection.stop(self.now.mono);
        self.perform_actions();
        self.forget_everything(&error);
        let output = Output::Event("session:ended", error.to_json());
        if self.storage.reopened {
            // The news came after the deletion: we may have made the database anew.
            self.purge_storage(output);
            return;
        }
        self.leave_tabs();
        self.emit(Output::CloseStores);
        self.storage.stage = Stage::Memory;
        self.storage.jobs.take();
        self.emit(output);
    }

    fn forget_everything(&mut self, error: &Error) {
        self.session = None;
        self.pool.clear();
        self.storage.letters.clear();
        self.cursor = SyncId(0);
        self.loaded = false;
        self.loading = Loading::Idle;
        self.fail_waiting(error);
    }

    /// Deletes what is stored of the identity in use, or before it is known of the one that was here last, and then the
    /// directory unless it knows others. `output` says when it is gone.
    pub(in crate::core::engine) fn purge_storage(&mut self, output: Output) {
        self.leave_tabs();
        if matches!(self.storage.stage, Stage::Memory | Stage::Purging) {
            self.emit(output);
            return;
        }
        if self.storage.stage == Stage::Idle {
            self.open_directory();
        }
        let tab = self.storage.tabs.tab;
        let owner = self.storage.owner.take();
        self.storage = Storage { stage: Stage::Purging, owner, purging: Some(output), ..Storage::new(true) };
        self.storage.tabs.tab = tab;
        let key = self.directory_key();
        let to = after(&key);
        let store = ObjectStore::Cache;
        let read = StoreRequest::Read { store, from: key.clone(), to: to.clone() };
        self.ask(Database::Directory, read, Job::PurgeKnown);
        let changes = vec![StoreChange::Remove { store, from: key, to }];
        self.ask(Database::Directory, StoreRequest::Write { changes, strict: true }, Job::Quiet);
        self.ask(Database::Directory, all(store, ""), Job::PurgeDirectory);
    }

    /// The directory has said who was here last.
    pub(super) fn purge_known(&mut self, records: &[Record]) {
        if self.storage.owner.is_some() {
            return;
        }
        if let Some(known) = directory::read(records) {
            let name = self.database_name(&known);
            self.storage.owner = Some(known);
            self.ask(Database::Identity, StoreRequest::Open { name }, Job::Quiet);
        }
    }

    /// The directory has said whether it knows anybody else.
    pub(super) fn purge_directory(&mut self, is_empty: bool) {
        if is_empty {
            self.ask(Database::Directory, StoreRequest::Delete, Job::Quiet);
        }
        if self.storage.owner.is_some() {
            self.ask(Database::Identity, StoreRequest::Delete, Job::Quiet);
        }
    }

    pub(super) fn finish_purge(&mut self) {
        self.storage.stage = Stage::Memory;
        self.emit(Output::CloseStores);
        if let Some(output) = self.storage.purging.take() {
            self.emit(output);
        }
    }
}
