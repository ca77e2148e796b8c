//! Deltas and snapshots onto confirmed rows (protocol.md section 9, 4.5).
//!
//! Every delta is applied, in order, own echoes included; nothing is dropped but repeats. The cursor moves only over what
//! has been applied.

use super::Engine;
use crate::core::bug::{self, Bug};
use crate::core::error::Error;
use crate::core::id::{ModelIndex, RowId, SyncId};
use crate::core::json::{ObjectWriter, Value, merge};
use crate::core::pool::{self, RowRef, RowText};
use crate::core::queue::{self, RowKey};
use crate::core::schema::Load;
use crate::core::snapshot::Snapshot;
use crate::core::text::{concat, digits};
use crate::core::wire::{Action, Delta};

impl Engine {
    pub(super) fn apply_delta(&mut self, delta: &Delta<'_>) {
        if delta.id > SyncId(0) && delta.id <= self.cursor {
            return;
        }
        self.apply_change(delta);
        self.move_cursor(delta.id);
    }

    fn apply_change(&mut self, delta: &Delta<'_>) {
        if matches!(delta.action, Action::GroupAdded | Action::GroupRemoved) {
            self.apply_group_change(delta);
            return;
        }
        let Some(model) = self.config.schema.by_typename(&delta.model) else { return };
        let id = delta.row_id.as_ref();
        let slot = self.pool.find(model, id);
        let base = slot.and_then(|slot| self.pool.base(RowRef { model, slot })).map(|text| text.as_str());
        // A read through the server has brought the row in this state or a newer one: merging would mix the two. Whole
        // rows are taken all the same: in a catch-up they are newer than their id says (protocol.md 9.7).
        let whole = matches!(delta.action, Action::Insert | Action::Cover);
        let stamp = slot.map_or(SyncId(0), |slot| self.pool.stamp(RowRef { model, slot }));
        let past = delta.id > SyncId(0) && delta.id <= stamp && !bug::on(Bug::OldDeltaOverRead);
        if base.is_some() && past && !whole {
            return;
        }
        let data = delta.data.as_deref();
        let text = match delta.action {
            Action::Insert | Action::Cover => data.map(|data| full_row(data, id)),
            Action::Update => match (base, data) {
                (Some(base), Some(data)) => {
                    let row = merge(base, data);
                    Some(match &delta.empty_values {
                        Some(values) => merge(&row, values),
                        None => row,
                    })
                }
                (Some(base), None) => Some(base.to_owned()),
                (None, _) => {
                    self.handle_unknown_row(model, id, delta);
                    return;
                }
            },
            Action::Archive => {
                let row = data.map(|data| full_row(data, id)).or_else(|| base.map(str::to_owned));
                row.map(|row| if is_archived(&row) { row } else { with_archived(&row, Some(&self.now.wall.to_iso())) })
            }
            Action::Unarchive => {
                let row = match (base, data) {
                    (Some(base), Some(data)) => Some(merge(base, data)),
                    (Some(base), None) => Some(base.to_owned()),
                    (None, data) => data.map(|data| full_row(data, id)),
                };
                row.map(|row| with_archived(&row, None))
            }
            Action::Delete => None,
            Action::GroupAdded | Action::GroupRemoved => return,
        };
        match text {
            Some(text) => {
                self.pool.put_base(model, id, RowText::own(text), delta.id);
            }
            None if delta.action == Action::Delete => {
                if let Some(slot) = slot {
                    self.pool.remove_base(RowRef { model, slot });
                }
                self.reads.note_missed(model, id, delta.id, None);
            }
            None => {
                let message = concat(&["delta ", &digits(delta.id.0), " of ", &delta.model, " carries no row"]);
                self.report(&Error::wire("protocol_violation", message));
                self.repair("a delta carried no row");
                return;
            }
        }
        if bug::on(Bug::OverlayNotRecomputed) {
            return;
        }
        if bug::on(Bug::EchoOverPending) {
            self.pool.set_overlay(model, id, None);
            return;
        }
        self.refresh_overlay(model, id);
    }

    /// An update of a row that is not here. Rows that are loaded at start should be: it is fetched. Others are not
    /// wanted, unless a read under way is about to bring them.
    fn handle_unknown_row(&mut self, model: ModelIndex, id: &str, delta: &Delta<'_>) {
        let instant = self.config.schema.model(model).is_some_and(|model| model.load == Load::Instant);
        if instant && self.loads_rows() {
            self.reads.want_row(model, id);
        }
        self.reads.note_missed(model, id, delta.id, delta.data.as_deref());
    }

    fn apply_group_change(&mut self, delta: &Delta<'_>) {
        let change = delta.group_change();
        let removes = delta.action == Action::GroupRemoved || !change.removed.is_empty();
        let (mut added, mut removed) = (change.added, change.removed);
        match (delta.action, change.group) {
            (Action::GroupAdded, Some(group)) => added.push(group),
            (Action::GroupRemoved, Some(group)) => removed.push(group),
            _ => {}
        }
        if added.is_empty() && removed.is_empty() {
            return;
        }
        while let Some(index) = self.groups.iter().position(|group| removed.contains(group)) {
            self.groups.remove(index);
        }
        for group in &added {
            if !self.groups.contains(group) {
                self.groups.push(group.clone());
            }
        }
        // A group taken away, and the old form of either, brings no deltas for its rows: only a snapshot tells.
        let old_form = delta.action == Action::GroupAdded && (removes || added.len() > 1 || change_is_old(delta));
        if removes || old_form {
            // Rows that may no longer be seen must go at once.
            self.last_repair = None;
            self.repair("the participant's groups changed");
        }
    }

    pub(super) fn move_cursor(&mut self, id: SyncId) {
        self.cursor = self.cursor.max(id);
    }

    /// What follows from a batch of deltas: writes that they carry are done, missing rows are fetched.
    pub(super) fn after_deltas(&mut self) {
        let outcome = self.queue.handle_cursor(self.cursor);
        self.take_outcome(outcome);
        self.last_sync_at = Some(self.now.wall.0);
        self.fetch_wanted_rows();
    }

    /// Lays pending writes over a row whose confirmed text or pending writes moved.
    pub(super) fn refresh_overlay(&mut self, model: ModelIndex, id: &str) {
        let slot = self.pool.find(model, id);
        let laid = slot.is_some_and(|slot| self.pool.overlay(RowRef { model, slot }).is_some());
        if !laid && self.queue.pending_count() == 0 {
            return;
        }
        let key: RowKey = (model, RowId::from(id));
        if !laid && !self.queue.is_pending(&key) {
            return;
        }
        let base = slot.and_then(|slot| self.pool.base(RowRef { model, slot })).map(|text| text.as_str());
        let overlay = self.queue.overlay(&key, base).map(|overlay| match overlay {
            queue::Overlay::Shown(text) => pool::Overlay::Shown(RowText::own(text)),
            queue::Overlay::Hidden => pool::Overlay::Hidden,
        });
        self.pool.set_overlay(model, id, overlay);
    }

    /// Puts a snapshot in place of the confirmed rows of the models that it lists. Pending writes stay on top.
    pub(super) fn apply_snapshot(&mut self, snapshot: Snapshot) {
        let head = snapshot.last_sync_id;
        if let Some(deltas) = snapshot.deltas {
            for text in &deltas {
                match Delta::parse(text) {
                    Ok(delta) => self.apply_delta(&delta),
                    Err(bad) => self.report(&bad.error),
                }
            }
        }
        for listed in snapshot.models {
            let model = listed.model;
            self.pool.reserve(model, listed.rows.len());
            let mut present: Vec<bool> = Vec::new();
            for row in &listed.rows {
                let text = RowText::slice(&listed.chunk, row.at.clone());
                let slot = self.pool.put_base_scanned(model, row.id(&listed.chunk), text, row.archived, head);
                let index = slot.0 as usize;
                if index >= present.len() {
                    present.resize(index.saturating_add(1).max(listed.rows.len()), false);
                }
                if let Some(mark) = present.get_mut(index) {
                    *mark = true;
                }
            }
            // Rows that the snapshot does not have are gone; pending creates have no confirmed row to lose.
            let mut gone = Vec::new();
            for slot in self.pool.base_slots(model) {
                if !present.get(slot.0 as usize).copied().unwrap_or(false) && !bug::on(Bug::GhostsStay) {
                    gone.push(slot);
                }
            }
            for slot in gone {
                self.pool.remove_base(RowRef { model, slot });
            }
        }
        for (model, id) in self.queue.pending_rows() {
            if bug::on(Bug::SnapshotOverPending) {
                self.pool.set_overlay(model, id.as_str(), None);
                continue;
            }
            self.refresh_overlay(model, id.as_str());
        }
        self.rows_replaced();
        if snapshot.skipped > 0 {
            let skipped = snapshot.skipped as u64;
            self.event("sync:rows-skipped", &|payload| payload.u64("count", skipped));
        }
        self.cursor = if self.reset { head } else { self.cursor.max(head) };
        self.reset = false;
        // Rows that were read on demand, before the first snapshot too, may have missed changes.
        if self.loaded || !bug::on(Bug::FirstSnapshotForgetsReads) {
            self.refetch_on_demand();
        }
        self.resume_after_snapshot();
        self.become_ready();
        self.after_deltas();
    }
}

/// The old form of a group delta lists groups.
fn change_is_old(delta: &Delta<'_>) -> bool {
    delta.group_change().group.is_none()
}

/// A full row with its id in it: some servers leave it out of `data`.
fn full_row(data: &str, id: &str) -> String {
    let has_id = Value::known_object(data).get("id").and_then(Value::as_json_str);
    if has_id.is_some_and(|text| text.is(id)) {
        return data.to_owned();
    }
    let mut with_id = String::new();
    let mut object = ObjectWriter::new(&mut with_id);
    object.str("id", id);
    object.end();
    merge(data, &with_id)
}

fn is_archived(row: &str) -> bool {
    Value::known_object(row).get("archivedAt").is_some_and(|stamp| !stamp.is_null())
}

fn with_archived(row: &str, stamp: Option<&str>) -> String {
    let mut patch = String::new();
    let mut object = ObjectWriter::new(&mut patch);
    match stamp {
        Some(stamp) => object.str("archivedAt", stamp),
        None => object.raw("archivedAt", "null"),
    }
    object.end();
    merge(row, &patch)
}
