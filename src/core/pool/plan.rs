//! The columns of a table, and queries made ready to run on them.
//!
//! Columns appear when a query first names their field, all that a query lacks in one pass over the rows. Those that
//! no view needs are limited in number; the least recently used goes first. Deliberately keeps no results: see
//! [`super::view`].

use crate::core::sort::{numbers, sort_by};
use std::cmp::Ordering;

use super::column::{Cell, Column, Probe, Test, Texts};
use super::query::{Direction, Query, Scope};
use super::rows::{Rows, mark};
use super::scan::{Found, Locator};
use super::text::RowText;

/// Columns kept although no open view needs them.
pub const COLUMNS_IDLE_MAX: usize = 16;
/// With more rows than this to read, a few of them are looked at first to see what the strings begin with.
const SAMPLE: usize = 64;

/// A query made ready for the columns of one table.
pub(super) struct Plan {
    tests: Vec<Test>,
    /// Columns to sort by; true is descending.
    order: Vec<(usize, bool)>,
    scope: Scope,
    /// The window: places from `offset` up to `end`.
    pub(super) offset: usize,
    pub(super) end: usize,
}

/// The columns of one table.
pub(super) struct Columns {
    list: Vec<Column>,
    /// Finds the fields of `list`, in its order.
    locator: Locator,
    found: Vec<Option<Found>>,
    /// Plans made so far.
    plans: u64,
}

impl Columns {
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), locator: Locator::new(Vec::new()), found: Vec::new(), plans: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Makes a query ready, with the columns that it needs. No row may be dirty.
    pub(super) fn plan(&mut self, rows: &Rows, query: &Query) -> Plan {
        self.plans += 1;
        let known = self.list.len();
        let mut reused = Vec::new();
        let mut tests = Vec::new();
        for clause in &query.clauses {
            tests.push(Test::new(self.column(&clause.field, &mut reused), clause));
        }
        let mut order = Vec::new();
        for (field, direction) in &query.order {
            order.push((self.column(field, &mut reused), *direction == Direction::Descending));
        }
        for column in known..self.list.len() {
            reused.push(column as u32);
        }
        if !reused.is_empty() {
            let slots = numbers(rows.marks.len() as u32);
            let mut locator = self.make_locator(&reused);
            self.fill(rows, &mut locator, &reused, &slots);
            self.locator = self.make_locator(&self.all());
        }
        Plan { tests, order, scope: query.scope, offset: query.offset, end: query.end() }
    }

    /// Keeps a plan's columns until [`Columns::unpin`].
    pub(super) fn pin(&mut self, plan: &Plan) {
        for column in columns_of(plan) {
            if let Some(column) = self.list.get_mut(column as usize) {
                column.pins += 1;
            }
        }
    }

    pub(super) fn unpin(&mut self, plan: &Plan) {
        for column in columns_of(plan) {
            if let Some(column) = self.list.get_mut(column as usize) {
                column.pins = column.pins.saturating_sub(1);
            }
        }
    }

    /// Makes the cells of these rows anew.
    pub(super) fn refresh(&mut self, rows: &Rows, slots: &[u32]) {
        if self.list.is_empty() {
            return;
        }
        let all = self.all();
        let mut locator = std::mem::replace(&mut self.locator, Locator::new(Vec::new()));
        self.fill(rows, &mut locator, &all, slots);
        self.locator = locator;
    }

    /// What the plan's tests can know before they look at rows.
    pub(super) fn probes(&self, plan: &Plan) -> Vec<Option<Probe>> {
        let mut probes = Vec::with_capacity(plan.tests.len());
        for test in &plan.tests {
            probes.push(self.list.get(test.column).map(|column| test.probe(column)));
        }
        probes
    }

    /// Whether a row belongs to the plan's result.
    pub(super) fn matches(
        &self,
        marks: u8,
        plan: &Plan,
        probes: &[Option<Probe>],
        slot: u32,
        texts: &Texts<'_>,
    ) -> bool {
        let is_in_scope = match plan.scope {
            Scope::Live => marks & (mark::SHOWN | mark::ARCHIVED) == mark::SHOWN,
            Scope::Archived => marks & mark::ARCHIVED != 0,
            Scope::All => marks & mark::SHOWN != 0,
        };
        is_in_scope
            && plan.tests.iter().zip(probes).all(|(test, probe)| match (probe, self.list.get(test.column)) {
                (Some(probe), Some(column)) => test.passes(probe, column, slot as usize, texts),
                _ => false,
            })
    }

    /// Order of two rows in the plan's result. Only a row and itself are equal.
    fn compare(&self, rows: &Rows, plan: &Plan, a: u32, b: u32, texts: &Texts<'_>) -> Ordering {
        for &(column, is_descending) in &plan.order {
            let Some(column) = self.list.get(column) else { continue };
            let order = column.compare(a as usize, b as usize, is_descending, texts);
            if order != Ordering::Equal {
                return order;
            }
        }
        let seq = |slot: u32| rows.seqs.get(slot as usize).copied().unwrap_or(u32::MAX);
        (seq(a), a).cmp(&(seq(b), b))
    }

    /// Puts slots in the plan's order.
    pub(super) fn sort(&self, rows: &Rows, plan: &Plan, slots: &mut [u32]) {
        let texts = |slot| rows.settled_text(slot);
        sort_by(slots, &mut |a, b| self.compare(rows, plan, a, b, &texts));
    }

    /// All slots of the plan's result up to the end of its window, in order.
    pub(super) fn select(&self, rows: &Rows, plan: &Plan, end: usize) -> Vec<u32> {
        let texts = |slot| rows.settled_text(slot);
        let probes = self.probes(plan);
        let is_sorted = plan.order.is_empty() && rows.is_in_order;
        // With a limit only the best are kept: twice as many are collected, sorted and cut, again and again, and what
        // is worse than the last one kept is not collected any more.
        let room = end.saturating_mul(2).saturating_add(16);
        let mut picked: Vec<u32> = Vec::new();
        let mut worst = None;
        for (slot, &marks) in rows.marks.iter().enumerate() {
            let slot = slot as u32;
            if !self.matches(marks, plan, &probes, slot, &texts)
                || worst.is_some_and(|worst| self.compare(rows, plan, slot, worst, &texts) == Ordering::Greater)
            {
                continue;
            }
            picked.push(slot);
            if is_sorted && picked.len() == end {
                return picked;
            }
            if !is_sorted && picked.len() == room {
                self.sort(rows, plan, &mut picked);
                picked.truncate(end);
                worst = picked.last().copied();
            }
        }
        if !is_sorted {
            self.sort(rows, plan, &mut picked);
            picked.truncate(end);
        }
        picked
    }

    /// How many rows are in the plan's result, its window left aside.
    pub(super) fn count(&self, rows: &Rows, plan: &Plan) -> usize {
        let texts = |slot| rows.settled_text(slot);
        let probes = self.probes(plan);
        let slots = rows.marks.iter().zip(0_u32..);
        slots.filter(|&(&marks, slot)| self.matches(marks, plan, &probes, slot, &texts)).count()
    }

    /// Where `slot` is, or belongs, in `list`, which is in the plan's order but for the entry at `hole`. The place is
    /// counted without the hole.
    pub(super) fn place(&self, rows: &Rows, plan: &Plan, list: &[u32], hole: Option<usize>, slot: u32) -> usize {
        let texts = |slot| rows.settled_text(slot);
        let (mut low, mut high) = (0, list.len() - usize::from(hole.is_some()));
        while low < high {
            let middle = low + (high - low) / 2;
            let index = middle + usize::from(hole.is_some_and(|hole| middle >= hole));
            let Some(&other) = list.get(index) else { return low };
            if self.compare(rows, plan, other, slot, &texts) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Merges `added` into `list`, both in the plan's order: from the back, looking for each place in growing steps,
    /// since the places of few among many are far apart.
    pub(super) fn merge(&self, rows: &Rows, plan: &Plan, list: &mut Vec<u32>, added: &[u32]) {
        let texts = |slot| rows.settled_text(slot);
        let mut rest = list.len();
        list.resize(list.len() + added.len(), 0);
        for (before, &slot) in added.iter().enumerate().rev() {
            let is_after = |index: usize| {
                let other = list.get(index).copied().unwrap_or(slot);
                self.compare(rows, plan, other, slot, &texts) == Ordering::Greater
            };
            let (mut step, mut high) = (1, rest);
            while step <= high && is_after(high - step) {
                high -= step;
                step *= 2;
            }
            let mut low = high.saturating_sub(step);
            while low < high {
                let middle = low + (high - low) / 2;
                if is_after(middle) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            list.copy_within(low..rest, low + before + 1);
            if let Some(entry) = list.get_mut(low + before) {
                *entry = slot;
            }
            rest = low;
        }
    }

    /// The column of a field, new and still empty if need be; one that was taken over goes into `reused`.
    fn column(&mut self, field: &str, reused: &mut Vec<u32>) -> usize {
        let plans = self.plans;
        if let Some((index, column)) = self.list.iter_mut().enumerate().find(|(_, column)| column.name == field) {
            column.used = plans;
            return index;
        }
        let mut column = Column::new(field);
        column.used = plans;
        let idle = || self.list.iter().enumerate().filter(|(_, column)| column.pins == 0 && column.used < plans);
        if idle().count() >= COLUMNS_IDLE_MAX {
            let oldest = idle().min_by_key(|(_, column)| column.used).map(|(index, _)| index);
            if let Some((index, entry)) = oldest.and_then(|index| Some((index, self.list.get_mut(index)?))) {
                *entry = column;
                reused.push(index as u32);
                return index;
            }
        }
        self.list.push(column);
        self.list.len() - 1
    }

    fn all(&self) -> Vec<u32> {
        numbers(self.list.len() as u32)
    }

    fn make_locator(&self, targets: &[u32]) -> Locator {
        let mut names = Vec::with_capacity(targets.len());
        for &target in targets {
            names.push(self.list.get(target as usize).map_or_else(String::new, |column| column.name.clone()));
        }
        Locator::new(names)
    }

    /// Makes cells of `slots` in the columns `targets`, whose fields `locator` finds in that order.
    fn fill(&mut self, rows: &Rows, locator: &mut Locator, targets: &[u32], slots: &[u32]) {
        let mut found = std::mem::take(&mut self.found);
        if slots.len() > SAMPLE {
            for &slot in slots.iter().step_by(slots.len() / SAMPLE) {
                let Some(text) = rows.text(slot).map(RowText::as_str) else { continue };
                locator.locate(text, &mut found);
                for (&target, &found) in targets.iter().zip(&found) {
                    if let Some(column) = self.list.get_mut(target as usize) {
                        column.sample(found, text);
                    }
                }
            }
        }
        for &target in targets {
            if let Some(column) = self.list.get_mut(target as usize) {
                column.cells.resize(rows.marks.len(), Cell::MISSING);
            }
        }
        for &slot in slots {
            let text = rows.text(slot).map(RowText::as_str);
            match text {
                Some(text) => locator.locate(text, &mut found),
                None => found.fill(None),
            }
            for (&target, &found) in targets.iter().zip(&found) {
                let Some(column) = self.list.get_mut(target as usize) else { continue };
                let cell = column.cell(found, text.unwrap_or_default());
                if let Some(entry) = column.cells.get_mut(slot as usize) {
                    *entry = cell;
                }
            }
        }
        self.found = found;
        let texts = |slot| rows.settled_text(slot);
        for &target in targets {
            if let Some(column) = self.list.get_mut(target as usize) {
                column.renew_if_stale(&texts);
            }
        }
    }
}

fn columns_of(plan: &Plan) -> Vec<u32> {
    let mut columns = Vec::new();
    for test in &plan.tests {
        columns.push(test.column as u32);
    }
    for &(column, _) in &plan.order {
        columns.push(column as u32);
    }
    columns
}
