//! The pool against a naive model that computes everything anew, and what the model does not show.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::core::filter::{Clause, Literal, Operator};
use crate::core::json::Value;

fn schema(models: usize) -> Schema {
    let models: Vec<String> = (0..models).map(|n| format!("\"m{n}\":{{\"typename\":\"M{n}\"}}")).collect();
    Schema::parse(&format!("{{\"v\":3,\"models\":{{{}}}}}", models.join(","))).unwrap()
}

fn own(text: &str) -> RowText {
    RowText::own(text.to_owned())
}

fn parse(text: &str) -> Query {
    Query::parse(Value::parse(text).unwrap()).unwrap()
}

const M: ModelIndex = ModelIndex(0);

fn at(slot: Slot) -> RowRef {
    RowRef { model: M, slot }
}

/// A row of the naive model.
#[derive(Clone, Default)]
struct Naive {
    base: Option<String>,
    overlay: Option<Option<String>>,
    seq: usize,
    slot: u32,
}

impl Naive {
    fn text(&self) -> Option<&str> {
        match &self.overlay {
            Some(overlay) => overlay.as_deref(),
            None => self.base.as_deref(),
        }
    }

    fn exists(&self) -> bool {
        self.base.is_some() || self.overlay.is_some()
    }
}

fn is_archived(text: &str) -> bool {
    Value::parse(text).unwrap().get("archivedAt").is_some_and(|value| !value.is_null())
}

/// How a value sorts: its rank, and then one of the others.
#[derive(PartialEq, PartialOrd)]
struct SortKey(u8, f64, String, bool);

fn sort_key(text: &str, field: &str) -> Option<SortKey> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    Some(match value.get(field)? {
        serde_json::Value::Null => return None,
        serde_json::Value::Number(number) => SortKey(0, number.as_f64().unwrap(), String::new(), false),
        serde_json::Value::String(text) => SortKey(1, 0.0, text.clone(), false),
        serde_json::Value::Bool(value) => SortKey(2, 0.0, String::new(), *value),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => SortKey(3, 0.0, String::new(), false),
    })
}

type View = (ViewId, usize, Query, Vec<(u32, String)>);

/// The naive model and the pool side by side.
struct World {
    pool: Pool,
    /// Rows by model and id. Those that are gone stay until changes are taken.
    rows: [BTreeMap<String, Naive>; 2],
    seq: usize,
    seen: [BTreeMap<u32, String>; 2],
    taken: [BTreeMap<u32, String>; 2],
    views: Vec<View>,
    /// Windows when changes were last taken.
    windows: BTreeMap<ViewId, Vec<(u32, String)>>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            pool: Pool::new(&schema(2), seed),
            rows: Default::default(),
            seq: 0,
            seen: Default::default(),
            taken: Default::default(),
            views: Vec::new(),
            windows: BTreeMap::new(),
        }
    }

    fn change(&mut self, model: usize, id: &str, slot: Option<Slot>, change: impl FnOnce(&mut Naive)) {
        let taken: Vec<u32> = self.rows[model].values().map(|row| row.slot).collect();
        let known = self.rows[model].contains_key(id);
        let row = self.rows[model].entry(id.to_owned()).or_default();
        change(row);
        if !known && !row.exists() {
            self.rows[model].remove(id);
            return;
        }
        if row.exists() {
            let slot = slot.expect("a row exists, so it has a slot").0;
            assert!(known || !taken.contains(&slot), "slot {slot} belongs to another row");
            assert!(!known || row.slot == slot, "a row keeps its slot");
            row.slot = slot;
        }
        if !known {
            self.seq += 1;
            row.seq = self.seq;
        }
    }

    fn naive_query(&self, model: usize, query: &Query) -> Vec<(u32, String)> {
        let mut rows: Vec<(&Naive, &str)> = (self.rows[model].values())
            .filter_map(|row| Some((row, row.text()?)))
            .filter(|(_, text)| match query.scope {
                Scope::Live => !is_archived(text),
                Scope::Archived => is_archived(text),
                Scope::All => true,
            })
            .filter(|(_, text)| {
                let row = Value::parse(text).unwrap();
                query.clauses.iter().all(|clause| clause.matches(row.get(&clause.field)))
            })
            .collect();
        rows.sort_by(|(a, a_text), (b, b_text)| {
            for (field, direction) in &query.order {
                let order = match (sort_key(a_text, field), sort_key(b_text, field)) {
                    (None, None) => std::cmp::Ordering::Equal,
                    (None, _) => return std::cmp::Ordering::Greater,
                    (_, None) => return std::cmp::Ordering::Less,
                    (Some(a), Some(b)) => a.partial_cmp(&b).unwrap(),
                };
                let order = if *direction == Direction::Descending { order.reverse() } else { order };
                if order.is_ne() {
                    return order;
                }
            }
            a.seq.cmp(&b.seq)
        });
        let limit = query.limit.unwrap_or(usize::MAX);
        rows.iter().skip(query.offset).take(limit).map(|(row, text)| (row.slot, (*text).to_owned())).collect()
    }

    fn shown(&self, model: usize) -> BTreeMap<u32, String> {
        self.rows[model].values().filter_map(|row| Some((row.slot, row.text()?.to_owned()))).collect()
    }

    fn take(&mut self) {
        let changes = self.pool.take_changes();
        for model in 0..2 {
            let shown = self.shown(model);
            let reported = changes.models.iter().find(|changes| changes.model.0 as usize == model);
            if shown != self.taken[model] {
                assert!(reported.is_some(), "model {model} changed");
            }
            let mut rows = reported.map(|changes| changes.rows.clone()).unwrap_or_default();
            rows.sort_unstable();
            let mut expected = Vec::new();
            self.seen[model].retain(|slot, text| {
                let now = shown.get(slot);
                if now != Some(text) {
                    expected.push(slot << 1 | u32::from(now.is_none()));
                }
                now == Some(text)
            });
            assert_eq!(rows, expected, "changes of seen rows");
            self.taken[model] = shown;
            self.rows[model].retain(|_, row| row.exists());
        }
        for index in 0..self.views.len() {
            let (id, model, query, _) = &self.views[index];
            let window = self.naive_query(*model, query);
            if self.windows.insert(*id, window.clone()) != Some(window) {
                assert!(changes.views.contains(id), "the window of view {} changed", id.0);
            }
        }
        assert!(self.pool.take_changes() == Changes::default(), "nothing changed since");
    }

    fn take_view(&mut self, index: usize) {
        let Some((id, model, query, mut window)) = self.views.get(index).cloned() else { return };
        let shown = self.shown(model);
        match self.pool.take_view_change(id) {
            ViewChange::None => {}
            ViewChange::Reset(slots) => {
                window = slots.iter().map(|slot| (slot.0, shown[&slot.0].clone())).collect();
            }
            ViewChange::Edits(edits) => {
                assert!(edits.len() <= EDITS_MAX);
                for edit in edits {
                    // A row that came in and went out again need not be there any more.
                    let text = |slot: u32| shown.get(&slot).cloned().unwrap_or_default();
                    match edit {
                        Edit::Remove(at) => drop(window.remove(at)),
                        Edit::Insert(at, slot) => window.insert(at, (slot.0, text(slot.0))),
                        Edit::Change(at) => window[at].1 = text(window[at].0),
                    }
                }
            }
        }
        assert_eq!(window, self.naive_query(model, &query), "window of {query:?}");
        assert_eq!(self.pool.take_view_change(id), ViewChange::None);
        self.views[index].3 = window;
    }

    fn check_query(&mut self, model: usize, query: &Query) {
        let expected = self.naive_query(model, query);
        let index = ModelIndex(model as u16);
        let slots: Vec<u32> = self.pool.query(index, query).iter().map(|slot| slot.0).collect();
        assert_eq!(slots, expected.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), "{query:?}");
        let all = Query { offset: 0, limit: None, ..query.clone() };
        assert_eq!(self.pool.count(index, &all), self.naive_query(model, &all).len(), "count {query:?}");
        let mut out = String::new();
        let slots: Vec<Slot> = slots.into_iter().map(Slot).collect();
        self.pool.write_rows(index, &slots, &mut out);
        let texts: Vec<&str> = expected.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(out, format!("[{}]", texts.join(",")));
        for (slot, text) in expected {
            self.seen[model].entry(slot).or_insert(text);
        }
    }

    fn check_rows(&self) {
        for (model, rows) in self.rows.iter().enumerate() {
            let index = ModelIndex(model as u16);
            for (id, row) in rows {
                let at = RowRef { model: index, slot: Slot(row.slot) };
                assert_eq!(self.pool.find(index, id), row.exists().then_some(Slot(row.slot)), "{id}");
                if row.exists() {
                    assert_eq!(self.pool.id(at), Some(id.as_str()));
                    assert_eq!(self.pool.base(at).map(RowText::as_str), row.base.as_deref());
                    assert_eq!(self.pool.text(at).map(RowText::as_str), row.text());
                }
            }
            let mut bases: Vec<u32> = rows.values().filter(|row| row.base.is_some()).map(|row| row.slot).collect();
            bases.sort_unstable();
            assert_eq!(self.pool.base_slots(index).map(|slot| slot.0).collect::<Vec<_>>(), bases);
        }
        assert_eq!(self.pool.stats().rows, self.shown(0).len() + self.shown(1).len());
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put(model, id, row, scanned) => self.put(model, &id, &row.text(&id), scanned),
            Op::Burst(model, rows) => {
                let texts: Vec<(String, String)> = rows
                    .into_iter()
                    .map(|(id, row)| {
                        let id = format!("burst{id}");
                        (row.text(&id), id)
                    })
                    .collect();
                let chunk = Chunk::new(texts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","));
                self.pool.reserve(ModelIndex(model as u16), texts.len());
                let mut start = 0;
                for (text, id) in texts {
                    let slice = RowText::slice(&chunk, start..start + text.len());
                    start += text.len() + 1;
                    let slot = self.pool.put_base(ModelIndex(model as u16), &id, slice, SyncId(1));
                    self.change(model, &id, Some(slot), |naive| naive.base = Some(text));
                }
            }
            Op::Remove(model, id) => {
                let index = ModelIndex(model as u16);
                if let Some(slot) = self.pool.find(index, &id) {
                    self.pool.remove_base(RowRef { model: index, slot });
                    self.change(model, &id, Some(slot), |naive| naive.base = None);
                }
            }
            Op::Overlay(model, id, overlay) => {
                let overlay = overlay.map(|row| row.map(|row| row.text(&id)));
                let laid = overlay.clone().map(|text| text.map_or(Overlay::Hidden, |text| Overlay::Shown(own(&text))));
                let slot = self.pool.set_overlay(ModelIndex(model as u16), &id, laid);
                self.change(model, &id, slot, |naive| naive.overlay = overlay);
                let exists = self.rows[model].get(&id).is_some_and(Naive::exists);
                assert_eq!(slot.is_some(), exists);
            }
            Op::Settle => self.pool.settle(),
            Op::Take => self.take(),
            Op::Query(model, query) => self.check_query(model, &query),
            Op::Open(model, query) if self.views.len() < 4 => {
                let id = self.pool.open_view(ModelIndex(model as u16), &query);
                let window = self.naive_query(model, &query);
                let rows: Vec<u32> = self.pool.view_rows(id).iter().map(|slot| slot.0).collect();
                assert_eq!(rows, window.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
                self.windows.insert(id, window.clone());
                self.views.push((id, model, query, window));
            }
            Op::Open(..) => {}
            Op::Close(index) if index < self.views.len() => {
                let (id, ..) = self.views.remove(index);
                self.pool.close_view(id);
                assert_eq!(self.pool.view_rows(id), []);
            }
            Op::Close(_) => {}
            Op::TakeView(index) => self.take_view(index),
            Op::Clear => {
                self.pool.clear();
                for row in self.rows.iter_mut().flat_map(BTreeMap::values_mut) {
                    (row.base, row.overlay) = (None, None);
                }
            }
        }
        self.check_rows();
    }

    fn put(&mut self, model: usize, id: &str, text: &str, scanned: bool) {
        let index = ModelIndex(model as u16);
        let slot = if scanned {
            self.pool.put_base_scanned(index, id, own(text), is_archived(text), SyncId(2))
        } else {
            self.pool.put_base(index, id, own(text), SyncId(3))
        };
        self.change(model, id, Some(slot), |naive| naive.base = Some(text.to_owned()));
    }
}

/// Members of a row besides its id, as JSON text.
#[derive(Clone, Debug)]
struct Members(Vec<(&'static str, String)>);

impl Members {
    fn text(&self, id: &str) -> String {
        let mut text = format!("{{\"id\":{}", serde_json::to_string(id).unwrap());
        for (key, value) in &self.0 {
            text += &format!(",\"{key}\":{value}");
        }
        text + "}"
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, String, Members, bool),
    Burst(usize, Vec<(u32, Members)>),
    Remove(usize, String),
    Overlay(usize, String, Option<Option<Members>>),
    Settle,
    Take,
    Query(usize, Query),
    Open(usize, Query),
    Close(usize),
    TakeView(usize),
    Clear,
}

fn any_value() -> impl Strategy<Value = String> {
    select(
        &[
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "1",
            "1.0",
            "2",
            "-3.5",
            "1e3",
            "[]",
            "{\"a\":1}",
            r#""""#,
            r#""a""#,
            r#""a\u0000""#,
            r#""\u0061""#,
            r#""abcdefghi""#,
            r#""abcdefghk""#,
            r#""abcdefghij""#,
            r#""abcdefgh""#,
            r#""é""#,
            r#""A""#,
            r#""zz\"""#,
            r#""2026-01-01T00:00:00.000Z""#,
            r#""2026-01-01T00:00:00.001Z""#,
            r#""2026-02-01""#,
        ][..],
    )
    .prop_map(str::to_owned)
}

fn any_members() -> impl Strategy<Value = Members> {
    let member =
        |key: &'static str| prop::option::weighted(0.8, any_value()).prop_map(move |value| Some((key, value?)));
    let archived = select(&[None, None, None, Some("null"), Some("\"2026-01-01\"")][..])
        .prop_map(|value| Some(("archivedAt", value?.to_owned())));
    let date = prop::option::weighted(0.9, 0..40_u32)
        .prop_map(|day| Some(("date", format!("\"2026-01-{:02}T10:00:00.000Z\"", day?))));
    (member("a"), archived, member("b"), date, any::<bool>()).prop_map(|(a, archived, b, date, turn)| {
        let mut members: Vec<_> = [a, archived, b, date].into_iter().flatten().collect();
        if turn {
            members.reverse();
        }
        Members(members)
    })
}

fn any_literal() -> impl Strategy<Value = Literal> {
    any_value().prop_map(|text| Literal::parse(Value::parse(&text).unwrap()).unwrap_or(Literal::Text("a%".into())))
}

fn any_clause() -> impl Strategy<Value = Clause> {
    let field = select(&["a", "b", "id", "date", "nothing"][..]);
    let operator = select(Operator::ALL.map(|(operator, _)| operator).to_vec());
    (field, operator, prop::collection::vec(any_literal(), 0..4)).prop_map(|(field, operator, operands)| Clause {
        field: field.to_owned(),
        operator,
        operands,
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let direction = select(&[Direction::Ascending, Direction::Descending][..]);
    let order = (select(&["a", "b", "date", "id"][..]).prop_map(str::to_owned), direction);
    (
        prop::collection::vec(any_clause(), 0..2),
        prop::collection::vec(order, 0..3),
        prop_oneof![3 => Just(0), 2 => 0..4_usize],
        prop::option::of(1..6_usize),
        select(&[Scope::Live, Scope::Live, Scope::Archived, Scope::All][..]),
    )
        .prop_map(|(clauses, order, offset, limit, scope)| Query { clauses, order, offset, limit, scope })
}

fn any_op() -> impl Strategy<Value = Op> {
    let id = || select(&["a", "b", "c", "d", "e\"", "é", "7", "\\u0061"][..]).prop_map(str::to_owned);
    let model = || select(&[0_usize, 0, 0, 1][..]);
    prop_oneof![
        12 => (model(), id(), any_members(), any::<bool>()).prop_map(|(m, id, row, scanned)| Op::Put(m, id, row, scanned)),
        2 => (model(), prop::collection::vec((0..30_u32, any_members()), 1..40)).prop_map(|(m, rows)| Op::Burst(m, rows)),
        4 => (model(), id()).prop_map(|(m, id)| Op::Remove(m, id)),
        6 => (model(), id(), prop::option::of(prop::option::weighted(0.8, any_members())))
            .prop_map(|(m, id, overlay)| Op::Overlay(m, id, overlay)),
        2 => Just(Op::Settle),
        4 => Just(Op::Take),
        6 => (model(), any_query()).prop_map(|(m, query)| Op::Query(m, query)),
        4 => (model(), any_query()).prop_map(|(m, query)| Op::Open(m, query)),
        1 => (0..4_usize).prop_map(Op::Close),
        6 => (0..4_usize).prop_map(Op::TakeView),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_naive_model_does(seed in any::<u64>(), ops in prop::collection::vec(any_op(), 1..60)) {
        let mut world = World::new(seed);
        for op in ops {
            world.run(op);
        }
        world.take();
        for index in 0..world.views.len() {
            world.take_view(index);
        }
    }

    #[test]
    fn columns_and_clauses_agree(rows in prop::collection::vec(any_members(), 1..12), clause in any_clause()) {
        let mut pool = Pool::new(&schema(1), 1);
        let query = Query { clauses: vec![clause], scope: Scope::All, ..Query::default() };
        let mut expected = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let text = row.text(&number.to_string());
            let slot = pool.put_base(M, &number.to_string(), own(&text), SyncId(1));
            let clause = &query.clauses[0];
            if clause.matches(Value::parse(&text).unwrap().get(&clause.field)) {
                expected.push(slot);
            }
        }
        prop_assert_eq!(pool.query(M, &query), expected);
    }
}

#[test]
fn what_is_the_same_is_not_reported() {
    let mut pool = Pool::new(&schema(1), 1);
    let text = r#"{"id":"a","n":1}"#;
    let slot = pool.put_base(M, "a", own(text), SyncId(1));
    let view = pool.open_view(M, &parse(r#"{"orderBy":{"n":"asc"}}"#));
    assert_eq!(pool.take_view_change(view), ViewChange::Reset(vec![slot]), "the first look is the whole window");
    pool.write_rows(M, &[slot], &mut String::new());
    pool.take_changes();

    pool.put_base(M, "a", own(text), SyncId(2));
    assert_eq!(pool.stamp(at(slot)), SyncId(2));
    pool.set_overlay(M, "a", Some(Overlay::Shown(own(text))));
    pool.set_overlay(M, "a", None);
    assert_eq!(pool.take_changes(), Changes::default());

    // There and back within a turn, even out of existence.
    pool.put_base(M, "a", own(r#"{"id":"a","n":2}"#), SyncId(3));
    pool.remove_base(at(slot));
    assert_eq!(pool.find(M, "a"), None);
    assert_eq!(pool.put_base(M, "a", own(text), SyncId(4)), slot);
    pool.remove_base(at(slot));
    assert_eq!(pool.put_base(M, "a", own(text), SyncId(4)), slot);
    assert_eq!(pool.find(M, "a"), Some(slot));
    assert_eq!(pool.take_changes(), Changes::default());
    assert_eq!(pool.take_view_change(view), ViewChange::None);

    // A change below an overlay is none above it.
    pool.set_overlay(M, "a", Some(Overlay::Shown(own(text))));
    pool.put_base(M, "a", own(r#"{"id":"a","n":9}"#), SyncId(5));
    assert_eq!(pool.take_changes(), Changes::default());
    pool.set_overlay(M, "a", None);
    assert_eq!(pool.take_changes().models[0].rows, [slot.0 << 1]);
    assert_eq!(pool.take_view_change(view), ViewChange::Edits(vec![Edit::Change(0)]));
    assert_eq!(pool.version(M), 2);
}

#[test]
fn a_row_is_reported_once_and_only_when_seen() {
    let mut pool = Pool::new(&schema(1), 1);
    let a = pool.put_base(M, "a", own(r#"{"id":"a"}"#), SyncId(1));
    let b = pool.put_base(M, "b", own(r#"{"id":"b"}"#), SyncId(1));
    pool.write_rows(M, &[a], &mut String::new());
    assert!(pool.take_changes().models[0].rows.is_empty());
    for number in 0..3 {
        let text = format!("{{\"n\":{number}}}");
        pool.put_base(M, "a", own(&text), SyncId(2));
        pool.put_base(M, "b", own(&text), SyncId(2));
        let expected = if number == 0 { vec![a.0 << 1] } else { vec![] };
        assert_eq!(pool.take_changes().models[0].rows, expected);
    }
    pool.write_rows(M, &[a, b], &mut String::new());
    pool.set_overlay(M, "a", Some(Overlay::Hidden));
    pool.remove_base(at(b));
    assert_eq!(pool.take_changes().models[0].rows, [a.0 << 1 | 1, b.0 << 1 | 1]);
    // The slot is free only now.
    assert_eq!(pool.put_base(M, "c", own("{}"), SyncId(3)), b);
    assert_eq!(pool.id(at(b)), Some("c"));
}

#[test]
fn windows_tell_their_changes_in_few_edits() {
    let mut pool = Pool::new(&schema(1), 1);
    let put = |pool: &mut Pool, id: &str, rank: u32| {
        pool.put_base(M, id, own(&format!("{{\"id\":\"{id}\",\"rank\":{rank}}}")), SyncId(1))
    };
    let slots: Vec<Slot> = (0..10).map(|n| put(&mut pool, &format!("r{n}"), n * 10)).collect();
    let view = pool.open_view(M, &parse(r#"{"orderBy":{"rank":"asc"},"offset":2,"limit":3}"#));
    assert_eq!(pool.view_rows(view), slots[2..5]);
    assert_eq!(pool.take_view_change(view), ViewChange::Reset(slots[2..5].to_vec()));
    let steps: [(&str, u32, &[Edit]); 6] = [
        ("r3", 31, &[Edit::Change(1)]),
        ("r9", 95, &[]),
        ("r0", 1, &[]),
        ("r2", 35, &[Edit::Remove(0), Edit::Insert(1, slots[2])]),
        ("r4", 90, &[Edit::Remove(2), Edit::Insert(2, slots[5])]),
        ("r4", 0, &[Edit::Remove(2), Edit::Insert(0, slots[1])]),
    ];
    for (id, rank, edits) in steps {
        put(&mut pool, id, rank);
        let changes = pool.take_changes();
        assert_eq!(changes.views.is_empty(), edits.is_empty(), "{id} {rank}");
        let expected = if edits.is_empty() { ViewChange::None } else { ViewChange::Edits(edits.to_vec()) };
        assert_eq!(pool.take_view_change(view), expected, "{id} {rank}");
    }
    for rank in 0..100 {
        put(&mut pool, "r3", 1000 + rank % 2 * 1000);
        put(&mut pool, "r3", rank % 2 * 1000);
        pool.settle();
    }
    assert!(matches!(pool.take_view_change(view), ViewChange::Reset(slots) if slots.len() == 3));
}

#[test]
fn unused_text_is_given_back() {
    let mut pool = Pool::new(&schema(2), 1);
    let row = |n: usize, fill: &str| format!("{{\"id\":\"row{n}\",\"n\":{n},\"fill\":\"{}\"}}", fill.repeat(200));
    let count = 20_000;
    let chunk: Vec<String> = (0..count).map(|n| row(n, "x")).collect();
    let chunk = Chunk::new(chunk.join(","));
    let mut start = 0;
    for n in 0..count {
        let text = row(n, "x");
        let slice = RowText::slice(&chunk, start..start + text.len());
        start += text.len() + 1;
        pool.put_base(ModelIndex((n % 2) as u16), &format!("row{n}"), slice, SyncId(1));
    }
    drop(chunk);
    assert!(pool.stats().held_bytes < pool.stats().live_bytes + count + 1);
    for n in 0..count - count / 10 {
        pool.put_base(ModelIndex((n % 2) as u16), &format!("row{n}"), own(&row(n, "y")), SyncId(2));
        if n % 1000 == 0 {
            pool.take_changes();
            let stats = pool.stats();
            assert!(stats.held_bytes <= 2 * stats.live_bytes + DEAD_BYTES_MAX, "{stats:?}");
        }
    }
    pool.take_changes();
    assert!(pool.stats().held_bytes <= pool.stats().live_bytes + DEAD_BYTES_MAX);
    for n in 0..count {
        let model = ModelIndex((n % 2) as u16);
        let slot = pool.find(model, &format!("row{n}")).unwrap();
        let fill = if n < count - count / 10 { "y" } else { "x" };
        assert_eq!(pool.text(RowRef { model, slot }).unwrap().as_str(), row(n, fill));
    }
    assert_eq!(pool.stats().live_bytes, (0..count).map(|n| row(n, "x").len()).sum::<usize>());
    pool.clear();
    pool.take_changes();
    assert_eq!((pool.stats().held_bytes, pool.stats().live_bytes, pool.stats().rows), (0, 0, 0));
}

#[test]
fn a_limit_keeps_the_best() {
    let mut pool = Pool::new(&schema(1), 1);
    for n in 0..500_u32 {
        pool.put_base(M, &format!("r{n}"), own(&format!("{{\"n\":{}}}", n.wrapping_mul(7919) % 251)), SyncId(1));
    }
    for direction in ["asc", "desc"] {
        let all = pool.query(M, &parse(&format!("{{\"orderBy\":{{\"n\":\"{direction}\"}}}}")));
        for (offset, limit) in [(0, 1), (0, 50), (7, 3), (490, 20)] {
            let query = format!("{{\"orderBy\":{{\"n\":\"{direction}\"}},\"offset\":{offset},\"limit\":{limit}}}");
            assert_eq!(pool.query(M, &parse(&query)), all[offset..(offset + limit).min(500)]);
        }
    }
}

#[test]
fn strings_that_stop_being_alike_still_compare() {
    let mut pool = Pool::new(&schema(1), 1);
    let view = pool.open_view(M, &parse(r#"{"orderBy":{"s":"asc"}}"#));
    let texts = [
        "2026-01-02T00:00:00.000Z",
        "2026-01-01T00:00:00.001Z",
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.000z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00-02:00",
        "x",
        "",
    ];
    for (n, text) in texts.iter().enumerate() {
        pool.put_base(M, &n.to_string(), own(&format!("{{\"s\":\"{text}\"}}")), SyncId(1));
        let mut expected: Vec<(&str, Slot)> = texts[..=n].iter().copied().zip((0..).map(Slot)).collect();
        expected.sort_unstable();
        assert_eq!(pool.view_rows(view), expected.into_iter().map(|(_, slot)| slot).collect::<Vec<_>>());
        for text in texts {
            let rows = pool.query(M, &parse(&format!("{{\"where\":{{\"s\":\"{text}\"}}}}")));
            assert_eq!(rows.len(), usize::from(texts[..=n].contains(&text)), "{text}");
            let less = pool.query(M, &parse(&format!("{{\"where\":[[\"s\",\"<\",\"{text}\"]]}}")));
            assert_eq!(less.len(), texts[..=n].iter().filter(|other| **other < text).count(), "{text}");
        }
    }
}

#[test]
fn a_long_list_in_a_condition_and_many_columns() {
    let mut pool = Pool::new(&schema(1), 1);
    let fields: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
    for n in 0..200 {
        let members: Vec<String> = fields.iter().map(|field| format!("\"{field}\":\"v{n}\"")).collect();
        pool.put_base(M, &format!("r{n}"), own(&format!("{{{}}}", members.join(","))), SyncId(1));
    }
    let view = pool.open_view(M, &parse(r#"{"where":{"f0":"v7"}}"#));
    for field in &fields {
        let values: Vec<String> = (0..100).map(|n| format!("\"v{}\"", n * 3)).collect();
        let query = parse(&format!("{{\"where\":[[\"{field}\",\"IN\",[{}]]]}}", values.join(",")));
        assert_eq!(pool.query(M, &query).len(), 67);
        assert!(pool.stats().columns <= COLUMNS_IDLE_MAX + 2);
    }
    assert_eq!(pool.view_rows(view), [Slot(7)]);
    pool.put_base(M, "r7", own("{}"), SyncId(2));
    assert_eq!(pool.view_rows(view), []);
}

#[test]
fn nothing_panics_on_what_is_not_there() {
    let mut pool = Pool::new(&schema(1), 1);
    let none = RowRef { model: ModelIndex(9), slot: Slot(3) };
    assert_eq!(pool.put_base(ModelIndex(9), "a", own("{}"), SyncId(1)), Slot::NONE);
    assert_eq!(pool.set_overlay(ModelIndex(9), "a", Some(Overlay::Hidden)), None);
    let view = pool.open_view(ModelIndex(9), &Query::default());
    pool.close_view(view);
    for row in [none, at(Slot(3)), at(Slot::NONE)] {
        pool.remove_base(row);
        assert!(pool.id(row).is_none() && pool.text(row).is_none() && pool.base(row).is_none());
    }
    let mut out = String::new();
    pool.write_rows(M, &[Slot(0), Slot::NONE], &mut out);
    assert_eq!(out, "[null,null]");
    // Text that is no JSON object, or no text at all.
    let chunk = Chunk::new("é".to_owned());
    for (id, text) in [("", own("")), ("x", own("[1")), ("y", RowText::slice(&chunk, 1..9)), ("z", own("{\"a\":"))] {
        pool.put_base(M, id, text, SyncId(1));
    }
    assert_eq!(pool.query(M, &parse(r#"{"where":{"a":null},"orderBy":{"a":"desc"}}"#)).len(), 4);
    assert_eq!(pool.query(M, &parse(r#"{"offset":100,"limit":3}"#)), []);
    assert_eq!(pool.count(M, &Query::default()), 4);
}
