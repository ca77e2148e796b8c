//! One socket: the upgrade, frames in both directions, keep-alive, and the ways it ends (protocol.md section 6).
//!
//! What frames mean is the engine's business. A close code chosen here is never 1008, 4001 or 4003: a client would take
//! any of them for the end of its login (6.6), and only the engine knows of those.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::wire::{BEARER_PREFIX, SUBPROTOCOL};

use crate::driver::{CLOSE_SLOW, Driver, Outgoing, Seat, SocketEnd};
use crate::engine::Participant;

/// Largest frame a client may send.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// How often a socket is pinged.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);
/// A socket silent for this long is dropped.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long an ending socket is given to take its close frame and send its own.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How much of what an ending socket still sends is read and thrown away. Closing with unread input would reset the
/// connection, and the close frame with it.
const DISCARD_BYTES_MAX: u64 = 256 << 20;

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The token in a list of subprotocols.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    protocols(headers).find_map(|entry| entry.strip_prefix(BEARER_PREFIX).map(str::to_owned))
}

pub(crate) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim)
}

/// Answers an upgrade whose credential is good and that has its place, and serves the socket from then on.
///
/// # Errors
/// `invalid_request` when it is no WebSocket upgrade.
pub(crate) fn upgrade(
    request: &mut Request<Body>,
    driver: Arc<Driver>,
    seat: Seat,
    participant: Arc<Participant>,
    groups: Option<Vec<String>>,
) -> Result<Response<Body>, Error> {
    let (response, on_upgrade) = accept(request, SUBPROTOCOL)?;
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => serve(TokioIo::new(upgraded), &driver, seat, &participant, groups).await,
            Err(error) => tracing::debug!("an upgrade did not complete: {error}"),
        }
    });
    Ok(response)
}

/// The answer to an upgrade, with this subprotocol if it is offered, and what becomes the connection once it is sent.
///
/// # Errors
/// `invalid_request` when it is no WebSocket upgrade.
pub(crate) fn accept(
    request: &mut Request<Body>,
    subprotocol: &'static str,
) -> Result<(Response<Body>, OnUpgrade), Error> {
    let headers = request.headers();
    let is = |name, value: &str| {
        headers
            .get(name)
            .and_then(|header| header.to_str().ok())
            .is_some_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(value)))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let wants = is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13");
    let offered = protocols(headers).any(|entry| entry == subprotocol);
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (Some(key), Some(on_upgrade), true) = (key, on_upgrade, wants) else {
        return Err(Error::wire("invalid_request", "this address takes WebSocket upgrades only (version 13)"));
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&key) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    if offered {
        // Exactly this one: a browser fails the connection when the bearer entry comes back.
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    Ok((response, on_upgrade))
}

/// Why a socket ends.
enum End {
    /// It is gone, or its owner has closed it.
    Gone,
    /// We close it.
    Close(u16, Cow<'static, str>),
    /// We close it for what it has sent: what comes next cannot be told apart into frames.
    Broken(u16, &'static str),
    /// It has fallen silent.
    HalfOpen,
}

impl End {
    fn close(code: u16, reason: &'static str) -> Self {
        Self::Close(code, reason.into())
    }
}

async fn serve(
    io: TokioIo<Upgraded>,
    driver: &Driver,
    seat: Seat,
    participant: &Participant,
    groups: Option<Vec<String>>,
) {
    let config =
        WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let mut ours = driver.connect(seat, participant, groups);
    let id = ours.id;
    tracing::debug!(connection = id.0, "socket open");
    let mut half_open = ours.half_open.clone();
    let end = tokio::select! {
        biased;
        end = silenced(&mut half_open) => end,
        // Neither direction comes first: each may have more than enough to do.
        end = async {
            tokio::select! {
                end = read(&mut stream, driver, id) => end,
                end = write(&mut sink, &mut ours) => end,
            }
        } => end,
    };
    driver.disconnect(id);
    match end {
        End::Gone => {}
        End::Close(code, reason) => finish(sink, stream, code, reason, false).await,
        End::Broken(code, reason) => finish(sink, stream, code, reason.into(), true).await,
        // Held, and not looked at, until the driver lets it go.
        End::HalfOpen => while half_open.changed().await.is_ok() {},
    }
    tracing::debug!(connection = id.0, "socket closed");
}

/// Resolves when the socket is to fall silent, if that ever happens.
async fn silenced(half_open: &mut watch::Receiver<bool>) -> End {
    if half_open.wait_for(|silent| *silent).await.is_err() {
        // The driver has let go of the socket; how it ends comes through its queue.
        std::future::pending::<()>().await;
    }
    End::HalfOpen
}

async fn read(stream: &mut SplitStream<Socket>, driver: &Driver, id: crate::engine::ConnectionId) -> End {
    loop {
        let message = match timeout(SILENCE_MAX, stream.next()).await {
            Err(_) | Ok(None) => return End::Gone,
            Ok(Some(message)) => message,
        };
        match message {
            Ok(Message::Text(text)) => driver.fact(|engine, now| engine.handle_frame(now, id, text.as_str())),
            // Pings are answered by the library; the rest is not used (protocol.md 6.3).
            Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            // The library has answered it and ends the stream next.
            Ok(Message::Close(_)) => {}
            Err(WsError::Capacity(CapacityError::MessageTooLong { .. })) => {
                return End::Broken(1009, "a frame may have at most 4 MiB");
            }
            Err(WsError::Utf8(_)) => return End::Broken(1007, "text frames must be UTF-8"),
            Err(WsError::Protocol(_)) => return End::Broken(1002, "malformed WebSocket frame"),
            Err(_) => return End::Gone,
        }
    }
}

async fn write(sink: &mut SplitSink<Socket, Message>, ours: &mut SocketEnd) -> End {
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    let overflow = ours.overflow.clone();
    let slow = End::close(CLOSE_SLOW, "too slow; reconnect to resume");
    loop {
        let mut next = tokio::select! {
            biased;
            () = overflow.notified() => return slow,
            next = ours.outgoing.recv() => next,
            _ = ping.tick() => Some(Outgoing::Ping),
        };
        // Whatever has gathered goes out with one flush.
        let sent = async {
            loop {
                match next {
                    // Without a driver's end, the engine has let go of this socket.
                    None => return Some(End::close(CLOSE_SLOW, "reconnect to resume")),
                    Some(Outgoing::Close(code, reason)) => return Some(End::Close(code, reason)),
                    Some(outgoing) => {
                        if sink.feed(message(outgoing, &ours.waiting)).await.is_err() {
                            return Some(End::Gone);
                        }
                    }
                }
                match ours.outgoing.try_recv() {
                    Ok(more) => next = Some(more),
                    Err(_) => break,
                }
            }
            sink.flush().await.is_err().then_some(End::Gone)
        };
        let end = tokio::select! {
            biased;
            end = sent => end,
            () = overflow.notified() => return slow,
        };
        if let Some(end) = end {
            return end;
        }
    }
}

fn message(outgoing: Outgoing, waiting: &AtomicUsize) -> Message {
    match outgoing {
        Outgoing::Ping => Message::Ping(Vec::new().into()),
        Outgoing::Text(text) => {
            waiting.fetch_sub(text.len(), Ordering::Relaxed);
            Message::text(&*text)
        }
        Outgoing::Close(code, reason) => {
            Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: String::from(reason).into() }))
        }
    }
}

/// Sends the close frame and lets the other side finish. The connection ends as soon as its close frame is there (RFC
/// 6455, 7.1.1): browsers tell the page no earlier.
pub(crate) async fn finish(
    mut sink: SplitSink<Socket, Message>,
    mut stream: SplitStream<Socket>,
    code: u16,
    reason: Cow<'static, str>,
    is_broken: bool,
) {
    let frame = message(Outgoing::Close(code, reason), &AtomicUsize::new(0));
    if !matches!(timeout(CLOSE_WAIT, sink.send(frame)).await, Ok(Ok(()))) {
        return;
    }
    if !is_broken {
        let closed = async {
            loop {
                match stream.next().await {
                    None | Some(Ok(Message::Close(_))) => return true,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return matches!(error, WsError::ConnectionClosed | WsError::Io(_)),
                }
            }
        };
        if timeout(CLOSE_WAIT, closed).await.unwrap_or(true) {
            return;
        }
    }
    let Ok(socket) = stream.reunite(sink) else { return };
    let mut rest = socket.into_inner().take(DISCARD_BYTES_MAX);
    // Whatever it was in the middle of sending.
    let _ = timeout(CLOSE_WAIT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
