//! The stream of changes: what is remembered of each, how one is told to a connection, and how many are told at once.
//!
//! What is sent is always the row as it is now, so the history holds no rows (protocol.md 9.4, 9.7).

use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::{ObjectWriter, Value, merge};
use ablo_wasm::core::time::WallTime;
use ablo_wasm::core::wire::{Action, Delta};

use super::catalog::{Catalog, Slot};
use super::group::{Extra, View, anchor};
use super::participant::Text;
use super::session::ConnectionId;
use super::storage::{StoredDelta, Verb};
use super::tenant::{Row, Tenant};

/// Changes kept for catching up. Who is further behind loads a snapshot.
pub const HISTORY_MAX: usize = 200_000;
/// The store is told to forget in steps of this many.
const TRIM_STEP: u64 = 1000;

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub id: SyncId,
    pub organization: Text,
    pub slot: Slot,
    pub row: Text,
    pub verb: Verb,
    /// Further groups before; `None`: there was no row.
    pub before: Option<Extra>,
    /// Further groups after; `None`: there is no row.
    pub after: Option<Extra>,
    /// Fields written; `None`: all.
    pub fields: Option<Vec<Text>>,
    /// Fields that became `[]` or `{}`.
    pub emptied: Vec<Text>,
    pub actor: Text,
    /// On which connection, if it is still open: its own changes do not make a write stale (protocol.md 10.3).
    pub connection: Option<ConnectionId>,
    pub at: WallTime,
}

impl Change {
    pub(super) fn stored(&self, catalog: &Catalog) -> StoredDelta {
        StoredDelta {
            id: self.id,
            organization: self.organization.clone(),
            model: catalog.entry(self.slot).stored.clone(),
            row: self.row.clone(),
            verb: self.verb,
            groups_before: self.before.as_ref().map(|groups| groups.to_vec()),
            groups_after: self.after.as_ref().map(|groups| groups.to_vec()),
            fields: self.fields.clone(),
            emptied: self.emptied.clone(),
            actor: self.actor.clone(),
            at: self.at,
        }
    }

    /// Whether a view shows its row before and after.
    pub(super) fn shown(&self, view: &View, catalog: &Catalog) -> (bool, bool) {
        let entry = catalog.entry(self.slot);
        let shows = |extra: &Option<Extra>| extra.as_ref().is_some_and(|extra| view.shows(entry, &self.row, extra));
        (shows(&self.before), shows(&self.after))
    }

    /// How a connection with this view is told, if it is.
    pub(super) fn action_for(&self, view: &View, archived: bool, catalog: &Catalog) -> Option<Action> {
        let (before, after) = self.shown(view, catalog);
        let now = |live| if archived { Action::Archive } else { live };
        match (self.verb, before, after) {
            (_, false, false) | (Verb::Reroute, true, true) => None,
            (_, true, false) => Some(Action::Delete),
            (Verb::Insert, _, true) => Some(now(Action::Insert)),
            (Verb::Restore, _, true) | (_, false, true) => Some(now(Action::Cover)),
            (Verb::Update | Verb::Archive | Verb::Delete, true, true) => Some(now(Action::Update)),
        }
    }

    /// Writes the change as a frame's element. `text` is the row.
    pub(super) fn write(&self, action: Action, text: Option<&str>, catalog: &Catalog) -> String {
        self.write_as(self.id, action, text, &self.emptied, catalog)
    }

    fn write_as(&self, id: SyncId, action: Action, text: Option<&str>, emptied: &[Text], catalog: &Catalog) -> String {
        let entry = catalog.entry(self.slot);
        let (data, empty_values) = match (action, text) {
            (Action::Delete | Action::GroupAdded | Action::GroupRemoved, _) | (_, None) => (None, None),
            (Action::Update, Some(text)) => without_empty(text, emptied),
            (_, Some(text)) => (Some(text.to_owned()), None),
        };
        let further: BTreeSet<&Text> =
            [&self.before, &self.after].into_iter().flatten().flat_map(|all| all.iter()).collect();
        let mut groups = vec![anchor(&self.organization), entry.group(&self.row)];
        groups.extend(further.into_iter().map(|group| group.to_string()));
        let delta = Delta {
            id,
            action,
            model: (&*entry.typename).into(),
            row_id: (&*self.row).into(),
            data: data.map(Into::into),
            empty_values: empty_values.map(Into::into),
            transaction_id: None,
        };
        let mut out = String::new();
        delta.write(&mut out, &groups, &self.at.to_iso());
        out
    }
}

/// The row with `null` for fields that became `[]` or `{}`. A 0.15 client drops empty values before it merges an update,
/// so they would not clear the field there (protocol.md 9.2). Fields that were empty before stay as they are: dropping
/// them loses nothing. Beside it the empty values themselves, for clients that keep them.
fn without_empty(text: &str, emptied: &[Text]) -> (Option<String>, Option<String>) {
    let (mut nulls, mut values) = (String::new(), String::new());
    let (mut nulled, mut kept) = (ObjectWriter::new(&mut nulls), ObjectWriter::new(&mut values));
    let mut any = false;
    for field in emptied {
        let value = Value::parse(text).ok().and_then(|row| row.get(field));
        if let Some(value) = value.filter(|value| is_empty(*value)) {
            any = true;
            nulled.raw(field, "null");
            kept.raw(field, value.raw);
        }
    }
    nulled.end();
    kept.end();
    if any { (Some(merge(text, &nulls)), Some(values)) } else { (Some(text.to_owned()), None) }
}

/// Whether a value is `[]` or `{}`.
pub(super) fn is_empty(value: Value<'_>) -> bool {
    use ablo_wasm::core::json::Kind;
    match value.kind {
        Kind::Array => value.elements().next().is_none(),
        Kind::Object => value.members().next().is_none(),
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => false,
    }
}

/// The retained changes of all organizations.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: BTreeMap<SyncId, Change>,
    /// Everything up to and including this id is gone.
    floor: SyncId,
    /// What the store has been told to forget.
    stored_floor: SyncId,
}

impl History {
    pub(super) fn restore(&mut self, floor: SyncId, changes: impl Iterator<Item = Change>) {
        self.changes = changes.map(|change| (change.id, change)).collect();
        self.floor = floor;
        self.stored_floor = floor;
    }

    /// Adds changes. The result tells the store to forget, now and then.
    pub(super) fn push(&mut self, changes: impl Iterator<Item = Change>) -> Option<SyncId> {
        self.changes.extend(changes.map(|change| (change.id, change)));
        while self.changes.len() > HISTORY_MAX {
            if let Some((id, _)) = self.changes.pop_first() {
                self.floor = id;
            }
        }
        if self.floor.0 < self.stored_floor.0 + TRIM_STEP {
            return None;
        }
        self.stored_floor = self.floor;
        Some(self.floor)
    }

    /// Everything up to and including this id is gone.
    pub(super) fn floor(&self) -> SyncId {
        self.floor
    }

    /// The changes behind this id, in order.
    pub(super) fn after(&self, id: SyncId) -> impl Iterator<Item = &Change> {
        self.changes.range(SyncId(id.0.saturating_add(1))..).map(|(_, change)| change)
    }

    /// What a connection missed after `since`, at most two deltas a row, in order (protocol.md 9.7).
    pub(super) fn missed(
        &self,
        since: SyncId,
        organization: &str,
        view: &View,
        tenant: &Tenant,
        catalog: &Catalog,
    ) -> Vec<(SyncId, String)> {
        let mut spans: BTreeMap<(Slot, &Text), Span<'_>> = BTreeMap::new();
        for change in self.after(since).filter(|change| &*change.organization == organization) {
            let (before, after) = change.shown(view, catalog);
            let span = spans.entry((change.slot, &change.row)).or_insert_with(|| Span {
                first: change,
                last: change,
                known: before,
                seen: before || after,
                covered: None,
                emptied: BTreeSet::new(),
            });
            span.last = change;
            span.seen |= before || after;
            span.emptied.extend(change.emptied.iter().cloned());
            if matches!(change.verb, Verb::Insert | Verb::Restore) {
                span.covered = Some(change);
            }
        }
        let mut out = Vec::new();
        for ((slot, id), span) in spans {
            span.tell(tenant.get(slot, id), view, catalog, &mut out);
        }
        out.sort_by_key(|(id, _)| *id);
        out
    }

    /// Repeats a change that is visible at `head`, so that whoever starts from nothing ends up there (protocol.md 9.7).
    pub(super) fn repeat_at(
        &self,
        head: SyncId,
        last: SyncId,
        view: &View,
        tenant: &Tenant,
        catalog: &Catalog,
    ) -> Option<(SyncId, String)> {
        let change = self.changes.get(&last)?;
        let entry = catalog.entry(change.slot);
        let row = tenant.get(change.slot, &change.row).filter(|row| view.shows(entry, &change.row, &row.extra));
        let action = match row {
            None => Action::Delete,
            Some(row) if row.archived => Action::Archive,
            Some(_) => Action::Update,
        };
        Some((head, change.write_as(head, action, row.map(|row| &*row.text), &change.emptied, catalog)))
    }
}

/// What happened to one row in an interval.
struct Span<'a> {
    first: &'a Change,
    last: &'a Change,
    /// It was visible before the interval.
    known: bool,
    /// It was visible at some time in the interval, or before.
    seen: bool,
    /// The last change that made it (live) again.
    covered: Option<&'a Change>,
    emptied: BTreeSet<Text>,
}

impl Span<'_> {
    fn tell(&self, row: Option<&Row>, view: &View, catalog: &Catalog, out: &mut Vec<(SyncId, String)>) {
        let last = self.last;
        let entry = catalog.entry(last.slot);
        let Some(row) = row.filter(|row| view.shows(entry, &last.row, &row.extra)) else {
            if self.seen {
                out.push((last.id, last.write(Action::Delete, None, catalog)));
            }
            return;
        };
        let text = Some(&*row.text);
        if row.archived {
            out.push((last.id, last.write(Action::Archive, text, catalog)));
            return;
        }
        // A receiver that may lack the row gets it whole first; the update behind it serves those that have it.
        if let Some(cover) = self.covered {
            let fresh = cover.verb == Verb::Insert && cover.before.is_none() && !self.known;
            let action = if fresh { Action::Insert } else { Action::Cover };
            let at = if cover.id == last.id { self.first } else { cover };
            let at = if fresh { cover } else { at };
            out.push((at.id, at.write(action, text, catalog)));
            if at.id == last.id {
                return;
            }
        } else if !self.known {
            out.push((self.first.id, self.first.write(Action::Cover, text, catalog)));
            if self.first.id == last.id {
                return;
            }
        }
        let emptied: Vec<Text> = self.emptied.iter().cloned().collect();
        out.push((last.id, last.write_as(last.id, Action::Update, text, &emptied, catalog)));
    }
}
