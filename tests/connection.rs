//! Every state of the connection machine against every event: the table in docs/connection.md is drawn from the machine
//! itself, and this fails when the two differ.

use ablo_wasm::core::connection::{Connection, STABLE_MS, Source, State};
use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::TaskId;
use ablo_wasm::core::input::Credential;
use ablo_wasm::core::probe::Probe;
use ablo_wasm::core::rng::Rng;
use ablo_wasm::core::time::Instant;

const DOCUMENT: &str = include_str!("../docs/connection.md");
/// An answer to a request that was given up.
const LATE: TaskId = TaskId(u64::MAX);
/// Late enough for a connection to have become stable.
const NOW: Instant = Instant(STABLE_MS);

/// A machine whose credentials come from a function, and the task that it waits for.
struct Bench {
    machine: Connection,
    rng: Rng,
    /// The credential that answers are for, if not the one that is awaited.
    minting: Option<TaskId>,
}

type Event = fn(&mut Bench, TaskId);

const STATES: [&str; 12] = [
    "Idle",
    "Credential",
    "Identity",
    "Opening",
    "Connected",
    "Renewing",
    "Probing",
    "Waiting",
    "Offline",
    "Blocked",
    "SignedOut",
    "Stopped",
];

const EVENTS: [(&str, Event); 28] = [
    ("start", |bench, _| bench.machine.start(NOW)),
    ("credential: a token", |bench, _| bench.credential(&token())),
    ("credential: null", |bench, _| bench.credential(&Credential::SignedOut)),
    ("credential: failed", |bench, _| bench.credential(&Credential::Unavailable("HTTP 500".into()))),
    ("identity: known", |bench, task| bench.identity(task, Ok(None))),
    ("identity: key expired", |bench, task| bench.identity(task, Err(refused("apikey_expired")))),
    ("identity: login over", |bench, task| bench.identity(task, Err(refused("session_expired")))),
    ("identity: refused", |bench, task| bench.identity(task, Err(refused("apikey_revoked")))),
    ("identity: not now", |bench, task| bench.identity(task, Err(refused("identity_network_error")))),
    ("probe: reachable", |bench, task| bench.probe(task, Probe::Reachable)),
    ("probe: unreachable", |bench, task| bench.probe(task, Probe::Unreachable(refused("commit_no_result")))),
    ("probe: key expired", |bench, task| bench.probe(task, Probe::Stale(refused("apikey_expired")))),
    ("probe: login over", |bench, task| bench.probe(task, Probe::SessionExpired(refused("session_expired")))),
    ("probe: refused", |bench, task| bench.probe(task, Probe::Blocked(refused("apikey_revoked")))),
    ("socket opened", |bench, task| bench.machine.handle_opened(NOW, task)),
    ("socket closed", |bench, task| bench.closed(task, 1006)),
    ("socket closed: busy (1013)", |bench, task| bench.closed(task, 1013)),
    ("socket closed: other protocol (1002)", |bench, task| bench.closed(task, 1002)),
    ("socket silent", |bench, _| bench.machine.handle_dead(NOW)),
    ("caught up", |bench, _| bench.machine.handle_healthy()),
    ("a request refused the key", |bench, _| bench.machine.handle_refused(NOW)),
    ("network gone", |bench, _| bench.machine.handle_network(NOW, false)),
    ("network back", |bench, _| bench.machine.handle_network(NOW, true)),
    ("page visible, machine woken", |bench, _| bench.machine.handle_wake(NOW)),
    ("nudged", |bench, _| bench.nudged()),
    ("token set", |bench, _| bench.machine.set_token(NOW)),
    ("its deadline passed", |bench, _| bench.pass_deadline()),
    ("stop", |bench, _| bench.machine.stop(NOW)),
];

fn token() -> Credential {
    Credential::Token { token: "ek_test_2".into(), expires_at: None }
}

fn refused(code: &'static str) -> Error {
    Error::wire(code, "as told")
}

impl Bench {
    /// A machine in this state, by the shortest way there.
    fn new(state: &str) -> Self {
        let mut bench = Self { machine: Connection::new(Source::Function, false), rng: Rng::new(1), minting: None };
        let way: &[&str] = match state {
            "Idle" => &[],
            "Credential" => &["start"],
            "Identity" => &["start", "credential: a token"],
            "Opening" => &["start", "credential: a token", "identity: known"],
            "Stopped" => &["stop"],
            _ => &["start", "credential: a token", "identity: known", "socket opened", "caught up"],
        };
        let last: &[&str] = match state {
            "Renewing" => &["its deadline passed"],
            "Probing" => &["socket closed"],
            "Waiting" => &["socket closed", "probe: unreachable"],
            "Offline" => &["network gone"],
            "Blocked" => &["socket closed", "probe: refused"],
            "SignedOut" => &["socket closed", "probe: login over"],
            _ => &[],
        };
        for step in way.iter().chain(last) {
            bench.happen(step);
        }
        assert_eq!(bench.state(), state);
        bench
    }

    fn happen(&mut self, name: &str) {
        let (_, event) = EVENTS.iter().find(|(other, _)| *other == name).expect("an event");
        event(self, self.task());
    }

    fn pass_deadline(&mut self) {
        let at = self.machine.deadline().unwrap_or(NOW);
        self.machine.handle_timeout(at, &mut self.rng);
    }

    fn nudged(&mut self) {
        self.machine.handle_retry(NOW);
    }

    fn closed(&mut self, task: TaskId, code: u16) {
        self.machine.handle_closed(NOW, task, code, &mut self.rng);
    }

    fn credential(&mut self, credential: &Credential) {
        let task = self.minting.or(self.machine.minting()).unwrap_or(LATE);
        self.machine.handle_credential(NOW, task, credential, None, &mut self.rng);
    }

    fn identity(&mut self, task: TaskId, result: Result<Option<u64>, Error>) {
        self.machine.handle_identity(NOW, task, result, &mut self.rng);
    }

    fn probe(&mut self, task: TaskId, probe: Probe) {
        self.machine.handle_probe(NOW, task, probe, &mut self.rng);
    }

    /// What it waits for.
    fn task(&self) -> TaskId {
        match self.machine.state() {
            State::Credential(task)
            | State::Identity(task)
            | State::Probing(task)
            | State::Opening(task)
            | State::Connected(task) => *task,
            State::Idle
            | State::Waiting { .. }
            | State::Offline
            | State::Blocked { .. }
            | State::SignedOut
            | State::Stopped => LATE,
        }
    }

    fn state(&self) -> &'static str {
        match self.machine.state() {
            State::Idle => "Idle",
            State::Credential(_) => "Credential",
            State::Identity(_) => "Identity",
            State::Probing(_) => "Probing",
            State::Opening(_) => "Opening",
            State::Connected(_) if self.machine.minting().is_some() => "Renewing",
            State::Connected(_) => "Connected",
            State::Waiting { .. } => "Waiting",
            State::Offline => "Offline",
            State::Blocked { .. } => "Blocked",
            State::SignedOut => "SignedOut",
            State::Stopped => "Stopped",
        }
    }
}

/// Where an event leads; `None` where it changes nothing.
fn next(state: &str, event: Event) -> Option<&'static str> {
    let mut bench = Bench::new(state);
    let (task, before) = (bench.task(), bench.machine.state().clone());
    event(&mut bench, task);
    let after = bench.state();
    // The same state for another task is an answer too.
    (after != state || *bench.machine.state() != before).then_some(after)
}

fn table() -> String {
    let mut out = format!("| | {} |\n|---|{}\n", STATES.join(" | "), "---|".repeat(STATES.len()));
    for (name, event) in EVENTS {
        let cells = STATES.map(|state| next(state, event).map_or(String::new(), |after| format!("{after} ")));
        out += &format!("| {name} | {}|\n", cells.join("| "));
    }
    out
}

/// In the language of Mermaid. What leads everywhere is left out: the table has it.
fn diagram() -> String {
    let mut out = "```mermaid\nstateDiagram-v2\n    [*] --> Idle\n".to_owned();
    for from in STATES {
        for to in STATES.into_iter().filter(|to| !matches!(*to, "Offline" | "Stopped")) {
            let events: Vec<&str> =
                EVENTS.into_iter().filter(|(_, event)| next(from, *event) == Some(to)).map(|(name, _)| name).collect();
            if !events.is_empty() {
                out += &format!("    {from} --> {to}: {}\n", events.join(", ").replace(": ", " "));
            }
        }
    }
    out + "```\n"
}

#[test]
fn the_documents_show_the_machine() {
    for drawn in [table(), diagram()] {
        assert!(DOCUMENT.contains(&drawn), "docs/connection.md must have this:\n\n{drawn}");
    }
}

#[test]
fn late_answers_change_nothing() {
    for state in STATES {
        for (name, event) in EVENTS.iter().filter(|(name, _)| name.contains(':') || name.starts_with("socket c")) {
            let mut bench = Bench::new(state);
            let before = bench.machine.state().clone();
            bench.minting = Some(LATE);
            event(&mut bench, LATE);
            assert_eq!(*bench.machine.state(), before, "{name} in {state}");
        }
    }
}

/// From every state but the two last ones the machine gets back to a connection when the world does what it is asked.
#[test]
fn no_state_is_a_trap() {
    for state in STATES {
        let mut bench = Bench::new(state);
        for _ in 0..12 {
            let step = match bench.state() {
                "Idle" => "start",
                "Credential" => "credential: a token",
                "Identity" => "identity: known",
                "Opening" => "socket opened",
                "Probing" => "probe: reachable",
                "Waiting" | "Blocked" | "Renewing" => "its deadline passed",
                "Offline" => "network back",
                _ => break,
            };
            bench.happen(step);
        }
        let ends = matches!(state, "SignedOut" | "Stopped");
        assert_eq!(bench.state(), if ends { state } else { "Connected" });
    }
}
