//! Rows and batches for the stateless client (protocol.md 5.1, 5.2). Every write is a commit like those of the socket.

use ablo_wasm::core::error::Error;
use ablo_wasm::core::filter::{Clause, Literal, Operator};
use ablo_wasm::core::json::{ObjectWriter, Value, write_str};
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{Commit, MutationResult, OpKind, Operation};

use super::Engine;
use super::auth::read_object;
use super::group::View;
use super::guard::Terms;
use super::participant::Participant;
use super::query::{Sight, sort_rows};
use super::tenant::Tenant;

/// Rows on a page when the request does not say.
const PAGE_DEFAULT: usize = 20;
/// Most rows on a page.
const PAGE_MAX: usize = 100;

impl Engine {
    /// The answer to `POST /v1/commits`. `key` is the `Idempotency-Key` header; the body wins.
    ///
    /// # Errors
    /// As a commit on the socket.
    pub fn commit_request(
        &mut self,
        now: Now,
        participant: &Participant,
        key: Option<&str>,
        body: &str,
    ) -> Result<String, Error> {
        let body = read_object(body)?;
        let named = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
        let commit = if named("clientTxId") || named("idempotencyKey") {
            Commit::parse(body)?
        } else {
            let mut extra = String::new();
            let mut object = ObjectWriter::new(&mut extra);
            object.str("clientTxId", key.unwrap_or_default());
            object.end();
            Commit::parse(Value::parse(&ablo_wasm::core::json::merge(body.raw, &extra))?)?
        };
        let terms = Terms::parse(None, body)?;
        let receipt = self.commit(now, participant, &commit, &terms)?;
        Ok(write_receipt(&receipt))
    }

    /// The answer to `POST /v1/models/{model}`, and to `PATCH` and `DELETE` of `/v1/models/{model}/{id}`.
    ///
    /// # Errors
    /// As a commit on the socket.
    pub fn write_model(
        &mut self,
        now: Now,
        participant: &Participant,
        target: (OpKind, &str, Option<&str>),
        key: Option<&str>,
        body: &str,
    ) -> Result<String, Error> {
        let (kind, model, id) = target;
        let body = read_object(if body.trim().is_empty() { "{}" } else { body })?;
        let given = body.get_str("idempotencyKey").filter(|key| !key.is_empty());
        let key = match (given, key.filter(|key| !key.is_empty())) {
            (Some(given), _) => given.into_owned(),
            (None, Some(header)) => header.to_owned(),
            (None, None) => self.random.uuid(),
        };
        // The operation is read like any other, so that one place decides what is well formed.
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        object.str("type", kind.name());
        object.str("model", model);
        match id {
            Some(id) => object.str("id", id),
            None => object.raw("id", body.get("id").map_or("null", |id| id.raw)),
        }
        for (member, name) in [("data", "input"), ("readAt", "readAt"), ("onStale", "onStale")] {
            object.raw(name, body.get(member).map_or("null", |value| value.raw));
        }
        object.end();
        let operation = Operation::parse(Value::parse(&text)?)?;
        if matches!(kind, OpKind::Create | OpKind::Update) && operation.input.is_none() {
            return Err(Error::wire("invalid_body", "the body needs an object `data`").param("data"));
        }
        let mut batch = String::new();
        let mut object = ObjectWriter::new(&mut batch);
        object.str("clientTxId", &key);
        object.raw("createdAt", body.get("createdAt").map_or("null", |moment| moment.raw));
        let operations = object.key("operations");
        operations.push('[');
        operation.write(operations);
        operations.push(']');
        object.end();
        let commit = Commit::parse(Value::parse(&batch)?)?;
        let terms = Terms::parse(None, body)?;
        let receipt = self.commit(now, participant, &commit, &terms)?;
        Ok(write_receipt(&receipt))
    }

    /// The answer to `GET /v1/models/{model}`. `parameters` are those of the query, decoded.
    ///
    /// # Errors
    /// `unknown_model`, `invalid_request`, `invalid_id`.
    pub fn list_models(
        &self,
        participant: &Participant,
        model: &str,
        parameters: &[(String, String)],
    ) -> Result<String, Error> {
        let slot = self.known_model(model)?;
        let mut limit = PAGE_DEFAULT;
        let mut order_by: Option<&str> = None;
        let mut descending = false;
        let mut after: Option<&str> = None;
        let mut filters: Vec<(&str, &str)> = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "limit" => {
                    let read = value.parse().ok().filter(|limit| *limit > 0);
                    let Some(read) = read else {
                        let why = format!("limit must be a number from 1 to {PAGE_MAX}, not {value:.40}");
                        return Err(Error::wire("invalid_request", why).param("limit"));
                    };
                    limit = PAGE_MAX.min(read);
                }
                "order_by" => order_by = Some(value),
                "order" => descending = value.eq_ignore_ascii_case("desc"),
                "starting_after" => after = Some(value),
                _ => filters.push((name, value)),
            }
        }
        let empty = Tenant::default();
        let tenant = self.tenant(&participant.organization).unwrap_or(&empty);
        let view = View::of(participant, &self.catalog);
        let sight = Sight { tenant, view: &view, engine: self };
        // The string form of a scalar: as a condition it may stand for the string or for what it spells.
        let clauses: Vec<Clause> = filters
            .iter()
            .map(|(field, value)| {
                let mut operands = vec![Literal::Text((*value).to_owned())];
                let spelled = Value::parse(value).ok().and_then(Literal::parse);
                operands.extend(spelled.filter(|literal| matches!(literal, Literal::Bool(_) | Literal::Number(_))));
                Clause { field: (*field).to_owned(), operator: Operator::In, operands }
            })
            .collect();
        let mut rows = slot.map(|slot| sight.matching(slot, &clauses)).unwrap_or_default();
        match order_by {
            Some(field) => sort_rows(&mut rows, field, descending),
            None if descending => rows.reverse(),
            None => {}
        }
        let start = match after {
            None => 0,
            Some(after) => match rows.iter().position(|(id, _)| ***id == *after) {
                Some(position) => position + 1,
                None => {
                    let why = format!("starting_after names no row of this list: {after:.80}");
                    return Err(Error::wire("invalid_id", why).param("starting_after"));
                }
            },
        };
        let has_more = rows.len() > start + limit;
        let page: Vec<_> = rows.into_iter().skip(start).take(limit).collect();
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("object", "list");
        ablo_wasm::core::json::write_array(object.key("data"), &page, |out, (_, row)| out.push_str(&row.text));
        object.bool("has_more", has_more);
        match page.last().filter(|_| has_more) {
            Some((id, _)) => object.str("next_cursor", id),
            None => object.raw("next_cursor", "null"),
        }
        object.end();
        Ok(out)
    }

    /// The answer to `GET /v1/models/{model}/{id}`.
    ///
    /// # Errors
    /// `unknown_model`, `entity_not_found`.
    pub fn read_model(&self, now: Now, participant: &Participant, model: &str, id: &str) -> Result<String, Error> {
        let row = self.entity(participant, model, id)?;
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("object", "model");
        object.str("model", model);
        write_str(object.key("id"), id);
        object.raw("data", &row);
        object.u64("stamp", self.head.0);
        self.write_row_claims(now, participant, model, id, object.key("claims"));
        object.end();
        Ok(out)
    }
}

fn write_receipt(receipt: &MutationResult) -> String {
    let mut out = String::new();
    receipt.write(&mut out);
    out
}
