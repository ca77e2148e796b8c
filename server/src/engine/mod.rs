//! The sync engine: every decision of the server, without I/O.
//!
//! It owns all rows of all organizations in memory, as JSON text, with the history that lets connections catch up. It
//! reads no clock, draws no outside randomness and writes nowhere: time and seed are arguments, and what must last comes
//! out as [`Output::Store`]. The same type runs behind `ablo-server` and in the simulation.
//!
//! Reading order: [`Engine`] for the contract, `session` for frames and fan-out, `commit` for writes, `read`, `query` and
//! `model_api` for HTTP reads, `history` for deltas, `group` for who sees what, `auth` for keys, `ended` for those
//! that end early, `claim` for leases, `guard` and `stale` for what keeps a commit from its rows, `presence` for who is
//! there, `join` for groups joined for a while.

mod auth;
mod catalog;
mod claim;
mod commit;
mod ended;
mod group;
mod guard;
mod history;
mod idempotency;
mod join;
mod model_api;
mod participant;
mod presence;
mod query;
mod read;
mod row;
mod seed;
mod session;
mod stale;
mod storage;
mod tenant;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::{Kind, Value};
use ablo_wasm::core::schema::Schema;
use ablo_wasm::core::time::{Instant, Now};

pub use auth::{KEY_TTL_MAX_MS, KEY_TTL_MS, StaticKey};
pub use claim::{
    CLAIM_LINE_MAX, CLAIM_RENEWAL_MS, CLAIM_TTL_MAX_MS, CLAIM_TTL_MIN_MS, CLAIM_TTL_MS, CLAIMS_PER_PARTICIPANT_MAX,
    ClaimAnswer, Fence, KnownClaim,
};
pub use commit::OPERATIONS_MAX;
pub use ended::KeyEnd;
pub use history::HISTORY_MAX;
pub use idempotency::IDEMPOTENCY_WINDOW_MS;
pub use join::{JOIN_TTL_MAX_S, JOINS_MAX, event_type};
pub use participant::{KeyKind, Participant, ParticipantKind, Text};
pub use presence::ROSTER_MAX;
pub use query::QUERIES_MAX;
pub use read::BootstrapRequest;
pub use session::{ConnectionId, HOLD_BACK_MS};
pub use stale::{GROUP_READS_MAX, READS_MAX};
pub use storage::{StoreChange, Stored, StoredCommit, StoredDelta, StoredKey, StoredRow, StoredTransaction, Verb};

use catalog::{Catalog, Slot};
use claim::Claims;
use group::Routing;
use history::{Change, History};
use idempotency::Remembered;
use presence::Roster;
use session::{Bootstraps, Connection};
use tenant::{Row, Tenant};

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The models. Without one, any model is accepted.
    pub schema: Option<Schema>,
    /// Keys that work from the start.
    pub keys: Vec<StaticKey>,
    /// How long accepted commits are recognized when they come again, in milliseconds.
    pub idempotency_window_ms: u64,
    /// Life of an issued key when the request does not say, in milliseconds.
    pub key_ttl_ms: u64,
    /// How long a claim outlives the last frame of its holder's connection, in milliseconds (protocol.md 11.5).
    pub claim_renewal_ms: u64,
    /// The application's collaboration events, beside those of protocol.md 7.12: wire types, as [`event_type`] makes
    /// them.
    pub events: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schema: None,
            keys: Vec::new(),
            idempotency_window_ms: IDEMPOTENCY_WINDOW_MS,
            key_ttl_ms: KEY_TTL_MS,
            claim_renewal_ms: CLAIM_RENEWAL_MS,
            events: Vec::new(),
        }
    }
}

/// What the world is to do, in order.
#[expect(clippy::large_enum_variant, reason = "outputs are taken one by one, never kept in numbers")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this durable before anything that comes after it.
    Store(StoreChange),
    /// Send a text frame.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The frame.
        text: Arc<str>,
    },
    /// Close the connection. The engine has already forgotten it.
    Close {
        /// Which.
        connection: ConnectionId,
        /// The close code.
        code: u16,
        /// The reason.
        reason: &'static str,
    },
}

/// The server's state and decisions.
///
/// # The contract
///
/// - **Facts** come in by [`connect`](Self::connect), [`handle_frame`](Self::handle_frame),
///   [`disconnect`](Self::disconnect) and [`handle_timeout`](Self::handle_timeout). They cannot fail: what a client did
///   wrong is answered to that client.
/// - **Requests** (`bootstrap`, `query`, `commit_request`, …) are HTTP bodies in, HTTP bodies out; they fail with an
///   [`Error`] whose registered status is the HTTP status.
/// - After each of either, drain [`poll_output`](Self::poll_output) to `None`, then read
///   [`poll_timeout`](Self::poll_timeout) and call [`handle_timeout`](Self::handle_timeout) no earlier than it says. Too
///   late or too often is harmless.
/// - Outputs are performed in order, and nothing behind an [`Output::Store`] may leave the server before that change is
///   durable: **neither later outputs nor the result of the request** that produced it. A store that fails to write is
///   the end of this engine: drop it and load another from what is durable.
/// - Who restarts gives [`load`](Self::load) everything durable before anything else.
///
/// ```
/// use ablo_server::engine::{Config, Engine, Output, Participant, Stored};
/// use ablo_wasm::core::time::Now;
///
/// let mut engine = Engine::new(Config::default(), Engine::seed_from(7));
/// let mut disk = Stored::default();
/// let now = Now::new(0, 1_782_900_000_000);
/// let ada = Participant::user("ada", "acme");
/// let conn = engine.connect(now, &ada, None);
/// engine.handle_frame(now, conn, r#"{"type":"sync_request","payload":{"cursor":null,"lastSyncId":0}}"#);
/// engine.handle_frame(now, conn, r#"{"type":"commit","payload":{"clientTxId":"k1","operations":[
///     {"type":"CREATE","model":"Task","id":"t1","input":{"title":"Write"}}]}}"#);
/// let mut sent = Vec::new();
/// while let Some(output) = engine.poll_output() {
///     match output {
///         Output::Store(change) => disk.apply(change),
///         Output::Send { text, .. } => sent.push(text.to_string()),
///         Output::Close { .. } => {}
///     }
/// }
/// assert_eq!((sent.len(), disk.rows.len(), disk.head.0), (3, 1, 1)); // sync_response, delta, mutation_result
/// ```
#[derive(Debug)]
pub struct Engine {
    catalog: Catalog,
    keys: auth::Keys,
    random: token::Random,
    tenants: BTreeMap<Text, Tenant>,
    /// The highest id given out. Only grows, also across restarts.
    head: SyncId,
    history: History,
    remembered: Remembered,
    /// When memory of commits is swept next; never, until [`sweep`](Self::sweep) was called.
    sweep_at: Option<Instant>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    bootstraps: Bootstraps,
    claims: Claims,
    roster: Roster,
    /// Further events that are relayed.
    events: BTreeSet<String>,
    /// The moment of the latest fact, for what follows from one that brings no time.
    clock: Now,
    soonest: Option<Instant>,
    /// Models learned since the last change went to the store.
    unsaved_models: Vec<Slot>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// An empty engine. The seed decides ids and keys that it makes up: take it from the operating system wherever keys
    /// must not be guessed.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            catalog: Catalog::new(config.schema),
            keys: auth::Keys::new(config.keys, config.key_ttl_ms),
            random: token::Random::new(seed),
            tenants: BTreeMap::new(),
            head: SyncId(0),
            history: History::default(),
            remembered: Remembered::new(config.idempotency_window_ms),
            sweep_at: None,
            connections: BTreeMap::new(),
            next_connection: 1,
            bootstraps: Bootstraps::default(),
            claims: Claims::new(config.claim_renewal_ms),
            roster: Roster::default(),
            events: config.events.into_iter().collect(),
            clock: Now::default(),
            soonest: None,
            unsaved_models: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A seed for tests and simulations.
    pub fn seed_from(number: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        seed
    }

    /// Takes over what a store holds. Call it once, before anything else.
    ///
    /// # Errors
    /// `internal_error` naming the first record that cannot be read: starting without it would lose it.
    pub fn load(&mut self, stored: Stored) -> Result<(), Error> {
        let broken = |what: &str, id: &str| {
            Err(Error::wire("internal_error", format!("the stored {what} {id:.80} cannot be read; restore a backup")))
        };
        self.head = stored.head;
        self.claims.restore(stored.fence);
        if self.head > SyncId(0) {
            self.bootstraps.restart();
        }
        let spellings = stored.models;
        for spelling in &spellings {
            self.catalog.restore(spelling.0, Some(spelling.1));
        }
        for (_, row) in stored.rows {
            if Value::parse(&row.data).is_ok_and(|data| data.kind == Kind::Object) {
                let slot = self.catalog.restore(&row.model, spellings.get(&row.model));
                let tenant = self.tenants.entry(row.organization).or_default();
                tenant.put(slot, row.id, Row::new(row.data, Routing::default(), row.last_sync_id));
            } else {
                return broken("row", &row.id);
            }
        }
        for tenant in self.tenants.values_mut() {
            tenant.route_all(&self.catalog);
        }
        let mut changes = Vec::new();
        for (id, delta) in stored.deltas {
            self.head = self.head.max(id);
            changes.push(Change {
                id,
                slot: self.catalog.restore(&delta.model, spellings.get(&delta.model)),
                organization: delta.organization,
                row: delta.row,
                verb: delta.verb,
                before: delta.groups_before.map(Arc::from),
                after: delta.groups_after.map(Arc::from),
                fields: delta.fields,
                emptied: delta.emptied,
                actor: delta.actor,
                connection: None,
                at: delta.at,
            });
        }
        self.history.restore(stored.history_floor, changes.into_iter());
        for (_, key) in stored.keys {
            if !self.keys.restore(&key) {
                return broken("key", &key.hash);
            }
        }
        let (commits, transactions) = (stored.commits.into_values(), stored.transactions.into_values());
        self.remembered.restore(stored.forgotten, commits, transactions);
        Ok(())
    }

    /// Forgets commits older than the window, now and from now on as time passes. Without it that happens with the
    /// next commit. Call it after [`load`](Self::load).
    pub fn sweep(&mut self, now: Now) {
        if let Some(moment) = self.remembered.forget(now.wall) {
            self.outputs
                .push_back(Output::Store(StoreChange { forget_before: Some(moment), ..StoreChange::default() }));
        }
        self.sweep_at = Some(now.mono.after(self.remembered.step()));
    }

    /// The next thing to do, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connections = self.connections.values().filter_map(Connection::deadline);
        connections.chain(self.sweep_at).chain(self.claims.deadline()).min()
    }

    /// The soonest moment among claims, and among what has come up since the last
    /// [`handle_timeout`](Self::handle_timeout). [`poll_timeout`](Self::poll_timeout) is never later than this, and far
    /// more expensive: ask it only when this is sooner than what it said.
    pub fn soonest_timeout(&self) -> Option<Instant> {
        self.claims.deadline().into_iter().chain(self.soonest).min()
    }

    /// A new moment at which something is to happen.
    fn wake_by(&mut self, at: Instant) {
        self.soonest = Some(self.soonest.map_or(at, |soonest| soonest.min(at)));
    }

    /// The highest sync id given out.
    pub fn head(&self) -> SyncId {
        self.head
    }

    /// Whether no row has ever been written.
    pub fn is_empty(&self) -> bool {
        self.head == SyncId(0)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The JSON text of every row of an organization, as (typename, id, text), archived ones included. For checks.
    pub fn rows(&self, organization: &str) -> impl Iterator<Item = (&str, &str, &str)> {
        let tenant = self.tenants.get(organization);
        self.catalog.served().flat_map(move |(slot, entry)| {
            let rows = tenant.into_iter().flat_map(move |tenant| tenant.rows(slot));
            rows.map(move |(id, row)| (&*entry.typename, &**id, &*row.text))
        })
    }

    /// All claims, row by row: those that hold it, then those that wait, in order. For checks.
    pub fn known_claims(&self) -> Vec<KnownClaim> {
        self.claims.known()
    }

    /// Every connection with its participant, kind and id, and its groups. For checks.
    pub fn known_connections(&self) -> impl Iterator<Item = (ConnectionId, String, BTreeSet<String>)> {
        let groups = |known: &Connection| known.group_names().map(str::to_owned).collect();
        self.connections.iter().map(move |(id, known)| (*id, known.participant.name(), groups(known)))
    }
}
