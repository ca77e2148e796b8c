//! A query whose result is kept up to date, and what it tells of its window.
//!
//! A view holds all rows of its result, not only the window, so that a row which moves out of the window can be
//! replaced. Deliberately knows neither texts nor columns: [`super::table`] says where a row goes.

use super::plan::Plan;
use super::{Edit, Slot, ViewChange, slots};

/// Edits kept for one view until they are taken. With more of them the whole window is told.
pub const EDITS_MAX: usize = 64;

/// An open view.
pub(super) struct View {
    pub(super) id: u32,
    pub(super) plan: Plan,
    /// The result, in order.
    pub(super) rows: Vec<u32>,
    /// What changed since it was last taken, unless `is_reset`.
    edits: Vec<Edit>,
    is_reset: bool,
    /// Whether the window has changed since [`View::take_news`].
    has_news: bool,
    /// While a row moves: where it was in `rows`.
    pub(super) hole: Option<usize>,
}

impl View {
    pub(super) fn new(id: u32, plan: Plan, rows: Vec<u32>) -> Self {
        Self { id, plan, rows, edits: Vec::new(), is_reset: true, has_news: false, hole: None }
    }

    /// Moves `slot` from the hole, if there is one, to the place `to` as counted without it, or out.
    pub(super) fn move_row(&mut self, slot: u32, to: Option<usize>) {
        let from = self.hole.take();
        match (from, to) {
            (Some(from), Some(to)) => {
                if from < to {
                    self.rows.copy_within(from + 1..=to, from);
                } else {
                    self.rows.copy_within(to..from, to + 1);
                }
                if let Some(entry) = self.rows.get_mut(to) {
                    *entry = slot;
                }
            }
            (Some(from), None) => drop(self.rows.remove(from)),
            (None, Some(to)) => self.rows.insert(to, slot),
            (None, None) => return,
        }
        self.note(from, to);
    }

    /// Tells the window's listeners that a row moved. The window is a slice of the result, so a row that enters or
    /// leaves above it or inside of it pushes another one out or in.
    fn note(&mut self, from: Option<usize>, to: Option<usize>) {
        let (offset, end) = (self.plan.offset, self.plan.end);
        let len = self.rows.len();
        let len_before = len + usize::from(from.is_some()) - usize::from(to.is_some());
        let is_full_without = len - usize::from(to.is_some()) >= end;
        let out = from.filter(|&from| from < end && len_before > offset);
        let into = to.filter(|&to| to < end && len > offset);
        let insert = |place: usize| {
            let slot = self.rows.get(place).copied().unwrap_or(u32::MAX);
            Edit::Insert(place - offset, Slot(slot))
        };
        let edits = match (out, into) {
            (Some(from), Some(to)) if from.max(to) < offset => [None, None],
            (Some(from), Some(to)) if from == to => [Some(Edit::Change(from - offset)), None],
            (Some(from), Some(to)) => [Some(Edit::Remove(from.max(offset) - offset)), Some(insert(to.max(offset)))],
            (Some(from), None) => {
                [Some(Edit::Remove(from.max(offset) - offset)), is_full_without.then(|| insert(end - 1))]
            }
            (None, Some(to)) => [is_full_without.then(|| Edit::Remove(end - 1 - offset)), Some(insert(to.max(offset)))],
            (None, None) => [None, None],
        };
        for edit in edits.into_iter().flatten() {
            self.has_news = true;
            if self.edits.len() == EDITS_MAX {
                self.is_reset = true;
            }
            if !self.is_reset {
                self.edits.push(edit);
            }
        }
    }

    /// Forgets the edits: the whole window is to be told.
    pub(super) fn reset(&mut self) {
        self.has_news = true;
        self.is_reset = true;
        self.edits = Vec::new();
    }

    pub(super) fn take_change(&mut self) -> ViewChange {
        let edits = std::mem::take(&mut self.edits);
        if std::mem::take(&mut self.is_reset) {
            ViewChange::Reset(slots(self.window()))
        } else if edits.is_empty() {
            ViewChange::None
        } else {
            ViewChange::Edits(edits)
        }
    }

    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// The part of the result that is asked for.
    pub(super) fn window(&self) -> &[u32] {
        let end = self.plan.end.min(self.rows.len());
        self.rows.get(self.plan.offset..end).unwrap_or_default()
    }
}
