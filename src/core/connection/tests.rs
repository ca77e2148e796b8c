//! The machine of the connection, step by step.

use super::*;
use crate::core::input::Response;

struct Bench {
    machine: Connection,
    rng: Rng,
    now: Instant,
}

fn token(text: &str) -> Credential {
    Credential::Token { token: text.into(), expires_at: None }
}

fn unreachable() -> Probe {
    Probe::classify(&Err("timeout".into()))
}

fn stale() -> Probe {
    Probe::Stale(Error::wire("apikey_expired", ""))
}

impl Bench {
    fn new(source: Source) -> Self {
        Self { machine: Connection::new(source, false), rng: Rng::new(1), now: Instant(0) }
    }

    /// Connected for long enough to be stable.
    fn connected(source: Source) -> (Self, TaskId) {
        let mut bench = Self::new(source);
        bench.machine.start(bench.now);
        if source == Source::Function {
            bench.mint(token("ek_1"));
        }
        let Some(Action::FetchIdentity(task) | Action::Exchange(task)) = bench.machine.poll_action() else {
            panic!("no identity")
        };
        bench.machine.handle_identity(bench.now, task, Ok(None), &mut bench.rng);
        let socket = bench.open();
        bench.settle();
        (bench, socket)
    }

    fn asked(&mut self) -> TaskId {
        let Some(Action::AskCredential(task)) = self.machine.poll_action() else { panic!("no credential") };
        task
    }

    fn mint(&mut self, credential: Credential) {
        let task = self.asked();
        self.credential(task, credential);
    }

    fn credential(&mut self, task: TaskId, credential: Credential) {
        self.machine.handle_credential(self.now, task, &credential, None, &mut self.rng);
    }

    fn open(&mut self) -> TaskId {
        let Some(Action::Open(socket)) = self.machine.poll_action() else { panic!("no socket") };
        self.machine.handle_opened(self.now, socket);
        socket
    }

    /// The stream is followed for a while.
    fn settle(&mut self) {
        self.machine.handle_healthy();
        self.now = self.now.after(STABLE_MS);
    }

    fn close(&mut self, socket: TaskId) {
        assert!(self.machine.handle_closed(self.now, socket, 1006, &mut self.rng));
    }

    fn probe(&mut self, probe: Probe) {
        let Some(Action::Probe(task)) = self.machine.poll_action() else { panic!("no probe") };
        self.machine.handle_probe(self.now, task, probe, &mut self.rng);
    }

    fn elapse(&mut self) -> u64 {
        let before = self.now;
        self.now = self.machine.deadline().unwrap();
        self.machine.handle_timeout(self.now, &mut self.rng);
        self.now.since(before)
    }

    fn nothing_to_do(&mut self) {
        assert_eq!(self.machine.poll_action(), None);
    }
}

#[test]
fn a_drop_of_a_stable_connection_is_probed_at_once() {
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
    // Once may be chance.
    let socket = bench.open();
    bench.machine.handle_healthy();
    bench.close(socket);
    bench.probe(Probe::Reachable);
    for _ in 0..8 {
        let socket = bench.open();
        bench.machine.handle_healthy();
        bench.close(socket);
        assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))));
        pauses.push(bench.elapse());
        bench.probe(Probe::Reachable);
    }
    assert!(pauses[0] >= 850 && pauses[0] <= 1_150, "{pauses:?}");
    assert!(pauses[7] >= 8500 && pauses[7] <= 11_500, "{pauses:?}");
}

#[test]
fn stale_credentials_are_refreshed_three_times_then_blocked_then_tried_again() {
    let (mut bench, socket) = Bench::connected(Source::Function);
    bench.close(socket);
    for round in 0..=REFRESH_MAX {
        bench.probe(stale());
        if round < REFRESH_MAX {
            bench.mint(token("ek_2"));
        }
    }
    assert!(matches!(bench.machine.state(), State::Blocked { .. }));
    bench.nothing_to_do();
    bench.elapse();
    bench.mint(token("ek_3"));
    bench.probe(Probe::Reachable);
    bench.open();
    assert!(matches!(bench.machine.state(), State::Connected(_)));
}

#[test]
fn a_credential_function_that_fails_is_not_a_sign_out() {
    let mut bench = Bench::new(Source::Function);
    bench.machine.start(bench.now);
    for _ in 0..5 {
        bench.mint(Credential::Unavailable("HTTP 500".into()));
        assert!(matches!(bench.machine.state(), State::Waiting { .. }));
        bench.elapse();
    }
    bench.mint(Credential::SignedOut);
    assert_eq!(bench.machine.state(), &State::SignedOut);
}

#[test]
fn failed_refreshes_do_not_use_up_the_attempts() {
    let (mut bench, socket) = Bench::connected(Source::Function);
    bench.close(socket);
    bench.probe(stale());
    for _ in 0..20 {
        bench.mint(Credential::Unavailable("HTTP 500".into()));
        assert!(matches!(bench.machine.state(), State::Waiting { .. }));
        bench.elapse();
    }
    bench.mint(token("ek_2"));
    bench.probe(Probe::Reachable);
    bench.open();
}

#[test]
fn a_credential_is_renewed_ahead_of_its_end_while_the_connection_stays() {
    let (mut bench, socket) = Bench::connected(Source::Function);
    bench.now = Instant(0);
    assert_eq!(bench.elapse(), RENEW_MS);
    let task = bench.asked();
    // Whoever else needs one waits for the same.
    bench.close(socket);
    bench.probe(stale());
    bench.nothing_to_do();
    assert_eq!(bench.machine.state(), &State::Credential(task));
    bench.machine.handle_credential(bench.now, task, &token("ek_2"), Some(900_000), &mut bench.rng);
    bench.probe(Probe::Reachable);
    bench.open();
    assert_eq!(bench.elapse(), 600_000);
    bench.mint(Credential::Unavailable("HTTP 500".into()));
    assert_eq!(bench.elapse(), RENEW_MIN_MS);
    let task = bench.asked();
    // One that never answers is given up, and its late answer is ignored.
    assert_eq!(bench.elapse(), ANSWER_MS);
    bench.credential(task, Credential::SignedOut);
    assert_eq!(bench.elapse(), RENEW_MIN_MS);
    bench.mint(Credential::SignedOut);
    assert_eq!(bench.machine.state(), &State::SignedOut);
}

#[test]
fn ends_of_credentials_that_nobody_can_believe_cause_no_loop() {
    let (mut bench, _) = Bench::connected(Source::Function);
    for life in [0, 1, 1_000] {
        bench.elapse();
        let task = bench.asked();
        bench.machine.handle_credential(bench.now, task, &token("ek_2"), Some(life), &mut bench.rng);
        let next = bench.machine.deadline().unwrap();
        assert!(next.since(bench.now) >= RENEW_MIN_MS);
    }
}

#[test]
fn late_answers_are_ignored() {
    let (mut bench, socket) = Bench::connected(Source::Token);
    bench.close(socket);
    let Some(Action::Probe(old)) = bench.machine.poll_action() else { panic!("no probe") };
    bench.machine.handle_network(bench.now, false);
    bench.machine.handle_probe(bench.now, old, Probe::Reachable, &mut bench.rng);
    assert_eq!(bench.machine.state(), &State::Offline);
    assert!(!bench.machine.handle_closed(bench.now, socket, 1006, &mut bench.rng));
    bench.machine.handle_network(bench.now, true);
    assert_eq!(bench.elapse(), ONLINE_MS);
    bench.probe(Probe::Reachable);
    bench.open();
}

#[test]
fn a_network_that_flaps_and_a_bunch_of_events_cause_one_probe() {
    let (mut bench, _) = Bench::connected(Source::Token);
    for _ in 0..10 {
        bench.machine.handle_network(bench.now, false);
        bench.machine.handle_network(bench.now, true);
        bench.now = bench.now.after(90);
    }
    assert!(matches!(bench.machine.poll_action(), Some(Action::Close(_))));
    bench.nothing_to_do();
    for _ in 0..10 {
        bench.machine.handle_wake(bench.now);
        bench.machine.handle_network(bench.now, true);
        bench.now = bench.now.after(90);
    }
    bench.probe(unreachable());
    bench.nothing_to_do();
    bench.machine.handle_wake(bench.now.after(EVENT_PAUSE_MS));
    assert!(matches!(bench.machine.poll_action(), Some(Action::Probe(_))));
}

#[test]
fn whatever_never_answers_is_given_up() {
    let (mut bench, socket) = Bench::connected(Source::Token);
    bench.close(socket);
    bench.machine.poll_action().unwrap();
    assert_eq!(bench.elapse(), ANSWER_MS);
    bench.elapse();
    bench.probe(Probe::Reachable);
    let Some(Action::Open(socket)) = bench.machine.poll_action() else { panic!("no socket") };
    assert_eq!(bench.elapse(), ANSWER_MS);
    assert_eq!(bench.machine.poll_action(), Some(Action::Close(socket)));
    bench.machine.handle_opened(bench.now, socket);
    assert_eq!(bench.machine.poll_action(), Some(Action::Close(socket)), "nobody wants it any more");
}

#[test]
fn a_server_says_how_long_it_wants_to_be_left_alone_but_not_for_ever() {
    let (mut bench, socket) = Bench::connected(Source::Token);
    bench.close(socket);
    for (asked, pause) in [(7_000, 7_000), (u64::MAX, RETRY_AFTER_MAX_MS)] {
        let busy = Response { status: 503, retry_after_ms: Some(asked), ..Response::default() };
        bench.probe(Probe::classify(&Ok(busy)));
        assert_eq!(bench.elapse(), pause);
    }
}

#[test]
fn close_codes() {
    for (code, state) in [(1002, "protocol_violation"), (1013, "ws_not_ready"), (4001, ""), (1008, ""), (4010, "")] {
        let (mut bench, socket) = Bench::connected(Source::Token);
        bench.machine.handle_closed(bench.now, socket, code, &mut bench.rng);
        let reason = bench.machine.reason().map_or("", |error| error.code.as_ref());
        assert_eq!(reason, state, "{code}");
        assert_eq!(matches!(bench.machine.state(), State::Probing(_)), state.is_empty(), "{code}");
        assert_ne!(bench.machine.state(), &State::SignedOut, "{code}");
    }
}

#[test]
fn what_a_probe_says_of_the_old_credential_is_not_held_against_the_new_one() {
    let (mut bench, socket) = Bench::connected(Source::Function);
    bench.elapse();
    let mint = bench.asked();
    bench.close(socket);
    let Some(Action::Probe(old)) = bench.machine.poll_action() else { panic!("no probe") };
    bench.machine.handle_credential(bench.now, mint, &token("ek_2"), Some(900_000), &mut bench.rng);
    bench.machine.handle_probe(bench.now, old, stale(), &mut bench.rng);
    bench.probe(Probe::Reachable);
    bench.open();
    bench.nothing_to_do();
}

#[test]
fn a_function_that_is_given_later_renews_the_token_there_was() {
    let (mut bench, _) = Bench::connected(Source::Token);
    assert_eq!(bench.machine.deadline(), None);
    bench.machine.set_source(bench.now, Source::Function);
    assert_eq!(bench.elapse(), RENEW_MS);
    bench.asked();
    assert!(matches!(bench.machine.state(), State::Connected(_)), "ahead of its end");
}
