//! `--faults`: a server that misbehaves on request, so that tests can see what clients make of it.
//!
//! Without the option none of it can be reached, and connections are not wrapped. Reading the switches is `read`, cutting
//! connections is `cut`. `POST /faults` takes an object with any of these, checked as a whole before any is set:
//!
//! - `rules`: replaces all rules; the first that fits and is not used up decides. What the old ones hold back gets its
//!   real answer. A rule: `path` (a prefix), `method` (else all but preflights), `times`, `delayMs`, and one of `status`
//!   with `headers` and `body`, `stall`, `drop`, or none for the real answer. `/faults` itself is never affected. A
//!   browser repeats by itself what is dropped on a connection that it used before, so `times: 1` may go unseen.
//! - `close`: `{ code, reason, token }`, of all sockets when there is no token.
//! - `halfOpen`: the sockets that are open fall silent, and are let go by `reset`. They no longer count as open.
//! - `expire`, `revoke`, `endLogin`: a token, refused from now on, its sockets closed; `restore` undoes it.
//! - `clockAheadMs`: for everything that dates or ends keys, and nothing else.
//! - `maxConnections`: a number, or `null` for that of `--max-connections`.
//! - `reset`: undoes all of this first, and forgets the counts.
//!
//! It answers as `GET /faults` does: how often each method and path under `/api` was asked for since the start or the
//! last reset, whatever came of it, and how many sockets are open.

mod cut;
mod read;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::ObjectWriter;
use tokio::sync::watch;

use crate::driver::Driver;
use crate::engine::KeyEnd;
use crate::reply;

pub(crate) use cut::{Cut, Cuttable};

/// Most addresses that are counted each for itself.
const COUNTED_MAX: usize = 10_000;

/// What a rule does to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The answer that it would have got anyway.
    Real,
    /// This answer.
    Answer { status: StatusCode, headers: HeaderMap, body: String },
    /// No answer.
    Stall,
    /// The end of the TCP connection.
    Drop,
}

/// One entry of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// What the request's path begins with.
    path: String,
    /// `None`: every method but `OPTIONS`. A preflight is nothing that the page under test has asked for.
    method: Option<Method>,
    /// How many more requests it takes.
    left: u64,
    delay: Duration,
    outcome: Outcome,
}

impl Rule {
    fn fits(&self, method: &Method, path: &str) -> bool {
        let method_fits = self.method.as_ref().map_or(*method != Method::OPTIONS, |asked| asked == method);
        self.left > 0 && method_fits && path.starts_with(&self.path)
    }
}

/// `close`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Close {
    code: u16,
    reason: String,
    token: Option<String>,
}

/// What one `POST /faults` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Switches {
    reset: bool,
    /// The value and the member that named it; every token in the body is here, so that all are checked first.
    tokens: Vec<(&'static str, String)>,
    restore: Option<String>,
    clock_ahead_ms: Option<u64>,
    rules: Option<Vec<Rule>>,
    /// `Some(None)`: what the server was started with.
    max_connections: Option<Option<usize>>,
    ends: Vec<(KeyEnd, String)>,
    close: Option<Close>,
    half_open: bool,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// By method and path.
    requests: BTreeMap<String, u64>,
}

/// The switches of a running server.
pub(crate) struct Faults {
    driver: Arc<Driver>,
    /// `--max-connections`
    max_connections: usize,
    state: Mutex<State>,
    /// Sent to whenever the rules are replaced: what they hold back goes on then.
    replaced: watch::Sender<()>,
}

impl Faults {
    /// Switches of this driver's server, none of them set.
    pub(crate) fn new(driver: Arc<Driver>, max_connections: usize) -> Self {
        Self { driver, max_connections, state: Mutex::default(), replaced: watch::Sender::new(()) }
    }

    /// Counts a request, and does to it what the rules say. `None`: it is to be answered as usual.
    pub(crate) async fn intercept(&self, method: &Method, path: &str, cut: Option<Cut>) -> Option<Response<Body>> {
        let (rule, mut replaced) = {
            let mut state = self.lock();
            state.count(method, path);
            let rule = state.rules.iter_mut().find(|rule| rule.fits(method, path))?;
            rule.left -= 1;
            // Under the lock, so that no replacement is missed.
            (rule.clone(), self.replaced.subscribe())
        };
        tracing::debug!(%method, path, "a rule of --faults takes this request");
        let held = async {
            tokio::time::sleep(rule.delay).await;
            if rule.outcome == Outcome::Stall {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            // A rule that is gone has no say any more.
            _ = replaced.changed() => return None,
            () = held => {}
        }
        match rule.outcome {
            Outcome::Real | Outcome::Stall => None,
            Outcome::Drop => {
                cut?.cut();
                // Sending it is what finds the connection cut.
                Some(reply::empty(StatusCode::SERVICE_UNAVAILABLE))
            }
            Outcome::Answer { status, headers, body } => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Some(response)
            }
        }
    }

    /// What `GET /faults` tells.
    pub(crate) fn report(&self) -> String {
        let sockets = self.driver.sockets();
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.object("requests", |requests| {
            for (name, count) in &self.lock().requests {
                requests.u64(name, *count);
            }
        });
        object.u64("sockets", sockets as u64);
        object.end();
        out
    }

    /// Does what a `POST /faults` asks for: all of it, or nothing when something in it is wrong.
    ///
    /// # Errors
    /// `invalid_json` or `invalid_body`, with the member that is wrong.
    pub(crate) fn set(&self, body: &str) -> Result<(), Error> {
        let switches = Switches::parse(body)?;
        for (member, token) in &switches.tokens {
            let mut known = false;
            self.driver.fact(|engine, _| known = engine.knows_key(token));
            if !known {
                // Without the token: it may be one of another server.
                let why = format!("{member} is no key of this server; give one of --keys or one that it minted");
                return Err(Error::wire("invalid_body", why).param(*member));
            }
        }
        self.apply(switches);
        Ok(())
    }

    /// Rules come before whatever makes clients come back, and keys end before sockets are closed.
    fn apply(&self, switches: Switches) {
        if switches.reset {
            self.reset();
        }
        if let Some(token) = switches.restore {
            self.driver.fact(|engine, _| engine.restore_key(&token));
        }
        if let Some(rules) = switches.rules {
            self.replace_rules(rules);
        }
        if let Some(max) = switches.max_connections {
            self.driver.set_max_connections(max.unwrap_or(self.max_connections));
        }
        if let Some(ms) = switches.clock_ahead_ms {
            self.driver.set_key_clock_ahead(ms);
        }
        for (end, token) in switches.ends {
            self.driver.fact(|engine, _| engine.end_key(&token, end));
        }
        if let Some(Close { code, reason, token }) = switches.close {
            self.driver.close(token.as_deref(), code, reason);
        }
        if switches.half_open {
            self.driver.silence_all();
        }
    }

    /// Undoes everything: rules, counts, ended keys, the clock, the limit, silent sockets.
    pub(crate) fn reset(&self) {
        self.replace_rules(Vec::new());
        self.lock().requests.clear();
        self.driver.fact(|engine, _| engine.restore_keys());
        self.driver.set_key_clock_ahead(0);
        self.driver.set_max_connections(self.max_connections);
        self.driver.drop_silent();
    }

    fn replace_rules(&self, rules: Vec<Rule>) {
        let mut state = self.lock();
        state.rules = rules;
        self.replaced.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under it panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, method: &Method, path: &str) {
        if path != "/api" && !path.starts_with("/api/") {
            return;
        }
        let name = format!("{method} {path}");
        if self.requests.len() < COUNTED_MAX || self.requests.contains_key(&name) {
            *self.requests.entry(name).or_default() += 1;
        }
    }
}

/// Headers that say how an answer is framed, or that every answer carries: a rule may not set them.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["content-length", "transfer-encoding", "connection", "upgrade", "x-request-id"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Config, Engine};

    fn faults() -> Faults {
        let (driver, _) = Driver::new(Engine::new(Config::default(), Engine::seed_from(1)), 10);
        Faults::new(driver, 10)
    }

    async fn status(faults: &Faults, method: Method, path: &str) -> u16 {
        faults.intercept(&method, path, None).await.map_or(0, |response| response.status().as_u16())
    }

    #[tokio::test]
    async fn the_first_rule_that_fits_and_is_not_used_up_decides() {
        let faults = faults();
        faults
            .set(
                r#"{"rules":[{"path":"/api/auth","method":"HEAD","times":2,"status":500},
                {"path":"/api/auth/check","status":599},{"path":"/api/sync"},{"path":"/api","status":200}]}"#,
            )
            .unwrap();
        for expected in [500, 500, 599, 599] {
            assert_eq!(status(&faults, Method::HEAD, "/api/auth/check").await, expected);
        }
        assert_eq!(status(&faults, Method::GET, "/api/auth/check").await, 599);
        assert_eq!(status(&faults, Method::GET, "/api/sync/ws").await, 0);
        assert_eq!(status(&faults, Method::GET, "/api/health").await, 200);
        assert_eq!(status(&faults, Method::OPTIONS, "/api/health").await, 0);
        assert_eq!(status(&faults, Method::GET, "/index.html").await, 0);
        let report = r#"{"requests":{"GET /api/auth/check":1,"GET /api/health":1,"GET /api/sync/ws":1,"HEAD /api/auth/check":4,"OPTIONS /api/health":1},"sockets":0}"#;
        assert_eq!(faults.report(), report);
        faults.reset();
        assert_eq!(faults.report(), r#"{"requests":{},"sockets":0}"#);
        assert_eq!(status(&faults, Method::HEAD, "/api/auth/check").await, 0);
    }

    #[tokio::test]
    async fn what_a_rule_holds_back_goes_on_without_it() {
        let faults = faults();
        for hold in [r#""stall":true"#, r#""delayMs":600000,"status":500"#] {
            faults.set(&format!(r#"{{"rules":[{{"path":"/api",{hold}}}]}}"#)).unwrap();
            let mut held = std::pin::pin!(faults.intercept(&Method::GET, "/api/x", None));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(held.as_mut().poll(&mut context).is_pending());
            faults.set(r#"{"rules":[{"path":"/api","status":201}]}"#).unwrap();
            assert!(held.await.is_none());
            assert_eq!(status(&faults, Method::GET, "/api/x").await, 201);
        }
    }
}
