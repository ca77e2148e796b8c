//! How a client ends: disposed or signed out, and what becomes of those who wait. Purging is in `storage`.

use super::{DRAIN_MS, Engine, Loading, Phase};
use crate::core::error::Error;
use crate::core::id::SyncId;
use crate::core::input::Ticket;
use crate::core::output::Output;
use crate::core::time::Instant;

/// Those who wait for something that happens once, each until some moment at most.
pub(super) type Waiting = Vec<(Ticket, Option<Instant>)>;

impl Engine {
    pub(super) fn dispose(&mut self, ticket: Ticket) {
        match self.phase {
            Phase::Disposed | Phase::Draining { .. } => return self.settle(ticket, Ok(None)),
            Phase::Running => {}
        }
        self.phase = Phase::Draining { ticket, until: self.now.mono.after(DRAIN_MS) };
        // What this turn has gathered goes now.
        self.flush_due = false;
        self.pump();
    }

    /// Ends for good: nothing is reported afterwards but what waits now.
    pub(super) fn finish_dispose(&mut self, ticket: Ticket) {
        self.leave_claims(false);
        self.connection.stop(self.now.mono);
        self.perform_actions();
        let error = Error::local("client_disposed", "the client was disposed before this was confirmed");
        self.fail_waiting(&error);
        if self.config.stored {
            self.leave_tabs();
            self.emit(Output::CloseStores);
        }
        self.session = None;
        self.tasks.take();
        self.loading = Loading::Idle;
        self.phase = Phase::Disposed;
        self.settle(ticket, Ok(None));
        self.announce_status();
    }

    pub(super) fn fail_waiting(&mut self, error: &Error) {
        self.fail_claims(error);
        let outcome = self.queue.fail_all(error);
        self.take_outcome(outcome);
        self.settle_ready(&Err(error.clone()));
        self.settle_flushing(&Err(error.clone()));
        for ticket in self.reads.fail_all() {
            self.settle(ticket, Err(error.clone()));
        }
    }

    /// The login is over: rows go before anybody is told (api.md 1.7).
    pub(super) fn end_login(&mut self) {
        self.login_ended = true;
        let error = self.connection.reason().cloned();
        let error = error.unwrap_or_else(|| Error::local("session_expired", "the login is over"));
        self.pool.clear();
        self.cursor = SyncId(0);
        self.loaded = false;
        self.loading = Loading::Idle;
        self.fail_waiting(&error);
        // What is stored goes before anybody is told.
        let ended = Output::Event("session:ended", error.to_json());
        self.purge_storage(ended);
    }

    pub(super) fn settle_ready(&mut self, result: &Result<Option<String>, Error>) {
        let waiting = std::mem::take(&mut self.ready);
        self.settle_all(waiting, result);
    }

    pub(super) fn settle_flushing(&mut self, result: &Result<Option<String>, Error>) {
        let waiting = std::mem::take(&mut self.flushing);
        self.settle_all(waiting, result);
    }

    fn settle_all(&mut self, waiting: Waiting, result: &Result<Option<String>, Error>) {
        for (ticket, _) in waiting {
            self.settle(ticket, result.clone());
        }
    }
}

/// Takes out those who wait no longer.
pub(super) fn take_late(waiting: &mut Waiting, now: Instant) -> Vec<Ticket> {
    let mut late = Vec::new();
    for (ticket, until) in std::mem::take(waiting) {
        if until.is_some_and(|until| until <= now) {
            late.push(ticket);
        } else {
            waiting.push((ticket, until));
        }
    }
    late
}
