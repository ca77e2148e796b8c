//! The connection machine: from a credential to an open socket, and back after any trouble.
//!
//! It decides when to ask for a credential, who we are, whether the server can be reached, and when to open a socket.
//! What travels on the open socket is not its business, nor is the bootstrap; see `engine`.
//!
//! Every request carries a task id; an answer whose id is no longer the current one is ignored, so late results never
//! reach a newer state. From every state but `SignedOut` and `Stopped` the machine gets back by itself: whatever it waits
//! for has a deadline. docs/connection.md has what every event does in every state.
//!
//! One credential is obtained at a time, whoever asks: the state that cannot go on without one, or the renewal ahead of its
//! end, during which everything else goes on.

use super::backoff::backoff;
use super::bug::{self, Bug};
use super::error::{Error, Recovery};
use super::id::TaskId;
use super::input::Credential;
use super::probe::Probe;
use super::rng::Rng;
use super::time::Instant;
use crate::core::text::concat;

/// A refused credential is looked at again after so long.
pub const BLOCKED_RETRY_MS: u64 = 60_000;
/// Stale credentials in a row, each freshly obtained, after which the machine gives up (connection.md 1.9).
pub const REFRESH_MAX: u32 = 3;
/// Whatever is asked for is given up after so long; requests have shorter limits of their own.
pub const ANSWER_MS: u64 = 30_000;
/// The network that is said to be back has this long to prove it: drivers say so several times (connection.md 1.3).
pub const ONLINE_MS: u64 = 500;
/// Events of the page cause no more than one attempt in this time.
pub const EVENT_PAUSE_MS: u64 = 1_000;
/// A connection that has followed the stream for so long is stable: its end is answered without a pause.
pub const STABLE_MS: u64 = 5_000;
/// A credential whose end is not known is renewed after so long (connection.md 3.5).
pub const RENEW_MS: u64 = 600_000;
/// No credential is renewed sooner, whatever is said of its end; nor is a renewal that failed tried again sooner.
pub const RENEW_MIN_MS: u64 = 30_000;
/// The longest pause that a server can ask for.
pub const RETRY_AFTER_MAX_MS: u64 = 300_000;

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
    /// The credential is known to be no good: another is needed before anything else.
    stale: bool,
    /// A credential is being obtained, since then.
    minting: Option<(TaskId, Instant)>,
    /// When the credential is renewed, while a connection is open.
    renew_at: Option<Instant>,
    /// An event of the page caused an attempt then.
    woken_at: Option<Instant>,
    /// The open connection has followed the stream.
    healthy: bool,
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
            stale: false,
            minting: None,
            renew_at: None,
            woken_at: None,
            healthy: false,
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
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut Rng) {
        if let Some((_, since)) = self.minting
            && since.after(ANSWER_MS) <= now
            && !bug::on(Bug::CredentialNeverGivenUp)
        {
            self.minting = None;
            self.renew_at = Some(now.after(RENEW_MIN_MS));
        }
        match self.state {
            State::Waiting { until } if until <= now => self.retry(now),
            State::Blocked { until } if until <= now => {
                // The one that was refused stays refused; whoever supplies them may have another by now.
                self.stale = matches!(self.source, Source::Function | Source::Exchange);
                self.retry(now);
            }
            State::Credential(_) | State::Identity(_) | State::Probing(_) | State::Opening(_)
                if self.since.after(ANSWER_MS) <= now =>
            {
                self.wait(now, rng, Error::local("commit_no_result", "no answer came"));
            }
            State::Connected(_) if self.minting.is_none() && self.renew_at.is_some_and(|at| at <= now) => {
                self.mint(now);
            }
            State::Idle
            | State::Credential(_)
            | State::Identity(_)
            | State::Probing(_)
            | State::Opening(_)
            | State::Connected(_)
            | State::Waiting { .. }
            | State::Offline
            | State::Blocked { .. }
            | State::SignedOut
            | State::Stopped => {}
        }
    }

    /// The credential function answered, maybe with how long the token will be good, in milliseconds.
    pub fn handle_credential(
        &mut self,
        now: Instant,
        task: TaskId,
        credential: &Credential,
        life: Option<u64>,
        rng: &mut Rng,
    ) {
        if !self.take_minted(task) {
            return;
        }
        let waited_for = self.state == State::Credential(task);
        match credential {
            Credential::Token { .. } => {
                self.handle_token(now, life);
                match self.state {
                    State::Credential(_) if self.has_identity => self.probe(now),
                    State::Credential(_) => self.proceed(now),
                    State::Waiting { .. } | State::Blocked { .. } => self.retry(now),
                    // What is said of the old one must not be taken for news of this one.
                    State::Probing(_) => self.probe(now),
                    State::Idle
                    | State::Identity(_)
                    | State::Opening(_)
                    | State::Connected(_)
                    | State::Offline
                    | State::SignedOut
                    | State::Stopped => {}
                }
            }
            Credential::SignedOut if self.has_identity => {
                self.sign_out(now, Error::local("session_expired", "the credential function says signed out"));
            }
            Credential::SignedOut => {
                self.sign_out(now, Error::local("auth_no_credentials", "the credential function returned null"));
            }
            Credential::Unavailable(_) if bug::on(Bug::FailuresCount) && self.refreshes >= REFRESH_MAX => {
                self.sign_out(now, Error::local("session_expired", ""));
            }
            Credential::Unavailable(why) if waited_for => {
                self.refreshes += u32::from(bug::on(Bug::FailuresCount));
                self.wait(now, rng, Error::local("identity_network_error", concat(&["no credential: ", why])));
            }
            Credential::Unavailable(_) => self.renew_at = Some(now.after(RENEW_MIN_MS)),
        }
    }

    /// The identity or exchange request ended. On success the caller has taken what it says, and knows how long an
    /// exchanged token will be good.
    pub fn handle_identity(&mut self, now: Instant, task: TaskId, result: Result<Option<u64>, Error>, rng: &mut Rng) {
        let minted = self.source == Source::Exchange && self.take_minted(task);
        if minted && let Ok(life) = result {
            self.handle_token(now, life);
        }
        if self.state != State::Identity(task) {
            match result {
                Err(error) if minted && error.recovery() == Recovery::SessionExpiry => self.sign_out(now, error),
                Err(_) if minted => self.renew_at = Some(now.after(RENEW_MIN_MS)),
                Ok(_) | Err(_) => {}
            }
            return;
        }
        let Err(error) = result else {
            self.has_identity = true;
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
            Probe::Unreachable(error) => self.wait(now, rng, error),
            Probe::Stale(error) => self.refresh(now, error),
            Probe::SessionExpired(error) => self.sign_out(now, error),
            Probe::Blocked(error) if bug::on(Bug::RefusalSignsOut) => self.sign_out(now, error),
            Probe::Blocked(error) => self.block(now, error),
        }
    }

    /// A socket opened.
    pub fn handle_opened(&mut self, now: Instant, socket: TaskId) {
        if self.state == State::Opening(socket) {
            self.reason = None;
            self.healthy = false;
            self.enter(now, State::Connected(socket));
        } else {
            // It belongs to an attempt that was given up.
            self.actions.push(Action::Close(socket));
        }
    }

    /// A socket closed or could not be opened. Says whether it was the current one.
    pub fn handle_closed(&mut self, now: Instant, socket: TaskId, code: u16, rng: &mut Rng) -> bool {
        let (State::Connected(current) | State::Opening(current)) = self.state else { return false };
        if current != socket {
            return false;
        }
        match code {
            1008 | 4001 if bug::on(Bug::CloseCodeSignsOut) => self.sign_out(now, Error::local("session_expired", "")),
            // RFC 6455, 7.4.1: the other side cannot make sense of what is said.
            1002 | 1003 | 1010 => {
                self.block(now, Error::local("protocol_violation", "the server does not speak this protocol"));
            }
            // Whether the credential is still good, the probe says; the code alone ends no login.
            _ if code != 1013 && self.ends_well(now) => self.probe(now),
            _ if matches!(self.state, State::Opening(_)) => {
                self.wait(now, rng, Error::local("ws_not_ready", "the connection was refused"));
            }
            _ => self.wait(now, rng, Error::local("ws_not_ready", "the connection was closed")),
        }
        true
    }

    /// The connection turned out to be dead: recovery starts without waiting for its close event.
    pub fn handle_dead(&mut self, now: Instant) {
        if matches!(self.state, State::Connected(_)) {
            self.close_socket();
            self.ends_well(now);
            self.probe(now);
        }
    }

    /// The open connection follows the stream: after a while of that it counts as stable.
    pub fn handle_healthy(&mut self) {
        if matches!(self.state, State::Connected(_)) {
            self.healthy = true;
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
            State::Offline if online => self.enter(now, State::Waiting { until: now.after(ONLINE_MS) }),
            State::Waiting { .. } | State::Blocked { .. } if online => self.handle_wake(now),
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

    /// A good moment to try again: a visible page, a woken machine. They come in bunches.
    pub fn handle_wake(&mut self, now: Instant) {
        let due = self.woken_at.is_none_or(|at| at.after(EVENT_PAUSE_MS) <= now) || bug::on(Bug::EveryEventProbes);
        if due && self.handle_retry(now) {
            self.woken_at = Some(now);
        }
    }

    /// The application's wish to try again now. Says whether there was something to try.
    pub fn handle_retry(&mut self, now: Instant) -> bool {
        let waits = matches!(self.state, State::Waiting { .. } | State::Blocked { .. });
        if waits {
            self.retry(now);
        }
        waits
    }

    /// A token came from outside.
    pub fn set_token(&mut self, now: Instant) {
        self.has_token = true;
        self.stale = false;
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

    /// Credentials come from elsewhere from now on. A function is asked ahead of the end of the token there is, which nobody
    /// has told.
    pub fn set_source(&mut self, now: Instant, source: Source) {
        self.source = source;
        let renew_at = (source == Source::Function).then(|| now.after(RENEW_MS));
        self.renew_at = self.renew_at.or(renew_at);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() { None } else { Some(self.actions.remove(0)) }
    }

    /// When to call [`Connection::handle_timeout`].
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Waiting { until } | State::Blocked { until } => Some(until),
            State::Credential(_) | State::Identity(_) | State::Probing(_) | State::Opening(_) => {
                Some(self.since.after(ANSWER_MS))
            }
            State::Connected(_) if self.minting.is_none() => self.renew_at,
            State::Idle | State::Connected(_) | State::Offline => None,
            State::SignedOut | State::Stopped => return None,
        };
        let minted = self.minting.map(|(_, since)| since.after(ANSWER_MS));
        match (own, minted) {
            (Some(own), Some(minted)) => Some(own.min(minted)),
            (own, minted) => own.or(minted),
        }
    }

    /// When it tries again by itself.
    pub fn next_attempt(&self) -> Option<Instant> {
        if let State::Waiting { until } | State::Blocked { until } = self.state { Some(until) } else { None }
    }

    /// The credential that is being obtained.
    pub fn minting(&self) -> Option<TaskId> {
        self.minting.map(|(task, _)| task)
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
        } else if self.source == Source::Exchange && (self.stale || !self.has_identity) {
            let task = self.mint(now);
            self.enter(now, State::Identity(task));
        } else if self.source == Source::Function && (self.stale || !self.has_token) {
            let task = self.mint(now);
            self.enter(now, State::Credential(task));
        } else if !self.has_identity {
            let task = self.task();
            self.actions.push(Action::FetchIdentity(task));
            self.enter(now, State::Identity(task));
        } else {
            self.open(now);
        }
    }

    /// Asks for a credential, unless that is under way.
    fn mint(&mut self, now: Instant) -> TaskId {
        if let Some((task, _)) = self.minting
            && !bug::on(Bug::TwoMints)
        {
            return task;
        }
        let task = self.task();
        let exchange = self.source == Source::Exchange;
        self.actions.push(if exchange { Action::Exchange(task) } else { Action::AskCredential(task) });
        self.minting = Some((task, now));
        task
    }

    fn take_minted(&mut self, task: TaskId) -> bool {
        let ours = self.minting() == Some(task) || bug::on(Bug::LateAnswersCount);
        if ours {
            self.minting = None;
        }
        ours
    }

    /// A token was obtained: it is renewed when two thirds of its life are over.
    fn handle_token(&mut self, now: Instant, life: Option<u64>) {
        self.has_token = true;
        self.refreshes += u32::from(std::mem::take(&mut self.stale));
        let life = life.map_or(RENEW_MS, |life| (life / 3 * 2).max(RENEW_MIN_MS));
        self.renew_at = Some(now.after(life));
    }

    fn retry(&mut self, now: Instant) {
        if self.has_identity && self.has_token && !self.stale { self.probe(now) } else { self.proceed(now) }
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

    /// Whether the end of the connection is answered without a pause: it was stable, and failures before it count no more;
    /// or it was good and is the first to end so soon.
    fn ends_well(&mut self, now: Instant) -> bool {
        if !matches!(self.state, State::Connected(_)) || !self.healthy {
            return false;
        }
        let stable = now.since(self.since) >= STABLE_MS;
        let first = self.attempt <= 1;
        if stable || first {
            self.attempt = if stable { 0 } else { 2 };
        }
        stable || first
    }

    /// Obtains another credential, unless that has not helped several times in a row.
    fn refresh(&mut self, now: Instant, error: Error) {
        if self.refreshes >= REFRESH_MAX {
            self.refreshes = 0;
            self.block(now, error);
            return;
        }
        match self.source {
            Source::Function | Source::Exchange => {
                self.reason = Some(error);
                self.stale = true;
                self.proceed(now);
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
        let asked = reason.retry_after_ms.map(|ms| ms.min(RETRY_AFTER_MAX_MS));
        let pause = asked.unwrap_or_else(|| backoff(self.attempt.saturating_sub(1), rng));
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
        if bug::on(Bug::SocketForgotten) && matches!(self.state, State::Opening(_)) {
            return;
        }
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

#[cfg(test)]
mod tests;
