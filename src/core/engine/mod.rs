//! The engine: composes the machines and carries facts from one to the next.
//!
//! `connection`, `queue` and `pool` do not know each other. This module and its children are the one place where what
//! one of them says becomes news for another:
//!
//! - `session`: the open socket: frames in and out, heartbeat, catch-up, subscriptions;
//! - `intake`: deltas and snapshots onto confirmed rows;
//! - `writes`: commands that write, and what becomes of them;
//! - `reads`: reads through the server;
//! - `claims`: claims on rows, groups joined, and who else is there;
//! - `status`: what the application is told about all this.

mod claims;
mod end;
mod intake;
mod keys;
mod outbox;
mod reads;
mod session;
mod status;
mod storage;
mod tabs;
mod writes;

use super::backoff::backoff;
use super::bug::{self, Bug};
use super::config::{Config, Identity};
use super::connection::{Action, Connection, RETRY_AFTER_MAX_MS, Source, State};
use super::error::{Error, Recovery};
use super::id::{ModelIndex, SyncId, TaskId};
use super::input::{Command, Credential, Input, Response, Ticket};
use super::json::{ObjectWriter, Value};
use super::map::{Drain, SmallMap};
use super::output::{Method, Output, Request, Timer};
use super::pool::{Changes, Pool, Query, RowRef, Slot, ViewChange, ViewId};
use super::probe::Probe;
use super::queue::Queue;
use super::rng::Rng;
use super::snapshot::Snapshot;
use super::time::{Instant, Now};
use crate::core::text::{concat, digits};
use end::{Waiting, take_late};
use reads::Reads;
use session::Session;

/// `ready()` fails after so long without rows, counted from the call; the client goes on trying.
pub const READY_MS: u64 = 20_000;
/// Identity and exchange requests are given up after so long (protocol.md 18).
pub const IDENTITY_MS: u64 = 10_000;
/// Probes are given up after so long (protocol.md 18).
pub const PROBE_MS: u64 = 4_000;
/// Bootstraps are given up after so long. Large ones take their time on slow lines.
pub const BOOTSTRAP_MS: u64 = 60_000;
/// `dispose` waits so long for writes to be confirmed while connected.
pub const DRAIN_MS: u64 = 2_000;
/// A repair bootstrap is asked for at most this often.
pub const REPAIR_PAUSE_MS: u64 = 30_000;
/// A monotonic clock that is so far behind the other has slept with the machine.
pub const SLEEP_MS: u64 = 10_000;
/// Clocks that part by no more than this have not been set.
const CLOCKS_APART_MS: u64 = 50;

/// How far loading rows has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loading {
    /// Nothing is needed.
    Idle,
    /// Needed; the credential is not there yet or a pause is under way.
    Wanted { not_before: Instant },
    /// Under way.
    Fetching(TaskId),
}

/// What an HTTP request of the engine was for.
#[derive(Clone, Debug)]
enum Task {
    Bootstrap,
    Read(reads::FetchId),
}

/// How the client goes through life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining { ticket: Ticket, until: Instant },
    Disposed,
}

/// The client's whole state. One owner, no I/O, no clock: time comes with every call.
///
/// After every [`Engine::handle_input`] and [`Engine::command`], drain [`Engine::poll_output`] to `None`, then read
/// [`Engine::poll_timeout`] and [`Engine::take_changes`]. That is the whole contract.
///
/// ```
/// use ablo_wasm::core::config::Config;
/// use ablo_wasm::core::input::{Change, Command, Ticket, Write};
/// use ablo_wasm::core::{Engine, id::ModelIndex, output::Output, time::Now};
///
/// let config = Config::parse(
///     r#"{"schema":{"v":3,"models":{"tasks":{"fields":{"title":{"type":"string"}},"typename":"Task"}}},
///         "baseUrl":"http://localhost:8787","authToken":"ek_test_1"}"#,
/// )?;
/// let now = Now::new(0, 1_782_900_000_000);
/// let mut engine = Engine::new(config, 7, now);
///
/// // Writes are visible at once, connected or not.
/// let change = Change::Create(r#"{"title":"Write spec"}"#.into());
/// engine.command(now, Command::Write(Ticket(1), Write { model: ModelIndex(0), id: "t1".into(), change, options: None }))?;
/// assert!(engine.row(ModelIndex(0), "t1").is_some_and(|text| text.contains("Write spec")));
///
/// // What the engine wants from the world comes out as data.
/// engine.command(now, Command::Start(Ticket(2)))?;
/// let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
/// assert!(outputs.iter().any(|output| matches!(output, Output::Fetch(_, request) if request.url.ends_with("/auth/identity"))));
/// # Ok::<(), ablo_wasm::core::error::Error>(())
/// ```
pub struct Engine {
    config: Config,
    now: Now,
    rng: Rng,
    phase: Phase,
    connection: Connection,
    session: Option<Session>,
    queue: Queue,
    pool: Pool,
    reads: Reads,
    claims: claims::Claims,
    token: Option<String>,
    identity: Option<Identity>,
    /// Groups that the next subscription asks for.
    groups: Vec<String>,
    /// Groups that the server last acknowledged; the address of the next socket repeats them.
    acked_groups: Vec<String>,
    /// Confirmed rows are complete up to here: the contiguous applied prefix of the stream.
    cursor: SyncId,
    /// The cursor that the server handed out.
    server_cursor: Option<String>,
    /// Whether rows have been loaded, or need not be.
    loaded: bool,
    loading: Loading,
    load_attempt: u32,
    /// The server's stream has moved away from ours: the next snapshot replaces everything.
    reset: bool,
    last_repair: Option<Instant>,
    /// Connections in a row that ended instead of a catch-up.
    unanswered: u32,
    tasks: SmallMap<TaskId, Task>,
    next_task: u64,
    /// Journal changes under way, with the places they change.
    journaling: SmallMap<TaskId, Vec<u64>>,
    storage: storage::Storage,
    /// Writes of this turn wait for its end.
    flush_due: bool,
    ready: Waiting,
    flushing: Waiting,
    forced_offline: bool,
    system_offline: bool,
    offline_since: Option<u64>,
    /// What the wall clock says when the monotonic one says 0.
    wall_ahead: u64,
    /// How long the monotonic clock has stood still.
    slept: u64,
    /// That has just been noticed.
    woke: bool,
    login_ended: bool,
    last_sync_at: Option<u64>,
    status_told: bool,
    outputs: Drain<Output>,
}

impl Engine {
    /// A client that has not started. `seed` feeds ids and jitter: 128 random bits in production.
    pub fn new(config: Config, seed: u128, now: Now) -> Self {
        let mut rng = Rng::new(seed);
        let pool = Pool::new(&config.schema, rng.next_u64());
        let identity = config.identity.clone();
        let groups = identity.as_ref().map_or_else(|| config.sync_groups.clone(), |who| who.sync_groups.clone());
        Self {
            connection: Connection::new(config.source, identity.is_some()),
            session: None,
            queue: Queue::new(config.durable || config.stored),
            pool,
            reads: Reads::default(),
            claims: claims::Claims::default(),
            token: config.token.clone(),
            acked_groups: groups.clone(),
            groups,
            identity,
            cursor: SyncId(0),
            server_cursor: None,
            loaded: false,
            loading: Loading::Idle,
            load_attempt: 0,
            reset: false,
            last_repair: None,
            unanswered: 0,
            tasks: SmallMap::default(),
            next_task: 0,
            journaling: SmallMap::default(),
            storage: storage::Storage::new(config.stored),
            flush_due: false,
            ready: Vec::new(),
            flushing: Vec::new(),
            forced_offline: false,
            system_offline: false,
            offline_since: None,
            wall_ahead: now.wall.0.saturating_sub(now.mono.0),
            slept: 0,
            woke: false,
            login_ended: false,
            last_sync_at: None,
            status_told: false,
            outputs: Drain::default(),
            phase: Phase::Running,
            config,
            now,
            rng,
        }
    }

    /// Takes in a fact. Facts cannot fail: bad ones become events, late ones are ignored.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.advance(now);
        if self.phase == Phase::Disposed {
            // What was to be deleted is waited for.
            if let Input::Stored(task, result) = input {
                self.handle_stored(task, result);
            }
            return;
        }
        match input {
            Input::Timeout => self.handle_timeout(),
            Input::SocketOpened(socket) => self.connection.handle_opened(self.now.mono, socket),
            Input::SocketMessage(socket, text) => self.handle_frame(socket, text),
            Input::SocketClosed { socket, code } => self.handle_socket_closed(socket, code),
            Input::Response(task, result) => self.handle_response(task, result),
            Input::Credential(task, credential) => {
                let mut life = None;
                if let Credential::Token { token, expires_at } = &credential
                    && (self.connection.minting() == Some(task) || bug::on(Bug::LateAnswersCount))
                {
                    self.token = Some(token.trim_ascii().to_owned());
                    life = self.life(expires_at.as_deref());
                }
                self.connection.handle_credential(self.now.mono, task, &credential, life, &mut self.rng);
            }
            Input::Journaled(task, result) => self.handle_journaled(task, result),
            Input::Stored(task, result) => self.handle_stored(task, result),
            Input::StoreClosed(database) => self.handle_store_closed(database),
            Input::Lock(held) => self.handle_lock(held),
            Input::Posted(text) => self.handle_posted(&text),
            Input::Online => self.set_network(self.forced_offline, false),
            Input::Offline => self.set_network(self.forced_offline, true),
            Input::Visible | Input::Wake => self.wake(),
        }
        self.pump();
    }

    /// Does what the application asks for. The ticket in it settles now or later.
    ///
    /// # Errors
    /// The caller's own mistakes, at once; nothing has happened then and the ticket does not settle.
    pub fn command(&mut self, now: Now, command: Command) -> Result<(), Error> {
        self.advance(now);
        match command {
            Command::Dispose(ticket) => self.dispose(ticket),
            _ if self.phase != Phase::Running => {
                return Err(Error::local("client_disposed", "the client has been disposed; create a new one"));
            }
            Command::Start(ticket) => self.start(ticket),
            // Whoever writes before `ready()` wants it sent.
            Command::Write(ticket, write) => {
                self.check_writable()?;
                self.begin();
                return self.write(ticket, write);
            }
            Command::Commit(ticket, options) => {
                self.check_writable()?;
                self.begin();
                return self.commit(ticket, &options);
            }
            Command::Read(ticket, model, options) => self.read(ticket, model, &options)?,
            Command::Flush(ticket, timeout_ms) => {
                if self.queue.pending_count() == 0 {
                    self.settle(ticket, Ok(None));
                } else {
                    self.flushing.push((ticket, timeout_ms.map(|ms| self.now.mono.after(ms))));
                }
            }
            Command::Confirmation(ticket, name, id) => {
                let model = self.config.schema.resolve(&name);
                let row = model.map(|model| (model, id.as_str().into()));
                if !row.is_some_and(|row| self.queue.wait_for(&row, ticket)) {
                    self.settle(ticket, Ok(None));
                }
            }
            Command::SetToken(token) => {
                self.token = Some(token.trim_ascii().to_owned()).filter(|token| !token.is_empty());
                if self.token.is_some() {
                    self.connection.set_token(self.now.mono);
                }
            }
            Command::SetCredentialSource(present) => {
                let fallback = if self.token.is_some() { Source::Token } else { Source::Missing };
                self.connection.set_source(self.now.mono, if present { Source::Function } else { fallback });
            }
            Command::Nudge => {
                self.connection.handle_retry(self.now.mono);
            }
            Command::SetOffline(offline) => self.set_network(offline, self.system_offline),
            Command::Retry(ticket, id, data) => self.retry(ticket, &id, data.as_deref())?,
            Command::Receipt(ticket, key) => self.settle(ticket, self.queue.receipt(&key)),
            Command::Discard(ticket, id) => self.discard(ticket, &id)?,
            Command::Claim(ticket, model, payload, options) => {
                self.begin();
                self.claim(ticket, model, payload, &options)?;
            }
            Command::Release(id) => self.release(&id),
            Command::LeaveClaims => self.leave_claims(true),
            Command::Activity(activity) => self.set_activity(activity),
            Command::Broadcast(kind, payload) => self.send_text(&kind, &payload),
            Command::Purge(ticket) => {
                self.purge(ticket);
                return Ok(());
            }
        }
        self.pump();
        Ok(())
    }

    /// The next thing to do or to tell. Drain until `None` after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop()
    }

    /// When to call with [`Input::Timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        if self.phase == Phase::Disposed {
            return None;
        }
        let connected = self.connection.socket().is_some();
        let mut next: Option<(Instant, Timer)> = None;
        let mut offer = |at: Option<Instant>, timer: Timer| {
            if let Some(at) = at {
                next = Some(next.map_or((at, timer), |best| if (at, timer) < best { (at, timer) } else { best }));
            }
        };
        offer(self.flush_due.then_some(self.now.mono), Timer::Flush);
        offer(if connected { self.queue.deadline() } else { None }, Timer::Commit);
        offer(self.connection.deadline(), Timer::Connection);
        if let Some(session) = &self.session {
            offer(Some(session.heartbeat_at()), Timer::Heartbeat);
            offer(session.catch_up_at(self.queue.expects_echo()), Timer::CatchUp);
        }
        if let (Loading::Wanted { not_before }, true) = (self.loading, self.can_fetch()) {
            offer(Some(not_before), Timer::Bootstrap);
        }
        offer(self.claims.deadline(), Timer::Claims);
        offer(self.storage.tabs.deadline(), Timer::Tabs);
        for (_, until) in self.ready.iter().chain(&self.flushing) {
            offer(*until, Timer::Ticket);
        }
        if let Phase::Draining { until, .. } = self.phase {
            offer(Some(until), Timer::Ticket);
        }
        next.map(|(at, timer)| (Instant(at.0.saturating_sub(self.slept)), timer))
    }

    /// What has changed for readers since this was last asked: the cache in the page is told in one call.
    pub fn take_changes(&mut self) -> Changes {
        self.pool.take_changes()
    }

    /// The text of a row as readers see it.
    pub fn row(&self, model: ModelIndex, id: &str) -> Option<&str> {
        let slot = self.pool.find(model, id)?;
        Some(self.pool.text(RowRef { model, slot })?.as_str())
    }

    /// The confirmed text of a row, without pending writes.
    pub fn base_row(&self, model: ModelIndex, id: &str) -> Option<&str> {
        let slot = self.pool.find(model, id)?;
        Some(self.pool.base(RowRef { model, slot })?.as_str())
    }

    /// The slot of a row that readers see.
    pub fn find(&self, model: ModelIndex, id: &str) -> Option<Slot> {
        let slot = self.pool.find(model, id)?;
        self.pool.text(RowRef { model, slot }).map(|_| slot)
    }

    /// Writes rows as one JSON array; they count as seen from now on.
    pub fn write_rows(&mut self, model: ModelIndex, slots: &[Slot], out: &mut String) {
        self.pool.write_rows(model, slots, out);
    }

    /// Rows that a query selects, in its order.
    pub fn query(&mut self, model: ModelIndex, query: &Query) -> Vec<Slot> {
        self.pool.query(model, query)
    }

    /// How many rows a query selects.
    pub fn count(&mut self, model: ModelIndex, query: &Query) -> usize {
        self.pool.count(model, query)
    }

    /// Opens a live view.
    pub fn open_view(&mut self, model: ModelIndex, query: &Query) -> ViewId {
        self.pool.open_view(model, query)
    }

    /// What has become of a view since it was last asked.
    pub fn take_view_change(&mut self, view: ViewId) -> ViewChange {
        self.pool.take_view_change(view)
    }

    /// Closes a view.
    pub fn close_view(&mut self, view: ViewId) {
        self.pool.close_view(view);
    }

    /// The application's models.
    pub fn schema(&self) -> &super::schema::Schema {
        &self.config.schema
    }

    /// How far confirmed rows are complete.
    pub fn cursor(&self) -> SyncId {
        self.cursor
    }

    /// Whether rows are loaded.
    pub fn is_ready(&self) -> bool {
        self.loaded
    }

    /// Whether rows here may be older than the cursor says, and are being loaded or read again.
    pub fn is_repairing(&self) -> bool {
        self.loading != Loading::Idle || self.reads.is_repairing()
    }

    /// Whether a socket is open.
    pub fn is_connected(&self) -> bool {
        self.connection.socket().is_some()
    }

    /// Whether the login is over.
    pub fn is_signed_out(&self) -> bool {
        self.login_ended
    }

    /// The open socket.
    pub fn socket(&self) -> Option<TaskId> {
        self.connection.socket()
    }

    /// Writes not yet confirmed.
    pub fn pending_count(&self) -> usize {
        self.queue.pending_count()
    }

    /// The write queue, for checks.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The rows, for checks and figures.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The bearer in use.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    fn advance(&mut self, now: Now) {
        // While a machine sleeps its monotonic clock may stand still: the other one tells, and deadlines count that time.
        // A clock that goes back is ignored; deadlines never move.
        let passed = now.wall.0.saturating_sub(self.now.wall.0);
        let slept = passed.saturating_sub(now.mono.after(self.slept).since(self.now.mono));
        if slept > SLEEP_MS && !bug::on(Bug::SleepUnnoticed) {
            self.slept += slept;
            self.woke = true;
            self.queue.handle_woken(now.mono.after(self.slept));
        }
        self.now.mono = self.now.mono.max(now.mono.after(self.slept));
        self.now.wall = now.wall;
        // Both clocks are cut to milliseconds: what was told once stays the same to the last of them.
        let ahead = now.wall.0.saturating_sub(self.now.mono.0);
        if ahead.abs_diff(self.wall_ahead) > CLOCKS_APART_MS {
            self.wall_ahead = ahead;
        }
    }

    /// A good moment to find out how things are.
    fn wake(&mut self) {
        self.connection.handle_wake(self.now.mono);
        self.check_alive();
    }

    /// For how long a credential that ends then is good. Clocks that do not agree say nothing.
    fn life(&self, expires_at: Option<&str>) -> Option<u64> {
        self.now.wall.until_iso(expires_at?)
    }

    fn start(&mut self, ticket: Ticket) {
        if self.loaded {
            self.settle(ticket, Ok(None));
            return;
        }
        self.ready.push((ticket, Some(self.now.mono.after(READY_MS))));
        self.begin();
        if matches!(self.connection.state(), State::SignedOut | State::Blocked { .. }) {
            self.fail_ready();
        }
    }

    /// Connects and loads, unless that has begun.
    fn begin(&mut self) {
        if *self.connection.state() == State::Idle {
            self.begin_storage();
            self.connection.start(self.now.mono);
            self.want_rows(self.now.mono);
            self.pump();
        }
    }

    fn handle_timeout(&mut self) {
        let now = self.now.mono;
        self.flush_due = false;
        self.connection.handle_timeout(now, &mut self.rng);
        if self.queue.is_overdue(now) {
            self.connection.handle_dead(now);
        }
        self.handle_session_timeout();
        let late = take_late(&mut self.ready, now);
        if !late.is_empty() {
            let reason = self.connection.reason().cloned();
            let error = reason.unwrap_or_else(|| {
                Error::local("bootstrap_fetch_timeout", "no rows after 20 s; the client goes on trying")
            });
            for ticket in late {
                self.settle(ticket, Err(error.clone()));
            }
        }
        for ticket in take_late(&mut self.flushing, now) {
            let message =
                concat(&[&digits(self.queue.pending_count() as u64), " writes are still waiting to be confirmed"]);
            self.settle(ticket, Err(Error::local("flush_timeout", message)));
        }
    }

    fn set_network(&mut self, forced: bool, system: bool) {
        let before = self.forced_offline || self.system_offline;
        let was_forced = std::mem::replace(&mut self.forced_offline, forced);
        self.system_offline = system;
        let offline = forced || system;
        if before != offline {
            self.connection.handle_network(self.now.mono, !offline);
            // The application means it: nothing will come after it.
            if was_forced && !offline {
                self.connection.handle_retry(self.now.mono);
            }
        }
    }

    fn handle_response(&mut self, task: TaskId, result: Result<Response, String>) {
        if let State::Probing(current) = self.connection.state()
            && *current == task
        {
            self.connection.handle_probe(self.now.mono, task, Probe::classify(&result), &mut self.rng);
            return;
        }
        let asked = matches!(self.connection.state(), State::Identity(current) if *current == task);
        if asked || self.connection.minting() == Some(task) {
            let outcome = self.take_identity(result);
            self.connection.handle_identity(self.now.mono, task, outcome, &mut self.rng);
            return;
        }
        match self.tasks.remove(&task) {
            Some(Task::Bootstrap) => self.handle_bootstrap(task, result),
            Some(Task::Read(fetch)) => self.handle_fetched(fetch, result),
            None => {}
        }
    }

    /// Takes what `/auth/identity` or `/auth/capability` says (protocol.md 4.1, 4.2).
    fn take_identity(&mut self, result: Result<Response, String>) -> Result<Option<u64>, Error> {
        let exchange = self.config.source == Source::Exchange;
        let (failed, malformed, network) = if exchange {
            ("exchange_failed", "exchange_malformed_response", "exchange_network_error")
        } else {
            ("identity_resolve_failed", "identity_resolve_failed", "identity_network_error")
        };
        let response = result.map_err(|why| Error::local(network, why))?;
        let status = response.status;
        let body = response.text(failed).map_err(|mut error| {
            if status >= 500 && error.code == failed {
                // A gateway's page is no refusal.
                error.code = network.into();
            }
            error
        })?;
        let wrong = |what: &str| {
            let mut error = Error::wire(malformed, concat(&["the server's answer has no usable ", what]));
            error.status = Some(502);
            error
        };
        let root = Value::parse(&body).map_err(|_| wrong("JSON"))?;
        let who = if exchange { root.get("scope").ok_or_else(|| wrong("scope"))? } else { root };
        let text = |value: Value<'_>, key: &str| {
            value
                .get_str(key)
                .filter(|text| !text.is_empty())
                .map(std::borrow::Cow::into_owned)
                .ok_or_else(|| wrong(key))
        };
        let kind = text(who, "participantKind")?;
        if !matches!(kind.as_str(), "user" | "agent" | "system") {
            return Err(wrong("participantKind"));
        }
        let granted = who.get("syncGroups").ok_or_else(|| wrong("syncGroups"))?;
        let mut sync_groups = if exchange { Vec::new() } else { self.config.sync_groups.clone() };
        for group in granted.elements().filter_map(Value::as_str) {
            if !sync_groups.iter().any(|known| *known == group) {
                sync_groups.push(group.into_owned());
            }
        }
        if exchange {
            self.token = Some(text(root, "token")?);
        }
        let identity = Identity {
            kind: if exchange { self.config.kind.clone() } else { kind },
            participant: text(who, "participantId")?,
            organization: text(who, if exchange { "organizationId" } else { "accountScope" })?,
            sync_groups,
        };
        let had = std::mem::replace(&mut self.groups, identity.sync_groups.clone());
        self.acked_groups.clone_from(&identity.sync_groups);
        self.identity = Some(identity);
        self.check_stored_groups(&had);
        Ok(self.life(root.get_str("expiresAt").as_deref()))
    }

    /// Whether this participant loads rows at start: agents do not, unless told to.
    fn loads_rows(&self) -> bool {
        let agent = self.identity.as_ref().is_some_and(|who| who.kind == "agent");
        self.config.bootstrap.unwrap_or(!agent)
    }

    /// Whether an HTTP request would carry what it needs.
    fn can_fetch(&self) -> bool {
        self.identity.is_some()
            && self.storage.is_settled()
            && matches!(self.connection.state(), State::Opening(_) | State::Connected(_))
    }

    fn want_rows(&mut self, not_before: Instant) {
        if !matches!(self.loading, Loading::Fetching(_)) {
            self.loading = Loading::Wanted { not_before };
        }
    }

    /// Asks for a snapshot because the stream cannot be followed: at once, unless that has just been tried.
    fn repair(&mut self, why: &str) {
        if self.loading != Loading::Idle {
            return;
        }
        let now = self.now.mono;
        let due = self.last_repair.map_or(now, |last| last.after(REPAIR_PAUSE_MS).max(now));
        self.last_repair = Some(due);
        self.event("reconciliation:needed", &|payload| payload.str("reason", why));
        self.loading = Loading::Wanted { not_before: due };
    }

    fn handle_bootstrap(&mut self, task: TaskId, result: Result<Response, String>) {
        if self.loading != Loading::Fetching(task) {
            return;
        }
        let snapshot = match result {
            Err(why) => Err(Error::local("bootstrap_fetch_timeout", why)),
            Ok(response) if (200..300).contains(&response.status) => {
                Snapshot::parse(response.body, &self.config.schema)
            }
            Ok(response) => {
                let code = if response.status < 500 { "bootstrap_response_invalid" } else { "bootstrap_offline" };
                Err(response.text(code).err().unwrap_or_else(|| Error::wire(code, "")))
            }
        };
        match snapshot {
            // A replica that lags behind what the socket has told us: ask again. Or that was no truth: ask there too.
            Ok(snapshot) if snapshot.last_sync_id < self.cursor && !self.reset && self.loaded => {
                self.load_failed(&Error::local("bootstrap_response_invalid", "the snapshot is older than our rows"));
                self.catch_up();
            }
            Ok(snapshot) => {
                self.loading = Loading::Idle;
                self.load_attempt = 0;
                self.apply_snapshot(snapshot);
            }
            Err(error) => {
                let credential = matches!(
                    error.recovery(),
                    Recovery::AccessCredentialExpiry | Recovery::SessionExpiry | Recovery::AuthBlocked
                );
                if credential && error.status == Some(401) {
                    self.connection.handle_refused(self.now.mono);
                }
                self.load_failed(&error);
            }
        }
    }

    fn load_failed(&mut self, error: &Error) {
        let asked = error.retry_after_ms.map(|ms| ms.min(RETRY_AFTER_MAX_MS));
        let pause = asked.unwrap_or_else(|| backoff(self.load_attempt, &mut self.rng));
        self.load_attempt = self.load_attempt.saturating_add(1);
        self.loading = Loading::Wanted { not_before: self.now.mono.after(pause) };
        self.report(error);
        let refused = |status| (400..500).contains(&status) && !matches!(status, 401 | 408 | 429);
        let hopeless = error.status.map_or(error.code.starts_with("bootstrap_response"), refused);
        if hopeless {
            self.settle_ready(&Err(error.clone()));
        }
    }

    /// Carries news between the machines until nothing moves, and does what became due.
    fn pump(&mut self) {
        self.perform_actions();
        if std::mem::take(&mut self.woke) {
            self.wake();
            self.perform_actions();
        }
        self.pump_storage();
        let now = self.now.mono;
        if self.identity.is_some() && !self.loaded && !self.loads_rows() {
            self.loading = Loading::Idle;
            if self.connection.socket().is_some() {
                self.become_ready();
            }
        }
        if let Loading::Wanted { not_before } = self.loading
            && not_before <= now
            && self.can_fetch()
        {
            let task = self.task(Task::Bootstrap);
            self.loading = Loading::Fetching(task);
            let request = Request {
                method: Method::Get,
                url: self.config.bootstrap_url(&self.groups),
                bearer: self.token.clone(),
                body: None,
                no_cache: true,
                timeout_ms: BOOTSTRAP_MS,
            };
            self.emit(Output::Fetch(task, request));
        }
        self.pump_session();
        self.flush();
        self.pump_claims();
        if self.queue.pending_count() == 0 {
            self.settle_flushing(&Ok(None));
        }
        if let Phase::Draining { ticket, until } = self.phase {
            let done = self.queue.pending_count() == 0 || self.connection.socket().is_none();
            if done || until <= now {
                self.finish_dispose(ticket);
            }
        }
        self.announce_status();
    }

    fn perform_actions(&mut self) {
        while let Some(action) = self.connection.poll_action() {
            match action {
                Action::AskCredential(task) => self.emit(Output::AskCredential(task)),
                Action::FetchIdentity(task) => {
                    let url = self.config.api("/auth/identity");
                    self.fetch_for_connection(task, Method::Get, url, None, IDENTITY_MS);
                }
                Action::Exchange(task) => {
                    let body = Some(self.config.exchange_body());
                    let request = Request {
                        method: Method::Post,
                        url: self.config.api("/auth/capability"),
                        // The key itself, not a token that it was exchanged for.
                        bearer: self.config.token.clone(),
                        body,
                        no_cache: false,
                        timeout_ms: IDENTITY_MS,
                    };
                    self.emit(Output::Fetch(task, request));
                }
                Action::Probe(task) => {
                    let url = self.config.probe_url();
                    self.fetch_for_connection(task, Method::Head, url, None, PROBE_MS);
                }
                Action::Open(socket) => {
                    let kind = self.identity.as_ref().map_or("user", |who| who.kind.as_str());
                    let url = self.config.socket_url(self.server_cursor.as_deref(), kind, &self.acked_groups);
                    let bearer = self.token.as_ref().map(|token| concat(&[super::wire::BEARER_PREFIX, token]));
                    let mut protocols = vec![super::wire::SUBPROTOCOL.to_owned()];
                    if let Some(bearer) = bearer {
                        protocols.insert(0, bearer);
                    }
                    self.emit(Output::OpenSocket { socket, url, protocols });
                }
                Action::Close(socket) => {
                    self.emit(Output::CloseSocket { socket, code: 1000, reason: "Manual disconnect" });
                }
            }
        }
        self.follow_connection();
    }

    /// Notices that the connection's state is another than before.
    fn follow_connection(&mut self) {
        let socket = self.connection.socket();
        if self.session.as_ref().map(|session| session.socket) != socket {
            self.end_session();
            if let Some(socket) = socket {
                self.begin_session(socket);
            }
        }
        let state = self.connection.state();
        if *state == State::SignedOut && !self.login_ended {
            self.end_login();
        } else if matches!(state, State::Blocked { .. }) {
            self.fail_ready();
        }
        if socket.is_none() && self.offline_since.is_none() && self.loaded {
            self.offline_since = Some(self.now.wall.0);
        }
    }

    fn fail_ready(&mut self) {
        if let Some(error) = self.connection.reason().cloned() {
            self.settle_ready(&Err(error));
        }
    }

    fn become_ready(&mut self) {
        self.loaded = true;
        self.last_sync_at = Some(self.now.wall.0);
        self.settle_ready(&Ok(None));
    }

    fn fetch_for_connection(
        &mut self,
        task: TaskId,
        method: Method,
        url: String,
        body: Option<String>,
        timeout_ms: u64,
    ) {
        let request = Request { method, url, bearer: self.token.clone(), body, no_cache: true, timeout_ms };
        self.emit(Output::Fetch(task, request));
    }

    /// Names a request of the engine's own. Its ids are even, the connection's odd.
    fn task(&mut self, task: Task) -> TaskId {
        let id = self.task_id();
        self.tasks.insert(id, task);
        id
    }

    fn task_id(&mut self) -> TaskId {
        self.next_task += 2;
        TaskId(self.next_task)
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push(output);
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Option<String>, Error>) {
        self.emit(Output::Settle(ticket, result));
    }

    fn event(&mut self, name: &'static str, fill: &dyn Fn(&mut ObjectWriter<'_>)) {
        let mut text = String::new();
        let mut payload = ObjectWriter::new(&mut text);
        fill(&mut payload);
        payload.end();
        self.emit(Output::Event(name, text));
    }

    /// Tells listeners about trouble that no call of theirs caused.
    fn report(&mut self, error: &Error) {
        self.emit(Output::Event("sync:error", error.to_json()));
    }
}
