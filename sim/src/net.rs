//! The network: sockets and requests, with everything that may happen to them on the way.
//!
//! A link carries what was sent in order. What it loses it loses from some point on, as a broken connection does.
//! Frames to the server never outlive the connection by long: a commit that overtakes its own refusal would be carried
//! out after its author was told otherwise, and no client can do anything about that (sim/README.md).

use std::collections::VecDeque;

use ablo_server::engine::ConnectionId;
use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::{SyncId, TaskId};
use ablo_wasm::core::input::{Credential, Input, Response};
use ablo_wasm::core::json::Value;
use ablo_wasm::core::wire::{BEARER_PREFIX, ClientFrame, MutationResult, ServerFrame};

use crate::bugs::Tamper;
use crate::host::{self, Call, LinkNo};
use crate::oracle::{Author, Check, broken};
use crate::world::{Event, World};

/// Frames that the server keeps for a slow consumer before it gives it up.
const SLOW_FRAMES_MAX: usize = 40;
/// A browser gives up opening a socket after so long.
const OPEN_MS: u64 = 60_000;

/// On its way to the server.
#[derive(Debug)]
pub(crate) enum Up {
    Upgrade,
    Frame(String),
    Closed,
}

/// On its way to the client.
#[derive(Debug)]
pub(crate) enum Down {
    Opened,
    Frame(String),
    Closed(u16),
}

/// The client's side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Opening,
    Open,
    Closed,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) author: Author,
    socket: TaskId,
    who: String,
    token: Option<String>,
    groups: Vec<String>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) page: Page,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    up_at: u64,
    pub(crate) down_at: u64,
    /// Nothing gets through any more, in either direction.
    dead: bool,
}

impl Link {
    pub(crate) fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    /// Open on both sides, and nothing is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        !self.dead && self.page == Page::Open && self.connection.is_some() && self.is_quiet()
    }
}

/// Whose call it is.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// A client's engine.
    Client(usize, Author, TaskId),
    /// A client's credential function.
    Credential(usize, Author, TaskId),
    /// The agent, with the writes of its commit; none when it does not care.
    Agent(Vec<u32>),
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    call: Call,
    owner: Owner,
    /// The server has it.
    pub(crate) at_server: bool,
    /// The answer will be lost.
    deaf: bool,
}

impl World {
    fn latency(&mut self) -> u64 {
        let (min, max) = (self.plan.latency_min_ms, self.plan.latency_max_ms);
        self.net.range(min, max)
    }

    pub(crate) fn open_link(&mut self, no: usize, socket: TaskId, url: &str, protocols: &[String]) {
        self.stats.sockets += 1;
        self.next_link += 1;
        let number = self.next_link;
        let token = protocols.iter().find_map(|name| name.strip_prefix(BEARER_PREFIX)).map(str::to_owned);
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let client = &mut self.clients[no];
        client.links.insert(socket, number);
        let link = Link {
            client: no,
            author: client.author,
            socket,
            who: client.persona.user.clone(),
            token,
            groups: host::parameters(query, "syncGroups"),
            connection: None,
            page: Page::Opening,
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_at: self.now,
            down_at: self.now,
            dead: !client.online,
        };
        self.links.insert(number, link);
        self.push_up(number, Up::Upgrade);
        self.at(OPEN_MS, Event::OpenTimeout(number));
    }

    fn push_up(&mut self, number: LinkNo, item: Up) {
        let latency = self.latency();
        let now = self.now;
        let Some(link) = self.links.get_mut(&number).filter(|link| !link.dead) else { return };
        link.up_at = link.up_at.max(now + latency);
        link.up.push_back(item);
        let after = link.up_at - now;
        self.at(after, Event::Up(number));
    }

    fn push_down(&mut self, number: LinkNo, item: Down) {
        let latency = self.latency();
        let now = self.now;
        let Some(link) = self.links.get_mut(&number).filter(|link| !link.dead) else { return };
        link.down_at = link.down_at.max(now + latency);
        link.down.push_back(item);
        let after = link.down_at - now;
        self.at(after, Event::Down(number));
    }

    pub(crate) fn send_up(&mut self, no: usize, socket: TaskId, text: String) -> Check {
        let link = self.clients[no].links.get(&socket).copied();
        match link.and_then(|number| Some((number, self.links.get(&number)?))) {
            Some((number, link)) if link.page == Page::Open => {
                self.trace.note(number, &text, String::new);
                self.push_up(number, Up::Frame(text));
                Ok(())
            }
            // It has yet to learn what happened while it was frozen.
            _ if self.clients[no].thawing => Ok(()),
            _ => broken("closed-socket", format!("a frame on {socket:?}, which is not open: {text}")),
        }
    }

    pub(crate) fn close_by_client(&mut self, no: usize, socket: TaskId) {
        let Some(number) = self.clients[no].links.get(&socket).copied() else { return };
        if let Some(link) = self.links.get_mut(&number) {
            link.page = Page::Closed;
        }
        self.push_up(number, Up::Closed);
    }

    /// Frames for a client. A consumer that is too slow is given up.
    pub(crate) fn send_down(&mut self, number: LinkNo, text: &str) {
        let Some(link) = self.links.get(&number) else { return };
        if link.down.len() > SLOW_FRAMES_MAX {
            self.drop_connection(number, 1013);
            return;
        }
        let mut text = text.to_owned();
        if self.plan.lying && !self.healing && self.net.percent(5) {
            let head = self.oracle.head().0;
            text = crate::lie::instead_of(&text, head, &mut self.net);
        }
        match self.options.tamper {
            Some(Tamper::FirstDeltaOnly) => text = Self::first_delta_only(&text).unwrap_or(text),
            Some(Tamper::FrameLost) if text.starts_with(r#"{"type":"delta""#) && self.net.percent(2) => return,
            _ => {}
        }
        self.push_down(number, Down::Frame(text));
    }

    pub(crate) fn close_by_server(&mut self, number: LinkNo, code: u16) {
        if let Some(link) = self.links.get_mut(&number) {
            link.connection = None;
        }
        self.push_down(number, Down::Closed(code));
    }

    /// The server, or something before it, ends a connection with a code.
    pub(crate) fn drop_connection(&mut self, number: LinkNo, code: u16) {
        let now = self.server_now();
        let connection = self.links.get_mut(&number).and_then(|link| link.connection.take());
        if let Some(connection) = connection {
            self.host.disconnect(now, connection);
        }
        self.push_down(number, Down::Closed(code));
    }

    /// The connection breaks: some of what is on its way still arrives. Says whether either side will learn of it.
    pub(crate) fn cut(&mut self, number: LinkNo, tell_server: bool, tell_client: bool) -> Check {
        let Some(link) = self.links.get(&number) else { return Ok(()) };
        let (ups, downs) = (link.up.len() + 1, link.down.len() + 1);
        let (kept_up, kept_down) = (self.net.index(ups), self.net.index(downs));
        for _ in 0..kept_up {
            self.arrive_up(number)?;
        }
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        link.up.clear();
        link.down.truncate(kept_down);
        if tell_client {
            let code = self.net.pick(&[1006, 1006, 1001]);
            self.push_down(number, Down::Closed(code));
        }
        if tell_server {
            self.server_notices(number)?;
        } else {
            let after = self.net.range(5_000, 90_000);
            self.at(after, Event::ServerNotices(number));
        }
        // Whatever either side sends from now on is lost.
        self.links.get_mut(&number).into_iter().for_each(|link| link.dead = true);
        Ok(())
    }

    pub(crate) fn server_notices(&mut self, number: LinkNo) -> Check {
        let now = self.server_now();
        if let Some(connection) = self.links.get_mut(&number).and_then(|link| link.connection.take()) {
            self.host.disconnect(now, connection);
            self.after_server()?;
        }
        Ok(())
    }

    pub(crate) fn arrive_up(&mut self, number: LinkNo) -> Check {
        let now = self.server_now();
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let Some(item) = link.up.pop_front() else { return Ok(()) };
        match item {
            Up::Upgrade => {
                let (token, groups, no, author) = (link.token.clone(), link.groups.clone(), link.client, link.author);
                let open = self.reachable && !self.is_gate_shut(no, author, token.as_deref());
                let connection =
                    if open { self.host.connect(now, token.as_deref(), Some(groups), number) } else { None };
                let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
                link.connection = connection;
                self.push_down(number, if connection.is_some() { Down::Opened } else { Down::Closed(1006) });
            }
            Up::Frame(text) => {
                if let Some(connection) = link.connection {
                    let who = link.who.clone();
                    let trouble = self.plan.on.commit_errors && !self.healing && self.net.percent(10);
                    if trouble && let Some(refusal) = self.refuse_for_now(&text) {
                        self.push_down(number, Down::Frame(refusal));
                        return Ok(());
                    }
                    self.host.frame(now, connection, &who, &text, &mut self.oracle);
                }
            }
            Up::Closed => {
                if let Some(connection) = link.connection.take() {
                    self.host.disconnect(now, connection);
                }
            }
        }
        self.after_server()
    }

    /// The answer to a commit that something before the engine refuses: too many requests, trouble inside.
    fn refuse_for_now(&mut self, text: &str) -> Option<String> {
        let Ok(ClientFrame::Commit(commit)) = ClientFrame::parse(text) else { return None };
        let code = self.net.pick(&["rate_limit_exceeded", "internal_error", "instance_at_capacity", "commit_failed"]);
        self.oracle.refused(&commit.client_tx_id);
        Some(ServerFrame::mutation_result(&MutationResult {
            client_tx_id: commit.client_tx_id,
            server_tx_id: String::new(),
            success: false,
            last_sync_id: SyncId(0),
            ops: 0,
            notifications: None,
            error: Some(Error::wire(code, "not now")),
        }))
    }

    pub(crate) fn arrive_down(&mut self, number: LinkNo) -> Check {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let Some(item) = link.down.pop_front() else { return Ok(()) };
        let (no, author, socket) = (link.client, link.author, link.socket);
        if !self.is_current(no, author) {
            return Ok(());
        }
        let late = self.plan.on.late_frames && !self.healing && self.net.percent(50);
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        match (item, link.page) {
            (Down::Opened, Page::Opening) => {
                link.page = Page::Open;
                self.input(no, Input::SocketOpened(socket))
            }
            (Down::Frame(text), page) if page == Page::Open || late => {
                self.stats.frames += 1;
                self.trace.note(number, &text, || format!("           down {text}"));
                if text.starts_with("{\"type\":\"claim_") {
                    self.clients[no].note_claim(&text);
                }
                self.input(no, Input::SocketMessage(socket, text))
            }
            (Down::Closed(code), Page::Opening | Page::Open) => {
                link.page = Page::Closed;
                self.clients[no].links.remove(&socket);
                self.input(no, Input::SocketClosed { socket, code })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn open_timeout(&mut self, number: LinkNo) -> Check {
        let Some(link) = self.links.get_mut(&number).filter(|link| link.page == Page::Opening) else { return Ok(()) };
        link.page = Page::Closed;
        let (no, author, socket) = (link.client, link.author, link.socket);
        if !self.is_current(no, author) {
            return Ok(());
        }
        self.input(no, Input::SocketClosed { socket, code: 1006 })
    }

    /// Makes a call on the server.
    pub(crate) fn call(&mut self, call: Call, owner: Owner, timeout_ms: Option<u64>) {
        self.stats.requests += 1;
        self.next_call += 1;
        let number = self.next_call;
        let place = match &owner {
            Owner::Client(no, ..) | Owner::Credential(no, ..) => Some(*no),
            Owner::Agent(_) => None,
        };
        let online = place.is_none_or(|no| self.clients[no].online);
        if let Some(after) = timeout_ms {
            self.at(after, Event::CallDone(number, Err("timed out".to_owned())));
        }
        let trouble = self.plan.on.http_errors && !self.healing;
        let roll = if trouble { self.net.below(100) } else { 100 };
        let latency = self.latency();
        self.calls.insert(number, Pending { call, owner, at_server: false, deaf: (10..14).contains(&roll) });
        let portal = place.filter(|_| online).and_then(|no| self.portal_answer(no));
        if let Some(response) = portal {
            self.at(latency * 2, Event::CallDone(number, Ok(response)));
            return;
        }
        if !online || !self.reachable {
            let after = self.net.below(3_000);
            self.at(after, Event::CallDone(number, Err("no connection".to_owned())));
            return;
        }
        match roll {
            // Lost on the way: only the caller's patience ends it.
            0..5 if timeout_ms.is_some() => {}
            5..10 => {
                let response = Response { status: 503, body: b"<html>".to_vec(), ..Response::default() };
                self.at(latency * 2, Event::CallDone(number, Ok(response)));
            }
            14..17 => {
                let retry_after_ms = Some(self.net.below(5_000));
                let body = br#"{"code":"rate_limit_exceeded","message":"slow down"}"#.to_vec();
                let response = Response { status: 429, retry_after_ms, body, ..Response::default() };
                self.at(latency * 2, Event::CallDone(number, Ok(response)));
            }
            _ => {
                self.at(latency, Event::CallArrives(number));
            }
        }
    }

    pub(crate) fn call_arrives(&mut self, number: u64) -> Check {
        let now = self.server_now();
        let Some(pending) = self.calls.get_mut(&number) else { return Ok(()) };
        if !self.host.is_up() || !self.reachable {
            return self.call_done(number, Err("refused".to_owned()));
        }
        pending.at_server = true;
        let mut call = pending.call.clone();
        if let (Call::Http(request), Owner::Client(no, author, _)) = (&call, pending.owner.clone())
            && let Some(response) = self.gate_answer(no, author, request.bearer.as_deref())
        {
            self.reply(number, response);
            return Ok(());
        }
        if let Call::Http(request) = &mut call
            && self.plan.on.key_expiry
            && !self.healing
            && let Some(body) = &mut request.body
        {
            *body = body.replace("\"ttlSeconds\":3600", "\"ttlSeconds\":180");
        }
        self.host.call(now, number, &call);
        self.after_server()
    }

    /// The server's answer leaves.
    pub(crate) fn reply(&mut self, number: u64, mut response: Response) {
        let Some(pending) = self.calls.get(&number) else { return };
        if pending.deaf {
            self.at(500, Event::CallDone(number, Err("the connection broke".to_owned())));
            return;
        }
        let http = matches!(pending.call, Call::Http(_));
        if http && self.plan.on.http_garbage && !self.healing && response.status == 200 && self.net.percent(12) {
            let len = response.body.len();
            match self.net.below(3) {
                0 => response.body.truncate(self.net.index(len.max(1))),
                1 => response.body = b"<!doctype html><title>Gateway</title>".to_vec(),
                _ => response.body = b"{}".to_vec(),
            }
        }
        let latency = self.latency();
        self.at(latency, Event::CallDone(number, Ok(response)));
    }

    pub(crate) fn call_done(&mut self, number: u64, result: Result<Response, String>) -> Check {
        let Some(pending) = self.calls.remove(&number) else { return Ok(()) };
        if !result.as_ref().is_ok_and(|response| response.status < 300) {
            self.stats.failures += 1;
        }
        self.trace.note(number, "call", || {
            let body = result.as_ref().map(|response| String::from_utf8_lossy(&response.body).into_owned());
            format!("           answered {:?}: {body:?}", pending.owner)
        });
        match pending.owner {
            Owner::Client(no, author, task) if self.is_current(no, author) => {
                self.input(no, Input::Response(task, result))
            }
            Owner::Credential(no, author, task) if self.is_current(no, author) => {
                let body = result.ok().filter(|response| response.status == 200).map(|response| response.body);
                let body = body.and_then(|body| String::from_utf8(body).ok()).unwrap_or_default();
                let token = Value::parse(&body).ok().and_then(|body| Some(body.get_str("token")?.into_owned()));
                let credential = match token {
                    Some(token) => {
                        self.stats.minted += 1;
                        Credential::Token { token, expires_at: None }
                    }
                    None => Credential::Unavailable("the backend has none".to_owned()),
                };
                self.input(no, Input::Credential(task, credential))
            }
            Owner::Agent(numbers) => self.agent_answered(&numbers, &result),
            Owner::Client(..) | Owner::Credential(..) => Ok(()),
        }
    }

    /// The credential function asks the application's backend.
    pub(crate) fn mint(&mut self, no: usize, task: TaskId) {
        let author = self.clients[no].author;
        if let Some(credential) = self.odd_mint(no) {
            self.at(1, Event::Credential(no, author, task, credential));
            return;
        }
        if self.plan.on.key_trouble && !self.healing && self.net.percent(20) {
            let why = Credential::Unavailable("the credential function threw".to_owned());
            self.at(1, Event::Credential(no, author, task, why));
            return;
        }
        let short = self.plan.on.key_expiry && !self.healing;
        let ttl_s = if short { self.net.range(2, 90) } else { 30 * 24 * 3600 };
        let persona = &self.clients[no].persona;
        let call = Call::Mint { user: persona.user.clone(), groups: persona.groups.clone(), ttl_s };
        self.call(call, Owner::Credential(no, author, task), Some(20_000));
    }

    /// A frame that asks a client to load a snapshot.
    pub(crate) fn ask_for_snapshot(&mut self, number: LinkNo) {
        let text = ServerFrame::sync_response::<&str>(&[], self.oracle.head());
        let text = text.replacen("\"deltas\":[]", "\"requiresBootstrap\":true,\"deltas\":[]", 1);
        self.push_down(number, Down::Frame(text));
    }
}
