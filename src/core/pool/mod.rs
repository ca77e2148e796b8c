//! Rows in memory (skeleton: bodies follow).

mod hash;
mod query;
mod text;

pub use query::{Direction, ORDER_MAX, Query, Scope};
pub use text::{COPY_CHUNK_BYTES, DEAD_BYTES_MAX, RowText};

use super::id::{ModelIndex, SyncId};
use super::schema::Schema;

/// A row's place in its table: stable while the row exists, used again some time after it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// No row: what a pool answers for a model that it does not have.
    pub const NONE: Self = Self(u32::MAX);
}

/// A row of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// Its table.
    pub model: ModelIndex,
    /// Its place there.
    pub slot: Slot,
}

/// What the write queue lays over a confirmed row.
#[derive(Clone, Debug, PartialEq)]
pub enum Overlay {
    /// The row with the pending operations applied.
    Shown(RowText),
    /// A pending delete.
    Hidden,
}

/// An open view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u32);

/// One step from a view's previous window to its next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The row at this place is gone.
    Remove(usize),
    /// A row comes in at this place.
    Insert(usize, Slot),
    /// The row at this place has another text.
    Change(usize),
}

/// What has become of a view's window since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewChange {
    /// Nothing.
    None,
    /// Too much to tell: the window is now this.
    Reset(Vec<Slot>),
    /// These steps, to be applied in order to the previous window.
    Edits(Vec<Edit>),
}

/// What has become of one model's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChanges {
    /// The model.
    pub model: ModelIndex,
    /// Counts up with every set of changes. What was computed at another version is stale.
    pub version: u32,
    /// Seen rows that changed: `slot << 1`, plus 1 when the row is gone.
    pub rows: Vec<u32>,
}

/// What has become of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Models of which a row changed, in the schema's order.
    pub models: Vec<ModelChanges>,
    /// Views of which the window changed, oldest first.
    pub views: Vec<ViewId>,
}

/// Sizes, for reports and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows that readers see.
    pub rows: usize,
    /// Bytes of text that rows keep in memory.
    pub held_bytes: usize,
    /// Bytes of rows themselves.
    pub live_bytes: usize,
    /// Columns built.
    pub columns: usize,
    /// Open views.
    pub views: usize,
}

/// All rows of all models.
pub struct Pool {}

#[expect(unused_variables, clippy::unused_self, clippy::needless_pass_by_value, reason = "skeleton")]
#[expect(missing_docs, reason = "skeleton")]
impl Pool {
    pub fn new(schema: &Schema, seed: u64) -> Self {
        Self {}
    }
    pub fn find(&self, model: ModelIndex, id: &str) -> Option<Slot> {
        None
    }
    pub fn id(&self, row: RowRef) -> Option<&str> {
        None
    }
    pub fn base(&self, row: RowRef) -> Option<&RowText> {
        None
    }
    pub fn overlay(&self, row: RowRef) -> Option<&Overlay> {
        None
    }
    pub fn stamp(&self, row: RowRef) -> SyncId {
        SyncId(0)
    }
    pub fn text(&self, row: RowRef) -> Option<&RowText> {
        None
    }
    pub fn version(&self, model: ModelIndex) -> u32 {
        0
    }
    pub fn put_base(&mut self, model: ModelIndex, id: &str, text: RowText, stamp: SyncId) -> Slot {
        Slot::NONE
    }
    pub fn put_base_scanned(
        &mut self,
        model: ModelIndex,
        id: &str,
        text: RowText,
        archived: bool,
        stamp: SyncId,
    ) -> Slot {
        Slot::NONE
    }
    pub fn remove_base(&mut self, row: RowRef) {}
    pub fn set_overlay(&mut self, model: ModelIndex, id: &str, overlay: Option<Overlay>) -> Option<Slot> {
        None
    }
    pub fn base_slots(&self, model: ModelIndex) -> impl Iterator<Item = Slot> + '_ {
        std::iter::empty()
    }
    pub fn reserve(&mut self, model: ModelIndex, additional: usize) {}
    pub fn clear(&mut self) {}
    pub fn query(&mut self, model: ModelIndex, query: &Query) -> Vec<Slot> {
        Vec::new()
    }
    pub fn count(&mut self, model: ModelIndex, query: &Query) -> usize {
        0
    }
    pub fn open_view(&mut self, model: ModelIndex, query: Query) -> ViewId {
        ViewId(0)
    }
    pub fn close_view(&mut self, view: ViewId) {}
    pub fn view_rows(&mut self, view: ViewId) -> Vec<Slot> {
        Vec::new()
    }
    pub fn take_view_change(&mut self, view: ViewId) -> ViewChange {
        ViewChange::None
    }
    pub fn write_rows(&mut self, model: ModelIndex, slots: &[Slot], out: &mut String) {}
    pub fn take_changes(&mut self) -> Changes {
        Changes::default()
    }
    pub fn settle(&mut self) {}
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
