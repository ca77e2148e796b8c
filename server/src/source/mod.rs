//! Data sources that dial in: who listens, and requests to them (protocol.md sections 15 and 16).
//!
//! A source is named by the key that its connector connects with: the key's organization and participant. Several
//! connectors may listen for one source; requests go to the one that came last. A request that is lost with its
//! connection is sent again, with the same `webhook-id`, as long as its caller waits; sources recognize repeated commits
//! by their `clientTxId`.
//!
//! `socket` is one connector's connection, `sign` the signature of what is sent to it. What the rows of a source mean is
//! nobody's business here: bodies pass through as they are.

mod sign;
mod socket;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::ObjectWriter;
use ablo_wasm::core::time::WallTime;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::driver::Driver;
use crate::engine::{KeyKind, Participant};
use crate::reply::{self, Failure};

/// The subprotocol of connectors.
const SUBPROTOCOL: &str = "ablo.source.v1";
/// The version of their frames.
const PROTOCOL_VERSION: u64 = 1;
/// How long the caller of a request waits for its answer, connections lost meanwhile included.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Requests that may be under way on one connection.
const REQUESTS_MAX: usize = 256;
/// Closing because the key that a connector uses has ended, as on the sync socket.
const CLOSE_KEY_ENDED: u16 = 4010;
/// What requests say they were posted to. It only has to be an absolute URL (15.2).
const URL: &str = "https://source.invalid/api/ablo/source";

/// The source of a participant: organization and participant.
type SourceName = (Arc<str>, Arc<str>);

/// Everybody who listens.
pub(crate) struct Sources {
    driver: Arc<Driver>,
    /// Part of every message id, so that those of different runs differ.
    run: String,
    messages: AtomicU64,
    /// A std mutex: it is never held across an await.
    inner: Mutex<Inner>,
    /// Changes with every connector that comes, and with the end.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// By number, in the order in which they came.
    connectors: BTreeMap<u64, Connector>,
    next: u64,
    closed: bool,
}

/// A connector that is ready.
struct Connector {
    source: SourceName,
    /// The key that it connected with; requests to it are signed with that.
    token: Arc<str>,
    outgoing: mpsc::Sender<ToConnector>,
    /// Who waits for the answer to which request.
    waiting: BTreeMap<String, oneshot::Sender<Answer>>,
}

/// What is to be sent to a connector.
enum ToConnector {
    Frame(String),
    Close(u16, &'static str),
}

/// What became of a request.
#[derive(Debug)]
enum Answer {
    Response {
        status: StatusCode,
        content_type: Option<HeaderValue>,
        body: String,
    },
    /// The connector, or what it sent, makes it pointless to try again.
    Failed(String),
}

/// A request on its way. Its place is free again when dropped.
struct Sent<'a> {
    sources: &'a Sources,
    connector: u64,
    id: String,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Some(connector) = self.sources.lock().connectors.get_mut(&self.connector) {
            connector.waiting.remove(&self.id);
        }
    }
}

impl Sources {
    pub(crate) fn new(driver: Arc<Driver>, run: String) -> Self {
        let changes = watch::Sender::new(0);
        Self { driver, run, messages: AtomicU64::new(1), inner: Mutex::default(), changes }
    }

    /// `GET /v1/source/listen`: a connector dials in.
    ///
    /// # Errors
    /// `apikey_…` and `api_key_required` for its key, `instance_at_capacity`, and `invalid_request` when it is no upgrade
    /// to this protocol.
    pub(crate) fn listen(
        self: &Arc<Self>,
        mut request: Request<Body>,
        token: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let participant = self.authenticate(token)?;
        // It counts as a socket as long as it lives.
        let seat = self.driver.admit()?;
        let token = token.unwrap_or_default().trim();
        Ok(socket::upgrade(&mut request, self.clone(), seat, &participant, token)?)
    }

    /// `POST /v1/source/request`: sends a body to this participant's source, and answers what the source answers.
    ///
    /// # Errors
    /// `source_network_error` when nobody listens, answers in time, or can answer; `queue_too_deep`.
    pub(crate) async fn request(&self, participant: &Participant, body: &str) -> Result<Response<Body>, Failure> {
        let source = (participant.organization.clone(), participant.id.clone());
        let message = format!("msg_{}{:x}", self.run, self.messages.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + ANSWER_WAIT;
        let mut changes = self.changes.subscribe();
        let mut is_repeat = false;
        loop {
            changes.mark_unchanged();
            if let Some(mut sent) = self.send(&source, &message, body)? {
                match timeout_at(deadline, &mut sent.answer).await {
                    Ok(Ok(answer)) => return respond(answer),
                    // The connection is gone. Another one may be there already.
                    Ok(Err(_)) => is_repeat = true,
                    Err(_) => return Err(late(&source)),
                }
            } else if !is_repeat {
                let why = format!(
                    "no connector listens for source {}: start one with the same key (createSourceConnector)",
                    source.1
                );
                return Err(unreachable(StatusCode::SERVICE_UNAVAILABLE, why));
            } else if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(late(&source));
            }
        }
    }

    /// Closes every connection, and lets nobody wait any longer.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for connector in std::mem::take(&mut inner.connectors).into_values() {
            // A full queue: dropping the sender ends the socket as well.
            let _ = connector.outgoing.try_send(ToConnector::Close(1012, "service restart"));
        }
        drop(inner);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Who holds this key, which must be one that may open a source.
    ///
    /// # Errors
    /// `apikey_…`, or `api_key_required` when it is no secret key.
    pub(crate) fn authenticate(&self, token: Option<&str>) -> Result<Arc<Participant>, Error> {
        let mut answer = Err(Error::wire("internal_error", "the engine did not answer"));
        self.driver.fact(|engine, now| answer = engine.authenticate(now, token));
        let participant = answer?;
        if participant.key == KeyKind::Secret {
            return Ok(participant);
        }
        Err(Error::wire(
            "api_key_required",
            "a data source is opened with a secret key (sk_…), not with one of another kind",
        ))
    }

    /// Puts a request on its way; `None` when nobody listens.
    fn send(&self, source: &SourceName, message: &str, body: &str) -> Result<Option<Sent<'_>>, Failure> {
        loop {
            let Some((id, token)) = self.newest(source)? else { return Ok(None) };
            if self.authenticate(Some(&token)).is_err() {
                self.remove(id, Some((CLOSE_KEY_ENDED, "key ended")));
                continue;
            }
            let now = self.driver.now().wall;
            let text = request_frame(message, now, &token, body);
            let mut inner = self.lock();
            let Some(connector) = inner.connectors.get_mut(&id) else { continue };
            let (waits, answer) = oneshot::channel();
            let is_full = connector.waiting.len() >= REQUESTS_MAX;
            if is_full
                || matches!(
                    connector.outgoing.try_send(ToConnector::Frame(text)),
                    Err(mpsc::error::TrySendError::Full(_))
                )
            {
                let why =
                    format!("{REQUESTS_MAX} requests to source {} are under way already; try again later", source.1);
                return Err(Error::wire("queue_too_deep", why).into());
            }
            connector.waiting.insert(message.to_owned(), waits);
            return Ok(Some(Sent { sources: self, connector: id, id: message.to_owned(), answer }));
        }
    }

    /// The connector of this source that came last.
    fn newest(&self, source: &SourceName) -> Result<Option<(u64, Arc<str>)>, Failure> {
        let inner = self.lock();
        if inner.closed {
            return Err(unreachable(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping; try again".to_owned()));
        }
        let found = inner.connectors.iter().rev().find(|(_, connector)| connector.source == *source);
        Ok(found.map(|(id, connector)| (*id, connector.token.clone())))
    }

    /// A connector is ready. `None` when the server is stopping.
    fn add(&self, source: SourceName, token: Arc<str>) -> Option<(u64, mpsc::Receiver<ToConnector>)> {
        let (outgoing, receiver) = mpsc::channel(REQUESTS_MAX);
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        let id = inner.next;
        inner.next += 1;
        inner.connectors.insert(id, Connector { source, token, outgoing, waiting: BTreeMap::new() });
        drop(inner);
        self.changes.send_modify(|count| *count += 1);
        Some((id, receiver))
    }

    /// A connector is gone, or is to go. Those who wait for it learn that their requests are lost.
    fn remove(&self, id: u64, close: Option<(u16, &'static str)>) {
        let Some(connector) = self.lock().connectors.remove(&id) else { return };
        if let Some((code, reason)) = close {
            let _ = connector.outgoing.try_send(ToConnector::Close(code, reason));
        }
    }

    /// An answer has come. False when nobody waits for it any more.
    fn answer(&self, connector: u64, id: &str, answer: Answer) -> bool {
        let waits = self.lock().connectors.get_mut(&connector).and_then(|connector| connector.waiting.remove(id));
        waits.is_some_and(|waits| waits.send(answer).is_ok())
    }

    /// Fails everything that waits for a connector: sending it again would lead to the same.
    fn fail_all(&self, connector: u64, why: &str) {
        let Some(connector) = self.lock().connectors.remove(&connector) else { return };
        for waits in connector.waiting.into_values() {
            let _ = waits.send(Answer::Failed(why.to_owned()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No call under the lock can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `request` frame: what a public endpoint would have been posted, signed now (16.1).
fn request_frame(message: &str, now: WallTime, token: &str, body: &str) -> String {
    let timestamp = (now.0 / 1000).to_string();
    let signature = sign::signature(token, message, &timestamp, body);
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "request");
    frame.str("id", message);
    frame.str("method", "POST");
    frame.str("url", URL);
    frame.object("headers", |headers| {
        headers.str("content-type", "application/json");
        headers.str("webhook-id", message);
        headers.str("webhook-timestamp", &timestamp);
        headers.str("webhook-signature", &signature);
    });
    frame.str("body", body);
    frame.end();
    out
}

fn respond(answer: Answer) -> Result<Response<Body>, Failure> {
    match answer {
        Answer::Response { status, content_type, body } => {
            let mut response = reply::json(body);
            *response.status_mut() = status;
            if let Some(value) = content_type {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            Ok(response)
        }
        Answer::Failed(why) => Err(unreachable(StatusCode::BAD_GATEWAY, why)),
    }
}

fn late(source: &SourceName) -> Failure {
    let why = format!("source {} did not answer within {} s; try again", source.1, ANSWER_WAIT.as_secs());
    unreachable(StatusCode::GATEWAY_TIMEOUT, why)
}

fn unreachable(status: StatusCode, why: String) -> Failure {
    Failure::with_status(status, Error::wire("source_network_error", why))
}
