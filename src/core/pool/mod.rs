//! Rows in memory: what the server confirmed, what the write queue lays over it, and queries and views of both.
//!
//! Each model has a table. A row has a confirmed **base** text and perhaps an **overlay**; readers see the overlay if
//! there is one, else the base, and a row with neither is gone. Rows stay JSON text; typed columns are built of the
//! fields that queries name. Everything that changes is reported once, by [`Pool::take_changes`], and a row whose text
//! is the same as before has not changed. Deliberately without I/O, time and merging: the engine brings finished texts.
//!
//! Reading order: `rows` (the store), `text` (who holds what memory), `scan` and `column` (from text to cells), `plan`
//! (queries), `view`, `table` (how they catch up), `stored` (rows on the device).

mod column;
mod plan;
mod query;
mod rows;
mod scan;
mod stored;
mod table;
mod text;
mod view;

#[cfg(test)]
mod tests;

pub use plan::COLUMNS_IDLE_MAX;
pub use query::{Direction, ORDER_MAX, Query, Scope};
pub use rows::ROWS_MAX;
pub use scan::{SHAPE_MEMBERS_MAX, SHAPES_MAX};
pub use text::{COPY_CHUNK_BYTES, Chunk, DEAD_BYTES_MAX, RowText};
pub use view::EDITS_MAX;

use super::id::{ModelIndex, SyncId};
use super::schema::Schema;
use crate::core::sort::sort_by;
use rows::{Pack, Rows};
use table::Table;
use text::Chunks;
use view::View;

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
///
/// ```
/// use ablo_wasm::core::id::{ModelIndex, SyncId};
/// use ablo_wasm::core::json::Value;
/// use ablo_wasm::core::pool::{Overlay, Pool, Query, RowRef, RowText};
/// use ablo_wasm::core::schema::Schema;
///
/// let schema = Schema::parse(r#"{"v":3,"models":{"tasks":{"typename":"Task"}}}"#)?;
/// let tasks = ModelIndex(0);
/// let mut pool = Pool::new(&schema, 7);
/// let slot = pool.put_base(tasks, "t1", RowText::own(r#"{"id":"t1","rank":1}"#.into()), SyncId(4));
/// pool.set_overlay(tasks, "t1", Some(Overlay::Shown(RowText::own(r#"{"id":"t1","rank":2}"#.into()))));
///
/// let query = Query::parse(Value::parse(r#"{"where":{"rank":2}}"#).unwrap())?;
/// let rows = pool.query(tasks, &query);
/// let mut text = String::new();
/// pool.write_rows(tasks, &rows, &mut text);
/// assert_eq!(text, r#"[{"id":"t1","rank":2}]"#);
///
/// pool.set_overlay(tasks, "t1", None);
/// assert_eq!(pool.take_changes().models[0].rows, [slot.0 << 1]);
/// assert_eq!(pool.text(RowRef { model: tasks, slot }).unwrap().as_str(), r#"{"id":"t1","rank":1}"#);
/// # Ok::<(), ablo_wasm::core::error::Error>(())
/// ```
pub struct Pool {
    tables: Vec<Table>,
    chunks: Chunks,
    /// Open views with their models, in the order of their ids.
    views: Vec<(u32, ModelIndex)>,
    next_view: u32,
}

impl Pool {
    /// An empty pool. `seed` goes into the hashes of ids and nothing else.
    pub fn new(schema: &Schema, seed: u64) -> Self {
        let mut tables = Vec::with_capacity(schema.models.len());
        for _ in &schema.models {
            tables.push(Table::new(seed));
        }
        Self { tables, chunks: Chunks::default(), views: Vec::new(), next_view: 0 }
    }

    /// Sets a row's confirmed text, the result of change `stamp`.
    pub fn put_base(&mut self, model: ModelIndex, id: &str, text: RowText, stamp: SyncId) -> Slot {
        self.put(model, id, text, None, stamp)
    }

    /// As [`Pool::put_base`], for a caller who has read the row and knows whether it is archived.
    pub fn put_base_scanned(
        &mut self,
        model: ModelIndex,
        id: &str,
        text: RowText,
        archived: bool,
        stamp: SyncId,
    ) -> Slot {
        self.put(model, id, text, Some(archived), stamp)
    }

    fn put(&mut self, model: ModelIndex, id: &str, text: RowText, archived: Option<bool>, stamp: SyncId) -> Slot {
        let Some(table) = self.tables.get_mut(usize::from(model.0)) else { return Slot::NONE };
        table.rows.put_base(&mut self.chunks, id, text, archived, stamp)
    }

    /// Takes a row's confirmed text away. Without an overlay the row is gone.
    pub fn remove_base(&mut self, row: RowRef) {
        if let Some(table) = self.tables.get_mut(usize::from(row.model.0)) {
            table.rows.remove_base(&mut self.chunks, row.slot.0);
        }
    }

    /// Lays what the write queue makes of a row over it, or takes that away. The row's slot, if there is a row
    /// afterwards.
    pub fn set_overlay(&mut self, model: ModelIndex, id: &str, overlay: Option<Overlay>) -> Option<Slot> {
        self.tables.get_mut(usize::from(model.0))?.rows.set_overlay(&mut self.chunks, id, overlay)
    }

    /// Makes room for rows to come.
    pub fn reserve(&mut self, model: ModelIndex, additional: usize) {
        if let Some(table) = self.tables.get_mut(usize::from(model.0)) {
            table.rows.reserve(additional);
        }
    }

    /// Takes all rows away, overlays included. Views stay open, and see it.
    pub fn clear(&mut self) {
        for table in &mut self.tables {
            table.rows.clear(&mut self.chunks);
        }
    }

    /// The rows that a query asks for.
    pub fn query(&mut self, model: ModelIndex, query: &Query) -> Vec<Slot> {
        slots(&self.table_mut(model).map(|table| table.query(query)).unwrap_or_default())
    }

    /// How many rows meet a query's conditions; its window does not matter.
    pub fn count(&mut self, model: ModelIndex, query: &Query) -> usize {
        self.table_mut(model).map_or(0, |table| table.count(query))
    }

    /// Keeps a query's result up to date until [`Pool::close_view`].
    pub fn open_view(&mut self, model: ModelIndex, query: &Query) -> ViewId {
        let id = self.next_view;
        self.next_view = self.next_view.wrapping_add(1);
        if let Some(table) = self.table_mut(model) {
            table.open_view(id, query);
            self.views.push((id, model));
        }
        ViewId(id)
    }

    /// Forgets a view.
    pub fn close_view(&mut self, view: ViewId) {
        let Some(index) = self.views.iter().position(|&(id, _)| id == view.0) else { return };
        let (id, model) = self.views.remove(index);
        if let Some(table) = self.table_mut(model) {
            table.close_view(id);
        }
    }

    /// A view's window as it is now. This does not count as taking its changes.
    pub fn view_rows(&mut self, view: ViewId) -> Vec<Slot> {
        self.view_mut(view).map(|view| slots(view.window())).unwrap_or_default()
    }

    /// What has become of a view's window since this was last called, or since the view was opened.
    pub fn take_view_change(&mut self, view: ViewId) -> ViewChange {
        self.view_mut(view).map_or(ViewChange::None, View::take_change)
    }

    /// Writes rows as a JSON array, `null` for those that readers do not see, and remembers that they were seen.
    pub fn write_rows(&mut self, model: ModelIndex, slots: &[Slot], out: &mut String) {
        out.push('[');
        if let Some(table) = self.tables.get_mut(usize::from(model.0)) {
            table.settle();
            out.reserve(slots.iter().map(|slot| table.rows.text(slot.0).map_or(5, |text| text.len() + 1)).sum());
            for (index, slot) in slots.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                match table.rows.text(slot.0).filter(|text| !text.is_empty()) {
                    Some(text) => {
                        out.push_str(text.as_str());
                        table.rows.mark_seen(slot.0);
                    }
                    None => out.push_str("null"),
                }
            }
        }
        out.push(']');
    }

    /// Settles, and tells what has changed since this was last called. To be called once per turn: until then slots
    /// of rows that are gone are not used again, and a row that comes back gets its old one.
    pub fn take_changes(&mut self) -> Changes {
        self.settle();
        let mut changes = Changes::default();
        let mut news = Vec::new();
        for (index, table) in self.tables.iter_mut().enumerate() {
            if let Some((version, rows)) = table.rows.take_changes(&mut self.chunks) {
                changes.models.push(ModelChanges { model: ModelIndex(index as u16), version, rows });
            }
            for view in &mut table.views {
                if view.take_news() {
                    news.push(view.id);
                }
            }
        }
        sort_by(&mut news, &mut |a, b| a.cmp(&b));
        for view in news {
            changes.views.push(ViewId(view));
        }
        changes
    }

    /// Brings columns and views up to date with the rows, and copies rows out of chunks that are mostly unused.
    pub fn settle(&mut self) {
        for table in &mut self.tables {
            table.settle();
        }
        if self.chunks.is_wasteful() {
            let mut pack = Pack::default();
            for table in &mut self.tables {
                table.rows.compact(&mut self.chunks, &mut pack);
            }
        }
    }

    /// The row with this id, whether readers see it or not.
    pub fn find(&self, model: ModelIndex, id: &str) -> Option<Slot> {
        self.rows(model)?.find(id)
    }

    /// A row's id.
    pub fn id(&self, row: RowRef) -> Option<&str> {
        self.rows(row.model)?.id(row.slot.0)
    }

    /// A row's confirmed text.
    pub fn base(&self, row: RowRef) -> Option<&RowText> {
        self.rows(row.model)?.base(row.slot.0)
    }

    /// The change whose result a row's confirmed text is.
    pub fn stamp(&self, row: RowRef) -> SyncId {
        self.rows(row.model).map_or(SyncId(0), |rows| rows.stamp(row.slot.0))
    }

    /// What the write queue has laid over a row.
    pub fn overlay(&self, row: RowRef) -> Option<&Overlay> {
        self.rows(row.model)?.overlay(row.slot.0)
    }

    /// What readers see of a row: its overlay if it has one, else its confirmed text.
    pub fn text(&self, row: RowRef) -> Option<&RowText> {
        self.rows(row.model)?.text(row.slot.0)
    }

    /// A model's version: the one of its last [`ModelChanges`].
    pub fn version(&self, model: ModelIndex) -> u32 {
        self.rows(model).map_or(0, |rows| rows.version)
    }

    /// All rows that have a confirmed text, by slot.
    pub fn base_slots(&self, model: ModelIndex) -> impl Iterator<Item = Slot> + '_ {
        let marks = self.rows(model).map_or(&[][..], |rows| rows.marks.as_slice());
        (0..).zip(marks).filter(|(_, marks)| **marks & rows::mark::BASE != 0).map(|(slot, _)| Slot(slot))
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            rows: self.tables.iter().map(|table| table.rows.shown).sum(),
            held_bytes: self.chunks.held(),
            live_bytes: self.chunks.live(),
            columns: self.tables.iter().map(Table::column_count).sum(),
            views: self.views.len(),
        }
    }

    fn rows(&self, model: ModelIndex) -> Option<&Rows> {
        self.tables.get(usize::from(model.0)).map(|table| &table.rows)
    }

    fn table_mut(&mut self, model: ModelIndex) -> Option<&mut Table> {
        self.tables.get_mut(usize::from(model.0))
    }

    fn view_mut(&mut self, view: ViewId) -> Option<&mut View> {
        let (id, model) = self.views.iter().copied().find(|&(id, _)| id == view.0)?;
        self.table_mut(model)?.view(id)
    }
}

fn slots(numbers: &[u32]) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(numbers.len());
    for &number in numbers {
        slots.push(Slot(number));
    }
    slots
}
