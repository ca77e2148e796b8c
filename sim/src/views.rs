//! Live views: what a page makes of the edits it is told must be what a naive query finds.

use std::cmp::Ordering;

use ablo_wasm::core::Engine;
use ablo_wasm::core::id::ModelIndex;
use ablo_wasm::core::json::{Kind, Value};
use ablo_wasm::core::pool::{Direction, Edit, Query, RowRef, Scope, Slot, ViewChange, ViewId};
use ablo_wasm::core::queue::RowKey;

use crate::dice::Dice;
use crate::oracle::{Check, broken};
use crate::shop;

/// An open view and its window as the page knows it.
pub(crate) struct OpenView {
    pub(crate) id: ViewId,
    model: ModelIndex,
    query: Query,
    window: Vec<Slot>,
}

/// A random query. Its order ends with the id, so that it is total.
pub(crate) fn random_query(dice: &mut Dice) -> String {
    let mut parts = Vec::new();
    let condition = ["", r#""where":{"title":"A"}"#, r#""where":[["rank",">=",1]]"#, r#""where":[["title","!=","B"]]"#];
    parts.push(dice.pick(&condition).to_owned());
    let orders = [
        r#""orderBy":{"id":"asc"}"#,
        r#""orderBy":{"rank":"asc","id":"asc"}"#,
        r#""orderBy":{"rank":"desc","id":"desc"}"#,
        r#""orderBy":{"title":"asc","id":"asc"}"#,
    ];
    parts.push(dice.pick(&orders).to_owned());
    if dice.percent(50) {
        parts.push(format!("\"limit\":{}", dice.range(1, 6)));
        if dice.percent(50) {
            parts.push(format!("\"offset\":{}", dice.range(0, 3)));
        }
    }
    parts.push(dice.pick(&["", r#""state":"all""#, r#""state":"archived""#]).to_owned());
    parts.retain(|part| !part.is_empty());
    format!("{{{}}}", parts.join(","))
}

impl OpenView {
    /// Opens a view.
    pub(crate) fn open(engine: &mut Engine, model: ModelIndex, text: &str) -> Check<Self> {
        let query = Value::parse(text).map_err(|error| error.to_string());
        let query = query.and_then(|value| Query::parse(value).map_err(|error| error.to_string()));
        let Ok(query) = query else { return broken("query", format!("{text}: {query:?}")) };
        let id = engine.open_view(model, &query);
        let window = engine.query(model, &query);
        Ok(Self { id, model, query, window })
    }

    /// Takes in what the engine tells.
    pub(crate) fn follow(&mut self, engine: &mut Engine, name: &str) -> Check {
        match engine.take_view_change(self.id) {
            ViewChange::None => {}
            ViewChange::Reset(window) => self.window = window,
            ViewChange::Edits(edits) => {
                for edit in edits {
                    let len = self.window.len();
                    match edit {
                        Edit::Remove(place) if place < len => drop(self.window.remove(place)),
                        Edit::Insert(place, slot) if place <= len => self.window.insert(place, slot),
                        Edit::Change(place) if place < len => {}
                        _ => return broken("view-edits", format!("{name}: {edit:?} in a window of {len}")),
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares with a naive query over all rows.
    pub(crate) fn compare(&self, engine: &mut Engine, universe: &[RowKey], name: &str) -> Check {
        let mut rows: Vec<(&str, Value<'_>)> = Vec::new();
        for key in universe.iter().filter(|key| key.0 == self.model) {
            let Some(text) = engine.row(key.0, key.1.as_str()) else { continue };
            let Ok(row) = Value::parse(text) else { return broken("row-text", format!("{name}: {text}")) };
            let archived = row.get("archivedAt").is_some_and(|at| !at.is_null());
            let in_scope = match self.query.scope {
                Scope::Live => !archived,
                Scope::Archived => archived,
                Scope::All => true,
            };
            if in_scope && self.query.clauses.iter().all(|clause| clause.matches(row.get(&clause.field))) {
                rows.push((key.1.as_str(), row));
            }
        }
        rows.sort_by(|a, b| {
            let steps =
                self.query.order.iter().map(|(field, direction)| compare(a.1.get(field), b.1.get(field), *direction));
            steps.fold(Ordering::Equal, Ordering::then)
        });
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let expected: Vec<&str> = rows.iter().skip(self.query.offset).take(limit).map(|(id, _)| *id).collect();
        let pool = engine.pool();
        let ids = self.window.iter().map(|slot| pool.id(RowRef { model: self.model, slot: *slot }).unwrap_or("?"));
        let window: Vec<&str> = ids.collect();
        if window != expected {
            let what =
                format!("{name}: {} {:?} shows {window:?}, found {expected:?}", shop::key(self.model), self.query);
            return broken("view", what);
        }
        Ok(())
    }
}

/// Null and missing last in both directions; numbers before texts before booleans before the rest.
fn compare(a: Option<Value<'_>>, b: Option<Value<'_>>, direction: Direction) -> Ordering {
    let rank = |value: Option<Value<'_>>| match value.map(|value| value.kind) {
        Some(Kind::Number) => 0,
        Some(Kind::String) => 1,
        Some(Kind::Bool) => 2,
        Some(Kind::Object | Kind::Array) => 3,
        Some(Kind::Null) | None => 4,
    };
    let order = match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        _ => {
            let text = |value: Option<Value<'_>>| value.and_then(Value::as_str).map(|text| text.into_owned());
            let flag = |value: Option<Value<'_>>| value.and_then(Value::as_bool);
            text(a).cmp(&text(b)).then_with(|| flag(a).cmp(&flag(b)))
        }
    };
    let (left, right) = (rank(a), rank(b));
    if left == 4 || right == 4 {
        return left.cmp(&right);
    }
    let order = left.cmp(&right).then(order);
    if direction == Direction::Descending { order.reverse() } else { order }
}
