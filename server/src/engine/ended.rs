//! Keys that end: when their time comes, or before it.
//!
//! Nothing on the wire ends a key early; the switches of `--faults` do, so that tests can. Early ends are not stored: a
//! restart forgets them.

use std::collections::BTreeMap;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::time::{Instant, Now, WallTime};

use super::participant::{Participant, Text};
use super::session::ConnectionId;
use super::{Engine, token};

/// How a key has ended: what requests with it are told, and what its sockets are closed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEnd {
    /// Its time has come: the holder asks for another.
    Expired,
    /// Somebody took it back: the holder has to be given another by hand.
    Revoked,
    /// The login behind it is gone: the user has to sign in again.
    LoginEnded,
}

impl KeyEnd {
    /// What requests are told, and the reason that sockets are given.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "apikey_expired",
            Self::Revoked => "apikey_revoked",
            Self::LoginEnded => "session_expired",
        }
    }

    /// The close code. Only the end of a login may have one that a client takes for just that (protocol.md 6.6): after
    /// the others it probes and learns the rest.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Expired => 4010,
            Self::Revoked => 4011,
            Self::LoginEnded => 4001,
        }
    }

    pub(super) fn error(self) -> Error {
        let why = match self {
            Self::Expired => "the key was ended before its time; obtain a new one",
            Self::Revoked => "the key was revoked; ask whoever issued it for another",
            Self::LoginEnded => "the login behind this key has ended; sign in again",
        };
        Error::wire(self.code(), why)
    }
}

/// Keys that were ended early, by the hash of their token, and how far the clock that ends the others is ahead.
#[derive(Debug, Default)]
pub(super) struct Ended {
    early: BTreeMap<Text, KeyEnd>,
    ahead_ms: u64,
}

impl Ended {
    pub(super) fn of(&self, hash: &str) -> Option<KeyEnd> {
        self.early.get(hash).copied()
    }

    /// The clock by which keys are issued and end.
    pub(super) fn wall(&self, now: Now) -> WallTime {
        WallTime(now.wall.0.saturating_add(self.ahead_ms))
    }
}

impl Engine {
    /// Whether this token is one that was given at start or issued, in effect or ended.
    pub fn knows_key(&self, token: &str) -> bool {
        self.keys.holder(&token::hash(token)).is_some()
    }

    /// Ends a key now and closes its sockets.
    pub fn end_key(&mut self, token: &str, end: KeyEnd) {
        self.keys.ended.early.insert(token::hash(token), end);
        for id in self.connections_of(token) {
            self.close_ended(id, end);
        }
    }

    /// Undoes [`end_key`](Self::end_key). A key whose time has come stays ended.
    pub fn restore_key(&mut self, token: &str) {
        self.keys.ended.early.remove(&token::hash(token));
    }

    /// Undoes every [`end_key`](Self::end_key).
    pub fn restore_keys(&mut self) {
        self.keys.ended.early.clear();
    }

    /// Lets the clock by which keys are issued and end run ahead of the given one. Sockets whose key thereby ends are
    /// closed with the next [`handle_timeout`](Self::handle_timeout), which is due at once.
    pub fn set_key_clock_ahead(&mut self, now: Now, ms: u64) {
        self.keys.ended.ahead_ms = ms;
        let wall = self.keys.ended.wall(now);
        for connection in self.connections.values_mut() {
            connection.expires = remaining(now, wall, &connection.participant);
        }
    }

    /// The open sockets of a token.
    pub fn connections_of(&self, token: &str) -> Vec<ConnectionId> {
        let hash = token::hash(token);
        let of_token = |participant: &Participant| participant.key_hash.as_ref() == Some(&hash);
        self.connections.iter().filter(|(_, known)| of_token(&known.participant)).map(|(id, _)| *id).collect()
    }

    /// When the credential ends by itself.
    pub(super) fn expiry(&self, now: Now, participant: &Participant) -> Option<Instant> {
        remaining(now, self.keys.ended.wall(now), participant)
    }

    pub(super) fn early_end(&self, participant: &Participant) -> Option<KeyEnd> {
        self.keys.ended.of(participant.key_hash.as_ref()?)
    }

    pub(super) fn close_ended(&mut self, id: ConnectionId, end: KeyEnd) {
        self.close(id, end.close_code(), end.code());
    }
}

fn remaining(now: Now, wall: WallTime, participant: &Participant) -> Option<Instant> {
    participant.expires_at.map(|end| now.mono.after(end.0.saturating_sub(wall.0)))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, KeyKind, Output, StaticKey};
    use super::*;

    const START: u64 = 1_782_900_000_000;

    fn engine(tokens: &[&str]) -> Engine {
        let key = |token: &&str| StaticKey {
            token: (*token).to_owned(),
            participant: Participant {
                expires_at: Some(WallTime(START + 5000)),
                key: KeyKind::of(token),
                ..Participant::user("u", "acme")
            },
        };
        let keys = tokens.iter().map(key).collect();
        Engine::new(Config { keys, key_ttl_ms: 60_000, ..Config::default() }, Engine::seed_from(1))
    }

    fn open(engine: &mut Engine, now: Now, token: &str) -> ConnectionId {
        let who = engine.authenticate(now, Some(token)).unwrap();
        engine.connect(now, &who, None)
    }

    fn closed(engine: &mut Engine) -> Vec<(ConnectionId, u16, &'static str)> {
        let mut closed = Vec::new();
        while let Some(output) = engine.poll_output() {
            if let Output::Close { connection, code, reason } = output {
                closed.push((connection, code, reason));
            }
        }
        closed
    }

    #[test]
    fn an_early_end_reaches_the_sockets_of_that_key_and_no_others() {
        for (end, code, reason) in [
            (KeyEnd::Expired, 4010, "apikey_expired"),
            (KeyEnd::Revoked, 4011, "apikey_revoked"),
            (KeyEnd::LoginEnded, 4001, "session_expired"),
        ] {
            let mut engine = engine(&["ek_test_a", "ek_test_b"]);
            let now = Now::new(0, START);
            let (first, other) = (open(&mut engine, now, "ek_test_a"), open(&mut engine, now, "ek_test_b"));
            let who = engine.authenticate(now, Some("ek_test_a")).unwrap();
            assert_eq!(engine.connections_of("ek_test_b"), [other]);
            engine.end_key("ek_test_a", end);
            assert_eq!(closed(&mut engine), [(first, code, reason)]);
            assert_eq!(engine.authenticate(now, Some("ek_test_a")).unwrap_err().code, reason);
            // An upgrade that was under way.
            let late = engine.connect(now, &who, None);
            assert_eq!(closed(&mut engine), [(late, code, reason)]);
            assert_eq!(engine.connections(), 1);
            engine.restore_key("ek_test_a");
            open(&mut engine, now, "ek_test_a");
            assert!(closed(&mut engine).is_empty());
        }
    }

    #[test]
    fn sockets_end_with_their_key_and_not_before() {
        let mut engine = engine(&["ek_test_a"]);
        let id = open(&mut engine, Now::new(0, START), "ek_test_a");
        // The wait for a first request.
        engine.handle_timeout(Now::new(1000, START + 1000));
        assert_eq!(engine.poll_timeout(), Some(Instant(5000)));
        engine.handle_timeout(Now::new(4999, START + 4999));
        assert!(closed(&mut engine).is_empty());
        engine.handle_timeout(Now::new(5000, START + 5000));
        assert_eq!(closed(&mut engine), [(id, 4010, "apikey_expired")]);
        assert_eq!(engine.poll_timeout(), None);
    }

    #[test]
    fn a_clock_that_runs_ahead_ends_keys_and_dates_new_ones() {
        let mut engine = engine(&["sk_test_a"]);
        let now = Now::new(0, START);
        let holder = engine.authenticate(now, Some("sk_test_a")).unwrap();
        let id = open(&mut engine, now, "sk_test_a");
        engine.set_key_clock_ahead(now, 3_600_000);
        assert_eq!(engine.poll_timeout(), Some(Instant(0)));
        engine.handle_timeout(now);
        assert_eq!(closed(&mut engine), [(id, 4010, "apikey_expired")]);
        assert_eq!(engine.authenticate(now, Some("sk_test_a")).unwrap_err().code, "apikey_expired");
        let minted = engine.mint_ephemeral_key(now, &holder, "sk_test_a", r#"{"user":{"id":"u"}}"#).unwrap();
        // A new key lives as long as always: the clock that dates it is the one that ends it.
        let end = WallTime(START + 3_600_000 + 60_000).to_iso();
        assert!(minted.contains(&end), "{minted}");
        engine.set_key_clock_ahead(now, 0);
        assert!(engine.authenticate(now, Some("sk_test_a")).is_ok());
    }
}
