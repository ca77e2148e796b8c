//! Commits: the checks in the order of protocol.md 17.3, then all operations or none.
//!
//! Sockets and HTTP come here alike. A commit is tried on a [`Stage`]; only when its last operation has passed are ids
//! taken, rows moved and connections told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::Value;
use ablo_wasm::core::schema::RelationKind;
use ablo_wasm::core::time::{Now, WallTime};
use ablo_wasm::core::wire::{Commit, MutationResult, OpKind, Operation};

use super::catalog::{Catalog, Slot};
use super::group::{self, Extra, Routing, View};
use super::guard::Terms;
use super::history::Change;
use super::idempotency::{commit_digest, operation_digest, skipped};
use super::participant::{Participant, Text, scope_denied};
use super::session::{ConnectionId, Fresh};
use super::storage::{StoreChange, StoredCommit, StoredRow, StoredTransaction, Verb};
use super::tenant::{Row, Stage, Tenant};
use super::{Engine, Output, row};

/// Most operations in a commit.
pub const OPERATIONS_MAX: usize = 1000;
/// Most rows whose groups one commit may move by moving their parents.
const REROUTES_MAX: usize = 100_000;

impl Engine {
    /// Carries a commit out. What follows from it is in the outputs; the receipt is the caller's to deliver.
    ///
    /// # Errors
    /// Any code of protocol.md 13.6 that concerns writes. Nothing has happened then.
    pub(super) fn commit(
        &mut self,
        now: Now,
        author: &Participant,
        commit: &Commit,
        terms: &Terms,
    ) -> Result<MutationResult, Error> {
        let digest = commit_digest(&commit.operations, commit.reads().map(|reads| reads.raw), &self.catalog);
        if let Some(known) = self.remembered.commit(now.wall, &author.organization, &commit.client_tx_id) {
            if known.digest != digest {
                let why = format!("clientTxId {:.80} was used for another commit; use a new one", commit.client_tx_id);
                return Err(Error::wire("idempotency_conflict", why).param("clientTxId"));
            }
            let receipt = Value::parse(&known.receipt)?;
            return Ok(MutationResult::parse(receipt));
        }
        if commit.created_at.is_some_and(|moment| self.remembered.may_have_forgotten(now.wall, moment)) {
            let why = format!(
                "a commit is recognized for {} after it was made, and this one is older: it may have been carried out \
                 already; compare with the rows as they are, and use a new clientTxId",
                self.remembered.window_text()
            );
            return Err(Error::wire("idempotency_window_expired", why).param("createdAt"));
        }
        let planned = self.plan(commit)?;
        for step in &planned {
            author.check_operation(&self.catalog.entry(step.slot).key, step.operation.kind)?;
        }
        let names: Vec<Option<Named>> =
            planned.iter().map(|step| self.name_of(now.wall, author, step.operation)).collect();
        let is_fresh = |name: &Option<Named>| name.as_ref().is_none_or(|name| name.done.is_none());
        let fresh: Vec<(usize, &Step<'_>)> =
            planned.iter().enumerate().filter(|(index, _)| names.get(*index).is_some_and(is_fresh)).collect();
        // A claim whose time has come holds nobody up, even if the timer is late.
        self.expire_claims(now);
        let verdict = self.check_guards(now, author, commit, terms, &fresh)?;

        let empty = Tenant::default();
        let tenant = self.tenants.get(&author.organization).unwrap_or(&empty);
        let mut draft = Draft {
            catalog: &self.catalog,
            author,
            view: View::of(author, &self.catalog),
            stage: Stage::new(tenant),
            next: self.head,
            at: now.wall,
            iso: now.wall.to_iso(),
            actor: author.name().into(),
            connection: terms.connection,
            fresh: Vec::new(),
        };
        let mut last = SyncId(0);
        let mut applied: Vec<(Named, SyncId)> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for (index, (step, name)) in planned.iter().zip(names).enumerate() {
            if verdict.held.contains(&index) {
                continue;
            }
            let transaction = step.operation.transaction_id.as_deref().filter(|id| !id.is_empty());
            let twin = transaction.is_some_and(|id| seen.contains(&id));
            if let Some(done) = name.as_ref().and_then(|name| name.done) {
                last = last.max(done);
                continue;
            }
            draft.apply(step).map_err(|error| match error.param {
                Some(_) => error,
                None => error.param(format!("operations[{index}]")),
            })?;
            if let (Some(name), false) = (name, twin) {
                seen.extend(transaction);
                applied.push((name, draft.next));
            }
        }
        last = last.max(draft.fresh.last().map_or(SyncId(0), |fresh| fresh.change.id));
        // A receipt without a positive id never settles at a 0.15 client (protocol.md 10.5).
        if last == SyncId(0) {
            last = draft.next.max(SyncId(1));
        }
        let head = draft.next.max(last);
        let (rows, fresh) = (draft.stage.into_rows(), draft.fresh);

        let receipt = MutationResult {
            client_tx_id: commit.client_tx_id.clone(),
            server_tx_id: last.0.to_string(),
            success: true,
            last_sync_id: last,
            ops: commit.operations.len() as u64,
            notifications: verdict.notifications,
            error: None,
        };
        let done = Done { head, rows, fresh, digest, applied };
        self.finish(now, author, &receipt, done);
        Ok(receipt)
    }

    /// Checks the shape, finds the models, and makes up the ids of creates that have none.
    fn plan<'c>(&mut self, commit: &'c Commit) -> Result<Vec<Step<'c>>, Error> {
        if commit.operations.len() > OPERATIONS_MAX {
            let why = format!(
                "{} operations in one commit; {OPERATIONS_MAX} is the most, split it up",
                commit.operations.len()
            );
            return Err(Error::wire("commit_too_many_operations", why).param("operations"));
        }
        let mut steps = Vec::with_capacity(commit.operations.len());
        for operation in &commit.operations {
            let Some((slot, is_new)) = self.catalog.learn(&operation.model, false) else {
                let why = format!("there is no model {:.80}; the schema decides which there are", operation.model);
                return Err(Error::wire("unknown_model", why).param("model"));
            };
            if is_new {
                self.unsaved_models.push(slot);
            }
            if self.catalog.model(slot).is_some_and(|model| !model.mutable) {
                let why = format!("{} is declared `mutable: false`; it is not written here", operation.model);
                return Err(Error::wire("forbidden", why).param("model"));
            }
            let id: Text = match &operation.id {
                Some(id) => id.as_str().into(),
                None if operation.kind == OpKind::Create => self.random.uuid().into(),
                None => return Err(Error::wire("invalid_id", "only a create may leave out the id").param("id")),
            };
            steps.push(Step { slot, id, operation });
        }
        Ok(steps)
    }

    fn name_of(&self, now: WallTime, author: &Participant, operation: &Operation) -> Option<Named> {
        let id = operation.transaction_id.as_deref().filter(|id| !id.is_empty())?;
        let participant: Text = author.name().into();
        let digest = operation_digest(operation, &self.catalog);
        let known = self.remembered.transaction(now, &author.organization, &participant, id);
        Some(Named { done: skipped(known, &digest), participant, id: id.into(), digest })
    }

    /// Makes an accepted commit count: rows, history, memory of it, the store, and those who are to be told.
    fn finish(&mut self, now: Now, author: &Participant, receipt: &MutationResult, done: Done) {
        let organization = &author.organization;
        let mut change = StoreChange { head: (done.head > self.head).then_some(done.head), ..StoreChange::default() };
        self.head = done.head;
        for slot in std::mem::take(&mut self.unsaved_models) {
            let entry = self.catalog.entry(slot);
            change.models.push((entry.stored.clone(), entry.typename.clone()));
        }
        let tenant = self.tenants.entry(organization.clone()).or_default();
        for ((slot, id), row) in done.rows {
            let model = self.catalog.entry(slot).stored.clone();
            match row {
                Some(row) => {
                    change.rows.push(StoredRow {
                        organization: organization.clone(),
                        model,
                        id: id.clone(),
                        data: row.text.clone(),
                        last_sync_id: row.last,
                    });
                    tenant.put(slot, id, row);
                }
                None => {
                    tenant.remove(slot, &id);
                    change.removed.push((organization.clone(), model, id));
                }
            }
        }
        change.deltas = done.fresh.iter().map(|fresh| fresh.change.stored(&self.catalog)).collect();
        change.history_floor = self.history.push(done.fresh.iter().map(|fresh| fresh.change.clone()));
        let mut text = String::new();
        receipt.write(&mut text);
        let commit = StoredCommit {
            organization: organization.clone(),
            key: receipt.client_tx_id.as_str().into(),
            digest: done.digest,
            receipt: text.into(),
            at: now.wall,
        };
        self.remembered.add_commit(commit.clone());
        change.commits.push(commit);
        for (name, sync_id) in done.applied {
            let record = StoredTransaction {
                organization: organization.clone(),
                participant: name.participant,
                transaction_id: name.id,
                digest: name.digest,
                sync_id,
                at: now.wall,
            };
            self.remembered.add_transaction(record.clone());
            change.transactions.push(record);
        }
        change.forget_before = self.remembered.forget(now.wall);
        self.outputs.push_back(Output::Store(change));
        self.broadcast(organization, &done.fresh);
    }
}

/// One operation with what the names in it mean.
pub(super) struct Step<'c> {
    pub slot: Slot,
    pub id: Text,
    pub operation: &'c Operation,
}

/// An operation's name, for not doing it twice.
struct Named {
    /// It has been done, and this is the id it counts with.
    done: Option<SyncId>,
    participant: Text,
    id: Text,
    digest: [u8; 32],
}

/// What an accepted commit amounts to.
struct Done {
    head: SyncId,
    rows: BTreeMap<(Slot, Text), Option<Row>>,
    fresh: Vec<Fresh>,
    digest: [u8; 32],
    applied: Vec<(Named, SyncId)>,
}

/// A commit in the making.
struct Draft<'a> {
    catalog: &'a Catalog,
    author: &'a Participant,
    view: View,
    stage: Stage<'a>,
    /// The last id given out.
    next: SyncId,
    at: WallTime,
    iso: String,
    actor: Text,
    connection: Option<ConnectionId>,
    fresh: Vec<Fresh>,
}

impl Draft<'_> {
    fn apply(&mut self, step: &Step<'_>) -> Result<(), Error> {
        match step.operation.kind {
            OpKind::Create => self.create(step),
            OpKind::Update => self.update(step),
            OpKind::Delete => self.delete(step),
            OpKind::Archive | OpKind::Unarchive => self.archive(step),
        }
    }

    fn create(&mut self, step: &Step<'_>) -> Result<(), Error> {
        let Step { slot, id, operation } = step;
        let input = operation.input.as_deref().unwrap_or("{}");
        if let Some(owner) = self.stage.owner(id) {
            let owner = &self.catalog.entry(owner).typename;
            let why = format!("the id {id:.80} is taken by a {owner}; ids are unique across models");
            return Err(Error::wire("unique_violation", why));
        }
        if let Some(model) = self.catalog.model(*slot) {
            row::validate(model, input, true)?;
        }
        let text = row::created(id, input, &self.author.organization, &self.author.id, &self.iso);
        let routing = self.route(*slot, &text);
        self.check_sight(*slot, id, &routing.extra, OpKind::Create)?;
        self.check_references(*slot, &text)?;
        self.write(*slot, id, text, routing, Verb::Insert, None, Vec::new())
    }

    fn update(&mut self, step: &Step<'_>) -> Result<(), Error> {
        let Step { slot, id, operation } = step;
        let input = operation.input.as_deref().unwrap_or("{}");
        let old = self.existing(*slot, id)?;
        self.check_sight(*slot, id, &old.extra, OpKind::Update)?;
        if let Some(model) = self.catalog.model(*slot) {
            row::validate(model, input, false)?;
        }
        let (fields, emptied) = row::written(&old.text, input);
        let text = row::updated(&old.text, input, &self.iso);
        let routing = self.route(*slot, &text);
        self.check_references(*slot, &text)?;
        let now = Row::new(text.as_str().into(), routing.clone(), old.last);
        if old.archived && !now.archived {
            self.write(*slot, id, text.clone(), routing.clone(), Verb::Restore, Some(fields.clone()), Vec::new())?;
        }
        let verb = if now.archived && !old.archived { Verb::Archive } else { Verb::Update };
        self.write(*slot, id, text, routing, verb, Some(fields), emptied)
    }

    fn delete(&mut self, step: &Step<'_>) -> Result<(), Error> {
        let Step { slot, id, .. } = step;
        let Some(old) = self.stage.get(*slot, id).cloned() else { return Ok(()) };
        self.check_sight(*slot, id, &old.extra, OpKind::Delete)?;
        self.stage.remove(*slot, id);
        self.record(*slot, id, Verb::Delete, Some(old.extra.clone()), None, None, Vec::new());
        self.reroute_children(id, Some(&old.extra), None)
    }

    fn archive(&mut self, step: &Step<'_>) -> Result<(), Error> {
        let Step { slot, id, operation } = step;
        let old = self.existing(*slot, id)?;
        self.check_sight(*slot, id, &old.extra, operation.kind)?;
        let archives = operation.kind == OpKind::Archive;
        if old.archived == archives {
            return Ok(());
        }
        let text = row::archived(&old.text, archives, &self.iso);
        let routing = Routing { extra: old.extra, parents: old.parents };
        let fields: Option<Vec<Text>> = Some(vec!["archivedAt".into()]);
        if archives {
            self.write(*slot, id, text, routing, Verb::Archive, fields, Vec::new())
        } else {
            // A client that loaded a snapshot without the row needs it whole before the update (protocol.md 4.5).
            self.write(*slot, id, text.clone(), routing.clone(), Verb::Restore, fields.clone(), Vec::new())?;
            self.write(*slot, id, text, routing, Verb::Update, fields, Vec::new())
        }
    }

    fn existing(&self, slot: Slot, id: &Text) -> Result<Row, Error> {
        self.stage.get(slot, id).cloned().ok_or_else(|| {
            let model = &self.catalog.entry(slot).typename;
            Error::wire("mutate_update_entity_not_found", format!("there is no {model} {id:.80}"))
        })
    }

    /// A credential writes only what it can see.
    fn check_sight(&self, slot: Slot, id: &Text, extra: &[Text], kind: OpKind) -> Result<(), Error> {
        let entry = self.catalog.entry(slot);
        if self.view.shows(entry, id, extra) {
            return Ok(());
        }
        let scope = format!("{}.{}", entry.key.to_lowercase(), kind.name().to_lowercase());
        let group = entry.group(id);
        let why = format!("{} {id:.80} is outside this key's groups", entry.typename);
        Err(scope_denied(why, &scope, &[&group]))
    }

    fn check_references(&self, slot: Slot, text: &str) -> Result<(), Error> {
        let Some(model) = self.catalog.model(slot) else { return Ok(()) };
        let strict = model.relations.iter().filter(|relation| relation.fk && relation.kind == RelationKind::BelongsTo);
        for relation in strict {
            let id = Value::parse(text).ok().and_then(|row| row.get_str(&relation.foreign_key).map(String::from));
            let (Some(id), Some(target)) = (id, self.catalog.of_key(&relation.target)) else { continue };
            if self.stage.get(target, &id).is_none() {
                let why = format!("{} names no row of {}: {id:.80}", relation.foreign_key, relation.target);
                return Err(Error::wire("foreign_key_violation", why));
            }
        }
        Ok(())
    }

    fn route(&self, slot: Slot, text: &str) -> Routing {
        group::route(self.catalog, slot, text, |slot, id| self.stage.get(slot, id).map(|row| row.extra.clone()))
    }

    /// Puts a row and records what happened to it.
    #[expect(clippy::too_many_arguments, reason = "one row and what is to be remembered about the change of it")]
    fn write(
        &mut self,
        slot: Slot,
        id: &Text,
        text: String,
        routing: Routing,
        verb: Verb,
        fields: Option<Vec<Text>>,
        emptied: Vec<Text>,
    ) -> Result<(), Error> {
        let before = self.stage.get(slot, id).map(|row| row.extra.clone());
        let last = SyncId(self.next.0 + 1);
        let extra = routing.extra.clone();
        self.stage.put(slot, id, Row::new(text.into(), routing, last));
        self.record(slot, id, verb, before.clone(), Some(extra.clone()), fields, emptied);
        self.reroute_children(id, before.as_ref(), Some(&extra))
    }

    #[expect(clippy::too_many_arguments, reason = "the record has this many parts")]
    fn record(
        &mut self,
        slot: Slot,
        id: &Text,
        verb: Verb,
        before: Option<Extra>,
        after: Option<Extra>,
        fields: Option<Vec<Text>>,
        emptied: Vec<Text>,
    ) {
        self.next = SyncId(self.next.0 + 1);
        let row = self.stage.get(slot, id);
        let text = row.map(|row| row.text.clone());
        let archived = row.is_some_and(|row| row.archived);
        let change = Change {
            id: self.next,
            organization: self.author.organization.clone(),
            slot,
            row: id.clone(),
            verb,
            before,
            after,
            fields,
            emptied,
            actor: self.actor.clone(),
            connection: self.connection,
            at: self.at,
        };
        self.fresh.push(Fresh { change, text, archived });
    }

    /// Children inherit a parent's groups: when those change, so do theirs, and who gains or loses sight is told.
    fn reroute_children(&mut self, id: &Text, before: Option<&Extra>, after: Option<&Extra>) -> Result<(), Error> {
        let none: Extra = Arc::from([]);
        if before.unwrap_or(&none) == after.unwrap_or(&none) {
            return Ok(());
        }
        let mut open: VecDeque<Text> = VecDeque::from([id.clone()]);
        let mut moved = 0;
        while let Some(parent) = open.pop_front() {
            for (slot, id) in self.stage.children(&parent) {
                let Some(row) = self.stage.get(slot, &id).cloned() else { continue };
                let routing = self.route(slot, &row.text);
                if routing.extra == row.extra {
                    continue;
                }
                moved += 1;
                if moved > REROUTES_MAX {
                    let why = format!("more than {REROUTES_MAX} rows would change groups; move them in steps");
                    return Err(Error::wire("constraint_violation", why));
                }
                let (before, after) = (Some(row.extra), Some(routing.extra.clone()));
                self.stage.put(slot, &id, Row::new(row.text, routing, SyncId(self.next.0 + 1)));
                self.record(slot, &id, Verb::Reroute, before, after, Some(Vec::new()), Vec::new());
                open.push_back(id);
            }
        }
        Ok(())
    }
}
