//! Reads through the server: `retrieve` and `list` (api.md 2.3, protocol.md 4.7).
//!
//! Identical reads share one request. Only a complete answer marks a query as known; a failure is the caller's to see
//! and is never remembered as emptiness. Rows go into the pool as confirmed rows, so live views see them too.

use crate::core::sort::sorted_indices;

use super::{Engine, Task};
use crate::core::bug::{self, Bug};
use crate::core::error::Error;
use crate::core::filter::{CLAUSES_MAX, Clause, Operator};
use crate::core::id::{ModelIndex, SyncId};
use crate::core::input::{Response, Ticket};
use crate::core::json::{ArrayWriter, JsonStr, Kind, ObjectWriter, Value, merge, write_str, write_u64};
use crate::core::map::SmallMap;
use crate::core::output::{Method, Output, Request};
use crate::core::pool::{Direction, Query, RowRef, RowText, Scope, Slot};
use crate::core::schema::{Load, Model, Relation};
use crate::core::text::{concat, digits, short};

/// Requests are given up after so long (protocol.md 18).
const QUERY_MS: u64 = 30_000;
/// Rows fetched by id in one request.
const FETCH_IDS_MAX: usize = 500;
/// Scopes of single rows that stay subscribed; past it the oldest is left (engine.md 4.12).
const SCOPES_MAX: usize = 16;
/// Changes of absent rows that are remembered while a read is under way.
const MISSED_MAX: usize = 10_000;

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FetchId(u64);

#[derive(Debug)]
struct Fetch {
    model: ModelIndex,
    /// The normalised query; `None` for rows fetched by id on the engine's own account.
    key: Option<String>,
    tickets: Vec<Ticket>,
    related: Vec<Relation>,
    /// For rows asked for by id: what does not come back is gone.
    ids: Vec<String>,
    /// The cursor when it was sent: what the answer says is at least as new.
    since: SyncId,
}

/// A change of a row that was not here while a read that may bring it was under way.
#[derive(Debug)]
struct Missed {
    model: ModelIndex,
    id: String,
    at: SyncId,
    /// Changed fields; `None` for a delete.
    data: Option<String>,
}

/// Reads under way, and what is known of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Reads {
    fetches: SmallMap<FetchId, Fetch>,
    next: u64,
    /// Queries that the server answered completely on this connection.
    known: Vec<String>,
    missed: Vec<Missed>,
    wanted: Vec<(ModelIndex, String)>,
    scopes: Vec<String>,
}

impl Reads {
    /// Groups of rows that were read one by one.
    pub(super) fn scopes(&self) -> &[String] {
        &self.scopes
    }

    pub(super) fn leave_scopes(&mut self) {
        self.scopes.clear();
    }

    /// The connection is another one: what was known may have changed unseen.
    pub(super) fn forget_answers(&mut self) {
        self.known.clear();
    }

    /// Nobody waits for a read any more: whether somebody did.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let mut found = false;
        for fetch in self.fetches.values_mut() {
            if let Some(at) = fetch.tickets.iter().position(|other| *other == ticket) {
                fetch.tickets.remove(at);
                found = true;
            }
        }
        found
    }

    /// Whether rows are being read because those here are not current.
    pub(super) fn is_repairing(&self) -> bool {
        !self.wanted.is_empty() || self.fetches.values().any(|fetch| fetch.key.is_none())
    }

    pub(super) fn want_row(&mut self, model: ModelIndex, id: &str) {
        if !self.wanted.iter().any(|(known, wanted)| *known == model && wanted == id) {
            self.wanted.push((model, id.to_owned()));
        }
    }

    pub(super) fn note_missed(&mut self, model: ModelIndex, id: &str, at: SyncId, data: Option<&str>) {
        let awaited = self.fetches.values().any(|fetch| fetch.model == model || !fetch.related.is_empty())
            || self.wanted.iter().any(|(wanted, _)| *wanted == model);
        if awaited && self.missed.len() < MISSED_MAX && !bug::on(Bug::MissedChangesIgnored) {
            self.missed.push(Missed { model, id: id.to_owned(), at, data: data.map(str::to_owned) });
        }
    }

    pub(super) fn fail_all(&mut self) -> Vec<Ticket> {
        self.known.clear();
        self.wanted.clear();
        self.missed.clear();
        let mut tickets = Vec::new();
        for mut fetch in self.fetches.take() {
            tickets.append(&mut fetch.tickets);
        }
        tickets
    }

    fn enter_scope(&mut self, group: String) {
        if self.scopes.contains(&group) {
            return;
        }
        if self.scopes.len() >= SCOPES_MAX {
            self.scopes.remove(0);
        }
        self.scopes.push(group);
    }
}

/// A read as the application asked for it.
struct ReadOptions {
    local: Query,
    /// The request's text, which also identifies the read.
    request: String,
    related: Vec<Relation>,
    complete: bool,
    id: Option<String>,
}

impl Engine {
    pub(super) fn read(&mut self, ticket: Ticket, model: ModelIndex, options: &str) -> Result<(), Error> {
        let Some(definition) = self.config.schema.model(model) else {
            return Err(Error::local("unknown_model", "no such model"));
        };
        let options = parse_options(definition, Value::parse(options)?)?;
        if let Some(id) = &options.id {
            let kind = definition.scope.as_deref().unwrap_or(&definition.key);
            let group = concat(&[kind, ":", id]);
            self.reads.enter_scope(group);
        }
        let key = concat(&[&digits(model.0 as u64), ":", &options.request]);
        if let Some(fetch) = self.reads.fetches.values_mut().find(|fetch| fetch.key.as_ref() == Some(&key)) {
            fetch.tickets.push(ticket);
            return Ok(());
        }
        let is_known = self.reads.known.contains(&key);
        let ids = Vec::from_iter(options.id);
        let mut fetch = Fetch { key: Some(key), ids, ..self.new_fetch(model, options.related) };
        if !options.complete {
            let rows = self.pool.query(model, &options.local);
            let answers = fetch.related.is_empty() && !rows.is_empty();
            if is_known || answers {
                self.settle_slots(ticket, &rows);
                if !is_known && self.can_fetch() {
                    self.fetch(fetch, options.request);
                }
                return Ok(());
            }
        }
        if self.identity.is_none() {
            let message = "call ready() before reading through the server";
            return Err(Error::local("sync_not_ready", message));
        }
        fetch.tickets.push(ticket);
        self.fetch(fetch, options.request);
        Ok(())
    }

    /// Fetches rows that deltas spoke of and that are not here.
    pub(super) fn fetch_wanted_rows(&mut self) {
        let mut wanted = std::mem::take(&mut self.reads.wanted);
        while let Some(model) = wanted.first().map(|(model, _)| *model) {
            let mut ids = Vec::new();
            for (other, id) in std::mem::take(&mut wanted) {
                if other == model {
                    ids.push(id);
                } else {
                    wanted.push((other, id));
                }
            }
            self.fetch_ids(model, &ids);
        }
    }

    /// After a gap in the stream: rows that no snapshot brings are read again.
    pub(super) fn refetch_on_demand(&mut self) {
        self.reads.forget_answers();
        for model in (0..).map(ModelIndex) {
            let Some(definition) = self.config.schema.model(model) else { break };
            if definition.load != Load::OnDemand {
                continue;
            }
            let mut ids = Vec::new();
            for slot in self.pool.base_slots(model) {
                if let Some(id) = self.pool.id(RowRef { model, slot }) {
                    ids.push(id.to_owned());
                }
            }
            self.fetch_ids(model, &ids);
        }
    }

    /// Fetches rows on the engine's own account, as many at once as one request may name.
    fn fetch_ids(&mut self, model: ModelIndex, ids: &[String]) {
        for ids in ids.chunks(FETCH_IDS_MAX) {
            let Some(definition) = self.config.schema.model(model) else { return };
            let mut condition = String::from("[\"id\",\"IN\",");
            let mut list = ArrayWriter::new(&mut condition);
            for id in ids {
                list.str(id);
            }
            list.end();
            condition.push(']');
            let request = request_text(&definition.typename, &[&condition], None, None, &[]);
            let fetch = Fetch { ids: ids.to_vec(), ..self.new_fetch(model, Vec::new()) };
            self.fetch(fetch, request);
        }
    }

    fn new_fetch(&self, model: ModelIndex, related: Vec<Relation>) -> Fetch {
        Fetch { model, key: None, tickets: Vec::new(), related, ids: Vec::new(), since: self.cursor }
    }

    fn fetch(&mut self, fetch: Fetch, request: String) {
        self.reads.next += 1;
        let id = FetchId(self.reads.next);
        self.reads.fetches.insert(id, fetch);
        let task = self.task(Task::Read(id));
        let request = Request {
            method: Method::Post,
            url: self.config.api("/sync/query"),
            bearer: self.token.clone(),
            body: Some(request),
            no_cache: false,
            timeout_ms: QUERY_MS,
        };
        self.emit(Output::Fetch(task, request));
    }

    pub(super) fn handle_fetched(&mut self, id: FetchId, result: Result<Response, String>) {
        let Some(fetch) = self.reads.fetches.remove(&id) else { return };
        let answer = match result {
            Err(why) => Err(Error::local("wait_for_timeout", concat(&["the read failed: ", &why]))),
            Ok(response) => match response.text("model_query_failed") {
                Ok(body) => self.take_rows(&fetch, &body),
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(slots) => {
                if let Some(key) = fetch.key {
                    self.reads.known.push(key);
                }
                for ticket in fetch.tickets {
                    self.settle_slots(ticket, &slots);
                }
            }
            Err(error) => {
                if fetch.tickets.is_empty() {
                    self.report(&error);
                    if fetch.key.is_none() {
                        self.repair("rows that changed could not be read");
                    }
                }
                for ticket in fetch.tickets {
                    self.settle(ticket, Err(error.clone()));
                }
            }
        }
        if self.reads.fetches.is_empty() {
            self.reads.missed.clear();
        }
    }

    /// Puts an answer's rows into the pool; the slots of the rows asked for, as far as readers see them.
    fn take_rows(&mut self, fetch: &Fetch, body: &str) -> Result<Vec<Slot>, Error> {
        let wrong = |why: &str| Error::wire("protocol_violation", concat(&["the answer to a read ", why]));
        let root = Value::parse(body).map_err(|_| wrong("is not JSON"))?;
        let results = root.get("results").filter(|results| results.kind == Kind::Array);
        let result = results.and_then(|results| results.elements().next()).ok_or_else(|| wrong("has no results"))?;
        let at = root.get("lastSyncId").and_then(Value::as_u64_lenient).map_or(fetch.since, SyncId);
        let mut rows = result.list();
        // A read by id may be answered with the row itself.
        rows.push(result);
        let mut ids = Vec::new();
        for row in rows {
            if let Some(id) = self.take_row(fetch.model, row, &fetch.related, at) {
                ids.push(id);
            }
        }
        for id in &ids {
            self.claims.note_read(fetch.model, id, at);
        }
        for id in fetch.ids.iter().filter(|id| !ids.contains(id)) {
            if let Some(slot) = self.pool.find(fetch.model, id) {
                let row = RowRef { model: fetch.model, slot };
                if self.pool.stamp(row) <= at {
                    self.pool.remove_base(row);
                    self.refresh_overlay(fetch.model, id);
                }
            }
        }
        let mut slots = Vec::with_capacity(ids.len());
        for id in &ids {
            if let Some(slot) = self.find(fetch.model, id) {
                slots.push(slot);
            }
        }
        Ok(slots)
    }

    /// Puts one row into the pool unless a newer one is there; its id.
    fn take_row(&mut self, model: ModelIndex, row: Value<'_>, related: &[Relation], at: SyncId) -> Option<String> {
        let id = row.get("id")?.as_json_str().and_then(JsonStr::decode_exact)?.into_owned();
        let mut kept: Vec<(JsonStr<'_>, Value<'_>)> = Vec::new();
        for (key, member) in row.members() {
            if key.is("__typename") || key.is("_Typename") {
                continue;
            }
            let Some(relation) = related.iter().find(|relation| key.is(&relation.name)) else {
                kept.push((key, member));
                continue;
            };
            let Some(target) = self.config.schema.by_key(&relation.target) else { continue };
            if member.kind == Kind::Object {
                self.take_row(target, member, &[], at);
            }
            for child in member.elements().filter(|child| child.kind == Kind::Object) {
                self.take_row(target, child, &[], at);
            }
        }
        let known = self.pool.find(model, &id).map(|slot| RowRef { model, slot });
        let newer = known.is_some_and(|row| self.pool.base(row).is_some() && self.pool.stamp(row) > at);
        if !newer {
            let mut text = super::writes::object_of(&kept);
            let mut stamp = at;
            let mut gone = false;
            for change in std::mem::take(&mut self.reads.missed) {
                if change.model != model || change.id != id || change.at <= at {
                    self.reads.missed.push(change);
                    continue;
                }
                stamp = change.at;
                // After a delete the row begins anew: nothing of the answer's row is left in it.
                if let Some(data) = &change.data {
                    text = if gone { data.clone() } else { merge(&text, data) };
                }
                gone = change.data.is_none();
            }
            if !gone {
                self.pool.put_base(model, &id, RowText::own(text), stamp);
            }
            self.refresh_overlay(model, &id);
        }
        Some(id)
    }

    fn settle_slots(&mut self, ticket: Ticket, slots: &[Slot]) {
        let mut text = String::new();
        let mut list = ArrayWriter::new(&mut text);
        for slot in slots {
            write_u64(list.item(), u64::from(slot.0));
        }
        list.end();
        self.settle(ticket, Ok(Some(text)));
    }
}

/// The SDK has brought the options into this form, and has checked what needs no schema.
fn parse_options(model: &Model, root: Value<'_>) -> Result<ReadOptions, Error> {
    let wrong = |param: &str, expected: &str| {
        Error::local("invalid_options", concat(&[param, " must be ", expected])).param(param)
    };
    let mut given_clauses: Vec<String> = Vec::new();
    for item in root.at("where").elements() {
        given_clauses.push(item.raw.to_owned());
    }
    let id = root.get_string("id");
    if id.is_some() {
        given_clauses.push(concat(&["[\"id\",", root.at("id").raw, "]"]));
    }
    if given_clauses.len() > CLAUSES_MAX {
        return Err(wrong("where", "at most 64 clauses"));
    }
    let mut clauses: Vec<Clause> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    for text in &given_clauses {
        let item = Value::parse(text)?;
        let mut clause = Clause::parse(item).map_err(|mut error| {
            error.origin = crate::core::error::Origin::Local;
            error.param("where")
        })?;
        let Some(field) = model.field_of_column(&clause.field) else {
            let message = concat(&[&model.typename, " has no field ", short(&clause.field, 60)]);
            return Err(Error::local("query_invalid_identifier", message).param("where"));
        };
        let mut condition = String::from("[");
        write_str(&mut condition, &model.column_of_field(field));
        condition.push(',');
        if clause.operator != Operator::Eq {
            write_str(&mut condition, clause.operator.name());
            condition.push(',');
        }
        condition.push_str(item.elements().last().map_or("null", |operand| operand.raw));
        condition.push(']');
        conditions.push(condition);
        clause.field = field.to_owned();
        clauses.push(clause);
    }
    let mut order = Vec::new();
    if let Some((field, direction)) = root.at("orderBy").members().next() {
        let field = field.decode().into_owned();
        let Some(field) = model.field_of_column(&field) else {
            return Err(wrong("orderBy", "a field of the model"));
        };
        let descends = direction.as_str().as_deref() == Some("desc");
        order.push((field.to_owned(), if descends { Direction::Descending } else { Direction::Ascending }));
    }
    let limit = root.get_u64("limit").filter(|limit| *limit > 0).map(|limit| limit as usize);
    let complete = root.get_str("type").as_deref() == Some("complete");
    let mut related = Vec::new();
    for name in root.at("expand").elements() {
        let name = name.as_str().unwrap_or_default();
        let Some(relation) = model.relation(&name) else {
            let message = concat(&[&model.typename, " has no relation ", short(&name, 60)]);
            return Err(Error::local("query_unknown_relation", message).param("expand"));
        };
        related.push(relation.clone());
    }
    let limit = if id.is_some() { Some(1) } else { limit };
    // Clauses in another order are the same query.
    let places = sorted_indices(conditions.len(), &mut |a, b| conditions.get(a).cmp(&conditions.get(b)));
    let mut sorted = Vec::with_capacity(places.len());
    for index in places {
        sorted.push(conditions.get(index as usize).map_or("", String::as_str));
    }
    let request_order = order.first().map(|(field, direction)| {
        (model.column_of_field(field), if *direction == Direction::Descending { "desc" } else { "asc" })
    });
    let request = request_text(&model.typename, &sorted, request_order.as_ref(), limit, &related);
    let query = Query { clauses, order, offset: 0, limit, scope: Scope::All };
    Ok(ReadOptions { local: query, request, related, complete, id })
}

/// The body of `POST /sync/query` for one query.
fn request_text(
    typename: &str,
    conditions: &[&str],
    order: Option<&(String, &str)>,
    limit: Option<usize>,
    related: &[Relation],
) -> String {
    let mut out = String::from("{\"queries\":[");
    let mut query = ObjectWriter::new(&mut out);
    query.str("model", typename);
    let mut list = query.array("where");
    for condition in conditions {
        list.item().push_str(condition);
    }
    list.end();
    if let Some((column, direction)) = order {
        query.str("orderBy", column);
        query.str("order", direction);
    }
    if let Some(limit) = limit {
        query.u64("limit", limit as u64);
    }
    if !related.is_empty() {
        let mut names = query.array("related");
        for relation in related {
            names.str(&relation.name);
        }
        names.end();
    }
    query.end();
    out.push_str("]}");
    out
}
