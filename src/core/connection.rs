//! The connection machine: from a credential to an open socket, and back after any trouble.
//!
//! It decides when to ask for a credential, who we are, whether the server can be reached, and when to open a socket.
//! What travels on the open socket is not its business, nor is the bootstrap; see `engine`.
//!
//! ```text
//! Idle ─start─► Credential ─► Identity ─► Opening ─► Connected
//!                   ▲            │           │           │ closed
//!                   │ stale      ▼           ▼           ▼
//!                   └──────── Probing ◄── Waiting ◄──────┘   (backoff, capped and jittered)
//!                                │
//!                                └─► Blocked, SignedOut         Offline: the system says there is no network
//! ```
//!
//! Every request carries a task id; an answer whose id is no longer the current one is ignored, so late results never
//! reach a newer state. From every state but `SignedOut` and `Stopped` the machine gets back by itself.

use super::error::{Error, Recovery};
use super::id::TaskId;
use super::input::{Credential, Response};
use super::rng::Rng;
use super::time::Instant;
use crate::core::text::concat;

/// First pause after a failed attempt.
pub const BACKOFF_BASE_MS: u64 = 500;
/// Longest pause between attempts.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// Pauses vary by this share either way, so that clients do not return in step.
pub const BACKOFF_JITTER_PERCENT: u64 = 15;
/// A refused credential is looked at again after so long.
pub const BLOCKED_RETRY_MS: u64 = 60_000;
/// Stale credentials in a row, each freshly obtained, after which the machine gives up (connection.md 1.9).
pub const REFRESH_MAX: u32 = 3;

/// Where the credential comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A token that is used as it is.
    Token,
    /// The application's function.
    Function,
    /// A secret key, exchanged for a short-lived token.
    Exchange,
    /// There is none.
    Missing,
}

/// Where the machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// The credential function was called.
    Credential(TaskId),
    /// Identity or exchange request under way.
    Identity(TaskId),
    /// Probe under way.
    Probing(TaskId),
    /// Socket opening.
    Opening(TaskId),
    /// Socket open.
    Connected(TaskId),
    /// Waiting before the next attempt.
    Waiting {
        /// Until when.
        until: Instant,
    },
    /// The system says that there is no network.
    Offline,
    /// The credential is refused for a reason that a new one would not mend.
    Blocked {
        /// When it is looked at again.
        until: Instant,
    },
    /// The login is over.
    SignedOut,
    /// Disposed.
    Stopped,
}

/// What the machine wants done. The task id is the one to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call the credential function.
    AskCredential(TaskId),
    /// Ask who we are.
    FetchIdentity(TaskId),
    /// Exchange the secret key.
    Exchange(TaskId),
    /// Probe.
    Probe(TaskId),
    /// Open a socket.
    Open(TaskId),
    /// Close a socket.
    Close(TaskId),
}

/// What a probe found (protocol.md 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server answers and the credential is good.
    Reachable,
    /// No answer.
    Unreachable,
    /// A new credential is needed.
    Stale(Error),
    /// The login is over.
    SessionExpired(Error),
    /// The credential is refused.
    Blocked(Error),
}

impl Probe {
    /// Reads a probe's answer.
    pub fn classify(response: &Result<Response, String>) -> Self {
        let Ok(response) = response else { return Self::Unreachable };
        let Some(code) = response.auth_failure.as_deref().filter(|code| !code.is_empty()) else {
            return match response.status {
                401 => Self::Stale(Error::wire("apikey_expired", "the server refused the credential")),
                502..=504 => Self::Unreachable,
                _ => Self::Reachable,
            };
        };
        let error = Error::wire(code.to_owned(), "the server refused the credential");
        match error.recovery() {
            Recovery::SessionExpiry => Self::SessionExpired(error),
            Recovery::AccessCredentialExpiry => Self::Stale(error),
            Recovery::Transient => Self::Reachable,
            Recovery::Permission | Recovery::AuthBlocked | Recovery::None => Self::Blocked(error),
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Connection {
    state: State,
    source: Source,
    has_token: bool,
    has_identity: bool,
    online: bool,
    /// Failed attempts in a row; sets the next pause.
    attempt: u32,
    /// Credentials obtained in a row that were refused as stale.
    refreshes: u32,
    since: Instant,
    /// Why it is blocked, waiting or signed out.
    reason: Option<Error>,
    actions: Vec<Action>,
    next_task: u64,
}

impl Connection {
    /// A machine that has not started. Its task ids are odd, so that they never meet those of the engine.
    pub fn new(source: Source, has_identity: bool) -> Self {
        Self {
            state: State::Idle,
            source,
            has_token: source == Source::Token,
            has_identity,
            online: true,
            attempt: 0,
            refreshes: 0,
            since: Instant(0),
            reason: None,
            actions: Vec::new(),
            next_task: 1,
        }
    }

    /// Starts, if that has not happened.
    pub fn start(&mut self, now: Instant) {
        if self.state == State::Idle {
            self.proceed(now);
        }
    }

    /// Ends it for good.
    pub fn stop(&mut self, now: Instant) {
        self.close_socket();
        self.enter(now, State::Stopped);
    }

    /// The deadline passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.retry(now);
        }
    }

    /// The credential function answered.
    pub fn handle_credential(&mut self, now: Instant, task: TaskId, credential: &Credential, rng: &mut Rng) {
        if self.state != State::Credential(task) {
            return;
        }
        match credential {
            Credential::Token(_) => {
                self.has_token = true;
                if self.has_identity { self.probe(now) } else { self.proceed(now) }
            }
            Credential::SignedOut if self.has_identity => {
                self.sign_out(now, Error::local("session_expired", "the credential function says signed out"));
            }
            Credential::SignedOut => {
                self.sign_out(now, Error::local("auth_no_credentials", "the credential function returned null"));
            }
            Credential::Unavailable(why) => {
                self.wait(now, rng, Error::local("identity_network_error", concat(&["no credential: ", why])));
            }
        }
    }

    /// The identity or exchange request ended. On success the caller has taken what it says.
    pub fn handle_identity(&mut self, now: Instant, task: TaskId, result: Result<(), Error>, rng: &mut Rng) {
        if self.state != State::Identity(task) {
            return;
        }
        let Err(error) = result else {
            self.has_identity = true;
            self.has_token |= self.source == Source::Exchange;
            self.open(now);
            return;
        };
        match error.recovery() {
            Recovery::AccessCredentialExpiry => self.refresh(now, error),
            Recovery::SessionExpiry => self.sign_out(now, error),
            Recovery::Permission | Recovery::AuthBlocked => self.block(now, error),
            Recovery::None if error.status.is_some_and(|status| status < 500) => self.block(now, error),
            Recovery::Transient | Recovery::None => self.wait(now, rng, error),
        }
    }

    /// The probe ended.
    pub fn handle_probe(&mut self, now: Instant, task: TaskId, probe: Probe, rng: &mut Rng) {
        if self.state != State::Probing(task) {
            return;
        }
        match probe {
            Probe::Reachable => self.open(now),
            Probe::Unreachable => {
                self.wait(now, rng, Error::local("commit_no_result", "the server cannot be reached"));
            }
            Probe::Stale(error) => self.refresh(now, error),
            Probe::SessionExpired(error) => self.sign_out(now, error),
            Probe::Blocked(error) => self.block(now, error),
        }
    }

    /// A socket opened.
    pub fn handle_opened(&mut self, now: Instant, socket: TaskId) {
        if self.state == State::Opening(socket) {
            self.reason = None;
            self.enter(now, State::Connected(socket));
        } else {
            // It belongs to an attempt that was given up.
            self.actions.push(Action::Close(socket));
        }
    }

    /// A socket closed or could not be opened. Says whether it was the current one.
    pub fn handle_closed(&mut self, now: Instant, socket: TaskId, rng: &mut Rng) -> bool {
        let (State::Connected(current) | State::Opening(current)) = self.state else { return false };
        if current != socket {
            return false;
        }
        if matches!(self.state, State::Connected(_)) && self.attempt == 0 {
            self.probe(now);
        } else {
            self.wait(now, rng, Error::local("ws_not_ready", "the connection was closed"));
        }
        true
    }

    /// The connection turned out to be dead: recovery starts without waiting for its close event.
    pub fn handle_dead(&mut self, now: Instant) {
        if matches!(self.state, State::Connected(_)) {
            self.close_socket();
            self.probe(now);
        }
    }

    /// The open connection has proved itself: the next drop is answered at once instead of after a pause.
    pub fn handle_healthy(&mut self) {
        if matches!(self.state, State::Connected(_)) {
            self.attempt = 0;
            self.refreshes = 0;
        }
    }

    /// The server refused the credential in an answer: look at it again.
    pub fn handle_refused(&mut self, now: Instant) {
        if matches!(self.state, State::Connected(_) | State::Opening(_)) {
            self.close_socket();
            self.attempt = self.attempt.max(1);
            self.probe(now);
        }
    }

    /// The system's word on the network.
    pub fn handle_network(&mut self, now: Instant, online: bool) {
        self.online = online;
        match self.state {
            State::Idle | State::SignedOut | State::Stopped => {}
            State::Offline | State::Waiting { .. } | State::Blocked { .. } if online => self.retry(now),
            State::Offline
            | State::Waiting { .. }
            | State::Blocked { .. }
            | State::Credential(_)
            | State::Identity(_)
            | State::Probing(_)
            | State::Opening(_)
            | State::Connected(_) => {
                if !online {
                    self.close_socket();
                    self.enter(now, State::Offline);
                }
            }
        }
    }

    /// A good moment to try again: a visible page, a woken machine, a new token, the application's wish.
    pub fn handle_retry(&mut self, now: Instant) {
        match self.state {
            State::Waiting { .. } | State::Blocked { .. } => self.retry(now),
            State::Idle
            | State::Credential(_)
            | State::Identity(_)
            | State::Probing(_)
            | State::Opening(_)
            | State::Connected(_)
            | State::Offline
            | State::SignedOut
            | State::Stopped => {}
        }
    }

    /// A token came from outside.
    pub fn set_token(&mut self, now: Instant) {
        self.has_token = true;
        if self.source == Source::Missing {
            self.source = Source::Token;
        }
        self.refreshes = 0;
        if !matches!(self.state, State::Credential(_)) {
            self.handle_retry(now);
        } else if self.has_identity {
            self.probe(now);
        } else {
            self.proceed(now);
        }
    }

    /// Whether a function supplies credentials.
    pub fn set_source(&mut self, source: Source) {
        self.source = source;
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() { None } else { Some(self.actions.remove(0)) }
    }

    /// When to call [`Connection::handle_timeout`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Blocked { until } => Some(until),
            State::Idle
            | State::Credential(_)
            | State::Identity(_)
            | State::Probing(_)
            | State::Opening(_)
            | State::Connected(_)
            | State::Offline
            | State::SignedOut
            | State::Stopped => None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What went wrong last, while it matters.
    pub fn reason(&self) -> Option<&Error> {
        self.reason.as_ref()
    }

    /// The open socket.
    pub fn socket(&self) -> Option<TaskId> {
        if let State::Connected(socket) = self.state { Some(socket) } else { None }
    }

    /// What there is still to find out before a socket can open, in order.
    fn proceed(&mut self, now: Instant) {
        if !self.online {
            self.enter(now, State::Offline);
        } else if self.source == Source::Missing {
            self.sign_out(now, Error::local("session_expired", "no credential: pass apiKey or authToken"));
        } else if self.source == Source::Function && !self.has_token {
            let task = self.task();
            self.actions.push(Action::AskCredential(task));
            self.enter(now, State::Credential(task));
        } else if !self.has_identity {
            let task = self.task();
            let exchange = self.source == Source::Exchange;
            self.actions.push(if exchange { Action::Exchange(task) } else { Action::FetchIdentity(task) });
            self.enter(now, State::Identity(task));
        } else {
            self.open(now);
        }
    }

    fn retry(&mut self, now: Instant) {
        if self.has_identity && self.has_token { self.probe(now) } else { self.proceed(now) }
    }

    fn probe(&mut self, now: Instant) {
        let task = self.task();
        self.actions.push(Action::Probe(task));
        self.enter(now, State::Probing(task));
    }

    fn open(&mut self, now: Instant) {
        let socket = self.task();
        // Until the connection proves itself, its end counts as a failed attempt: a server that accepts and drops
        // must not be asked again without a pause (protocol.md 14.3).
        self.attempt = self.attempt.max(1);
        self.actions.push(Action::Open(socket));
        self.enter(now, State::Opening(socket));
    }

    /// Obtains another credential, unless that has not helped several times in a row.
    fn refresh(&mut self, now: Instant, error: Error) {
        if self.refreshes >= REFRESH_MAX {
            self.refreshes = 0;
            self.block(now, error);
            return;
        }
        match self.source {
            Source::Function => {
                self.refreshes += 1;
                let task = self.task();
                self.actions.push(Action::AskCredential(task));
                self.enter(now, State::Credential(task));
            }
            Source::Exchange => {
                self.refreshes += 1;
                let task = self.task();
                self.actions.push(Action::Exchange(task));
                self.enter(now, State::Identity(task));
            }
            Source::Token | Source::Missing => self.block(now, error),
        }
    }

    fn wait(&mut self, now: Instant, rng: &mut Rng, reason: Error) {
        self.close_socket();
        if !self.online {
            self.enter(now, State::Offline);
            return;
        }
        let pause = reason.retry_after_ms.unwrap_or_else(|| backoff(self.attempt.saturating_sub(1), rng));
        self.attempt = self.attempt.saturating_add(1);
        self.reason = Some(reason);
        self.enter(now, State::Waiting { until: now.after(pause) });
    }

    fn block(&mut self, now: Instant, error: Error) {
        self.close_socket();
        self.reason = Some(error);
        self.enter(now, State::Blocked { until: now.after(BLOCKED_RETRY_MS) });
    }

    fn sign_out(&mut self, now: Instant, error: Error) {
        self.close_socket();
        self.reason = Some(error);
        self.enter(now, State::SignedOut);
    }

    fn close_socket(&mut self) {
        if let State::Connected(socket) | State::Opening(socket) = self.state {
            self.actions.push(Action::Close(socket));
        }
    }

    fn enter(&mut self, now: Instant, state: State) {
        self.state = state;
        self.since = now;
    }

    fn task(&mut self) -> TaskId {
        self.next_task += 2;
        TaskId(self.next_task)
    }
}

/// The pause before attempt number `attempt`, counted from 0.
pub fn backoff(attempt: u32, rng: &mut Rng) -> u64 {
    let nominal = BACKOFF_BASE_MS.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX_MS);
    let spread = nominal * BACKOFF_JITTER_PERCENT / 100;
    nominal - spread + rng.below(2 * spread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        machine: Connection,
        rng: Rng,
        now: Instant,
    }

    impl Bench {
        fn new(source: Source) -> Self {
            Self { machine: Connection::new(source, false), rng: Rng::new(1), now: Instant(0) }
        }

        fn connected(source: Source) -> (Self, TaskId) {
            let mut bench = Self::new(source);
            bench.machine.start(bench.now);
            if source == Source::Function {
                let Some(Action::AskCredential(task)) = bench.machine.poll_action() else { panic!("no credential") };
                bench.credential(task, Credential::Token("ek_1".into()));
            }
            let Some(Action::FetchIdentity(task) | Action::Exchange(task)) = bench.machine.poll_action() else {
                panic!("no identity")
            };
            bench.machine.handle_identity(bench.now, task, Ok(()), &mut bench.rng);
            let socket = bench.open();
            bench.machine.handle_healthy();
            (bench, socket)
        }

        fn credential(&mut self, task: TaskId, credential: Credential) {
            self.machine.handle_credential(self.now, task, &credential, &mut self.rng);
        }

        fn open(&mut self) -> TaskId {
            let Some(Action::Open(socket)) = self.machine.poll_action() else { panic!("no socket") };
            self.machine.handle_opened(self.now, socket);
            socket
        }

        fn close(&mut self, socket: TaskId) {
            assert!(self.machine.handle_closed(self.now, socket, &mut self.rng));
        }

        fn probe(&mut self, probe: Probe) {
            let Some(Action::Probe(task)) = self.machine.poll_action() else { panic!("no probe") };
            self.machine.handle_probe(self.now, task, probe, &mut self.rng);
        }

        fn elapse(&mut self) {
            self.now = self.machine.deadline().unwrap();
            self.machine.handle_timeout(self.now);
        }
    }

    #[test]
    fn a_drop_of_a_healthy_connection_is_probed_at_once() {
        let (mut bench, socket) = Bench::connected(Source::Token);
        bench.close(socket);
        bench.probe(Probe::Reachable);
        bench.open();
        assert!(matches!(bench.machine.state(), State::Connected(_)));
    }

    #[test]
    fn a_server_that_accepts_and_drops_is_not_asked_without_pause() {
        let (mut bench, socket) = Bench::connected(Source::Token);
        bench.close(socket);
        bench.probe(Probe::Reachable);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let socket = bench.open();
            bench.close(socket);
            assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))));
            let before = bench.now;
            bench.elapse();
            pauses.push(bench.now.since(before));
            bench.probe(Probe::Reachable);
        }
        assert!(pauses[0] >= 425 && pauses[0] <= 575, "{pauses:?}");
        assert!(pauses[7] >= 8500 && pauses[7] <= 11_500, "{pauses:?}");
    }

    #[test]
    fn stale_credentials_are_refreshed_three_times_then_blocked_then_tried_again() {
        let (mut bench, socket) = Bench::connected(Source::Function);
        bench.close(socket);
        for round in 0..=REFRESH_MAX {
            bench.probe(Probe::Stale(Error::wire("apikey_expired", "")));
            if round < REFRESH_MAX {
                let Some(Action::AskCredential(task)) = bench.machine.poll_action() else { panic!("round {round}") };
                bench.credential(task, Credential::Token("ek_2".into()));
            }
        }
        assert!(matches!(bench.machine.state(), State::Blocked { .. }));
        bench.elapse();
        bench.probe(Probe::Reachable);
        bench.open();
        assert!(matches!(bench.machine.state(), State::Connected(_)));
    }

    #[test]
    fn a_credential_function_that_fails_is_not_a_sign_out() {
        let mut bench = Bench::new(Source::Function);
        bench.machine.start(bench.now);
        for _ in 0..5 {
            let Some(Action::AskCredential(task)) = bench.machine.poll_action() else { panic!("no credential") };
            bench.credential(task, Credential::Unavailable("HTTP 500".into()));
            assert!(matches!(bench.machine.state(), State::Waiting { .. }));
            bench.elapse();
        }
        let Some(Action::AskCredential(task)) = bench.machine.poll_action() else { panic!("no credential") };
        bench.credential(task, Credential::SignedOut);
        assert_eq!(bench.machine.state(), &State::SignedOut);
    }

    #[test]
    fn late_answers_are_ignored() {
        let (mut bench, socket) = Bench::connected(Source::Token);
        bench.close(socket);
        let Some(Action::Probe(old)) = bench.machine.poll_action() else { panic!("no probe") };
        bench.machine.handle_network(bench.now, false);
        bench.machine.handle_probe(bench.now, old, Probe::Reachable, &mut bench.rng);
        assert_eq!(bench.machine.state(), &State::Offline);
        assert!(!bench.machine.handle_closed(bench.now, socket, &mut bench.rng));
        bench.machine.handle_network(bench.now, true);
        bench.probe(Probe::Reachable);
        bench.open();
    }

    #[test]
    fn probes_are_read_as_the_protocol_says() {
        let answer = |status, failure: Option<&str>| {
            Probe::classify(&Ok(Response { status, auth_failure: failure.map(Into::into), ..Response::default() }))
        };
        assert_eq!(Probe::classify(&Err("timeout".into())), Probe::Unreachable);
        assert_eq!(answer(204, None), Probe::Reachable);
        assert_eq!(answer(404, None), Probe::Reachable);
        assert!(matches!(answer(401, None), Probe::Stale(_)));
        assert!(matches!(answer(401, Some("apikey_expired")), Probe::Stale(_)));
        assert!(matches!(answer(401, Some("session_expired")), Probe::SessionExpired(_)));
        assert!(matches!(answer(401, Some("apikey_revoked")), Probe::Blocked(_)));
        assert!(matches!(answer(401, Some("a_code_from_the_future")), Probe::Blocked(_)));
        assert_eq!(answer(429, Some("rate_limit_exceeded")), Probe::Reachable);
    }
}
