//! Writes: from the application's call to the queue, and from the queue's outcomes back to rows, tickets and events.

use super::Engine;
use super::claims::Stamp;
use crate::core::error::Error;
use crate::core::fold::fold_case;
use crate::core::id::{ModelIndex, RowId, SyncId};
use crate::core::input::{Change, Ticket, Write};
use crate::core::json::{JsonStr, Kind, ObjectWriter, Value, merge};
use crate::core::output::Output;
use crate::core::pool::RowRef;
use crate::core::queue::{Enqueue, NewOp, Outcome, Rejected, RowKey, Wait};
use crate::core::schema::{BASE_FIELDS, RelationKind};
use crate::core::text::{concat, digits, short};
use crate::core::wire::{IDEMPOTENCY_KEY_MAX, OnStale, OpKind};

/// Most operations in one direct commit.
const DIRECT_OPS_MAX: usize = 10_000;

/// Write options (api.md 2.5).
#[derive(Debug, Default)]
struct WriteOptions {
    wait: Option<Wait>,
    read_at: Option<SyncId>,
    on_stale: Option<OnStale>,
    key: Option<String>,
    reads: Option<String>,
    /// The claim that it is under: that of a handle, or one of this id, whoever's.
    claim: Option<String>,
    claim_ref: Option<String>,
    /// Based on the row as it is here now.
    current: bool,
}

impl WriteOptions {
    /// What the SDK would have refused counts as not given.
    fn parse(value: Value<'_>) -> Result<Self, Error> {
        let key = value.get_string("idempotencyKey");
        if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX) {
            let message = "idempotencyKey must be a string of 1 to 255 bytes";
            return Err(Error::local("write_options_invalid", message).param("idempotencyKey"));
        }
        Ok(Self {
            wait: match value.get_str("wait").as_deref() {
                Some("queued") => Some(Wait::Queued),
                Some("confirmed") => Some(Wait::Confirmed),
                _ => None,
            },
            read_at: value.get_u64("readAt").map(SyncId),
            on_stale: value.get_str("onStale").and_then(|mode| OnStale::parse(&mode)),
            key,
            reads: value.get("reads").filter(|reads| !reads.is_null()).map(|reads| reads.raw.to_owned()),
            claim: value.get_string("claim"),
            claim_ref: value.get_string("claimRef"),
            current: value.get("current").is_some(),
        })
    }
}

impl Engine {
    /// Publishable keys read only (protocol.md 3.1): what the server would refuse is not queued.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match &self.token {
            Some(token) if token.starts_with("pk_") => {
                Err(Error::local("capability_scope_denied", "a publishable key (pk_) can only read"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A model write. It is visible when this returns.
    pub(super) fn write(&mut self, ticket: Ticket, write: Write) -> Result<(), Error> {
        let Write { model, id, change, options } = write;
        let options = match options.as_deref().map(Value::parse).transpose()? {
            Some(value) => WriteOptions::parse(value)?,
            None => WriteOptions::default(),
        };
        let Some(definition) = self.config.schema.model(model) else {
            return Err(Error::local("unknown_model", "no such model"));
        };
        if id.is_empty() {
            return Err(Error::local("invalid_id", "a row id must be a non-empty string").param("id"));
        }
        let shown = self.row(model, &id);
        let typename = definition.typename.as_str();
        let name = definition.commit_name.clone();
        let missing = || {
            let message =
                concat(&["no ", typename, " with id ", short(&id, 100), " here; read it first with retrieve()"]);
            Err(Error::local("entity_not_found", message).param("id"))
        };
        let (kind, input, defaults) = match change {
            Change::Create(data) => {
                if shown.is_some() {
                    let message =
                        concat(&["a ", typename, " with id ", short(&id, 100), " exists already; use update()"]);
                    return Err(Error::local("unique_violation", message).param("id"));
                }
                let (input, given) = split_input(&data)?;
                let defaults = self.defaults(&id, &given);
                (OpKind::Create, Some(input), Some(defaults))
            }
            Change::Update(data) => {
                let Some(shown) = shown else { return missing() };
                let changed = changed_fields(shown, &data)?;
                let Some(changed) = changed else {
                    // Nothing to write: the row already says so.
                    self.settle(ticket, Ok(None));
                    return Ok(());
                };
                (OpKind::Update, Some(changed), None)
            }
            Change::Delete if shown.is_none() => return missing(),
            Change::Delete => (OpKind::Delete, None, None),
        };
        let stamp = self.stamp_for(Some((model, &id)), &options)?;
        let refers_to = self.references(model, input.as_deref());
        let row: RowKey = (model, RowId::from(id.as_str()));
        let (read_at, on_stale) = guard(options.read_at, options.on_stale, stamp.as_ref());
        let op = NewOp { kind, row, model: name, input, defaults, refers_to, read_at, on_stale, transaction_id: None };
        let wait = options.wait.unwrap_or(if stamp.is_some() { Wait::Confirmed } else { Wait::Queued });
        let how = Enqueue { ticket, wait, key: options.key, terms: terms(options.reads.as_deref(), stamp.as_ref()) };
        let outcome = self.queue.enqueue(op, how, self.now.wall, &mut self.rng)?;
        self.flush_due = true;
        self.take_outcome(outcome);
        self.announce_status();
        Ok(())
    }

    /// A direct commit: sent as given, nothing is shown before the server's deltas arrive.
    pub(super) fn commit(&mut self, ticket: Ticket, options: &str) -> Result<(), Error> {
        let root = Value::parse(options)?;
        let write = WriteOptions::parse(root)?;
        let given = |key: &str| root.get(key).filter(|value| !value.is_null());
        let list: Vec<Value<'_>> = match (given("operation"), given("operations")) {
            (Some(_), Some(_)) => {
                let message = "pass either operation or operations, not both";
                return Err(Error::local("commit_operations_ambiguous", message).param("operations"));
            }
            (Some(one), None) => vec![one],
            (None, Some(list)) => list.list(),
            (None, None) => Vec::new(),
        };
        if list.is_empty() {
            let message = "a commit needs at least one operation";
            return Err(Error::local("commit_operation_required", message).param("operations"));
        }
        if list.len() > DIRECT_OPS_MAX {
            let message = concat(&[
                &digits(list.len() as u64),
                " operations in one commit, at most ",
                &digits(DIRECT_OPS_MAX as u64),
            ]);
            return Err(Error::local("commit_too_many_operations", message).param("operations"));
        }
        let stamp = self.stamp_for(None, &write)?;
        let mut ops = Vec::with_capacity(list.len());
        for (index, item) in list.into_iter().enumerate() {
            let mut op = self.direct_operation(item).map_err(|mut error| {
                let inner = error.param.take().unwrap_or_default();
                error.origin = crate::core::error::Origin::Local;
                error.param(concat(&["operations.", &digits(index as u64), ".", &inner]))
            })?;
            let stamp =
                if stamp.is_some() { self.stamp_for(Some((op.row.0, op.row.1.as_str())), &write)? } else { None };
            let current = write.current.then(|| self.cursor.max(self.stamp_of(op.row.0, op.row.1.as_str())));
            let read_at = op.read_at.or(write.read_at).or(current);
            (op.read_at, op.on_stale) = guard(read_at, op.on_stale.or(write.on_stale), stamp.as_ref());
            ops.push(op);
        }
        let wait = write.wait.unwrap_or(Wait::Confirmed);
        let how = Enqueue { ticket, wait, key: write.key, terms: terms(write.reads.as_deref(), stamp.as_ref()) };
        let outcome = self.queue.enqueue_direct(ops, how, self.now.wall, &mut self.rng)?;
        self.flush_due = true;
        self.take_outcome(outcome);
        self.announce_status();
        Ok(())
    }

    /// The change that a row here is the result of.
    pub(super) fn stamp_of(&self, model: ModelIndex, id: &str) -> SyncId {
        self.pool.find(model, id).map_or(SyncId(0), |slot| self.pool.stamp(RowRef { model, slot }))
    }

    fn stamp_for(&self, row: Option<(ModelIndex, &str)>, options: &WriteOptions) -> Result<Option<Stamp>, Error> {
        let id = options.claim.as_deref().or(options.claim_ref.as_deref());
        self.stamp(row, id, options.claim.is_some())
    }

    fn direct_operation(&mut self, item: Value<'_>) -> Result<NewOp, Error> {
        let target = item.get("target").filter(|target| target.kind == Kind::Object);
        let operation = crate::core::wire::Operation::parse(item)?;
        let id = operation.id.or_else(|| target?.get_str("id").map(Into::into));
        let id = match (id, operation.kind) {
            (Some(id), _) => id,
            // A retry must create the same row, so the id is chosen here, once.
            (None, OpKind::Create) => self.rng.uuid(),
            (None, OpKind::Update | OpKind::Delete | OpKind::Archive | OpKind::Unarchive) => {
                return Err(Error::local("invalid_id", "this operation needs the id of a row").param("id"));
            }
        };
        // Models unknown to the schema are the server's to judge; they have no rows here.
        let model = self.config.schema.resolve(&operation.model).unwrap_or(ModelIndex(u16::MAX));
        Ok(NewOp {
            kind: operation.kind,
            row: (model, RowId::from(id.as_str())),
            model: fold_case(&operation.model),
            input: operation.input,
            defaults: None,
            refers_to: Vec::new(),
            read_at: operation.read_at,
            on_stale: operation.on_stale,
            transaction_id: operation.transaction_id,
        })
    }

    /// What a created row shows besides its input until the server's row arrives.
    pub(super) fn defaults(&self, id: &str, given: &[(String, String)]) -> String {
        let now = self.now.wall.to_iso();
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("id", id);
        let given = |key: &str| given.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.as_str());
        let identity = self.identity.as_ref().or(self.storage.owner.as_ref());
        match (given("organizationId"), identity) {
            (Some(raw), _) => object.raw("organizationId", raw),
            (None, Some(who)) => object.str("organizationId", &who.organization),
            (None, None) => {}
        }
        if let Some(who) = identity {
            object.str("createdBy", &who.participant);
        }
        object.str("createdAt", &now);
        object.str("updatedAt", &now);
        object.end();
        out
    }

    /// Rows that the given fields refer to through `belongsTo` relations and that are not here.
    fn references(&self, model: ModelIndex, input: Option<&str>) -> Vec<RowKey> {
        let Some(definition) = self.config.schema.model(model) else { return Vec::new() };
        if definition.relations.is_empty() {
            return Vec::new();
        }
        let Some(Ok(input)) = input.map(Value::parse) else { return Vec::new() };
        let belongs = definition.relations.iter().filter(|one| one.kind == RelationKind::BelongsTo && !one.defer);
        let mut rows = Vec::new();
        for relation in belongs {
            let id = input.at(&relation.foreign_key).as_json_str().and_then(JsonStr::decode_exact);
            if let (Some(target), Some(id)) = (self.config.schema.by_key(&relation.target), id)
                && self.find(target, &id).is_none()
            {
                rows.push((target, RowId::from(id.as_ref())));
            }
        }
        rows
    }

    /// Carries what became of writes to rows, tickets and listeners.
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        for (model, id) in &outcome.rows {
            self.refresh_overlay(*model, id.as_str());
        }
        for rejected in &outcome.rejected {
            self.refresh_overlay(rejected.row.0, rejected.row.1.as_str());
        }
        if let Some((key, notifications)) = &outcome.notified {
            self.event("conflict:notified", &|payload| {
                payload.str("clientTxId", key);
                payload.raw("notifications", notifications);
            });
        }
        for rejected in &outcome.rejected {
            self.keep_rejected(rejected);
            self.tell_rejected(rejected);
        }
        for (ticket, result) in outcome.settled {
            self.settle(ticket, result);
        }
    }

    fn tell_rejected(&mut self, rejected: &Rejected) {
        // A model unknown to the schema keeps the name that the caller gave it.
        let model = self.config.schema.model(rejected.row.0);
        let typename = model.map_or_else(|| rejected.model.clone(), |model| model.typename.clone());
        let kind = rejected.kind.name().to_ascii_lowercase();
        let current = self.row(rejected.row.0, rejected.row.1.as_str()).map(str::to_owned);
        let held = rejected.error.code == "stale_context" && rejected.error.details.is_some();
        if rejected.optimistic {
            self.event("sync:rollback", &|payload| {
                payload.str("modelId", rejected.row.1.as_str());
                payload.str("modelName", &typename);
                payload.str("transactionType", &kind);
                payload.str("reason", if held { "conflict_server_wins" } else { "permanent_error" });
            });
        }
        let mut text = String::new();
        let mut payload = ObjectWriter::new(&mut text);
        let mut transaction = payload.nested("transaction");
        transaction.opt_str("id", rejected.transaction_id.as_deref());
        transaction.str("type", &kind);
        transaction.str("modelName", &typename);
        transaction.str("modelId", rejected.row.1.as_str());
        transaction.str("modelKey", &rejected.model);
        if let Some(input) = &rejected.input {
            transaction.raw("data", input);
        }
        transaction.str("status", "rolled_back");
        transaction.u64("createdAt", rejected.created.0);
        transaction.u64("attempts", u64::from(rejected.attempts));
        transaction.end();
        payload.raw("error", &rejected.error.to_json());
        payload.bool("permanent", true);
        if let Some(current) = &current {
            payload.raw("currentValues", current);
        }
        payload.end();
        self.emit(Output::Event("write:rejected", text));
    }
}

/// The guard of a write, which a claim sets where the caller does not.
fn guard(
    read_at: Option<SyncId>,
    on_stale: Option<OnStale>,
    stamp: Option<&Stamp>,
) -> (Option<SyncId>, Option<OnStale>) {
    match stamp.filter(|stamp| stamp.read_at > SyncId(0)) {
        Some(stamp) => (read_at.or(Some(stamp.read_at)), on_stale.or(Some(OnStale::Reject))),
        None => (read_at, on_stale),
    }
}

/// What a commit depends on beside its operations, if on anything.
fn terms(reads: Option<&str>, stamp: Option<&Stamp>) -> Option<String> {
    let claim = stamp.map(|stamp| stamp.terms.as_str());
    let Some(reads) = reads else { return claim.map(str::to_owned) };
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    object.raw("reads", reads);
    object.end();
    Some(claim.map_or_else(|| out.clone(), |claim| merge(&out, claim)))
}

/// The object of fields to send, without base fields, and the base fields that were given.
fn split_input(data: &str) -> Result<(String, Vec<(String, String)>), Error> {
    let value = Value::parse(data)?;
    if value.kind != Kind::Object {
        return Err(Error::local("invalid_body", "data must be an object of fields").param("data"));
    }
    let mut base = Vec::new();
    let mut kept = Vec::new();
    for (key, member) in value.members() {
        let name = key.decode();
        if BASE_FIELDS.contains(&name.as_ref()) {
            base.push((name.into_owned(), member.raw.to_owned()));
        } else {
            kept.push((key, member));
        }
    }
    Ok((object_of(&kept), base))
}

/// Those given fields whose value differs from what the row shows; `None` when there is none.
fn changed_fields(shown: &str, data: &str) -> Result<Option<String>, Error> {
    let value = Value::parse(data)?;
    if value.kind != Kind::Object {
        return Err(Error::local("invalid_body", "data must be an object of fields").param("data"));
    }
    let mut wanted: Vec<(JsonStr<'_>, Value<'_>)> = Vec::new();
    for (key, member) in value.members().filter(|(key, _)| !BASE_FIELDS.iter().any(|base| key.is(base))) {
        match wanted.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = member,
            None => wanted.push((key, member)),
        }
    }
    let mut same = vec![false; wanted.len()];
    for (key, member) in Value::known_object(shown).members() {
        if let Some(index) = wanted.iter().position(|(known, _)| *known == key)
            && let (Some((_, wish)), Some(mark)) = (wanted.get(index), same.get_mut(index))
        {
            *mark = wish.raw == member.raw;
        }
    }
    let mut changed = Vec::new();
    for (index, field) in wanted.into_iter().enumerate() {
        if same.get(index) == Some(&false) {
            changed.push(field);
        }
    }
    Ok(if changed.is_empty() { None } else { Some(object_of(&changed)) })
}

pub(super) fn object_of(members: &[(JsonStr<'_>, Value<'_>)]) -> String {
    let mut out = String::from("{");
    for (index, (key, member)) in members.iter().enumerate() {
        out.push_str(if index > 0 { ",\"" } else { "\"" });
        out.push_str(key.raw());
        out.push_str("\":");
        out.push_str(member.raw);
    }
    out.push('}');
    out
}
