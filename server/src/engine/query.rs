//! Reads with conditions (protocol.md 4.7): clauses, one order, a limit, rows nested by relation.
//!
//! Queries scan the rows of a model; only a condition on `id` goes straight to them. Fields are found in the rows' text,
//! no columns are built: this server is sized for what fits one process.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::filter::{CLAUSES_MAX, Clause, Literal, Operator};
use ablo_wasm::core::json::{Kind, ObjectWriter, Value, write_str};
use ablo_wasm::core::schema::{Relation, RelationKind, snake_case};

use super::Engine;
use super::auth::read_object;
use super::catalog::Slot;
use super::group::View;
use super::participant::{Participant, Text};
use super::tenant::{Row, Tenant};

/// Most queries in one request.
pub const QUERIES_MAX: usize = 16;
/// Most relations in one query.
const RELATED_MAX: usize = 16;

/// A row's field as an order sees it. Numbers before texts before the rest; null comes last, as in PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
enum SortKey {
    Bool(bool),
    Number(f64),
    Text(String),
    Other,
    Null,
}

impl SortKey {
    fn of(value: Option<Value<'_>>) -> Self {
        match value.and_then(|value| Literal::parse(value)) {
            None if value.is_some() => Self::Other,
            None | Some(Literal::Null) => Self::Null,
            Some(Literal::Bool(flag)) => Self::Bool(flag),
            Some(Literal::Number(number)) => Self::Number(number),
            Some(Literal::Text(text)) => Self::Text(text),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Number(_) => 1,
            Self::Text(_) => 2,
            Self::Other => 3,
            Self::Null => 4,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Sorts rows by a field, ties by id.
pub(super) fn sort_rows(rows: &mut Vec<(&Text, &Row)>, field: &str, descending: bool) {
    let mut keyed: Vec<(SortKey, (&Text, &Row))> =
        rows.drain(..).map(|item| (SortKey::of(find(item.1, field)), item)).collect();
    keyed.sort_by(|a, b| {
        let order = a.0.compare(&b.0);
        let order = if descending { order.reverse() } else { order };
        order.then_with(|| a.1.0.cmp(b.1.0))
    });
    rows.extend(keyed.into_iter().map(|(_, item)| item));
}

/// The value of a row's field; without a declaration, `deck_id` also finds `deckId`.
fn find<'a>(row: &'a Row, field: &str) -> Option<Value<'a>> {
    let value = Value::parse(&row.text).ok()?;
    let mut found = None;
    for (key, member) in value.members() {
        if key.is(field) {
            return Some(member);
        }
        if found.is_none() && field.contains('_') && snake_case(&key.decode()) == field {
            found = Some(member);
        }
    }
    found
}

/// What rows a read may show.
pub(super) struct Sight<'a> {
    pub tenant: &'a Tenant,
    pub view: &'a View,
    pub engine: &'a Engine,
}

impl<'a> Sight<'a> {
    pub(super) fn rows(&self, slot: Slot) -> impl Iterator<Item = (&'a Text, &'a Row)> {
        let entry = self.engine.catalog.entry(slot);
        let view = self.view;
        self.tenant.rows(slot).filter(move |(id, row)| view.shows(entry, id, &row.extra))
    }

    pub(super) fn row(&self, slot: Slot, id: &str) -> Option<&'a Row> {
        let row = self.tenant.get(slot, id)?;
        self.view.shows(self.engine.catalog.entry(slot), id, &row.extra).then_some(row)
    }

    /// The rows that meet all clauses. Archived ones only when a clause asks about the id or the archiving.
    pub(super) fn matching(&self, slot: Slot, clauses: &[Clause]) -> Vec<(&'a Text, &'a Row)> {
        let names = |names: [&str; 2]| clauses.iter().any(|clause| names.contains(&clause.field.as_str()));
        let archived = names(["archivedAt", "archived_at"]) || names(["id", "id"]);
        let fits = |row: &Row| {
            (archived || !row.archived) && clauses.iter().all(|clause| clause.matches(find(row, &clause.field)))
        };
        let by_id = clauses.iter().find(|clause| {
            clause.field == "id" && matches!(clause.operator, Operator::Eq | Operator::Is | Operator::In)
        });
        let Some(by_id) = by_id else { return self.rows(slot).filter(|(_, row)| fits(row)).collect() };
        let ids: BTreeSet<&str> = by_id
            .operands
            .iter()
            .filter_map(|operand| match operand {
                Literal::Text(id) => Some(id.as_str()),
                Literal::Null | Literal::Bool(_) | Literal::Number(_) => None,
            })
            .collect();
        let found = ids.into_iter().filter_map(|id| {
            self.row(slot, id)?;
            self.tenant.entry(slot, id)
        });
        found.filter(|(_, row)| fits(row)).collect()
    }
}

/// One query, read.
struct Query {
    slot: Option<Slot>,
    clauses: Vec<Clause>,
    order_by: Option<String>,
    descending: bool,
    limit: Option<usize>,
    related: Vec<Relation>,
}

impl Engine {
    /// The answer to `POST /sync/query`.
    ///
    /// # Errors
    /// `queries_required`, `invalid_request`, `unknown_model`, `query_unsupported_operator`, `query_invalid_identifier`,
    /// `query_unknown_relation`, naming what is wrong. One bad query refuses the request: an empty answer in its place
    /// could not be told from "nothing found".
    pub fn query(&self, participant: &Participant, body: &str) -> Result<String, Error> {
        let body = read_object(body)?;
        let Some(list) = body.get("queries").filter(|list| list.kind == Kind::Array) else {
            return Err(Error::wire("queries_required", "the body needs a list `queries`").param("queries"));
        };
        if list.elements().nth(QUERIES_MAX).is_some() {
            let why = format!("more than {QUERIES_MAX} queries in one request; send several");
            return Err(Error::wire("invalid_request", why).param("queries"));
        }
        let queries: Vec<Query> = list.elements().map(|query| self.read_query(query)).collect::<Result<_, _>>()?;
        let empty = Tenant::default();
        let tenant = self.tenant(&participant.organization).unwrap_or(&empty);
        let view = View::of(participant, &self.catalog);
        let sight = Sight { tenant, view: &view, engine: self };
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        let results = object.key("results");
        results.push('[');
        for (index, query) in queries.iter().enumerate() {
            if index > 0 {
                results.push(',');
            }
            self.run_query(&sight, query, results);
        }
        results.push(']');
        object.u64("lastSyncId", self.head.0);
        object.end();
        Ok(out)
    }

    fn read_query(&self, query: Value<'_>) -> Result<Query, Error> {
        let bad = |why: &str, param: &'static str| Err(Error::wire("invalid_request", why).param(param));
        let Some(name) = query.get_str("model").filter(|name| !name.is_empty()) else {
            return bad("a query needs a model", "model");
        };
        let slot = self.known_model(&name)?;
        let model = slot.and_then(|slot| self.catalog.model(slot));
        let field_of = |name: &str| {
            let declared = model.and_then(|model| model.field_of_column(name));
            declared.map_or_else(|| name.to_owned(), str::to_owned)
        };
        let mut clauses = Vec::new();
        for clause in query.get("where").into_iter().flat_map(Value::elements) {
            let mut clause = Clause::parse(clause)?;
            clause.field = field_of(&clause.field);
            clauses.push(clause);
        }
        // The old form: a list of ids.
        if let Some(ids) = query.get("ids").filter(|ids| ids.kind == Kind::Array) {
            let operands = ids.elements().filter_map(Literal::parse).collect();
            clauses.push(Clause { field: "id".to_owned(), operator: Operator::In, operands });
        }
        if clauses.len() > CLAUSES_MAX {
            return bad(&format!("more than {CLAUSES_MAX} conditions in one query"), "where");
        }
        let optional = |key: &str| query.get(key).filter(|value| !value.is_null());
        let limit = match optional("limit").map(|limit| limit.as_f64()) {
            None => None,
            Some(Some(limit)) if limit >= 0.0 => Some(limit.min(1e15) as usize),
            Some(_) => return bad("limit must be a number from 0 up", "limit"),
        };
        let descending = match optional("order").map(|order| order.as_str().unwrap_or_default().to_lowercase()) {
            None => false,
            Some(order) if order == "asc" || order == "desc" => order == "desc",
            Some(_) => return bad("order must be asc or desc", "order"),
        };
        let order_by = match optional("orderBy").map(Value::as_str) {
            None => None,
            Some(Some(column)) if !column.is_empty() => Some(field_of(&column)),
            Some(_) => {
                return Err(Error::wire("query_invalid_identifier", "orderBy must name a column").param("orderBy"));
            }
        };
        let mut related = Vec::new();
        for name in optional("related").into_iter().flat_map(Value::elements) {
            let name = name.as_str().unwrap_or_default();
            let relation = model.and_then(|model| model.relation(&name)).cloned();
            let Some(relation) = relation.filter(|_| related.len() < RELATED_MAX) else {
                let why = format!("there is no relation {name:.80}; the schema declares relations");
                return Err(Error::wire("query_unknown_relation", why).param("related"));
            };
            related.push(relation);
        }
        Ok(Query { slot, clauses, order_by, descending, limit, related })
    }

    fn run_query(&self, sight: &Sight<'_>, query: &Query, out: &mut String) {
        let Some(slot) = query.slot else { return out.push_str("[]") };
        let mut rows = sight.matching(slot, &query.clauses);
        if let Some(field) = &query.order_by {
            sort_rows(&mut rows, field, query.descending);
        } else if query.descending {
            rows.reverse();
        }
        rows.truncate(query.limit.unwrap_or(usize::MAX));
        let nested: Vec<Nested<'_>> =
            query.related.iter().map(|relation| Nested::gather(sight, relation, &rows)).collect();
        out.push('[');
        for (index, (id, row)) in rows.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            self.write_row(out, slot, row);
            if !nested.is_empty() {
                out.pop();
                for related in &nested {
                    out.push(',');
                    write_str(out, &related.relation.name);
                    out.push(':');
                    related.write(self, id, row, out);
                }
                out.push('}');
            }
        }
        out.push(']');
    }

    /// The row with its typename in front.
    fn write_row(&self, out: &mut String, slot: Slot, row: &Row) {
        out.push_str("{\"__typename\":");
        write_str(out, &self.catalog.entry(slot).typename);
        out.push(',');
        // A stored row is never empty: it has at least its id.
        out.push_str(row.text.get(1..).unwrap_or("}"));
    }
}

/// The rows behind one relation of the rows of a query.
struct Nested<'a> {
    relation: &'a Relation,
    target: Option<Slot>,
    /// Rows by the id in their foreign key, for the kinds that have the key on the other side.
    by_key: BTreeMap<String, Vec<&'a Row>>,
    /// Rows by id, for the other kind.
    by_id: BTreeMap<String, &'a Row>,
}

impl<'a> Nested<'a> {
    fn gather(sight: &Sight<'a>, relation: &'a Relation, rows: &[(&Text, &Row)]) -> Self {
        let target = sight.engine.catalog.of_key(&relation.target);
        let mut nested = Self { relation, target, by_key: BTreeMap::new(), by_id: BTreeMap::new() };
        let Some(slot) = target else { return nested };
        let key_of = |row: &Row| row.get(&relation.foreign_key).and_then(Value::as_str).map(String::from);
        if relation.kind == RelationKind::BelongsTo {
            for id in rows.iter().filter_map(|(_, row)| key_of(row)) {
                if let Some(row) = sight.row(slot, &id).filter(|row| !row.archived) {
                    nested.by_id.insert(id, row);
                }
            }
            return nested;
        }
        let wanted: BTreeSet<&str> = rows.iter().map(|(id, _)| &***id).collect();
        for (_, row) in sight.rows(slot).filter(|(_, row)| !row.archived) {
            if let Some(key) = key_of(row).filter(|key| wanted.contains(key.as_str())) {
                nested.by_key.entry(key).or_default().push(row);
            }
        }
        nested
    }

    fn write(&self, engine: &Engine, id: &str, row: &Row, out: &mut String) {
        let children = self.by_key.get(id).map(Vec::as_slice).unwrap_or_default();
        let single = match self.relation.kind {
            RelationKind::BelongsTo => {
                let key = row.get(&self.relation.foreign_key).and_then(Value::as_str);
                key.and_then(|key| self.by_id.get(key.as_ref()).copied())
            }
            RelationKind::HasOne => children.first().copied(),
            RelationKind::HasMany => {
                out.push('[');
                for (index, child) in children.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    if let Some(slot) = self.target {
                        engine.write_row(out, slot, child);
                    }
                }
                out.push(']');
                return;
            }
        };
        match (single, self.target) {
            (Some(row), Some(slot)) => engine.write_row(out, slot, row),
            _ => out.push_str("null"),
        }
    }
}
