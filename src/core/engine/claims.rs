//! Coordination: claims on rows, groups joined for watching, and who else is there (protocol.md sections 7, 8, 11, 12).
//!
//! A claim of a row and a join of groups live alike: announced, announced again on every new connection under the same
//! id, and ended by the server or by giving them back. What the server tells of others is kept as it came and replaced
//! as a whole; the SDK reads it.

use super::{Engine, PROBE_MS};
use crate::core::bug::{self, Bug};
use crate::core::error::Error;
use crate::core::id::{ModelIndex, RowId, SyncId, TaskId};
use crate::core::input::Ticket;
use crate::core::json::{ObjectWriter, Value, write_array};
use crate::core::map::Line;
use crate::core::output::{Method, Output};
use crate::core::queue::RowKey;
use crate::core::text::concat;
use crate::core::time::Instant;
use crate::core::wire::{ClientFrame, Presence};

/// What a participant does is told at most once in so long: pointers move faster than anybody reads.
const PRESENCE_MS: u64 = 100;

/// How far a claim has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Announced,
    Held,
    /// Given back as soon as the writes under it are through.
    Ending,
}

/// A lease on a row, or groups joined.
#[derive(Debug)]
struct Claim {
    id: String,
    /// A lease on a row, not groups.
    is_lease: bool,
    /// The row, unless it is yet to be created.
    row: Option<RowKey>,
    /// The group of the row, while it is wanted.
    group: Option<String>,
    /// What it is announced with.
    payload: String,
    /// Who waits for it.
    ticket: Option<Ticket>,
    /// Or for its row.
    reading: Option<Ticket>,
    /// Until when.
    until: Option<Instant>,
    /// Whether it waits in line, and that not in a longer one.
    waits: bool,
    depth: Option<u64>,
    stage: Stage,
    /// The server has been asked for it.
    asked: bool,
    waited: bool,
    /// The row is as of here.
    read_at: SyncId,
    fence: Option<u64>,
}

impl Claim {
    fn is_on(&self, model: ModelIndex, id: &str) -> bool {
        self.row.as_ref().is_some_and(|row| row.0 == model && row.1.as_str() == id)
    }

    fn is_on_row_of(&self, other: &Self) -> bool {
        self.row.is_some() && self.row == other.row
    }
}

/// This client's claims, and what is known of others.
#[derive(Debug, Default)]
pub(super) struct Claims {
    own: Line<Claim>,
    /// Those that were given back: the connection may end before the server has heard of that.
    left: Line<Claim>,
    /// So many of them were before a question that the server has not answered.
    heard: usize,
    /// Presence by participant, as it came.
    peers: Vec<(String, String)>,
    /// Waiting lines by row, as they came.
    lines: Vec<(String, String)>,
    activity: Option<String>,
    /// The activity is told then.
    tell_at: Option<Instant>,
    told_at: Instant,
}

/// What a write under a claim gets from it.
pub(super) struct Stamp {
    pub read_at: SyncId,
    /// `"claim":…`, and the grant that it is of.
    pub terms: String,
}

impl Claims {
    /// Groups of claimed rows.
    pub(super) fn groups(&self) -> impl Iterator<Item = &String> {
        self.own.iter().filter_map(|claim| claim.group.as_ref())
    }

    /// The server refuses groups: those of claims are dispensable.
    pub(super) fn leave_groups(&mut self) {
        for claim in self.own.iter_mut() {
            claim.group = None;
        }
    }

    /// The server is asked something, and answers in turn.
    pub(super) fn note_asked(&mut self) {
        self.heard = self.left.len();
    }

    pub(super) fn note_answered(&mut self) {
        for _ in 0..core::mem::take(&mut self.heard) {
            self.left.pop_front();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let mut next = self.tell_at;
        for claim in self.own.iter() {
            if let Some(until) = claim.until.filter(|_| claim.ticket.is_some()) {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        next
    }

    /// A row was read from the server: its holder has seen it as of there.
    pub(super) fn note_read(&mut self, model: ModelIndex, id: &str, at: SyncId) {
        for claim in self.own.iter_mut() {
            if claim.is_on(model, id) {
                claim.read_at = claim.read_at.max(at);
            }
        }
    }
}

fn put(list: &mut Vec<(String, String)>, key: &str, text: Option<&str>) {
    if let Some(at) = list.iter().position(|(known, _)| known == key) {
        list.remove(at);
    }
    if let Some(text) = text {
        list.push((key.to_owned(), text.to_owned()));
    }
}

fn write_texts(out: &mut String, list: &[(String, String)]) {
    write_array(out, list, |out, (_, text)| out.push_str(text));
}

impl Engine {
    /// Asks for a lease, or joins groups. `payload` is that of the frame (protocol.md 7.5, 7.7); `options` may have
    /// `maxQueueDepth`, `waitTimeoutMs`, and `create` for a row that need not exist.
    pub(super) fn claim(
        &mut self,
        ticket: Ticket,
        model: ModelIndex,
        payload: String,
        options: &str,
    ) -> Result<(), Error> {
        let options = Value::parse(options)?;
        let parsed = Value::parse(&payload)?;
        let id = parsed.get_string("claimId").unwrap_or_default();
        let row = parsed.get_str("entityId").map(|row| (model, RowId::from(row.as_ref())));
        let definition = self.config.schema.model(model);
        let group = row.as_ref().zip(definition).map(|(row, definition)| {
            let kind = definition.scope.as_deref().unwrap_or(&definition.key);
            concat(&[kind, ":", row.1.as_str()])
        });
        let waits = parsed.get_bool("queue") == Some(true);
        let creates = options.get_bool("create") == Some(true);
        self.claims.own.push(Box::new(Claim {
            id,
            is_lease: row.is_some(),
            row: row.filter(|_| !creates && definition.is_some()),
            group,
            payload,
            ticket: Some(ticket),
            reading: None,
            until: options.get_u64("waitTimeoutMs").map(|ms| self.now.mono.after(ms)),
            waits,
            depth: options.get_u64("maxQueueDepth"),
            stage: Stage::Announced,
            asked: false,
            waited: false,
            read_at: SyncId(0),
            fence: None,
        }));
        if self.session.is_some() {
            // The row's group first, so that nothing about the claim is missed.
            self.pump_session();
            self.announce_claim(self.claims.own.len() - 1);
        }
        Ok(())
    }

    /// Gives a claim back: at once, or when the writes under it are through. Unknown ids are none of ours any more.
    pub(super) fn release(&mut self, id: &str) {
        if let Some(at) = self.claims.own.iter().position(|claim| claim.id == id) {
            self.claims.own[at].stage = Stage::Ending;
            let error = Error::local("claim_wait_aborted", "the claim was given back before it was granted");
            if let Some(ticket) = self.waiter(at) {
                self.settle(ticket, Err(error));
            }
            self.pump_claims();
        }
    }

    /// Whoever waits for a claim, or for its row.
    fn waiter(&mut self, at: usize) -> Option<Ticket> {
        let claim = &mut self.claims.own[at];
        let reading = claim.reading.take().filter(|_| !bug::on(Bug::GrantedAfterAll));
        claim.ticket.take().or(reading.filter(|ticket| self.reads.forget(*ticket)))
    }

    /// Gives back what can be given back. `is_page`: the page goes away, and may come back. Some browsers have closed its
    /// socket by then, or drop what is sent on it; a request they still let out. Groups are left with the connection.
    pub(super) fn leave_claims(&mut self, is_page: bool) {
        for at in (0..self.claims.own.len()).rev() {
            let Some(claim) = self.claims.own.get_mut(at) else { continue };
            if bug::on(Bug::LeftWaiting) {
                claim.ticket = None;
            }
            let (id, is_lease) = (claim.id.clone(), claim.is_lease);
            if !is_page || self.queue.is_claimed(&id) {
                self.release(&id);
            } else if is_lease {
                let task = self.task_id();
                let url = self.config.api(&concat(&["/v1/claims/", &id]));
                self.fetch_for_connection(task, Method::Delete, url, None, PROBE_MS);
                self.lose_claim(at, true, Error::local("claim_lost", "the claim is over: pagehide"));
            }
        }
    }

    pub(super) fn pump_claims(&mut self) {
        let now = self.now.mono;
        for at in (0..self.claims.own.len()).rev() {
            let claim = &self.claims.own[at];
            let late =
                claim.ticket.is_some() && claim.until.is_some_and(|until| until <= now) && !bug::on(Bug::WaitNeverEnds);
            if late {
                self.lose_claim(at, true, Error::local("grant_timeout", "the claim was not granted in time"));
            } else if claim.stage == Stage::Ending
                && self.session.is_some()
                && (bug::on(Bug::ReleasedTooEarly) || !self.queue.is_claimed(&claim.id))
            {
                self.end_claim(at, true);
            }
        }
        if self.claims.tell_at.is_some_and(|at| at <= now) {
            self.claims.tell_at = None;
            if let Some(socket) = self.session.as_ref().map(|session| session.socket) {
                self.tell_presence(socket, None);
            }
        }
    }

    pub(super) fn tell_presence(&mut self, socket: TaskId, timezone: Option<String>) {
        self.claims.told_at = self.now.mono;
        let activity = self.claims.activity.clone();
        let presence = Presence { status: "online".to_owned(), timezone, activity, ..Presence::default() };
        self.send(socket, &ClientFrame::PresenceUpdate(presence));
    }

    /// What the participant does now, as the text of an activity (protocol.md 12.1).
    pub(super) fn set_activity(&mut self, activity: String) {
        self.claims.activity = Some(activity);
        let due = self.claims.told_at.after(PRESENCE_MS).max(self.now.mono);
        self.claims.tell_at.get_or_insert(due);
    }

    /// A new connection: nothing that was known of others counts any more, and what is ours is announced again.
    pub(super) fn announce_claims(&mut self) {
        if !bug::on(Bug::RosterKept) {
            self.claims.peers.clear();
            self.claims.lines.clear();
        }
        self.claims.heard = 0;
        if !bug::on(Bug::LeftBehind) {
            let left = core::mem::take(&mut self.claims.left);
            for claim in left.iter() {
                self.send_text("claim_abandon", &claim.payload);
            }
            self.claims.left = left;
        }
        for at in 0..self.claims.own.len() {
            // One that was given back meanwhile is needed for the writes under it only.
            let claim = &self.claims.own[at];
            let is_over = claim.stage == Stage::Ending && !self.queue.is_claimed(&claim.id);
            if !is_over && !bug::on(Bug::ClaimNotAnnounced) {
                self.announce_claim(at);
            }
        }
        self.claims_changed();
    }

    /// Announces a claim. A new one whose row is still to be given back takes its place in line after that.
    fn announce_claim(&mut self, at: usize) {
        let Some((claim, before)) = self.claims.own[..=at].split_last_mut() else { return };
        let is_ending = before.iter().any(|other| other.stage == Stage::Ending && other.is_on_row_of(claim));
        if self.session.is_none() || (is_ending && !claim.asked && !bug::on(Bug::ReclaimedAtOnce)) {
            return;
        }
        claim.asked = true;
        let (kind, payload) = (if claim.is_lease { "claim_begin" } else { "claim" }, claim.payload.clone());
        self.send_text(kind, &payload);
    }

    pub(super) fn send_text(&mut self, kind: &str, payload: &str) {
        if let Some(socket) = self.session.as_ref().map(|session| session.socket) {
            self.send(socket, &ClientFrame::Other { kind: kind.into(), payload });
        }
    }

    fn end_claim(&mut self, at: usize, abandon: bool) {
        let claim = self.claims.own.remove(at);
        if abandon {
            // Its row is in what it was announced with.
            self.send_text(if claim.is_lease { "claim_abandon" } else { "release" }, &claim.payload);
            if claim.is_lease {
                self.claims.left.push(claim);
            }
        }
        for next in at..self.claims.own.len() {
            if !self.claims.own[next].asked {
                self.announce_claim(next);
            }
        }
        self.claims_changed();
    }

    /// A claim is over: whoever waits for it hears of that, or its holder.
    fn lose_claim(&mut self, at: usize, abandon: bool, error: Error) {
        let id = self.claims.own[at].id.clone();
        match self.waiter(at) {
            Some(ticket) => self.settle(ticket, Err(error)),
            None => self.event("claim:lost", &|payload| {
                payload.str("claimId", &id);
                payload.raw("error", &error.to_json());
            }),
        }
        self.end_claim(at, abandon);
    }

    pub(super) fn fail_claims(&mut self, error: &Error) {
        while !self.claims.own.is_empty() {
            self.lose_claim(0, false, error.clone());
        }
    }

    fn claims_changed(&mut self) {
        self.emit(Output::Event("presence:changed", "{}".to_owned()));
    }

    /// A frame about claims or presence, or an event of other clients.
    pub(super) fn handle_news_of_others(&mut self, kind: &str, payload: Value<'_>) {
        match kind {
            "presence_update" => {
                let who = payload.get_str("userId").unwrap_or_default();
                if who.is_empty() || self.identity.as_ref().is_some_and(|own| own.participant == who.as_ref()) {
                    return;
                }
                let gone = payload.get_str("kind").as_deref() == Some("leave");
                put(&mut self.claims.peers, &who, Some(payload.raw).filter(|_| !gone));
            }
            "claim_queue" => {
                let target = payload.at("target");
                let part = |key: &str| target.get_str(key).unwrap_or_default();
                let empty = payload.at("queue").elements().next().is_none();
                put(
                    &mut self.claims.lines,
                    &concat(&[&part("type"), ":", &part("id")]),
                    Some(payload.raw).filter(|_| !empty),
                );
            }
            _ if !kind.starts_with("claim") => {
                // Collaboration events (7.12), and whatever else a server tells that only an application understands.
                return self.event("frame", &|frame| {
                    frame.str("type", kind);
                    frame.raw("payload", payload.raw);
                });
            }
            _ => {
                let id = payload.get_str("claimId").unwrap_or_default();
                if let Some(at) = self.claims.own.iter().position(|claim| claim.id == id) {
                    self.handle_claim(at, kind, payload);
                }
                return;
            }
        }
        self.claims_changed();
    }

    fn handle_claim(&mut self, at: usize, kind: &str, payload: Value<'_>) {
        let cursor = self.cursor;
        let Some(claim) = self.claims.own.get_mut(at) else { return };
        let text = |key: &str| payload.get_str(key).unwrap_or_default();
        let fence = payload.get_u64("fencingToken");
        let is_new = claim.stage == Stage::Announced;
        let (abandon, code, why, whom) = match kind {
            "claim_acquired" | "claim_granted" if is_new => {
                claim.stage = Stage::Held;
                claim.fence = fence;
                claim.read_at = cursor;
                claim.waited |= kind == "claim_granted";
                self.take_hold(at);
                return;
            }
            "claim_acquired" | "claim_granted" => {
                // Another grant than before: in between it was free for others.
                if claim.fence == fence || claim.stage == Stage::Ending || bug::on(Bug::LapseUnnoticed) {
                    return;
                }
                (true, "claim_lost", "the claim has lapsed while offline", "reason")
            }
            "claim_queued" => {
                claim.waited = true;
                if !is_new {
                    (true, "claim_lost", "the row is held by ", "heldBy")
                } else if claim.depth.is_some_and(|depth| payload.get_u64("position").unwrap_or(0) >= depth) {
                    (true, "queue_too_deep", "maxQueueDepth is reached at a row held by ", "heldBy")
                } else {
                    return;
                }
            }
            "claim_ack" if payload.get_bool("success") == Some(true) => {
                claim.stage = Stage::Held;
                if let Some(ticket) = claim.ticket.take() {
                    self.settle(ticket, Ok(None));
                }
                return;
            }
            "claim_ack" => (false, "claim_rejected", "the claim was refused: ", "reason"),
            "claim_rejected" => match (&*text("reason"), claim.waits) {
                ("conflict", false) => (false, "entity_claimed", "the row is held by ", "heldBy"),
                ("conflict", true) => (false, "claim_conflict", "the row is held by ", "heldBy"),
                _ => (false, "claim_lease_unavailable", "the claim was refused: ", "reason"),
            },
            "claim_lost" | "claim_expired" => (false, "claim_lost", "the claim is over: ", "reason"),
            _ => return,
        };
        let mut error = Error::local(code, concat(&[why, &text(whom)]));
        if let Some(told) = payload.get("error").and_then(Error::from_body) {
            error = told;
        }
        error.details.get_or_insert_with(|| payload.raw.to_owned());
        self.lose_claim(at, abandon, error);
    }

    /// A claim was granted: its holder gets the row as the one before has left it.
    fn take_hold(&mut self, at: usize) {
        self.claims_changed();
        let claim = &mut self.claims.own[at];
        let Some(ticket) = claim.ticket.take() else { return };
        let (waited, row) = (claim.waited, claim.row.clone());
        // A new connection hears of claims before it hears what it has missed.
        let caught_up = self.session.as_ref().is_some_and(|session| session.streaming) && !self.is_repairing();
        let current = !waited && (caught_up || bug::on(Bug::ClaimedBehind));
        let row = row.filter(|row| !current || self.base_row(row.0, row.1.as_str()).is_none());
        let Some((model, id)) = row.filter(|_| !bug::on(Bug::ClaimedRowNotRead)) else {
            self.settle(ticket, Ok(None));
            return;
        };
        self.claims.own[at].reading = Some(ticket);
        let mut options = String::new();
        let mut object = ObjectWriter::new(&mut options);
        object.str("id", id.as_str());
        object.str("type", "complete");
        object.end();
        if let Err(error) = self.read(ticket, model, &options) {
            self.settle(ticket, Err(error));
        }
    }

    /// What a write gets from a claim: from the one of this id, or from one on its row.
    ///
    /// # Errors
    /// `claim_lost` when the claim of a handle is not held any more.
    pub(super) fn stamp(
        &self,
        row: Option<(ModelIndex, &str)>,
        id: Option<&str>,
        strict: bool,
    ) -> Result<Option<Stamp>, Error> {
        let is_meant = |claim: &Claim| match (id, row) {
            (Some(id), _) => claim.id == id,
            (None, Some((model, row))) => claim.is_on(model, row),
            (None, None) => false,
        };
        let claim = self.claims.own.iter().find(|claim| claim.stage == Stage::Held && is_meant(claim));
        if bug::on(Bug::ClaimUnstamped) && claim.is_some() {
            return Ok(None);
        }
        let mut terms = String::new();
        let read_at = match (claim, id) {
            (Some(claim), _) => {
                let mut object = ObjectWriter::new(&mut terms);
                object.str("claim", &claim.id);
                if let Some(fence) = claim.fence {
                    object.u64("fencingToken", fence);
                }
                object.end();
                // What was written under the claim is in the row by now.
                let own = row.filter(|(model, id)| claim.is_on(*model, id));
                own.map_or(claim.read_at, |(model, id)| self.stamp_of(model, id).max(claim.read_at))
            }
            (None, Some(_)) if strict => {
                return Err(
                    Error::local("claim_lost", "this claim is not held any more; claim the row again").param("claim")
                );
            }
            (None, Some(id)) => {
                let mut object = ObjectWriter::new(&mut terms);
                object.str("claim", id);
                object.end();
                SyncId(0)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Stamp { read_at, terms }))
    }

    /// Who is there and who holds or waits for what: the text of `Coordination` in `boundary.ts`.
    pub fn coordination(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        write_texts(object.key("peers"), &self.claims.peers);
        write_texts(object.key("lines"), &self.claims.lines);
        object.str("kind", self.identity.as_ref().map_or("user", |own| own.kind.as_str()));
        write_array(object.key("own"), self.claims.own.iter(), |out, claim| {
            let mut object = ObjectWriter::new(out);
            object.bool("held", claim.stage == Stage::Held);
            object.bool("waited", claim.waited);
            object.u64("readAt", claim.read_at.0);
            object.raw("claim", &claim.payload);
            object.end();
        });
        object.end();
        out
    }
}
