//! Sockets: frames in, frames out, and who is told of what (protocol.md sections 6 to 9).
//!
//! A connection is *held* until its first `sync_request` is answered, or for [`HOLD_BACK_MS`]: a live delta before that
//! answer would make a client drop everything older in it (protocol.md 9.4). What is in frames of claims and presence is
//! `claim`'s, `join`'s and `presence`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::{ObjectWriter, Value};
use ablo_wasm::core::time::{Instant, Now};
use ablo_wasm::core::wire::{Action, ClientFrame, Commit, ServerFrame, SubscriptionAck};

use super::claim::Who;
use super::ended::KeyEnd;
use super::group::{View, is_allowed, read_groups};
use super::guard::Terms;
use super::history::Change;
use super::join::Joined;
use super::participant::{Participant, Text};
use super::presence::Said;
use super::tenant::Tenant;
use super::{Engine, Output};

/// How long a connection that asks for nothing is kept waiting for live deltas.
pub const HOLD_BACK_MS: u64 = 1000;
/// How long a bootstrap answer counts as one that some client of the participant may just be loading.
const BOOTSTRAP_RECENT_MS: u64 = 600_000;
/// Most participants whose bootstraps are remembered, and most answers of each.
const BOOTSTRAPS_MAX: usize = 10_000;
const BOOTSTRAPS_EACH_MAX: usize = 64;
/// Close code that makes a client load a snapshot.
const CLOSE_RELOAD: u16 = 4011;

/// A socket, from its upgrade to its end. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What is known about an open socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) participant: Arc<Participant>,
    /// Its participant's kind and id.
    pub(super) name: Text,
    /// The groups subscribed to, as the client spelled and ordered them.
    groups: Vec<String>,
    /// The groups joined beside those, by participant claim.
    pub(super) joined: BTreeMap<Text, Joined>,
    /// What both show.
    pub(super) view: View,
    /// When its last frame came.
    pub(super) heard: Instant,
    pub(super) said: Said,
    /// The names of the participants that it has been told of.
    pub(super) seen: BTreeSet<Text>,
    /// When it is to be told of all of them again.
    pub(super) repeat_at: Option<Instant>,
    /// Set while live deltas are held back: until when, at the latest.
    held_until: Option<Instant>,
    /// The head at the upgrade.
    opened_at: SyncId,
    /// Certainly not above the head of the snapshot that this client has loaded or is loading.
    floor: SyncId,
    /// When the credential ends.
    pub(super) expires: Option<Instant>,
}

impl Connection {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let joined = self.joined.values().filter_map(|joined| joined.until);
        [self.held_until, self.expires, self.repeat_at].into_iter().flatten().chain(joined).min()
    }

    /// The groups in effect. One may come twice.
    pub(super) fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().chain(self.joined.values().flat_map(|joined| &joined.groups)).map(String::as_str)
    }

    pub(super) fn who(&self) -> Who {
        (self.participant.organization.clone(), self.name.clone())
    }
}

/// Heads of the bootstrap answers, by organization and participant.
#[derive(Debug, Default)]
pub(super) struct Bootstraps {
    answers: BTreeMap<(Text, Text), Vec<(Instant, SyncId)>>,
    /// The server ran before, and gave answers that nobody remembers.
    restarted: bool,
    /// When the first socket opened after that.
    restarted_at: Option<Instant>,
}

impl Bootstraps {
    fn key(participant: &Participant) -> (Text, Text) {
        (participant.organization.clone(), participant.name().into())
    }

    pub(super) fn add(&mut self, now: Now, participant: &Participant, head: SyncId) {
        if self.answers.len() >= BOOTSTRAPS_MAX {
            let recent = |answers: &Vec<(Instant, SyncId)>| {
                answers.last().is_some_and(|(at, _)| now.mono.since(*at) < BOOTSTRAP_RECENT_MS)
            };
            self.answers.retain(|_, answers| recent(answers));
        }
        let answers = self.answers.entry(Self::key(participant)).or_default();
        // The newest answer is kept whatever its age: it tells whether the participant has loaded since history was cut.
        answers.retain(|(at, _)| now.mono.since(*at) < BOOTSTRAP_RECENT_MS);
        if answers.len() >= BOOTSTRAPS_EACH_MAX {
            // The lowest is the one that matters, and the oldest is the lowest.
            answers.remove(1);
        }
        answers.push((now.mono, head));
    }

    /// The server is starting with what a former life left behind.
    pub(super) fn restart(&mut self) {
        self.restarted = true;
    }

    /// Certainly not above the head of any snapshot that a client of this participant may just be starting from.
    fn floor(&mut self, now: Now, participant: &Participant, head: SyncId) -> SyncId {
        if self.restarted {
            let since = *self.restarted_at.get_or_insert(now.mono);
            if now.mono.since(since) < BOOTSTRAP_RECENT_MS {
                return SyncId(0);
            }
        }
        let answers = self.answers.get(&Self::key(participant)).map(Vec::as_slice).unwrap_or_default();
        let recent = answers.iter().filter(|(at, _)| now.mono.since(*at) < BOOTSTRAP_RECENT_MS);
        recent.map(|(_, answered)| *answered).fold(head, SyncId::min)
    }

    fn newest(&self, participant: &Participant) -> Option<SyncId> {
        self.answers.get(&Self::key(participant))?.last().map(|(_, head)| *head)
    }
}

/// A change that has just happened, with the row as it was right after.
#[derive(Debug)]
pub(super) struct Fresh {
    pub change: Change,
    pub text: Option<Text>,
    pub archived: bool,
}

impl Engine {
    /// A socket has opened. `requested_groups` are those of its URL: what the credential does not allow of them is left
    /// out in silence (protocol.md 6.1). `None`, no such parameter at all, stands for everything the credential allows.
    pub fn connect(
        &mut self,
        now: Now,
        participant: &Participant,
        requested_groups: Option<Vec<String>>,
    ) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let groups = self.allowed_groups(participant, requested_groups);
        let view = View::within(groups.iter().cloned().collect(), participant, &self.catalog);
        let floor = self.bootstraps.floor(now, participant, self.head);
        let expires = self.expiry(now, participant);
        let connection = Connection {
            participant: Arc::new(participant.clone()),
            name: participant.name().into(),
            groups,
            joined: BTreeMap::new(),
            view,
            heard: now.mono,
            said: Said::default(),
            seen: BTreeSet::new(),
            repeat_at: None,
            held_until: Some(now.mono.after(HOLD_BACK_MS)),
            opened_at: self.head,
            floor,
            expires,
        };
        self.connections.insert(id, connection);
        self.clock = now;
        match self.early_end(participant) {
            // The key ended while the upgrade was on its way.
            Some(end) => self.close_ended(id, end),
            None => self.arrive(now, id),
        }
        id
    }

    /// A socket has gone, whoever closed it.
    pub fn disconnect(&mut self, now: Now, connection: ConnectionId) {
        self.clock = now;
        if let Some(gone) = self.connections.remove(&connection) {
            self.depart(now, connection, &gone);
        }
    }

    /// All sockets have gone at once, so there is nobody to tell about any of it.
    pub fn disconnect_all(&mut self, now: Now) {
        self.clock = now;
        self.depart_all(now);
    }

    /// A text frame has come in. Frames of connections that are gone, and those that are no frames, are dropped: there is
    /// no error frame on this socket (protocol.md 8.1).
    pub fn handle_frame(&mut self, now: Now, connection: ConnectionId, text: &str) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        known.heard = now.mono;
        self.clock = now;
        let participant = known.participant.clone();
        match ClientFrame::parse(text) {
            Ok(ClientFrame::Ping) => self.send(connection, ServerFrame::pong()),
            Ok(ClientFrame::UpdateSubscription { .. }) => self.update_subscription(now, connection, &participant, text),
            Ok(ClientFrame::SyncRequest { last_sync_id, .. }) => self.sync_request(connection, last_sync_id),
            Ok(ClientFrame::Commit(commit)) => self.socket_commit(now, connection, &participant, &commit, text),
            Ok(ClientFrame::MalformedCommit { client_tx_id, error }) => {
                self.refuse(connection, &client_tx_id, 0, error)
            }
            Ok(ClientFrame::Other { kind, payload }) => {
                if let Ok(payload) = Value::parse(payload) {
                    self.handle_other(now, connection, &participant, &kind, payload);
                }
            }
            Ok(ClientFrame::PresenceUpdate(said)) => self.presence_update(now, connection, &said),
            Ok(ClientFrame::Ack { .. }) => {}
            // What cannot be read at all is dropped, except that a commit, which is waited for, is answered.
            Err(error) => {
                if let Some(key) = key_in_garbage(text) {
                    self.refuse(connection, &key, 0, error);
                }
            }
        }
    }

    fn handle_other(&mut self, now: Now, id: ConnectionId, participant: &Participant, kind: &str, payload: Value<'_>) {
        match kind {
            "claim_begin" => self.claim_begin(now, id, payload),
            "claim_abandon" => self.claim_abandon(now, participant, payload),
            "claim_reorder" => self.claim_reorder(now, participant, payload),
            "claim" => self.join(now, id, payload),
            "release" => self.leave(now, id, payload),
            event => self.relay(id, event, payload),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.clock = now;
        self.soonest = None;
        if self.sweep_at.is_some_and(|at| at <= now.mono) {
            self.sweep(now);
        }
        let due = |connection: &&Connection| connection.deadline().is_some_and(|deadline| deadline <= now.mono);
        let ids: Vec<ConnectionId> = self.connections.iter().filter(|(_, c)| due(c)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.expires.is_some_and(|end| end <= now.mono) {
                self.close_ended(id, KeyEnd::Expired);
                continue;
            }
            let repeats = connection.repeat_at.is_some_and(|at| at <= now.mono);
            if connection.held_until.is_some_and(|until| until <= now.mono) {
                let since = connection.opened_at;
                connection.held_until = None;
                let missed = self.missed(id, since);
                if !missed.is_empty() {
                    let texts: Vec<String> = missed.into_iter().map(|(_, text)| text).collect();
                    self.send(id, ServerFrame::deltas(&texts));
                }
            }
            if repeats {
                self.send_presence_again(now, id);
            }
            self.expire_joined(now, id);
        }
        self.expire_claims(now);
    }

    /// The requested groups that this participant may read; all of its own when it names none.
    pub(super) fn allowed_groups(&self, participant: &Participant, requested: Option<Vec<String>>) -> Vec<String> {
        let Some(requested) = requested else { return participant.sync_groups.iter().cloned().collect() };
        let view = View::of(participant, &self.catalog);
        let mut seen = BTreeSet::new();
        requested
            .into_iter()
            .filter(|group| self.may_read(participant, &view, group) && seen.insert(group.clone()))
            .collect()
    }

    pub(super) fn may_read(&self, participant: &Participant, view: &View, group: &str) -> bool {
        let tenant = self.tenants.get(&participant.organization);
        let row = |slot, id: &str| tenant.and_then(|tenant| tenant.get(slot, id)).map(|row| row.extra.clone());
        let owner = |id: &str| tenant.and_then(|tenant| tenant.owner(id));
        is_allowed(participant, view, &self.catalog, group, row, owner)
    }

    fn update_subscription(&mut self, now: Now, id: ConnectionId, participant: &Participant, text: &str) {
        let payload = Value::parse(text).ok().and_then(|frame| frame.get("payload"));
        let wanted = read_groups(payload.and_then(|payload| payload.get("syncGroups")));
        let outcome = match wanted {
            None => {
                Err(Error::wire("malformed_subscription", "syncGroups must be a list of at most 1000 short strings"))
            }
            Some(groups) => {
                let view = View::of(participant, &self.catalog);
                match groups.iter().find(|group| !self.may_read(participant, &view, group)) {
                    Some(group) => {
                        let why = format!("{group:.80} is outside this key's scope");
                        Err(Error::wire("capability_scope_denied", why))
                    }
                    None => Ok(groups),
                }
            }
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut changed = false;
        let error = match outcome {
            Ok(groups) => {
                let set = |groups: &[String]| groups.iter().cloned().collect::<BTreeSet<String>>();
                changed = set(&groups) != set(&connection.groups);
                connection.groups = groups;
                None
            }
            Err(error) => Some(error),
        };
        let ack = SubscriptionAck { success: error.is_none(), sync_groups: connection.groups.clone(), error };
        self.send(id, ServerFrame::subscription_ack(&ack));
        if changed {
            self.renew_view(now, id);
        }
    }

    fn sync_request(&mut self, id: ConnectionId, last: SyncId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let fresh = last == SyncId(0);
        let since = if fresh { connection.floor } else { last };
        let cut = self.history.floor();
        let reloaded = self.bootstraps.newest(&connection.participant).is_some_and(|head| head >= cut);
        if since < cut && !reloaded {
            self.close(id, CLOSE_RELOAD, "history no longer reaches back so far; load a snapshot");
            return;
        }
        connection.held_until = None;
        let mut missed = self.missed(id, since.max(cut));
        if let (true, Some((last, _))) = (fresh, missed.last()) {
            // A fresh 0.15 client takes its watermark from the last delta, so that one must be at the head.
            if *last < self.head {
                missed.extend(self.repeat(id, *last));
            }
        }
        let texts: Vec<String> = missed.into_iter().map(|(_, text)| text).collect();
        let head = self.head;
        self.send(id, ServerFrame::sync_response(&texts, head));
    }

    fn missed(&self, id: ConnectionId, since: SyncId) -> Vec<(SyncId, String)> {
        let Some(connection) = self.connections.get(&id).filter(|_| since < self.head) else { return Vec::new() };
        let organization = &connection.participant.organization;
        let Some(tenant) = self.tenants.get(organization) else { return Vec::new() };
        self.history.missed(since, organization, &connection.view, tenant, &self.catalog)
    }

    fn repeat(&self, id: ConnectionId, last: SyncId) -> Option<(SyncId, String)> {
        let connection = self.connections.get(&id)?;
        let tenant = self.tenants.get(&connection.participant.organization)?;
        self.history.repeat_at(self.head, last, &connection.view, tenant, &self.catalog)
    }

    fn socket_commit(&mut self, now: Now, id: ConnectionId, participant: &Participant, commit: &Commit, text: &str) {
        let payload = Value::parse(text).map(|frame| frame.get("payload").unwrap_or(frame));
        let terms = payload.map_err(Error::from).and_then(|payload| Terms::parse(Some(id), payload));
        match terms.and_then(|terms| self.commit(now, participant, commit, &terms)) {
            Ok(receipt) => self.send(id, ServerFrame::mutation_result(&receipt)),
            Err(error) => self.refuse(id, &commit.client_tx_id, commit.operations.len() as u64, error),
        }
    }

    fn refuse(&mut self, id: ConnectionId, client_tx_id: &str, ops: u64, error: Error) {
        self.send(id, refusal(client_tx_id, ops, self.head, &error));
    }

    /// Tells every connection that may see them about changes, those of the author included. What one commit did comes in
    /// one frame: elements of a frame are taken in at once (protocol.md 9.4). Echoes are never tagged (9.5).
    pub(super) fn broadcast(&mut self, organization: &Text, fresh: &[Fresh]) {
        if fresh.is_empty() {
            return;
        }
        let mut texts: BTreeMap<(usize, &'static str), String> = BTreeMap::new();
        let mut frames: BTreeMap<Vec<Option<&'static str>>, Arc<str>> = BTreeMap::new();
        let live = self.connections.iter().filter(|(_, connection)| {
            connection.held_until.is_none() && connection.participant.organization == *organization
        });
        for (id, connection) in live {
            let actions: Vec<Option<Action>> = fresh
                .iter()
                .map(|fresh| fresh.change.action_for(&connection.view, fresh.archived, &self.catalog))
                .collect();
            if actions.iter().all(Option::is_none) {
                continue;
            }
            // Most connections see the same: their frame is written once.
            let pattern: Vec<Option<&'static str>> = actions.iter().map(|action| action.map(Action::letter)).collect();
            let frame = frames.entry(pattern).or_insert_with(|| {
                let mut parts: Vec<String> = Vec::new();
                for (index, (fresh, action)) in fresh.iter().zip(&actions).enumerate() {
                    let Some(action) = *action else { continue };
                    let write = || fresh.change.write(action, fresh.text.as_deref(), &self.catalog);
                    parts.push(texts.entry((index, action.letter())).or_insert_with(write).clone());
                }
                ServerFrame::deltas(&parts).into()
            });
            self.outputs.push_back(Output::Send { connection: *id, text: frame.clone() });
        }
    }

    pub(super) fn send(&mut self, connection: ConnectionId, text: String) {
        self.outputs.push_back(Output::Send { connection, text: text.into() });
    }

    pub(super) fn close(&mut self, connection: ConnectionId, code: u16, reason: &'static str) {
        self.outputs.push_back(Output::Close { connection, code, reason });
        if let Some(gone) = self.connections.remove(&connection) {
            self.depart(self.clock, connection, &gone);
        }
    }

    /// The rows of an organization, for reads of one that may have none.
    pub(super) fn tenant(&self, organization: &str) -> Option<&Tenant> {
        self.tenants.get(organization)
    }
}

/// The refusal of a commit. Beside what 0.15 clients read, it carries everything that the error's envelope would over HTTP
/// (protocol.md 13.1): who holds the row, what has changed.
fn refusal(client_tx_id: &str, ops: u64, head: SyncId, error: &Error) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "mutation_result");
    frame.object("payload", |payload| {
        payload.str("object", "commit_receipt");
        payload.str("clientTxId", client_tx_id);
        payload.str("serverTxId", "");
        payload.bool("success", false);
        payload.str("status", "rejected");
        payload.u64("lastSyncId", head.0);
        payload.u64("ops", ops);
        payload.object("error", |object| {
            object.str("code", &error.code);
            object.str("message", &error.message);
            object.opt_str("field", error.param.as_deref());
            let details = error.details.as_deref().and_then(|details| Value::parse(details).ok());
            for (key, value) in details.into_iter().flat_map(Value::members) {
                object.raw(&key.decode(), value.raw);
            }
        });
    });
    frame.end();
    out
}

/// The idempotency key in a commit frame that is not JSON as a whole.
fn key_in_garbage(text: &str) -> Option<String> {
    if !text.contains("\"commit\"") {
        return None;
    }
    let (_, rest) = text.rsplit_once("\"clientTxId\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (key, _) = rest.split_once('"')?;
    (!key.is_empty() && key.len() <= ablo_wasm::core::wire::IDEMPOTENCY_KEY_MAX && !key.contains('\\'))
        .then(|| key.to_owned())
}
