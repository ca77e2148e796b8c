//! The text of rows: slices of shared chunks, and how much of each chunk is still in use.
//!
//! A bootstrap arrives as one text of many megabytes and its rows stay where they are; a row only holds the chunk and
//! its range. The price is that a chunk lives as long as its last row, so [`Chunks`] counts what is still used and
//! says when it pays to copy the survivors out. It deliberately does not know rows; [`super::Pool`] does the copying.

use std::cell::Cell;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// Text that nobody uses is tolerated up to this many bytes, however little of it is alive.
pub const DEAD_BYTES_MAX: usize = 1 << 20;
/// Survivors are copied into chunks of about this many bytes, so that the next copy moves little.
pub const COPY_CHUNK_BYTES: usize = 1 << 20;

/// A text that rows share, and how much of it they still use.
#[derive(Debug)]
pub struct Chunk {
    text: String,
    /// Bytes of rows of one pool.
    live: Cell<usize>,
}

impl Chunk {
    /// Takes a text in.
    pub fn new(text: String) -> Rc<Self> {
        Rc::new(Self { text, live: Cell::new(0) })
    }
}

impl Deref for Chunk {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// The JSON text of one row, as a range of a chunk that other rows may share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RowText {
    chunk: Rc<Chunk>,
    start: u32,
    end: u32,
}

impl RowText {
    /// A text of its own.
    pub fn own(mut text: String) -> Self {
        text.shrink_to_fit();
        let end = u32::try_from(text.len()).unwrap_or_default();
        Self { chunk: Chunk::new(text), start: 0, end }
    }

    /// The bytes `range` of `chunk`. A range that is no text of the chunk gives an empty one.
    pub fn slice(chunk: &Rc<Chunk>, range: Range<usize>) -> Self {
        let fits = chunk.is_char_boundary(range.start) && chunk.is_char_boundary(range.end);
        let (start, end) = match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) if fits && start <= end => (start, end),
            _ => (0, 0),
        };
        Self { chunk: Rc::clone(chunk), start, end }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.chunk.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The chunk, or `None` when the row is all there is in it.
    fn shared(&self) -> Option<&Chunk> {
        (self.len() < self.chunk.len()).then_some(&self.chunk)
    }
}

impl PartialEq for RowText {
    fn eq(&self, other: &Self) -> bool {
        let same = Rc::ptr_eq(&self.chunk, &other.chunk) && self.start == other.start && self.end == other.end;
        same || self.as_str() == other.as_str()
    }
}

/// What the rows of a pool hold in memory.
#[derive(Default)]
pub(super) struct Chunks {
    /// Bytes of all chunks that several rows share.
    total: usize,
    /// Bytes of rows in them.
    live: usize,
    /// Bytes of rows that have a chunk of their own.
    own: usize,
}

impl Chunks {
    /// Counts a row's text in.
    pub(super) fn add(&mut self, text: &RowText) {
        let Some(chunk) = text.shared() else {
            self.own += text.len();
            return;
        };
        self.live += text.len();
        if chunk.live.get() == 0 {
            self.total += chunk.len();
        }
        chunk.live.set(chunk.live.get() + text.len());
    }

    /// Counts a row's text out again.
    pub(super) fn sub(&mut self, text: &RowText) {
        let Some(chunk) = text.shared() else {
            self.own = self.own.saturating_sub(text.len());
            return;
        };
        self.live = self.live.saturating_sub(text.len());
        chunk.live.set(chunk.live.get().saturating_sub(text.len()));
        if chunk.live.get() == 0 {
            self.total = self.total.saturating_sub(chunk.len());
        }
    }

    /// Whether so much text is unused that copying the rest is worth it.
    pub(super) fn is_wasteful(&self) -> bool {
        let dead = self.total.saturating_sub(self.live);
        dead > DEAD_BYTES_MAX && dead > self.live
    }

    /// Whether this text should move out of its chunk: more than a quarter of the chunk is unused. Copying these, and
    /// not only the worst, keeps the next copy at least two thirds of the live bytes of changes away.
    pub(super) fn should_move(&self, text: &RowText) -> bool {
        text.shared().is_some_and(|chunk| chunk.len() - chunk.live.get() > chunk.len() / 4)
    }

    /// Bytes that the rows keep in memory.
    pub(super) fn held(&self) -> usize {
        self.total + self.own
    }

    /// Bytes of the rows themselves.
    pub(super) fn live(&self) -> usize {
        self.live + self.own
    }
}
