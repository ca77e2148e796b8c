//! Groups joined for a while (protocol.md 7.5, 7.6, 8.6, 8.7), and events between those who share a group (7.12).

use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{ObjectWriter, Value, merge};
use ablo_wasm::core::time::{Instant, Now};

use super::group::{View, read_groups};
use super::participant::{Participant, Text, scope_denied};
use super::session::ConnectionId;
use super::{Engine, Output};

/// Most participant claims of one connection.
pub const JOINS_MAX: usize = 100;
/// The longest life of a participant claim, in seconds. One without a life ends with its connection.
pub const JOIN_TTL_MAX_S: u64 = 86_400;
/// Longest id of a participant claim.
const ID_MAX: usize = 512;
/// The events that are always relayed. Others are named in [`Config::events`](super::Config::events): to relay whatever
/// comes would let a client speak as the server.
const EVENTS: [&str; 3] = ["sheet_selection", "slide_selection", "slide_cursor"];
/// Types of the protocol, which no event may have, now or later: those that begin so.
const RESERVED: [&str; 14] = [
    "ack",
    "batch",
    "bootstrap",
    "claim",
    "commit",
    "delta",
    "error",
    "mutation",
    "ping",
    "pong",
    "presence",
    "release",
    "subscription",
    "sync",
];
/// Largest payload of an event.
const EVENT_BYTES_MAX: usize = 64 << 10;

/// Groups that a connection has joined for a while.
#[derive(Debug)]
pub(super) struct Joined {
    pub groups: Vec<String>,
    pub until: Option<Instant>,
}

/// The wire type of an event of the application's, whose name may have colons: `None` if it cannot be one.
pub fn event_type(name: &str) -> Option<String> {
    let kind = name.replace(':', "_");
    let plain = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let first = kind.split('_').next().unwrap_or_default();
    let taken = kind == "update_subscription" || RESERVED.contains(&first);
    (plain && !taken && !first.is_empty() && kind.len() <= ID_MAX).then_some(kind)
}

impl Engine {
    /// `claim`: joins groups (7.5).
    pub(super) fn join(&mut self, now: Now, id: ConnectionId, payload: Value<'_>) {
        let Some(claim) = payload.get_str("claimId").filter(|claim| !claim.is_empty() && claim.len() <= ID_MAX) else {
            // Nobody could tell the answer from others.
            return;
        };
        let asked = payload.get("ttlSeconds").filter(|ttl| !ttl.is_null());
        let ttl = asked.and_then(Value::as_f64).map(|ttl| (ttl.ceil() as u64).clamp(1, JOIN_TTL_MAX_S));
        let outcome = self.check_join(now, id, &claim, payload);
        let mut out = String::new();
        let mut frame = ObjectWriter::new(&mut out);
        frame.str("type", "claim_ack");
        frame.object("payload", |answer| {
            answer.str("claimId", &claim);
            answer.bool("success", outcome.is_ok());
            match &outcome {
                Ok(groups) => {
                    answer.strs("syncGroups", groups);
                    if let Some(ttl) = ttl {
                        answer.u64("ttlSeconds", ttl);
                    }
                }
                Err(error) => answer.object("error", |object| {
                    object.str("code", &error.code);
                    object.str("message", &error.message);
                    let details = error.details.as_deref().and_then(|details| Value::parse(details).ok());
                    if let Some(capability) = details.and_then(|details| details.get("requiredCapability")) {
                        object.raw("requiredCapability", capability.raw);
                    }
                }),
            }
        });
        frame.end();
        self.send(id, out);
        if let (Ok(groups), Some(connection)) = (outcome, self.connections.get_mut(&id)) {
            let until = ttl.map(|ttl| now.mono.after(ttl.saturating_mul(1000)));
            connection.joined.insert(claim.as_ref().into(), Joined { groups, until });
            if let Some(until) = until {
                self.wake_by(until);
            }
            self.renew_view(now, id);
        }
    }

    fn check_join(&self, now: Now, id: ConnectionId, claim: &str, payload: Value<'_>) -> Result<Vec<String>, Error> {
        let Some(groups) = read_groups(payload.get("syncGroups")) else {
            let why = "syncGroups must be a list of at most 1000 short strings";
            return Err(Error::wire("malformed_subscription", why).param("syncGroups"));
        };
        let Some(connection) = self.connections.get(&id) else {
            return Err(Error::wire("internal_error", "the connection has gone"));
        };
        if connection.joined.len() >= JOINS_MAX && !connection.joined.contains_key(claim) {
            let why = format!("{JOINS_MAX} participant claims are the most for one connection; release some");
            return Err(Error::wire("quota_exceeded", why));
        }
        let participant = connection.participant.clone();
        self.check_groups(&participant, &groups)?;
        // A narrower credential must allow them too.
        if let Some(token) = payload.get_str("capabilityToken") {
            let narrow = self.authenticate(now, Some(&token))?;
            if narrow.organization != participant.organization {
                return Err(Error::wire("organization_mismatch", "capabilityToken is of another organization"));
            }
            self.check_groups(&narrow, &groups)?;
        }
        Ok(groups)
    }

    fn check_groups(&self, participant: &Participant, groups: &[String]) -> Result<(), Error> {
        let view = View::of(participant, &self.catalog);
        match groups.iter().find(|group| !self.may_read(participant, &view, group)) {
            None => Ok(()),
            Some(group) => {
                let why = format!("{group:.80} is outside this key's scope");
                Err(scope_denied(why, "subscribe", &[group]))
            }
        }
    }

    /// `release`: leaves groups (7.6).
    pub(super) fn leave(&mut self, now: Now, id: ConnectionId, payload: Value<'_>) {
        let claim = payload.get_str("claimId").unwrap_or_default();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.joined.remove(claim.as_ref()).is_some() {
            self.renew_view(now, id);
        }
    }

    /// Ends what a connection had joined until now (8.7).
    pub(super) fn expire_joined(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let over = |joined: &Joined| joined.until.is_some_and(|until| until <= now.mono);
        let ended: Vec<Text> =
            connection.joined.iter().filter(|(_, joined)| over(joined)).map(|(claim, _)| claim.clone()).collect();
        if ended.is_empty() {
            return;
        }
        for claim in ended {
            connection.joined.remove(&claim);
            let mut out = String::new();
            let mut frame = ObjectWriter::new(&mut out);
            frame.str("type", "claim_expired");
            frame.object("payload", |payload| payload.str("claimId", &claim));
            frame.end();
            self.outputs.push_back(Output::Send { connection: id, text: out.into() });
        }
        self.renew_view(now, id);
    }

    /// The groups of a connection have changed.
    pub(super) fn renew_view(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let groups = connection.group_names().map(str::to_owned).collect();
        let view = View::within(groups, &connection.participant, &self.catalog);
        let before = std::mem::replace(&mut connection.view, view);
        self.regroup(now, id, &before);
    }

    /// Hands an event to the connections that share a group with its sender (7.12). Anything else is ignored.
    pub(super) fn relay(&mut self, id: ConnectionId, kind: &str, payload: Value<'_>) {
        let known = EVENTS.contains(&kind) || self.events.contains(kind);
        if !known || payload.raw.len() > EVENT_BYTES_MAX {
            return;
        }
        let Some(sender) = self.connections.get(&id) else { return };
        let mut stamp = String::new();
        let mut object = ObjectWriter::new(&mut stamp);
        object.str("userId", &sender.participant.id);
        object.end();
        let mut out = String::new();
        let mut frame = ObjectWriter::new(&mut out);
        frame.str("type", kind);
        frame.raw("payload", &merge(payload.raw, &stamp));
        frame.end();
        let text: Arc<str> = out.into();
        let groups: std::collections::BTreeSet<&str> = sender.group_names().collect();
        let others = self.connections.iter().filter(|(other, known)| {
            **other != id
                && known.participant.organization == sender.participant.organization
                && known.group_names().any(|group| groups.contains(group))
        });
        let to: Vec<ConnectionId> = others.map(|(other, _)| *other).collect();
        for connection in to {
            self.outputs.push_back(Output::Send { connection, text: text.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_not_called_like_frames_of_the_protocol() {
        for (name, kind) in [
            ("board:cursor", Some("board_cursor")),
            ("chat_typing", Some("chat_typing")),
            ("wave", Some("wave")),
            ("claim:lost", None),
            ("sync_response", None),
            ("update:subscription", None),
            ("error", None),
            ("_x", None),
            ("Board", None),
            ("", None),
        ] {
            assert_eq!(event_type(name).as_deref(), kind, "{name}");
        }
    }
}
