//! The open socket: what is said on it, in which order, and whether it is still alive (protocol.md sections 6 to 8, 14).

use super::Engine;
use crate::core::bug::{self, Bug};
use crate::core::error::Error;
use crate::core::id::{SyncId, TaskId};
use crate::core::output::Output;
use crate::core::time::Instant;
use crate::core::wire::{BadDelta, ClientFrame, MutationResult, RawDelta, ServerFrame, SubscriptionAck, SyncResponse};

/// A ping is due after so long (protocol.md 6.5).
const PING_MS: u64 = 30_000;
/// And any frame within so long after it.
const SILENCE_MS: u64 = 10_000;
/// Catch-up is repeated this often (protocol.md 7.3).
const CATCH_UP_MS: u64 = 30_000;
/// A confirmed write whose delta is missing asks for catch-up after so long.
const ECHO_MS: u64 = 1_000;
/// Live deltas held back before the first catch-up, in bytes; past it they are dropped and asked for again.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// State that lives as long as one open socket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: TaskId,
    /// The last frame, of whatever kind, arrived then.
    heard_at: Instant,
    /// A ping is on its way since then.
    pinged_at: Option<Instant>,
    /// A catch-up is on its way since then.
    asked_at: Option<Instant>,
    /// The last catch-up was asked for or answered then.
    caught_up_at: Instant,
    /// From here on live deltas follow each other without a gap.
    pub(super) streaming: bool,
    /// Frames with live deltas that came before that.
    held: Vec<String>,
    held_bytes: usize,
    /// Highest id acknowledged on this socket.
    acked: SyncId,
    /// The set of the last `update_subscription`, unanswered ones included.
    asked_groups: Vec<String>,
    /// Sets asked for and not yet answered, oldest first.
    open_groups: Vec<Vec<String>>,
}

impl Session {
    pub(super) fn heartbeat_at(&self) -> Instant {
        self.pinged_at.map_or(self.heard_at.after(PING_MS), |at| at.after(SILENCE_MS))
    }

    pub(super) fn catch_up_at(&self, expects_echo: bool) -> Option<Instant> {
        // One that is not answered is asked for again.
        if let Some(at) = self.asked_at {
            return Some(at.after(CATCH_UP_MS));
        }
        if !self.streaming {
            return None;
        }
        Some(self.caught_up_at.after(if expects_echo { ECHO_MS } else { CATCH_UP_MS }))
    }
}

impl Engine {
    /// The socket opened: section 6.4 of the protocol, in its order.
    pub(super) fn begin_session(&mut self, socket: TaskId) {
        let now = self.now.mono;
        let groups = self.wanted_groups();
        if !groups.is_empty() {
            self.send(socket, &ClientFrame::UpdateSubscription { sync_groups: groups.clone() });
        }
        self.tell_presence(socket, self.config.timezone.clone());
        // A server takes a catch-up from 0 for a fresh start and may leave out what came before (protocol.md 9.7), so
        // rows that were loaded when there was nothing yet are loaded again.
        if self.loaded && self.cursor == SyncId(0) && self.loads_rows() && !bug::on(Bug::ResumeFromNothing) {
            self.want_rows(now);
        }
        self.session = Some(Session {
            socket,
            heard_at: now,
            pinged_at: None,
            asked_at: None,
            caught_up_at: now,
            streaming: false,
            held: Vec::new(),
            held_bytes: 0,
            acked: SyncId(0),
            open_groups: if groups.is_empty() { Vec::new() } else { vec![groups.clone()] },
            asked_groups: groups,
        });
        self.offline_since = None;
        self.announce_claims();
    }

    pub(super) fn end_session(&mut self) {
        if self.session.take().is_some() {
            self.queue.handle_disconnected();
            self.reads.forget_answers();
        }
    }

    pub(super) fn handle_socket_closed(&mut self, socket: TaskId, code: u16) {
        let unanswered = self
            .session
            .as_ref()
            .is_some_and(|session| session.socket == socket && session.asked_at.is_some() && !session.streaming);
        if code == 1009 && self.session.as_ref().is_some_and(|session| session.socket == socket) {
            self.queue.handle_too_big();
        }
        let current = self.connection.handle_closed(self.now.mono, socket, code, &mut self.rng);
        // A server that cannot go back as far as asked closes instead of answering (protocol.md 9.7): the snapshot that
        // the next connection then needs is what it wants us to ask for. A mere loss of the line has code 1006, and once
        // may be chance.
        if current && unanswered && code != 1006 && self.loads_rows() {
            self.unanswered += 1;
            if self.unanswered > 1 {
                self.repair("the server closed the connection instead of catching up");
            }
        }
    }

    pub(super) fn handle_frame(&mut self, socket: TaskId, text: String) {
        let now = self.now.mono;
        let Some(session) = self.session.as_mut().filter(|session| session.socket == socket) else { return };
        session.heard_at = now;
        session.pinged_at = None;
        let hold = match ServerFrame::parse(&text) {
            Ok(ServerFrame::Pong | ServerFrame::Ping) => false,
            Ok(ServerFrame::SyncResponse(response)) => {
                self.handle_sync_response(response);
                false
            }
            Ok(ServerFrame::Deltas(deltas)) => {
                let streaming = session.streaming && self.loaded && !self.is_loading();
                let streaming = streaming || bug::on(Bug::LiveBeforeCatchUp);
                if streaming {
                    self.apply_deltas(&deltas);
                }
                !streaming
            }
            Ok(ServerFrame::MutationResult(result)) => {
                self.handle_mutation_result(&result);
                false
            }
            Ok(ServerFrame::SubscriptionAck(ack)) => {
                self.handle_subscription_ack(ack);
                false
            }
            Ok(ServerFrame::Other { kind, payload }) => {
                self.handle_news_of_others(&kind, payload);
                false
            }
            Err(error) => {
                self.report(&error);
                false
            }
        };
        if hold {
            self.hold(text);
        }
    }

    pub(super) fn handle_session_timeout(&mut self) {
        let now = self.now.mono;
        let expects_echo = self.queue.expects_echo();
        let Some(session) = &mut self.session else { return };
        let socket = session.socket;
        if session.heartbeat_at() <= now {
            if session.pinged_at.is_some() {
                self.connection.handle_dead(now);
                return;
            }
            session.pinged_at = Some(now);
            self.send(socket, &ClientFrame::Ping);
        }
        let Some(session) = &self.session else { return };
        if session.catch_up_at(expects_echo).is_some_and(|at| at <= now) {
            self.catch_up();
        }
    }

    /// A good moment to find out whether the line still stands.
    pub(super) fn check_alive(&mut self) {
        let now = self.now.mono;
        let Some(session) = self.session.as_mut().filter(|session| session.pinged_at.is_none()) else { return };
        session.pinged_at = Some(now);
        let socket = session.socket;
        self.send(socket, &ClientFrame::Ping);
    }

    /// Says what is due on the open socket.
    pub(super) fn pump_session(&mut self) {
        let wanted = self.wanted_groups();
        // While a snapshot is wanted there is no use in following the stream.
        let ready = self.loaded && self.loading == super::Loading::Idle;
        let Some(session) = &mut self.session else { return };
        let socket = session.socket;
        // One change under way at a time; what changes meanwhile goes with the next.
        if session.asked_groups != wanted && session.open_groups.is_empty() {
            session.asked_groups.clone_from(&wanted);
            session.open_groups.push(wanted.clone());
            self.send(socket, &ClientFrame::UpdateSubscription { sync_groups: wanted });
        }
        let Some(session) = &self.session else { return };
        if ready && !session.streaming && session.asked_at.is_none() {
            self.catch_up();
        }
    }

    /// Sends the gathered writes, as far as they may go.
    pub(super) fn flush(&mut self) {
        let outcome = self.queue.reject_refused();
        self.take_outcome(outcome);
        if self.config.stored {
            self.flush_journal();
        } else {
            self.flush_to_journal();
        }
        if self.flush_due {
            // Writes of this turn are still being gathered.
            return;
        }
        let Some(socket) = self.session.as_ref().map(|session| session.socket) else { return };
        while let Some(frame) = self.queue.next_frame(self.now.mono) {
            self.emit(Output::SendFrame(socket, frame));
        }
    }

    fn flush_to_journal(&mut self) {
        self.storage.letter_changes.clear();
        let ops = self.queue.take_journal_ops();
        if !ops.is_empty() {
            let task = self.task_id();
            let mut orders = Vec::with_capacity(ops.len());
            for op in &ops {
                orders.push(op.order());
            }
            self.journaling.insert(task, orders);
            self.emit(Output::Journal(task, ops));
        }
    }

    pub(super) fn handle_journaled(&mut self, task: TaskId, result: Result<(), Error>) {
        let Some(orders) = self.journaling.remove(&task) else { return };
        match result {
            Ok(()) => {
                let outcome = self.queue.handle_journaled(&orders);
                self.take_outcome(outcome);
            }
            Err(error) => {
                self.queue.handle_journal_failed(&orders);
                self.emit(Output::Event("storage:problem", error.to_json()));
            }
        }
    }

    /// Asks for what was missed. Acknowledges first, as a reconnecting client does (protocol.md 6.4).
    pub(super) fn catch_up(&mut self) {
        let now = self.now.mono;
        self.acknowledge();
        self.queue.handle_catch_up();
        let Some(session) = &mut self.session else { return };
        if session.asked_at.is_none() {
            self.claims.note_asked();
        }
        session.asked_at = Some(now);
        session.caught_up_at = now;
        let socket = session.socket;
        let frame = ClientFrame::SyncRequest { cursor: self.server_cursor.clone(), last_sync_id: self.cursor };
        self.send(socket, &frame);
    }

    fn handle_sync_response(&mut self, mut response: SyncResponse<'_>) {
        let now = self.now.mono;
        let Some(session) = &mut self.session else { return };
        session.asked_at = None;
        session.caught_up_at = now;
        self.claims.note_answered();
        self.unanswered = 0;
        if let Some(cursor) = response.cursor.take() {
            self.server_cursor = Some(cursor);
        }
        if !self.loaded || self.is_loading() {
            return;
        }
        if response.requires_bootstrap {
            self.repair("the server asks for a bootstrap");
            return;
        }
        let head = response.current_sync_id;
        let before = self.cursor;
        if bug::on(Bug::CursorBeforeApply) {
            self.move_cursor(head.unwrap_or_default());
        }
        let any = self.apply_deltas(&response.deltas);
        match head {
            // The server has lost data or was set up anew: nothing here can be trusted.
            Some(head) if !any && head < before => {
                self.reset = true;
                self.repair("the server is behind this client");
                return;
            }
            // More is coming, or the rest is for others: ask on until the answer is empty.
            Some(head) if any && head > self.cursor && self.cursor > before => {
                self.catch_up();
                return;
            }
            Some(head) if !any => self.move_cursor(head),
            Some(_) | None => {}
        }
        let cursor = self.cursor;
        let outcome = self.queue.handle_caught_up(cursor);
        self.take_outcome(outcome);
        self.connection.handle_healthy();
        self.last_sync_at = Some(self.now.wall.0);
        let held = match &mut self.session {
            Some(session) => {
                session.streaming = true;
                session.held_bytes = 0;
                std::mem::take(&mut session.held)
            }
            None => Vec::new(),
        };
        for text in held {
            if let Ok(ServerFrame::Deltas(deltas)) = ServerFrame::parse(&text) {
                self.apply_deltas(&deltas);
            }
        }
    }

    /// Applies deltas in order and does what follows from the new cursor. Says whether there were any.
    fn apply_deltas(&mut self, deltas: &[RawDelta<'_>]) -> bool {
        for raw in deltas {
            match raw.read_delta() {
                Ok(delta) => {
                    self.apply_delta(&delta);
                    self.log_delta(raw.raw);
                }
                Err(bad) => self.handle_bad_delta(&bad),
            }
        }
        if deltas.is_empty() {
            return false;
        }
        self.after_deltas();
        self.acknowledge();
        true
    }

    /// A delta that cannot be read must not stop those behind it. What it changed is repaired by a snapshot.
    fn handle_bad_delta(&mut self, bad: &BadDelta) {
        if self.config.schema.by_typename(&bad.model).is_some() {
            self.report(&bad.error);
            self.repair("a delta could not be read");
        }
        self.move_cursor(bad.id);
    }

    /// Tells the server how far rows are complete here, when that has grown.
    pub(super) fn acknowledge(&mut self) {
        let cursor = self.cursor;
        let Some(session) = self.session.as_mut().filter(|session| session.acked < cursor) else { return };
        session.acked = cursor;
        let socket = session.socket;
        self.send(socket, &ClientFrame::Ack { last_sync_id: cursor });
    }

    fn handle_mutation_result(&mut self, result: &MutationResult) {
        let outcome = self.queue.handle_result(self.now.mono, result, self.cursor, &mut self.rng);
        if let (true, Some(session)) = (outcome.acknowledged, &mut self.session)
            && session.asked_at.is_none()
        {
            // Counted from now, its delta has a moment to arrive by itself.
            session.caught_up_at = self.now.mono;
        }
        let refused = outcome.credential.is_some();
        self.share_result(result);
        self.take_outcome(outcome);
        if refused {
            self.connection.handle_refused(self.now.mono);
        }
    }

    fn handle_subscription_ack(&mut self, ack: SubscriptionAck) {
        let Some(session) = &mut self.session else { return };
        if session.open_groups.is_empty() {
            return;
        }
        session.open_groups.remove(0);
        if ack.success {
            self.acked_groups = ack.sync_groups;
        } else {
            let error = ack.error.unwrap_or_else(|| Error::wire("malformed_subscription", "the groups were refused"));
            // Entered scopes are asked for by the client itself; without them the granted groups remain.
            self.reads.leave_scopes();
            self.claims.leave_groups();
            self.report(&error);
        }
    }

    /// Keeps live deltas until the catch-up that closes the gap before them.
    fn hold(&mut self, text: String) {
        let Some(session) = &mut self.session else { return };
        if session.held_bytes + text.len() > HELD_BYTES_MAX {
            // They are in the stream behind the cursor; the catch-up brings them again.
            session.held.clear();
            session.held_bytes = 0;
            session.streaming = false;
            return;
        }
        // What comes after it must not be applied before it, whatever ends the wait.
        session.streaming &= bug::on(Bug::LiveAfterHeld);
        session.held_bytes += text.len();
        session.held.push(text);
    }

    /// A snapshot is here: live deltas start anew from its place.
    pub(super) fn resume_after_snapshot(&mut self) {
        if let Some(session) = &mut self.session {
            session.streaming = false;
            session.asked_at = None;
        }
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(self.loading, super::Loading::Fetching(_))
    }

    /// Groups to read, the granted ones and those of entered scopes, without repeats.
    pub(super) fn wanted_groups(&self) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        for group in self.groups.iter().chain(self.reads.scopes()).chain(self.claims.groups()) {
            if !wanted.contains(group) {
                wanted.push(group.clone());
            }
        }
        wanted
    }

    pub(super) fn send(&mut self, socket: TaskId, frame: &ClientFrame<'_>) {
        self.emit(Output::SendFrame(socket, frame.write()));
    }
}
