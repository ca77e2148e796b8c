//! What the application is told about the connection and its writes (design.md section 10, api.md 1.7).

use super::Engine;
use crate::core::connection::State;
use crate::core::json::ObjectWriter;
use crate::core::output::Output;

impl Engine {
    /// The status snapshot as the text of a JSON object. Reading it arms the next [`Output::StatusChanged`].
    pub fn status(&mut self) -> String {
        self.status_told = false;
        let pending = self.queue.pending_count() as u64;
        let wall_of = |at: crate::core::time::Instant| at.0 + self.wall_ahead;
        let (state, sync) = match self.connection.state() {
            State::Idle => ("idle", "idle"),
            State::Credential(_) | State::Identity(_) => ("authenticating", "syncing"),
            State::Opening(_) if self.loaded => ("connecting", "reconnecting"),
            State::Opening(_) => ("connecting", "syncing"),
            State::Connected(_) => ("connected", if self.loaded && !self.is_loading() { "idle" } else { "syncing" }),
            State::Probing(_) => ("probing", "reconnecting"),
            State::Waiting { .. } => ("waiting", "offline"),
            State::Offline => ("offline", "offline"),
            State::Blocked { .. } => ("blocked", "error"),
            State::SignedOut => ("signed_out", "error"),
            State::Stopped => ("disposed", "offline"),
        };
        let signed_out = *self.connection.state() == State::SignedOut;
        let mut out = String::new();
        let mut root = ObjectWriter::new(&mut out);
        let mut connection = root.nested("connection");
        connection.str("state", state);
        if let Some(reason) = self.connection.reason() {
            connection.str("reason", &reason.code);
        }
        connection.u64("since", wall_of(self.connection.since()));
        if let Some(at) = self.connection.next_attempt() {
            connection.u64("nextAttemptAt", wall_of(at));
        }
        connection.end();
        let durable = self.storage.stage == super::storage::Stage::Open;
        root.str("durability", if durable { "indexeddb" } else { "memory" });
        let mut storage = root.nested("storage");
        if let Some(problem) = &self.storage.problem {
            storage.raw("problem", &problem.to_json());
        }
        storage.end();
        root.u64("pendingWrites", pending);
        root.u64("rejectedWrites", self.storage.letters.len() as u64);
        match self.identity.as_ref().or(self.storage.owner.as_ref()) {
            Some(who) => {
                root.str("participantId", &who.participant);
                root.str("organizationId", &who.organization);
            }
            None => {
                root.raw("participantId", "null");
                root.raw("organizationId", "null");
            }
        }
        root.u64("lastSyncId", self.cursor.0);
        let mut object = root.nested("sync");
        object.str("state", sync);
        object.u64("progress", if self.loaded { 100 } else { 0 });
        object.u64("pendingChanges", pending);
        object.bool("isSessionError", signed_out);
        if let (Some(reason), "error") = (self.connection.reason(), sync) {
            object.raw("error", &reason.to_json());
        }
        if let Some(at) = self.last_sync_at {
            object.u64("lastSyncAt", at);
        }
        if let Some(at) = self.offline_since {
            object.u64("offlineSince", at);
        }
        object.end();
        root.end();
        out
    }

    /// Tells that the snapshot may have changed, once until it is read.
    pub(super) fn announce_status(&mut self) {
        if !self.status_told {
            self.status_told = true;
            self.emit(Output::StatusChanged);
        }
    }
}
