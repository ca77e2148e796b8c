//! Credentials: looking keys up, issuing keys, saying who somebody is (protocol.md sections 3 and 4.1 to 4.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Kind, ObjectWriter, Value};
use ablo_wasm::core::time::{Now, WallTime};

use super::ended::Ended;
use super::group::{anchor, read_groups};
use super::participant::{KeyKind, Participant, ParticipantKind, Text};
use super::storage::{StoreChange, StoredKey};
use super::{Engine, Output, token};

/// Shortest life of an exchanged key: a client refreshes in a tight loop when given less than a few minutes.
const CAPABILITY_TTL_MIN_S: u64 = 180;
/// Life of an issued key when neither the request nor the options say.
pub const KEY_TTL_MS: u64 = 900 * 1000;
/// Longest life of an issued key.
pub const KEY_TTL_MAX_MS: u64 = TTL_MAX_S * 1000;
const TTL_MAX_S: u64 = 30 * 24 * 3600;
/// How long an ended key is remembered, so that its holder learns that it expired rather than that it never was.
const ENDED_KEY_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most issued keys that are kept.
const ISSUED_KEYS_MAX: usize = 100_000;
/// Longest participant id and label.
const NAME_MAX: usize = 255;

/// A key given at start.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// The token.
    pub token: String,
    /// Who holds it.
    pub participant: Participant,
}

/// Every key that works or has worked lately, by the hash of its token.
#[derive(Debug, Default)]
pub(super) struct Keys {
    fixed: BTreeMap<Text, Arc<Participant>>,
    issued: BTreeMap<Text, Arc<Participant>>,
    /// Life of an issued key when the request does not say, in seconds.
    ttl_s: u64,
    pub(super) ended: Ended,
}

impl Keys {
    pub(super) fn new(keys: Vec<StaticKey>, ttl_ms: u64) -> Self {
        let entry = |key: StaticKey| {
            let hash = token::hash(&key.token);
            (hash.clone(), Arc::new(Participant { key_hash: Some(hash), ..key.participant }))
        };
        let fixed = keys.into_iter().map(entry).collect();
        Self { fixed, issued: BTreeMap::new(), ttl_s: ttl_ms / 1000, ended: Ended::default() }
    }

    /// Who holds the token with this hash, or held it lately.
    pub(super) fn holder(&self, hash: &str) -> Option<&Arc<Participant>> {
        self.fixed.get(hash).or_else(|| self.issued.get(hash))
    }

    /// Takes back a key from the store. False when its record cannot be read.
    pub(super) fn restore(&mut self, key: &StoredKey) -> bool {
        let participant = Value::parse(&key.record).ok().and_then(|record| read_record(record, key));
        participant.is_some_and(|participant| {
            self.issued.insert(key.hash.clone(), Arc::new(participant));
            true
        })
    }
}

fn read_record(record: Value<'_>, key: &StoredKey) -> Option<Participant> {
    let strings = |key: &str| record.get(key).into_iter().flat_map(Value::elements).filter_map(Value::as_str);
    Some(Participant {
        kind: ParticipantKind::parse(&record.get_str("kind")?)?,
        id: record.get_str("id")?.into(),
        organization: record.get_str("organization")?.into(),
        sync_groups: strings("syncGroups").map(Into::into).collect(),
        operations: strings("operations").map(Into::into).collect(),
        key: KeyKind::Restricted,
        expires_at: Some(key.expires_at),
        key_hash: Some(key.hash.clone()),
    })
}

fn write_record(participant: &Participant) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    object.str("kind", participant.kind.name());
    object.str("id", &participant.id);
    object.str("organization", &participant.organization);
    object.strs("syncGroups", &participant.sync_groups);
    object.strs("operations", &participant.operations);
    object.end();
    out
}

impl Engine {
    /// Who holds this token. The one place that decides it: probe, upgrade and requests all ask here, so they agree
    /// (protocol.md 4.4).
    ///
    /// # Errors
    /// `apikey_missing`, `apikey_invalid` or `apikey_expired`; of a key that was ended early, what `KeyEnd` says.
    pub fn authenticate(&self, now: Now, token: Option<&str>) -> Result<Arc<Participant>, Error> {
        let Some(token) = token.map(str::trim).filter(|token| !token.is_empty()) else {
            return Err(Error::wire("apikey_missing", "no key was sent; send it as `Authorization: Bearer <key>`"));
        };
        let hash = token::hash(token);
        let Some(participant) = self.keys.holder(&hash) else {
            let why = if token::is_well_formed(token) {
                "the key is not known to this server"
            } else {
                "the key's checksum does not match; it was mistyped or cut"
            };
            return Err(Error::wire("apikey_invalid", why));
        };
        if let Some(end) = self.keys.ended.of(&hash) {
            return Err(end.error());
        }
        match participant.expires_at {
            Some(end) if end <= self.keys.ended.wall(now) => {
                Err(Error::wire("apikey_expired", format!("the key ended at {}; obtain a new one", end.to_iso())))
            }
            _ => Ok(participant.clone()),
        }
    }

    /// The answer to `GET /auth/identity`.
    pub fn identity(&self, participant: &Participant) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("participantKind", participant.kind.name());
        object.str("participantId", &participant.id);
        object.str("accountScope", &participant.organization);
        object.strs("syncGroups", &participant.sync_groups);
        object.raw("userMeta", "{}");
        object.end();
        out
    }

    /// `POST /auth/capability`: exchanges a secret key, or mints a key for an agent.
    ///
    /// # Errors
    /// `forbidden` without a secret key, `invalid_participant_kind`, `invalid_sync_group`, `invalid_body`.
    pub fn mint_capability(
        &mut self,
        now: Now,
        holder: &Participant,
        token: &str,
        body: &str,
    ) -> Result<String, Error> {
        require_secret(holder)?;
        let body = read_object(body)?;
        let kind = match body.get_str("participantKind").as_deref() {
            None | Some("agent") => ParticipantKind::Agent,
            Some("system") => ParticipantKind::System,
            Some(other) => {
                let why =
                    format!("a capability is for an agent or a system, not {other:.40}; users get ephemeral keys");
                return Err(Error::wire("invalid_participant_kind", why).param("participantKind"));
            }
        };
        let organization = holder.organization.clone();
        let capability = format!("cap_{}", self.random.base62(16));
        let id = match body.get("participantId").filter(|id| !id.is_null()) {
            Some(id) => read_name(id, "participantId")?,
            None if kind == ParticipantKind::System => format!("system:{organization}"),
            None => format!("agent:{capability}"),
        };
        let operations = match body.get("operations").filter(|list| !list.is_null()) {
            Some(list) if list.kind == Kind::Array && list.elements().all(|item| item.kind == Kind::String) => {
                list.elements().filter_map(|item| item.as_str().map(Into::into)).collect()
            }
            Some(_) => return Err(Error::wire("invalid_body", "operations must be strings").param("operations")),
            None => vec!["*".to_owned()],
        };
        let participant = Participant {
            kind,
            id: id.into(),
            sync_groups: requested_groups(body, &organization, || vec![anchor(&organization)])?,
            organization,
            operations,
            key: KeyKind::Restricted,
            expires_at: None,
            key_hash: None,
        };
        let ttl = self.read_ttl(body)?.clamp(CAPABILITY_TTL_MIN_S, TTL_MAX_S);
        let (token, participant) = self.issue(now, "rk", token::environment(token), participant, ttl)?;
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("capabilityId", &capability);
        object.str("token", &token);
        object.str("expiresAt", &participant.expires_at.unwrap_or_default().to_iso());
        object.str("organizationId", &participant.organization);
        object.object("scope", |scope| {
            scope.str("organizationId", &participant.organization);
            scope.strs("syncGroups", &participant.sync_groups);
            scope.strs("operations", &participant.operations);
            scope.str("participantKind", participant.kind.name());
            scope.str("participantId", &participant.id);
        });
        let meta = body.get("userMeta").filter(|meta| meta.kind == Kind::Object);
        object.raw("userMeta", meta.map_or("{}", |meta| meta.raw));
        object.end();
        Ok(out)
    }

    /// `POST /auth/ephemeral-keys`: mints a key for one end user.
    ///
    /// # Errors
    /// `forbidden` without a secret key or for another organization, `invalid_sync_group`, `invalid_body`.
    pub fn mint_ephemeral_key(
        &mut self,
        now: Now,
        holder: &Participant,
        token: &str,
        body: &str,
    ) -> Result<String, Error> {
        require_secret(holder)?;
        let body = read_object(body)?;
        let user = body.get("user").and_then(|user| user.get("id"));
        let Some(user) = user else {
            return Err(Error::wire("invalid_body", "the body needs user.id").param("user.id"));
        };
        let user = read_name(user, "user.id")?;
        let organization = holder.organization.clone();
        if body.get_str("organizationId").is_some_and(|asked| asked != *organization) {
            let why = format!("this key mints for {organization} only; use a secret key of the other organization");
            return Err(Error::wire("forbidden", why).param("organizationId"));
        }
        let usual = || vec![anchor(&organization), format!("user:{user}")];
        let participant = Participant {
            sync_groups: requested_groups(body, &organization, usual)?,
            ..Participant::user(&user, &organization)
        };
        let ttl = self.read_ttl(body)?.clamp(1, TTL_MAX_S);
        let (token, participant) = self.issue(now, "ek", token::environment(token), participant, ttl)?;
        let id = format!("ek_row_{}", self.random.base62(12));
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("object", "ephemeral_key");
        object.str("id", &id);
        object.str("token", &token);
        object.str("expiresAt", &participant.expires_at.unwrap_or_default().to_iso());
        object.str("organizationId", &participant.organization);
        object.str("participantId", &participant.id);
        object.strs("syncGroups", &participant.sync_groups);
        object.end();
        Ok(out)
    }

    fn issue(
        &mut self,
        now: Now,
        prefix: &str,
        environment: &str,
        mut participant: Participant,
        ttl_s: u64,
    ) -> Result<(String, Arc<Participant>), Error> {
        let mut change = StoreChange::default();
        if self.keys.issued.len() >= ISSUED_KEYS_MAX {
            let limit = WallTime(now.wall.0.saturating_sub(ENDED_KEY_KEPT_MS));
            self.keys.issued.retain(|_, holder| holder.expires_at.is_some_and(|end| end >= limit));
            change.forget_keys_before = Some(limit);
        }
        if self.keys.issued.len() >= ISSUED_KEYS_MAX {
            let why =
                format!("{ISSUED_KEYS_MAX} issued keys are alive; wait for some to end, or ask for shorter lives");
            return Err(Error::wire("instance_at_capacity", why));
        }
        let end = WallTime(self.keys.ended.wall(now).0.saturating_add(ttl_s.saturating_mul(1000)));
        participant.expires_at = Some(end);
        let token = self.random.key(prefix, environment);
        let hash = token::hash(&token);
        participant.key_hash = Some(hash.clone());
        let participant = Arc::new(participant);
        self.keys.issued.insert(hash.clone(), participant.clone());
        let record = write_record(&participant).into();
        change.keys.push(StoredKey { hash, record, expires_at: end });
        self.outputs.push_back(Output::Store(change));
        Ok((token, participant))
    }

    /// The life that a request asks for, in seconds.
    fn read_ttl(&self, body: Value<'_>) -> Result<u64, Error> {
        match body.get("ttlSeconds").filter(|ttl| !ttl.is_null()) {
            None => Ok(self.keys.ttl_s),
            Some(ttl) => {
                ttl.as_f64().filter(|ttl| *ttl > 0.0).map(|ttl| ttl.min(1e12) as u64).ok_or_else(|| {
                    Error::wire("invalid_body", "ttlSeconds must be a number above 0").param("ttlSeconds")
                })
            }
        }
    }
}

fn require_secret(holder: &Participant) -> Result<(), Error> {
    if holder.key == KeyKind::Secret {
        return Ok(());
    }
    Err(Error::wire("forbidden", "only a secret key (sk_…) may mint keys"))
}

/// Reads a request body that must be an object.
pub(super) fn read_object(body: &str) -> Result<Value<'_>, Error> {
    let value = Value::parse(body)?;
    if value.kind != Kind::Object {
        return Err(Error::wire("invalid_body", "the body must be a JSON object"));
    }
    Ok(value)
}

fn read_name(value: Value<'_>, param: &'static str) -> Result<String, Error> {
    match value.as_str() {
        Some(name) if !name.is_empty() && name.len() <= NAME_MAX => Ok(name.into_owned()),
        _ => {
            let why = format!("{param} must be a string of 1 to {NAME_MAX} bytes");
            Err(Error::wire("invalid_body", why).param(param))
        }
    }
}

/// The groups asked for, or the usual ones. A secret key gives away any group of its organization, none of another.
fn requested_groups(
    body: Value<'_>,
    organization: &str,
    usual: impl FnOnce() -> Vec<String>,
) -> Result<BTreeSet<String>, Error> {
    let Some(list) = body.get("syncGroups").filter(|list| !list.is_null()) else {
        return Ok(usual().into_iter().collect());
    };
    let groups = read_groups(Some(list)).ok_or_else(|| {
        Error::wire("invalid_sync_group", "syncGroups must be a list of at most 1000 strings").param("syncGroups")
    })?;
    let own = anchor(organization);
    if let Some(foreign) = groups.iter().find(|group| group.starts_with("org:") && **group != own) {
        let why = format!("{foreign:.80} belongs to another organization");
        return Err(Error::wire("invalid_sync_group", why).param("syncGroups"));
    }
    Ok(groups.into_iter().collect())
}
