//! The server's machine: the engine, the store behind it, and the rule that nothing leaves before it is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ablo_server::engine::{
    BootstrapRequest, Config, ConnectionId, Engine, KeyKind, Output, Participant, StaticKey, StoreChange, Stored,
};
use ablo_wasm::core::error::{Error, code_spec};
use ablo_wasm::core::input::Response;
use ablo_wasm::core::json::{ObjectWriter, Value};
use ablo_wasm::core::output::{Method, Request};
use ablo_wasm::core::schema::Schema;
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{ClientFrame, Commit, ServerFrame};

use crate::book::{Book, Step};
use crate::bugs::Tamper;
use crate::oracle::{Check, Oracle, broken};
use crate::shop;

/// The key that may mint others.
pub(crate) const SECRET: &str = "sk_sim";
/// The key of the agent that writes over HTTP.
pub(crate) const AGENT_KEY: &str = "rk_sim_agent";

/// A call on the server that is answered once.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// A client's HTTP request.
    Http(Request),
    /// The application's backend mints a key for a user.
    Mint { user: String, groups: BTreeSet<String>, ttl_s: u64 },
    /// A commit of the agent.
    Agent(String),
}

/// A connection of the world that a server's connection belongs to.
pub(crate) type LinkNo = u64;

/// What waits for the store.
#[derive(Debug)]
enum Held {
    Store { change: StoreChange, commit: Option<(String, Commit)>, ready_at: u64 },
    Send(ConnectionId, Arc<str>),
    Close(ConnectionId, u16),
    Reply(u64, Response),
}

/// What leaves the machine.
#[derive(Debug)]
pub(crate) enum Left {
    Send(LinkNo, Arc<str>),
    Close(LinkNo, u16),
    Reply(u64, Response),
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Host {
    engine: Option<Engine>,
    disk: Stored,
    keys: Vec<StaticKey>,
    held: VecDeque<Held>,
    links: BTreeMap<ConnectionId, LinkNo>,
    /// The store is busy until then.
    store_at: u64,
    /// A write takes so long at most.
    pub(crate) store_ms: u64,
    lives: u64,
    seed: u64,
    tamper: Option<Tamper>,
    /// Its claims, where there are any.
    pub(crate) book: Option<Book>,
}

impl Host {
    pub(crate) fn new(seed: u64, keys: Vec<StaticKey>, tamper: Option<Tamper>) -> Self {
        let mut host = Self {
            engine: None,
            disk: Stored::default(),
            keys,
            held: VecDeque::new(),
            links: BTreeMap::new(),
            store_at: 0,
            store_ms: 0,
            lives: 0,
            seed,
            tamper,
            book: None,
        };
        host.start();
        host
    }

    /// Starts with what is durable.
    pub(crate) fn start(&mut self) {
        self.lives += 1;
        let schema = Schema::parse_all(shop::SCHEMA).expect("the shop's schema is valid");
        let config = Config { schema: Some(schema), keys: self.keys.clone(), ..Config::default() };
        let mut engine = Engine::new(config, Engine::seed_from(self.seed.wrapping_add(self.lives << 40)));
        let mut stored = self.disk.clone();
        match self.tamper {
            Some(Tamper::KeysForgotten) => {
                stored.commits.clear();
                stored.transactions.clear();
            }
            Some(Tamper::IdsAgain) => {
                let last = stored.deltas.keys().next_back().copied();
                last.and_then(|last| stored.deltas.remove(&last));
                stored.head.0 = stored.head.0.saturating_sub(1);
            }
            _ => {}
        }
        engine.load(stored).expect("what the engine stored can be loaded");
        self.engine = Some(engine);
    }

    /// Everything that was not durable is gone. `kept` changes were just made durable without anybody being told.
    pub(crate) fn crash(&mut self, kept: usize, oracle: &mut Oracle) -> Check {
        let mut left = kept;
        while let Some(held) = self.held.pop_front() {
            if let Held::Store { change, commit, .. } = held
                && left > 0
            {
                left -= 1;
                self.store(change, commit, oracle)?;
            }
        }
        self.engine = None;
        let reserved = self.disk.fence.0;
        self.book.iter_mut().for_each(|book| book.clear(reserved));
        self.links.clear();
        self.store_at = 0;
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    pub(crate) fn head(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.head().0)
    }

    /// Nothing waits for the store.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// The engine's rows: model name, id, text.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.engine.iter().flat_map(|engine| engine.rows(shop::ORGANIZATION))
    }

    /// Every connection with its participant and groups.
    pub(crate) fn connections(&self) -> Vec<(ConnectionId, String, BTreeSet<String>)> {
        self.engine.iter().flat_map(Engine::known_connections).collect()
    }

    /// A socket's upgrade. `None`: refused.
    pub(crate) fn connect(
        &mut self,
        now: Now,
        token: Option<&str>,
        groups: Option<Vec<String>>,
        link: LinkNo,
    ) -> Option<ConnectionId> {
        let engine = self.engine.as_mut()?;
        let participant = engine.authenticate(now, token).ok()?;
        let connection = engine.connect(now, &participant, groups);
        self.links.insert(connection, link);
        self.collect(now, None)?;
        Some(connection)
    }

    /// The other side, or the network, closed a connection.
    pub(crate) fn disconnect(&mut self, now: Now, connection: ConnectionId) {
        if let Some(engine) = &mut self.engine {
            engine.disconnect(now, connection);
        }
        self.links.remove(&connection);
        self.collect(now, None);
    }

    /// A frame came in.
    pub(crate) fn frame(&mut self, now: Now, connection: ConnectionId, who: &str, text: &str, oracle: &mut Oracle) {
        let Some(engine) = &mut self.engine else { return };
        let commit = match ClientFrame::parse(text) {
            Ok(ClientFrame::Commit(commit)) => Some((who.to_owned(), commit)),
            _ => None,
        };
        let before = self.held.len();
        engine.handle_frame(now, connection, text);
        self.collect(now, commit);
        for held in self.held.iter().skip(before) {
            if let Held::Send(_, text) = held
                && let Ok(ServerFrame::MutationResult(result)) = ServerFrame::parse(text)
                && !result.success
            {
                oracle.refused(&result.client_tx_id);
            }
        }
    }

    /// A call came in. Its answer leaves when everything before it is durable.
    pub(crate) fn call(&mut self, now: Now, number: u64, call: &Call) {
        let Some(engine) = &mut self.engine else { return };
        let mut commit = None;
        let response = match call {
            Call::Http(request) => route(engine, now, request),
            Call::Mint { user, groups, ttl_s } => {
                let mut body = String::new();
                let mut object = ObjectWriter::new(&mut body);
                object.object("user", |object| object.str("id", user));
                object.strs("syncGroups", groups);
                object.u64("ttlSeconds", *ttl_s);
                object.end();
                let holder = engine.authenticate(now, Some(SECRET));
                answer(holder.and_then(|holder| engine.mint_ephemeral_key(now, &holder, SECRET, &body)))
            }
            Call::Agent(body) => {
                let parsed = Value::parse(body).ok().and_then(|body| Commit::parse(body).ok());
                commit = parsed.map(|commit| ("agent".to_owned(), commit));
                let holder = engine.authenticate(now, Some(AGENT_KEY));
                answer(holder.and_then(|holder| engine.commit_request(now, &holder, None, body)))
            }
        };
        self.collect(now, commit);
        self.held.push_back(Held::Reply(number, response));
    }

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Now) {
        if let Some(engine) = &mut self.engine {
            engine.handle_timeout(now);
        }
        self.collect(now, None);
    }

    /// When the engine wants to be called.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.engine.as_ref()?.poll_timeout().map(|at| at.0)
    }

    /// When the store is done with what is first.
    pub(crate) fn ready_at(&self) -> Option<u64> {
        self.held.iter().find_map(|held| match held {
            Held::Store { ready_at, .. } => Some(*ready_at),
            _ => None,
        })
    }

    /// Takes the engine's outputs; those behind a change wait for it.
    fn collect(&mut self, now: Now, mut commit: Option<(String, Commit)>) -> Option<()> {
        let engine = self.engine.as_mut()?;
        let before = self.held.len();
        while let Some(output) = engine.poll_output() {
            let held = match output {
                Output::Store(change) => {
                    self.store_at = self.store_at.max(now.mono.0) + self.store_ms;
                    let commit = if change.commits.is_empty() { None } else { commit.take() };
                    Held::Store { change, commit, ready_at: self.store_at }
                }
                Output::Send { connection, text } => Held::Send(connection, text),
                Output::Close { connection, code, .. } => Held::Close(connection, code),
            };
            self.held.push_back(held);
        }
        if let Some(book) = &mut self.book {
            let mut step = Step::default();
            for held in self.held.iter().skip(before) {
                match held {
                    Held::Store { change, commit: Some((_, commit)), .. } => step.applied = Some((commit, change)),
                    Held::Send(connection, text) => step.sent(*connection, text),
                    Held::Store { .. } | Held::Close(..) | Held::Reply(..) => {}
                }
            }
            book.look(engine, &step);
        }
        Some(())
    }

    fn store(&mut self, change: StoreChange, commit: Option<(String, Commit)>, oracle: &mut Oracle) -> Check {
        let (who, commit) = commit.unzip();
        oracle.durable(&who.unwrap_or_default(), commit.as_ref(), &change)?;
        self.disk.apply(change);
        Ok(())
    }

    /// What may leave now.
    pub(crate) fn leaving(&mut self, now: u64, oracle: &mut Oracle) -> Check<Vec<Left>> {
        if let Some(violation) = self.book.as_mut().and_then(|book| book.violation.take()) {
            return Err(violation);
        }
        let mut out = Vec::new();
        if self.tamper == Some(Tamper::AcksBeforeStore) {
            let (stores, others): (VecDeque<Held>, VecDeque<Held>) =
                self.held.drain(..).partition(|held| matches!(held, Held::Store { .. }));
            self.held = others.into_iter().chain(stores).collect();
        }
        while let Some(held) = self.held.pop_front() {
            match held {
                Held::Store { ready_at, .. } if ready_at > now => {
                    self.held.push_front(held);
                    break;
                }
                Held::Store { change, commit, .. } => self.store(change, commit, oracle)?,
                Held::Send(connection, text) => {
                    if let Some(link) = self.links.get(&connection) {
                        out.push(Left::Send(*link, text));
                    }
                }
                Held::Close(connection, code) => {
                    if let Some(link) = self.links.remove(&connection) {
                        out.push(Left::Close(link, code));
                    }
                }
                Held::Reply(number, response) => out.push(Left::Reply(number, response)),
            }
        }
        Ok(out)
    }

    /// What the disk holds is what the engine says, when nothing is on its way there.
    pub(crate) fn check_disk(&self) -> Check {
        if !self.is_idle() {
            return Ok(());
        }
        let disk: BTreeMap<(Option<_>, &str), &str> =
            self.disk.rows.values().map(|row| ((shop::model_of(&row.model), &*row.id), &*row.data)).collect();
        let engine: BTreeMap<(Option<_>, &str), &str> =
            self.rows().map(|(model, id, text)| ((shop::model_of(model), id), text)).collect();
        if self.is_up() && disk != engine {
            return broken("disk", "the engine's rows are not those that it stored");
        }
        Ok(())
    }
}

/// The participants that have fixed keys.
pub(crate) fn fixed_key(token: &str, user: &str, groups: BTreeSet<String>) -> StaticKey {
    let participant =
        Participant { sync_groups: groups, key: KeyKind::of(token), ..Participant::user(user, shop::ORGANIZATION) };
    StaticKey { token: token.to_owned(), participant }
}

fn answer(result: Result<String, Error>) -> Response {
    match result {
        Ok(body) => Response { status: 200, body: body.into_bytes(), ..Response::default() },
        Err(error) => {
            let status = code_spec(&error.code).map_or(500, |spec| spec.status);
            let mut body = String::new();
            let mut object = ObjectWriter::new(&mut body);
            object.str("code", &error.code);
            object.str("message", &error.message);
            object.end();
            Response { status, body: body.into_bytes(), ..Response::default() }
        }
    }
}

/// HTTP in front of the engine.
fn route(engine: &mut Engine, now: Now, request: &Request) -> Response {
    let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
    let path = path.strip_prefix(crate::client::BASE_URL).unwrap_or(path);
    let token = request.bearer.as_deref();
    let participant = match engine.authenticate(now, token) {
        Ok(participant) => participant,
        Err(error) => {
            let mut response = answer(Err(error.clone()));
            response.auth_failure = Some(error.code.to_string());
            return response;
        }
    };
    let body = request.body.as_deref().unwrap_or("");
    match (request.method, path) {
        (Method::Head, "/api/auth/check") => Response { status: 204, ..Response::default() },
        (Method::Get, "/api/auth/identity") => answer(Ok(engine.identity(&participant))),
        (Method::Post, "/api/auth/capability") => {
            answer(engine.mint_capability(now, &participant, token.unwrap_or(""), body))
        }
        (Method::Get, "/api/sync/bootstrap") => {
            let models = parameters(query, "models").into_iter().next();
            let request = BootstrapRequest {
                sync_groups: Some(parameters(query, "syncGroups")),
                models: models.map(|names| names.split(',').map(str::to_owned).collect()),
            };
            answer(Ok(engine.bootstrap(now, &participant, request)))
        }
        (Method::Post, "/api/sync/query") => answer(engine.query(&participant, body)),
        _ => Response { status: 404, ..Response::default() },
    }
}

/// The values of a query's parameter, decoded.
pub(crate) fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0) as u8;
        match byte {
            b'%' => out.push(digit() << 4 | digit()),
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
