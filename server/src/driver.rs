//! The one owner of the engine: runs it under a lock, has its changes made durable, and only then lets its outputs and
//! answers go.
//!
//! The order of outputs is the order in which they left the engine. When nothing is being written they are delivered on
//! the spot; otherwise they line up behind what is. Whoever asked for something waits for the same point, so that no
//! answer shows a state that a crash could undo.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as sync_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::time::{Instant, Now};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::engine::{ConnectionId, Engine, Output, Participant, StoreChange};

/// Frames that may wait for one socket.
pub const OUTGOING_FRAMES_MAX: usize = 8192;
/// Bytes that may wait for one socket, unless they are a single frame.
pub const OUTGOING_BYTES_MAX: usize = 32 << 20;
/// Sockets that are served at once when `--max-connections` does not say: far more than one machine has memory for.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Close code of a socket that does not keep up. The client comes back and resumes.
pub const CLOSE_SLOW: u16 = 1013;

/// What is to be sent on a socket.
#[derive(Debug)]
pub enum Outgoing {
    /// A text frame.
    Text(Arc<str>),
    /// A WebSocket ping.
    Ping,
    /// The end, with code and reason.
    Close(u16, Cow<'static, str>),
}

/// The socket's end of its connection with the engine.
#[derive(Debug)]
pub struct SocketEnd {
    /// Its name in the engine.
    pub id: ConnectionId,
    /// What to send, in order.
    pub outgoing: mpsc::Receiver<Outgoing>,
    /// Notified when the socket has fallen too far behind.
    pub overflow: Arc<Notify>,
    /// Bytes waiting; whoever takes a frame from `outgoing` subtracts its length.
    pub waiting: Arc<AtomicUsize>,
    /// True when the socket is to fall silent; the channel then closes when it may go.
    pub half_open: watch::Receiver<bool>,
}

/// A place for a socket whose upgrade is under way. It is free again when dropped.
pub struct Seat(Option<Arc<Driver>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(driver) = self.0.take() {
            let mut inner = driver.lock();
            inner.upgrading = inner.upgrading.saturating_sub(1);
        }
    }
}

/// The driver's end.
struct Socket {
    outgoing: mpsc::Sender<Outgoing>,
    overflow: Arc<Notify>,
    waiting: Arc<AtomicUsize>,
    half_open: watch::Sender<bool>,
}

impl Socket {
    /// False when the socket has too much waiting already.
    fn offer(&self, text: Arc<str>) -> bool {
        let waiting = self.waiting.fetch_add(text.len(), Ordering::Relaxed);
        if waiting > 0 && waiting + text.len() > OUTGOING_BYTES_MAX {
            return false;
        }
        !matches!(self.outgoing.try_send(Outgoing::Text(text)), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Outputs on their way through the store.
pub(crate) struct Batch {
    outputs: Vec<Output>,
    done: Option<oneshot::Sender<()>>,
}

impl Batch {
    /// The changes in it, taken out.
    pub(crate) fn take_changes(&mut self) -> Vec<StoreChange> {
        let mut changes = Vec::new();
        self.outputs.retain_mut(|output| match output {
            Output::Store(change) => {
                changes.push(std::mem::take(change));
                false
            }
            Output::Send { .. } | Output::Close { .. } => true,
        });
        changes
    }
}

struct Inner {
    engine: Engine,
    sockets: BTreeMap<ConnectionId, Socket>,
    /// Upgrades that have been accepted and are no sockets yet.
    upgrading: usize,
    /// How many of both there may be.
    max_connections: usize,
    /// Sockets that nobody serves any more; each goes when its end here does.
    half_open: Vec<Socket>,
    /// Batches at the store.
    pending: usize,
    /// To the store; `None` once it is closed.
    store: Option<sync_mpsc::Sender<Batch>>,
    /// What the timer is set for.
    timer_at: Option<Instant>,
}

/// See the module.
pub struct Driver {
    /// A std mutex: it is never held across an await, and nothing under it blocks.
    inner: Mutex<Inner>,
    /// Tells the timer that a deadline may have come closer.
    timer: Notify,
    started: std::time::Instant,
    /// Set when the store can no longer write: nothing may be acknowledged any more.
    failed: watch::Sender<bool>,
}

impl Driver {
    /// A driver of this engine, and the batches that a store has to take.
    pub(crate) fn new(engine: Engine, max_connections: usize) -> (Arc<Self>, sync_mpsc::Receiver<Batch>) {
        let (store, batches) = sync_mpsc::channel();
        let inner = Inner {
            engine,
            sockets: BTreeMap::new(),
            upgrading: 0,
            max_connections,
            half_open: Vec::new(),
            pending: 0,
            store: Some(store),
            timer_at: None,
        };
        let driver = Self {
            inner: Mutex::new(inner),
            timer: Notify::new(),
            started: std::time::Instant::now(),
            failed: watch::Sender::new(false),
        };
        (Arc::new(driver), batches)
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Now::new(ms(self.started.elapsed()), ms(wall))
    }

    /// Asks the engine for something, and waits until the answer cannot be undone.
    ///
    /// # Errors
    /// `internal_error` when the store could not write.
    pub async fn request<R>(&self, ask: impl FnOnce(&mut Engine, Now) -> R) -> Result<R, Error> {
        let (answer, durable) = {
            let mut inner = self.lock();
            let answer = ask(&mut inner.engine, self.now());
            let (done, durable) = oneshot::channel();
            let waits = self.settle(&mut inner, Some(done));
            (answer, waits.then_some(durable))
        };
        if let Some(durable) = durable
            && durable.await.is_err()
        {
            return Err(Error::wire("internal_error", "the server could not store the change; try again"));
        }
        Ok(answer)
    }

    /// Tells the engine something.
    pub fn fact(&self, tell: impl FnOnce(&mut Engine, Now)) {
        let mut inner = self.lock();
        tell(&mut inner.engine, self.now());
        self.settle(&mut inner, None);
    }

    /// Whether there is a place for another socket. Probe and upgrade both ask here, so they agree (protocol.md 14.3).
    ///
    /// # Errors
    /// `instance_at_capacity`.
    pub fn check_capacity(&self) -> Result<(), Error> {
        self.lock().check_capacity()
    }

    /// Takes a place for a socket that is about to open.
    ///
    /// # Errors
    /// `instance_at_capacity`.
    pub fn admit(self: &Arc<Self>) -> Result<Seat, Error> {
        let mut inner = self.lock();
        inner.check_capacity()?;
        inner.upgrading += 1;
        Ok(Seat(Some(self.clone())))
    }

    /// A socket has opened.
    pub fn connect(&self, mut seat: Seat, participant: &Participant, groups: Option<Vec<String>>) -> SocketEnd {
        let (sender, outgoing) = mpsc::channel(OUTGOING_FRAMES_MAX);
        let overflow = Arc::new(Notify::new());
        let waiting = Arc::new(AtomicUsize::new(0));
        let (half_open, silenced) = watch::channel(false);
        let mut inner = self.lock();
        if seat.0.take().is_some() {
            inner.upgrading = inner.upgrading.saturating_sub(1);
        }
        let id = inner.engine.connect(self.now(), participant, groups);
        let socket = Socket { outgoing: sender, overflow: overflow.clone(), waiting: waiting.clone(), half_open };
        inner.sockets.insert(id, socket);
        self.settle(&mut inner, None);
        drop(inner);
        self.timer.notify_one();
        SocketEnd { id, outgoing, overflow, waiting, half_open: silenced }
    }

    /// A socket has gone.
    pub fn disconnect(&self, id: ConnectionId) {
        let mut inner = self.lock();
        inner.sockets.remove(&id);
        inner.engine.disconnect(self.now(), id);
        self.settle(&mut inner, None);
    }

    /// Closes every socket, for a restart.
    pub fn close_all(&self) {
        self.close(None, 1012, "service restart");
    }

    /// Closes the sockets of a token, or all.
    pub fn close(&self, token: Option<&str>, code: u16, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        let mut inner = self.lock();
        let now = self.now();
        let ids = match token {
            Some(token) => inner.engine.connections_of(token),
            None => inner.sockets.keys().copied().collect(),
        };
        if token.is_none() {
            inner.engine.disconnect_all(now);
        }
        for id in ids {
            if let Some(socket) = inner.sockets.remove(&id) {
                // A full queue means a socket that is about to be dropped anyway.
                let _ = socket.outgoing.try_send(Outgoing::Close(code, reason.clone()));
            }
            inner.engine.disconnect(now, id);
        }
        self.settle(&mut inner, None);
    }

    /// Lets every open socket fall silent: nothing is read from it or written to it any more, and it is not closed.
    pub fn silence_all(&self) {
        let mut inner = self.lock();
        inner.engine.disconnect_all(self.now());
        for (_, socket) in std::mem::take(&mut inner.sockets) {
            socket.half_open.send_replace(true);
            inner.half_open.push(socket);
        }
        self.settle(&mut inner, None);
    }

    /// Drops the sockets that have fallen silent.
    pub fn drop_silent(&self) {
        self.lock().half_open.clear();
    }

    /// How many sockets are open and served.
    pub fn sockets(&self) -> usize {
        self.lock().sockets.len()
    }

    /// How many sockets there may be. Those that are open stay.
    pub fn set_max_connections(&self, max: usize) {
        self.lock().max_connections = max;
    }

    /// Lets the clock by which keys end run ahead.
    pub fn set_key_clock_ahead(&self, ms: u64) {
        self.fact(|engine, now| engine.set_key_clock_ahead(now, ms));
        self.timer.notify_one();
    }

    /// Lets the store finish and end. Nothing more can be written afterwards.
    pub fn close_store(&self) {
        self.lock().store = None;
    }

    /// Calls the engine when its deadlines come. Runs until it is dropped.
    pub async fn run_timer(&self) {
        loop {
            let deadline = {
                let mut inner = self.lock();
                inner.timer_at = inner.engine.poll_timeout();
                inner.timer_at
            };
            let sleep = deadline.map(|Instant(ms)| {
                tokio::time::sleep_until((self.started + Duration::from_millis(ms) + Duration::from_millis(1)).into())
            });
            match sleep {
                Some(sleep) => tokio::select! {
                    () = sleep => self.fact(|engine, now| engine.handle_timeout(now)),
                    () = self.timer.notified() => {}
                },
                None => self.timer.notified().await,
            }
        }
    }

    /// Resolves when the store can no longer write.
    pub async fn store_failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as this driver, so this ends only with the value.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// The store has made these batches durable, or has failed.
    pub(crate) fn stored(&self, batches: Vec<Batch>, ok: bool) {
        let mut inner = self.lock();
        inner.pending = inner.pending.saturating_sub(batches.len());
        if !ok {
            // What was not stored is not told to anybody: those who wait see their channel close.
            inner.store = None;
            self.failed.send_replace(true);
            return;
        }
        for batch in batches {
            inner.deliver(batch.outputs, self.now());
            if let Some(done) = batch.done {
                // Whoever waited may have gone; the change stands all the same.
                let _ = done.send(());
            }
        }
        self.settle(&mut inner, None);
    }

    /// Takes the engine's outputs where they have to go. True when `done` will be signalled later.
    fn settle(&self, inner: &mut Inner, done: Option<oneshot::Sender<()>>) -> bool {
        let mut outputs: Vec<Output> = std::iter::from_fn(|| inner.engine.poll_output()).collect();
        if inner.engine.soonest_timeout().is_some_and(|at| inner.timer_at.is_none_or(|set| at < set)) {
            self.timer.notify_one();
        }
        // Delivering may let go of a slow socket, which is news in turn.
        while inner.pending == 0 && !outputs.iter().any(|output| matches!(output, Output::Store(_))) {
            if outputs.is_empty() {
                return false;
            }
            inner.deliver(outputs, self.now());
            outputs = std::iter::from_fn(|| inner.engine.poll_output()).collect();
        }
        if outputs.is_empty() && done.is_none() {
            return false;
        }
        let batch = Batch { outputs, done };
        if inner.store.as_ref().is_some_and(|store| store.send(batch).is_ok()) {
            inner.pending += 1;
        }
        // A store that is gone has dropped the batch, and with it `done`: its receiver learns that.
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The engine upholds its invariants before anything that may panic; a poisoned lock is no reason to stop serving.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_capacity(&self) -> Result<(), Error> {
        if self.sockets.len() + self.upgrading < self.max_connections {
            return Ok(());
        }
        let why = format!("all {} places for sockets are taken; try again later", self.max_connections);
        Err(Error::wire("instance_at_capacity", why))
    }

    fn deliver(&mut self, outputs: Vec<Output>, now: Now) {
        for output in outputs {
            match output {
                Output::Store(_) => {}
                Output::Send { connection, text } => {
                    let Some(socket) = self.sockets.get(&connection) else { continue };
                    if !socket.offer(text) {
                        socket.overflow.notify_one();
                        self.sockets.remove(&connection);
                        self.engine.disconnect(now, connection);
                    }
                }
                Output::Close { connection, code, reason } => {
                    if let Some(socket) = self.sockets.remove(&connection) {
                        // A full queue: dropping the sender ends the socket as well.
                        let _ = socket.outgoing.try_send(Outgoing::Close(code, reason.into()));
                    }
                }
            }
        }
    }
}
