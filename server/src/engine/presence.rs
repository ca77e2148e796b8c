//! Who is there and what they are doing (protocol.md section 12).
//!
//! There is one entry per participant, made of all its connections and all its claims. A frame replaces everything its
//! receiver knew about the participant, so each is written for what that receiver may see. What a connection has been
//! told of is remembered: that decides between `enter`, `update` and `leave`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ablo_wasm::core::json::{Kind, ObjectWriter, Value, write_array};
use ablo_wasm::core::time::{Instant, Now};
use ablo_wasm::core::wire::Presence;

use super::claim::{Claim, Who, write_wire};
use super::group::View;
use super::participant::{Participant, Text};
use super::session::{Connection, ConnectionId};
use super::{Engine, Output};

/// Most participants that one connection is told of.
pub const ROSTER_MAX: usize = 1000;
/// A 0.15 client hears nothing before it has loaded its first snapshot, so it is told again this long after one.
pub(super) const REPEAT_MS: u64 = 2000;
/// Who has left within this time is said to have left to whoever opens a connection.
const LEFT_RECENT_MS: u64 = 600_000;
/// Most participants of whom that is remembered.
const LEFT_MAX: usize = 10_000;
/// Longest activity.
const ACTIVITY_MAX: usize = 4096;
/// Longest of the other texts.
const TEXT_MAX: usize = 512;
/// The status of a claim that holds its row.
const ACTIVE: &str = "active";
const STATUSES: [&str; 3] = ["online", "away", "offline"];

/// What a connection has said about its participant. Later words count.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// When the status and the texts were said, in the order of all such frames; 0 for never.
    turn: u64,
    status: Option<&'static str>,
    custom_status: Option<Text>,
    timezone: Option<Text>,
    /// Its turn, and the text of the object.
    activity: Option<(u64, Text)>,
}

/// Who is connected, and who was a short while ago.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<Who, BTreeSet<ConnectionId>>,
    left: BTreeMap<Who, Left>,
    turn: u64,
}

/// Somebody who has gone.
#[derive(Debug)]
struct Left {
    at: Instant,
    groups: BTreeSet<String>,
}

/// One participant as presence shows it.
struct Portrait<'a> {
    participant: &'a Participant,
    groups: BTreeSet<&'a str>,
    status: &'static str,
    custom_status: Option<&'a Text>,
    timezone: Option<&'a Text>,
    activity: Option<&'a Text>,
    /// Each with its status.
    claims: Vec<(&'a Claim, &'static str)>,
}

/// What one receiver sees of a portrait: receivers that see the same are told in the same words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Aspect<'a> {
    kind: &'static str,
    groups: Vec<&'a str>,
    /// Indices into the portrait's claims.
    claims: Vec<usize>,
    activity: bool,
}

impl Engine {
    fn portrait<'a>(&'a self, who: &Who, ended: Option<(&'a Claim, &'static str)>) -> Option<Portrait<'a>> {
        let members = self.roster.members.get(who);
        let open: Vec<&Connection> = members.into_iter().flatten().filter_map(|id| self.connections.get(id)).collect();
        let held = self.claims.of(who).filter(|claim| claim.grant.is_some());
        let mut claims: Vec<(&Claim, &str)> = held.map(|claim| (claim, ACTIVE)).collect();
        let absent = claims.iter().any(|(claim, _)| claim.by_request);
        claims.extend(ended);
        let participant = match open.first() {
            Some(connection) => &*connection.participant,
            // Nobody but a request: there while it holds something.
            None if absent => &*claims.iter().find(|(claim, _)| claim.by_request)?.0.holder,
            None => return None,
        };
        let groups = match open.first() {
            Some(_) => open.iter().flat_map(|connection| connection.group_names()).collect(),
            None => participant.sync_groups.iter().map(String::as_str).collect(),
        };
        let latest = open.iter().map(|connection| &connection.said).max_by_key(|said| said.turn);
        let activity =
            open.iter().filter_map(|connection| connection.said.activity.as_ref()).max_by_key(|(turn, _)| turn);
        Some(Portrait {
            participant,
            groups,
            status: latest.and_then(|said| said.status).unwrap_or(STATUSES[0]),
            custom_status: latest.and_then(|said| said.custom_status.as_ref()),
            timezone: latest.and_then(|said| said.timezone.as_ref()),
            activity: activity.map(|(_, text)| text),
            claims,
        })
    }

    /// What a connection sees of a portrait, if anything: groups that both are in, and claims on rows that it sees.
    fn aspect<'a>(&self, portrait: &Portrait<'a>, name: &str, receiver: &Connection) -> Option<Aspect<'a>> {
        let theirs: BTreeSet<&str> = receiver.group_names().collect();
        let groups: Vec<&str> = portrait.groups.iter().copied().filter(|group| theirs.contains(group)).collect();
        let visible = |claim: &Claim| self.shows_place(&receiver.view, &claim.place);
        let claims: Vec<usize> =
            portrait.claims.iter().enumerate().filter(|(_, (claim, _))| visible(claim)).map(|(at, _)| at).collect();
        // A claim that has ended keeps nobody in sight.
        if groups.is_empty() && !claims.iter().any(|at| portrait.claims[*at].1 == ACTIVE) {
            return None;
        }
        let activity =
            portrait.activity.is_some_and(|activity| self.shows_activity(&receiver.view, portrait, activity));
        let kind = if receiver.seen.contains(name) { "update" } else { "enter" };
        Some(Aspect { kind, groups, claims, activity })
    }

    /// An activity names a row: who may not see that does not hear of it.
    fn shows_activity(&self, view: &View, portrait: &Portrait<'_>, activity: &str) -> bool {
        let Ok(activity) = Value::parse(activity) else { return false };
        let (Some(model), Some(row)) = (activity.get_str("entityType"), activity.get_str("entityId")) else {
            return true;
        };
        let place = self.place(&portrait.participant.organization, &model, &row);
        let slot = self.catalog.resolve(&place.model);
        let tenant = self.tenant(&place.organization);
        let exists = slot.is_some_and(|slot| tenant.is_some_and(|tenant| tenant.get(slot, &row).is_some()));
        !exists || self.shows_place(view, &place)
    }

    /// Tells everybody who may know how a participant is: that it came, that it changed, that it left. `ended` is a claim
    /// of its that has just ended and is shown once more.
    pub(super) fn tell_presence(&mut self, now: Now, who: &Who, ended: Option<(&Claim, &'static str)>) {
        let (organization, name) = who;
        let mut sends: Vec<(ConnectionId, Arc<str>, bool)> = Vec::new();
        {
            let portrait = self.portrait(who, ended);
            let mut frames: BTreeMap<Aspect<'_>, Arc<str>> = BTreeMap::new();
            let mut farewell: Option<Arc<str>> = None;
            let others = self
                .connections
                .iter()
                .filter(|(_, other)| other.participant.organization == *organization && other.name != *name);
            for (id, receiver) in others {
                let aspect = portrait.as_ref().and_then(|portrait| self.aspect(portrait, name, receiver));
                match (&portrait, aspect) {
                    (Some(portrait), Some(aspect)) => {
                        if aspect.kind == "enter" && receiver.seen.len() >= ROSTER_MAX {
                            continue;
                        }
                        let frame = frames.entry(aspect);
                        let frame = frame.or_insert_with_key(|aspect| self.frame(now, portrait, aspect).into());
                        sends.push((*id, frame.clone(), true));
                    }
                    (_, _) if receiver.seen.contains(name) => {
                        let frame = farewell.get_or_insert_with(|| farewell_frame(now, name).into());
                        sends.push((*id, frame.clone(), false));
                    }
                    (_, _) => {}
                }
            }
        }
        for (id, text, there) in sends {
            self.note(id, name, there);
            self.outputs.push_back(Output::Send { connection: id, text });
        }
    }

    /// Remembers what a connection knows of somebody.
    fn note(&mut self, id: ConnectionId, name: &Text, there: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if there {
            connection.seen.insert(name.clone());
        } else {
            connection.seen.remove(name);
        }
    }

    /// Tells one connection about everybody it may know of: all of them, or all that its change of groups may concern.
    pub(super) fn send_roster(&mut self, now: Now, id: ConnectionId, anew: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // A receiver that loads a snapshot may have missed what it was told before.
        let before = if anew { std::mem::take(&mut connection.seen) } else { BTreeSet::new() };
        let (organization, own) = (connection.participant.organization.clone(), connection.name.clone());
        let from = (organization.clone(), Text::from(""));
        let members = self.roster.members.range(from..).take_while(|((of, _), _)| *of == organization);
        let mut names: BTreeSet<Text> = members.map(|((_, name), _)| name.clone()).collect();
        names.extend(self.claims.claimants(&organization));
        names.remove(&own);
        for name in names {
            let who = (organization.clone(), name);
            let told = {
                let Some(receiver) = self.connections.get(&id) else { return };
                let portrait = self.portrait(&who, None);
                let aspect = portrait.as_ref().and_then(|portrait| self.aspect(portrait, &who.1, receiver));
                match (&portrait, aspect) {
                    (Some(portrait), Some(aspect)) if aspect.kind == "update" || receiver.seen.len() < ROSTER_MAX => {
                        Some((self.frame(now, portrait, &aspect), true))
                    }
                    _ if receiver.seen.contains(&who.1) || before.contains(&who.1) => {
                        Some((farewell_frame(now, &who.1), false))
                    }
                    _ => None,
                }
            };
            if let Some((text, there)) = told {
                self.note(id, &who.1, there);
                self.send(id, text);
            }
        }
    }

    /// A receiver keeps the claims of people who left while it was away, so it hears of those that did (12.3).
    fn send_recently_left(&mut self, now: Now, id: ConnectionId) {
        let Some(receiver) = self.connections.get(&id) else { return };
        let organization = &receiver.participant.organization;
        let theirs: BTreeSet<&str> = receiver.group_names().collect();
        let from = (organization.clone(), Text::from(""));
        let left = self.roster.left.range(from..).take_while(|((of, _), _)| of == organization);
        let frames: Vec<String> = left
            .filter(|((_, name), left)| {
                now.mono.since(left.at) < LEFT_RECENT_MS
                    && *name != receiver.name
                    && left.groups.iter().any(|group| theirs.contains(group.as_str()))
            })
            .take(ROSTER_MAX)
            .map(|((_, name), _)| farewell_frame(now, name))
            .collect();
        for frame in frames {
            self.send(id, frame);
        }
    }

    /// A connection has opened.
    pub(super) fn arrive(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let who = connection.who();
        self.roster.left.remove(&who);
        self.roster.members.entry(who.clone()).or_default().insert(id);
        self.send_roster(now, id, true);
        self.send_recently_left(now, id);
        self.send_queues(now, id, None);
        self.tell_presence(now, &who, None);
    }

    /// A bootstrap has been answered: the client that loads it hears presence from then on (12.3).
    pub(super) fn repeat_presence(&mut self, now: Now, participant: &Participant) {
        let who: Who = (participant.organization.clone(), participant.name().into());
        let at = now.mono.after(REPEAT_MS);
        let Some(members) = self.roster.members.get(&who) else { return };
        for id in members {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.repeat_at = Some(at);
            }
        }
        self.wake_by(at);
    }

    /// The repetition.
    pub(super) fn send_presence_again(&mut self, now: Now, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.repeat_at = None;
        }
        self.send_roster(now, id, true);
        self.send_queues(now, id, None);
    }

    /// A connection has gone.
    pub(super) fn depart(&mut self, now: Now, id: ConnectionId, gone: &Connection) {
        self.claims.detach(id, gone.heard);
        let who = gone.who();
        if self.forget_member(now, &who, id, gone) {
            self.tell_presence(now, &who, None);
        }
    }

    /// False: there is nobody left who could be told.
    fn forget_member(&mut self, now: Now, who: &Who, id: ConnectionId, gone: &Connection) -> bool {
        if let Some(members) = self.roster.members.get_mut(who) {
            members.remove(&id);
            if members.is_empty() {
                self.roster.members.remove(who);
                if self.roster.left.len() >= LEFT_MAX {
                    self.roster.left.retain(|_, left| now.mono.since(left.at) < LEFT_RECENT_MS);
                }
                if self.roster.left.len() < LEFT_MAX {
                    let groups = gone.group_names().map(str::to_owned).collect();
                    let left = Left { at: now.mono, groups };
                    self.roster.left.insert(who.clone(), left);
                }
            }
        }
        !self.connections.is_empty()
    }

    /// All connections go at once: nobody is told.
    pub(super) fn depart_all(&mut self, now: Now) {
        for (id, gone) in std::mem::take(&mut self.connections) {
            self.claims.detach(id, gone.heard);
            self.forget_member(now, &gone.who(), id, &gone);
        }
    }

    /// The groups of a connection have changed: it may see more, and be seen by others.
    pub(super) fn regroup(&mut self, now: Now, id: ConnectionId, before: &View) {
        let Some(connection) = self.connections.get(&id) else { return };
        let who = connection.who();
        self.send_roster(now, id, false);
        self.send_queues(now, id, Some(before));
        self.tell_presence(now, &who, None);
    }

    /// `presence_update` (protocol.md 7.4). What a frame leaves out keeps its value.
    pub(super) fn presence_update(&mut self, now: Now, id: ConnectionId, said: &Presence) {
        self.roster.turn += 1;
        let turn = self.roster.turn;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let known = &mut connection.said;
        known.turn = turn;
        known.status = STATUSES.into_iter().find(|status| *status == said.status).or(known.status);
        let short = |text: &Option<String>| text.as_deref().filter(|text| text.len() <= TEXT_MAX).map(Text::from);
        known.custom_status = short(&said.custom_status).or(known.custom_status.take());
        known.timezone = short(&said.timezone).or(known.timezone.take());
        let activity = said.activity.as_deref().filter(|activity| activity.len() <= ACTIVITY_MAX);
        let activity = activity.filter(|text| Value::parse(text).is_ok_and(|value| value.kind == Kind::Object));
        if let Some(activity) = activity {
            known.activity = Some((turn, activity.into()));
        }
        let who = connection.who();
        self.tell_presence(now, &who, None);
    }

    fn frame(&self, now: Now, portrait: &Portrait<'_>, aspect: &Aspect<'_>) -> String {
        let mut out = String::new();
        let mut frame = ObjectWriter::new(&mut out);
        frame.str("type", "presence_update");
        frame.object("payload", |payload| {
            payload.str("kind", aspect.kind);
            write_identity(payload, portrait.participant);
            payload.str("status", portrait.status);
            payload.strs("syncGroups", &aspect.groups);
            if let (Some(activity), true) = (portrait.activity, aspect.activity) {
                payload.raw("activity", activity);
            }
            let claims = aspect.claims.iter().filter_map(|at| portrait.claims.get(*at));
            write_array(payload.key("activeClaims"), claims, |out, (claim, status)| {
                write_wire(out, &self.claimed(now, claim), status);
            });
            payload.opt_str("timezone", portrait.timezone.map(|text| &**text));
            payload.opt_str("customStatus", portrait.custom_status.map(|text| &**text));
            payload.u64("timestamp", now.wall.0);
        });
        frame.end();
        out
    }
}

/// Who it is, from the credential and never from what a client says (12.3).
fn write_identity(payload: &mut ObjectWriter<'_>, participant: &Participant) {
    payload.str("userId", &participant.id);
    payload.str("participantKind", participant.kind.name());
    payload.bool("isAgent", participant.kind == super::ParticipantKind::Agent);
}

fn farewell_frame(now: Now, name: &str) -> String {
    let (kind, id) = name.split_once(':').unwrap_or(("user", name));
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "presence_update");
    frame.object("payload", |payload| {
        payload.str("kind", "leave");
        payload.str("userId", id);
        payload.str("participantKind", kind);
        payload.bool("isAgent", kind == super::ParticipantKind::Agent.name());
        payload.str("status", STATUSES[2]);
        payload.strs("syncGroups", std::iter::empty::<&str>());
        payload.raw("activeClaims", "[]");
        payload.u64("timestamp", now.wall.0);
    });
    frame.end();
    out
}
