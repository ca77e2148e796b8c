//! One connector's connection: it registers, then requests go one way and answers the other (protocol.md 15.2).
//!
//! Frames that say nothing known are passed over. Pings of the WebSocket protocol tell a connection that is gone from one
//! that is quiet.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Kind, ObjectWriter, Value};
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::{Answer, PROTOCOL_VERSION, SUBPROTOCOL, SourceName, Sources, ToConnector};
use crate::driver::Seat;
use crate::engine::Participant;
use crate::ws::{self, PING_EVERY, SILENCE_MAX, Socket};

/// Largest frame of a connector: an answer with many rows.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// How long a connector may take to register.
const REGISTER_WAIT: Duration = Duration::from_secs(15);
/// Longest label of a connector that is logged, in characters.
const LABEL_MAX: usize = 100;

/// Who is at the other end.
struct Peer {
    source: SourceName,
    token: Arc<str>,
    /// `production` or `sandbox`, by the key's prefix (3.2).
    environment: &'static str,
}

/// Answers the upgrade of a connector whose key is good, and serves it from then on.
///
/// # Errors
/// `invalid_request` when it is no WebSocket upgrade, or not to this protocol.
pub(super) fn upgrade(
    request: &mut Request<Body>,
    sources: Arc<Sources>,
    seat: Seat,
    participant: &Participant,
    token: &str,
) -> Result<Response<Body>, Error> {
    if !ws::protocols(request.headers()).any(|entry| entry == SUBPROTOCOL) {
        return Err(Error::wire(
            "invalid_request",
            format!("this address speaks the subprotocol {SUBPROTOCOL}: offer it"),
        ));
    }
    let (response, on_upgrade) = ws::accept(request, SUBPROTOCOL)?;
    let peer = Peer {
        source: (participant.organization.clone(), participant.id.clone()),
        token: token.into(),
        environment: if token.starts_with("sk_live_") { "production" } else { "sandbox" },
    };
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => serve(TokioIo::new(upgraded), &sources, &peer).await,
            Err(error) => tracing::debug!("an upgrade did not complete: {error}"),
        }
        drop(seat);
    });
    Ok(response)
}

/// How a connection ends.
enum End {
    /// It is gone, or its owner has closed it.
    Gone,
    /// We close it.
    Close(u16, Cow<'static, str>),
    /// We close it for what it has sent: what comes next cannot be told apart into frames.
    Broken(u16, &'static str),
}

async fn serve(io: TokioIo<Upgraded>, sources: &Sources, peer: &Peer) {
    let config =
        WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let end = match register(&mut sink, &mut stream, peer).await {
        Err(end) => end,
        Ok(()) => match sources.add(peer.source.clone(), peer.token.clone()) {
            None => End::Close(1012, "service restart".into()),
            Some((id, outgoing)) => {
                tracing::debug!(connector = id, source = &*peer.source.1, "source ready");
                let end = tokio::select! {
                    end = read(&mut stream, sources, id) => end,
                    end = write(&mut sink, outgoing) => end,
                };
                if let End::Broken(_, why) = end {
                    sources.fail_all(id, why);
                }
                sources.remove(id, None);
                tracing::debug!(connector = id, "source gone");
                end
            }
        },
    };
    match end {
        End::Gone => {}
        End::Close(code, reason) => ws::finish(sink, stream, code, reason, false).await,
        End::Broken(code, reason) => ws::finish(sink, stream, code, reason.into(), true).await,
    }
}

/// Waits for `register` and answers `ready`.
async fn register(
    sink: &mut SplitSink<Socket, Message>,
    stream: &mut SplitStream<Socket>,
    peer: &Peer,
) -> Result<(), End> {
    let deadline = Instant::now() + REGISTER_WAIT;
    loop {
        let Ok(text) = timeout_at(deadline, next_text(stream)).await else {
            return Err(End::Close(1002, "register_expected".into()));
        };
        let text = text?;
        let Ok(frame) = Value::parse(&text) else { continue };
        if frame.get_str("type").as_deref() != Some("register") {
            continue;
        }
        let version = frame.get("protocolVersion").and_then(Value::as_u64);
        if version != Some(PROTOCOL_VERSION) {
            let why = format!("this server speaks version {PROTOCOL_VERSION} of the source protocol");
            let error = error_frame("protocol_version_mismatch", &why);
            if sink.send(Message::text(error)).await.is_err() {
                return Err(End::Gone);
            }
            return Err(End::Close(1002, "protocol_version_mismatch".into()));
        }
        let label: String = frame.get_str("client").unwrap_or_default().chars().take(LABEL_MAX).collect();
        // Text from outside: `?` escapes what a terminal would obey.
        tracing::info!(source = &*peer.source.1, client = ?label, "a source connector registered");
        return if sink.send(Message::text(ready_frame(peer))).await.is_ok() { Ok(()) } else { Err(End::Gone) };
    }
}

fn ready_frame(peer: &Peer) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "ready");
    frame.u64("protocolVersion", PROTOCOL_VERSION);
    frame.str("sourceId", &peer.source.1);
    frame.str("organizationId", &peer.source.0);
    frame.str("environment", peer.environment);
    frame.end();
    out
}

fn error_frame(code: &str, message: &str) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "error");
    frame.str("code", code);
    frame.str("message", message);
    frame.end();
    out
}

async fn read(stream: &mut SplitStream<Socket>, sources: &Sources, id: u64) -> End {
    loop {
        match next_text(stream).await {
            Ok(text) => take(&text, sources, id),
            Err(end) => return end,
        }
    }
}

/// The next text frame. Binary ones are text too, if they are UTF-8 (15.2).
async fn next_text(stream: &mut SplitStream<Socket>) -> Result<String, End> {
    loop {
        let message = match timeout(SILENCE_MAX, stream.next()).await {
            Err(_) | Ok(None) => return Err(End::Gone),
            Ok(Some(message)) => message,
        };
        match message {
            Ok(Message::Text(text)) => return Ok(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => {
                if let Ok(text) = String::from_utf8(bytes.into()) {
                    return Ok(text);
                }
            }
            // Pings and the close are answered by the library.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_)) => {}
            Err(WsError::Capacity(CapacityError::MessageTooLong { .. })) => {
                return Err(End::Broken(1009, "an answer of a source may have at most 16 MiB"));
            }
            Err(WsError::Utf8(_)) => return Err(End::Broken(1007, "text frames must be UTF-8")),
            // The end without a close frame: what was under way can be asked again on another connection.
            Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Err(End::Gone),
            Err(WsError::Protocol(_)) => return Err(End::Broken(1002, "malformed WebSocket frame")),
            Err(_) => return Err(End::Gone),
        }
    }
}

/// Takes a frame of a connector that is ready.
fn take(text: &str, sources: &Sources, connector: u64) {
    let Ok(frame) = Value::parse(text) else {
        tracing::debug!(connector, "a frame that is not JSON");
        return;
    };
    let id = frame.get_str("id").filter(|id| !id.is_empty());
    match (frame.get_str("type").as_deref(), id) {
        (Some("response"), Some(id)) => {
            let answer = response(frame).unwrap_or_else(|| {
                let why = "the connector's answer has no status from 200 to 599, or no body";
                Answer::Failed(why.to_owned())
            });
            if !sources.answer(connector, &id, answer) {
                tracing::debug!(connector, "an answer that nobody waits for");
            }
        }
        (Some("error"), id) => {
            let (code, message) =
                (frame.get_str("code").unwrap_or_default(), frame.get_str("message").unwrap_or_default());
            match id {
                Some(id) => {
                    sources.answer(connector, &id, Answer::Failed(format!("the connector reports {code}: {message}")));
                }
                None => tracing::warn!(connector, ?code, ?message, "a source connector reports an error"),
            }
        }
        _ => tracing::debug!(connector, "a frame of no known type"),
    }
}

fn response(frame: Value<'_>) -> Option<Answer> {
    let status = frame.get("status")?.as_u64().filter(|status| (200..600).contains(status))?;
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let headers = frame.get("headers").filter(|headers| headers.kind == Kind::Object);
    let content_type = headers.and_then(|headers| {
        let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
        let (_, value) = headers.members().find(|(name, _)| is_type(&name.decode()))?;
        HeaderValue::from_str(&value.as_str()?).ok()
    });
    Some(Answer::Response { status, content_type, body: frame.get_string("body")? })
}

async fn write(sink: &mut SplitSink<Socket, Message>, mut outgoing: mpsc::Receiver<ToConnector>) -> End {
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let message = tokio::select! {
            next = outgoing.recv() => match next {
                Some(ToConnector::Frame(text)) => Message::text(text),
                Some(ToConnector::Close(code, reason)) => return End::Close(code, reason.into()),
                // The registry has let go of it, and could not say why.
                None => return End::Close(1013, "reconnect".into()),
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        if sink.send(message).await.is_err() {
            return End::Gone;
        }
    }
}
