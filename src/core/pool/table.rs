//! One model's rows with their columns and views, and how these catch up with changes.
//!
//! A few changed rows are moved one by one: their old place is found by binary search with their old values, then
//! their cells are made anew, then their new place is found. Many are taken out of every view in one pass, sorted
//! among themselves and merged in. Deliberately the only place that knows rows, columns and views together.

use super::plan::Columns;
use super::query::{Query, Scope};
use super::rows::{Rows, mark};
use super::view::View;

/// Up to this many changed rows are moved one by one. A move shifts a part of every view's list, a merge reads and
/// writes all of it.
const FEW_MAX: usize = 16;

/// One model's table.
pub(super) struct Table {
    pub(super) rows: Rows,
    columns: Columns,
    /// In the order of their ids.
    pub(super) views: Vec<View>,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        Self { rows: Rows::new(seed), columns: Columns::new(), views: Vec::new() }
    }

    /// The window of a query's result.
    pub(super) fn query(&mut self, query: &Query) -> Vec<u32> {
        self.settle();
        let plan = self.columns.plan(&self.rows, query);
        self.track();
        let mut slots = self.columns.select(&self.rows, &plan, plan.end);
        slots.drain(..plan.offset.min(slots.len()));
        slots
    }

    /// The size of a query's result, its window left aside.
    pub(super) fn count(&mut self, query: &Query) -> usize {
        if query.clauses.is_empty() {
            return match query.scope {
                Scope::Live => self.rows.shown - self.rows.archived,
                Scope::Archived => self.rows.archived,
                Scope::All => self.rows.shown,
            };
        }
        self.settle();
        let plan = self.columns.plan(&self.rows, query);
        self.track();
        self.columns.count(&self.rows, &plan)
    }

    pub(super) fn open_view(&mut self, id: u32, query: &Query) {
        self.settle();
        let plan = self.columns.plan(&self.rows, query);
        self.columns.pin(&plan);
        let rows = self.columns.select(&self.rows, &plan, usize::MAX);
        self.views.push(View::new(id, plan, rows));
        self.track();
    }

    pub(super) fn close_view(&mut self, id: u32) {
        if let Some(index) = self.views.iter().position(|view| view.id == id) {
            let view = self.views.remove(index);
            self.columns.unpin(&view.plan);
            self.track();
        }
    }

    /// The view with this id, up to date.
    pub(super) fn view(&mut self, id: u32) -> Option<&mut View> {
        self.settle();
        self.views.iter_mut().find(|view| view.id == id)
    }

    /// Brings columns and views up to date with the rows.
    pub(super) fn settle(&mut self) {
        if self.rows.dirty.is_empty() {
            return;
        }
        self.rows.begin_settle();
        if self.rows.dirty.len() <= FEW_MAX {
            self.move_each();
        } else {
            self.merge_all();
        }
        self.rows.dirty.clear();
        // A bootstrap leaves room for as many changes as it has rows.
        self.rows.dirty.shrink_to(1024);
    }

    pub(super) fn column_count(&self) -> usize {
        self.columns.len()
    }

    fn track(&mut self) {
        self.rows.is_tracked = self.columns.len() > 0 || !self.views.is_empty();
    }

    fn move_each(&mut self) {
        let Self { rows, columns, views } = self;
        for index in 0..rows.dirty.len() {
            let Some(before) = rows.dirty.get(index) else { return };
            let (slot, was_shown) = (before.slot, before.text.is_some());
            for view in views.iter_mut().filter(|_| was_shown) {
                let place = columns.place(rows, &view.plan, &view.rows, None, slot);
                view.hole = Some(place).filter(|&place| view.rows.get(place) == Some(&slot));
            }
            rows.set_mark(slot, mark::DIRTY, false);
            columns.refresh(rows, &[slot]);
            let texts = |slot| rows.settled_text(slot);
            for view in views.iter_mut() {
                let probes = columns.probes(&view.plan);
                let is_in = columns.matches(rows.mark(slot), &view.plan, &probes, slot, &texts);
                let to = is_in.then(|| columns.place(rows, &view.plan, &view.rows, view.hole, slot));
                view.move_row(slot, to);
            }
        }
    }

    fn merge_all(&mut self) {
        let Self { rows, columns, views } = self;
        let is_dirty = |rows: &Rows, slot: u32| rows.mark(slot) & mark::DIRTY != 0;
        let mut windows: Vec<(Vec<u32>, bool)> = Vec::new();
        for view in views.iter_mut() {
            let window = view.window().to_vec();
            let is_changed = window.iter().any(|&slot| is_dirty(rows, slot));
            windows.push((window, is_changed));
            view.rows.retain(|&slot| !is_dirty(rows, slot));
        }
        let mut slots = Vec::with_capacity(rows.dirty.len());
        for before in &rows.dirty {
            slots.push(before.slot);
        }
        for &slot in &slots {
            rows.set_mark(slot, mark::DIRTY, false);
        }
        columns.refresh(rows, &slots);
        let texts = |slot| rows.settled_text(slot);
        for (view, (window, is_changed)) in views.iter_mut().zip(windows) {
            let probes = columns.probes(&view.plan);
            let mut added = Vec::new();
            for &slot in &slots {
                if columns.matches(rows.mark(slot), &view.plan, &probes, slot, &texts) {
                    added.push(slot);
                }
            }
            columns.sort(rows, &view.plan, &mut added);
            columns.merge(rows, &view.plan, &mut view.rows, &added);
            if is_changed || view.window() != window {
                view.reset();
            }
        }
    }
}
