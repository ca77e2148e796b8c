//! The rows of one model: their texts, ids and state, and which of them have changed.
//!
//! Changes are noted twice. `dirty` holds what columns and views have not caught up with, `touched` what JavaScript has
//! seen and must forget; both keep the earlier text, so that a row that changed and changed back is no change.
//! Deliberately without queries: see [`super::table`].

use super::scan::{Found, Locator};
use super::text::{Chunk, Chunks, RowText};
use super::{Overlay, Slot};
use crate::core::id::SyncId;
use crate::core::index::{Index, hash_id};
use crate::core::json::Kind;

/// Most rows in one table: a slot and one bit more fit 32 bits. Rows beyond are not taken in.
pub const ROWS_MAX: usize = 1 << 31;

/// What is known of a row, as bits of [`Rows::marks`].
pub(super) mod mark {
    /// It has a confirmed text.
    pub(in super::super) const BASE: u8 = 1;
    /// Readers see it.
    pub(in super::super) const SHOWN: u8 = 2;
    /// What readers see is archived.
    pub(in super::super) const ARCHIVED: u8 = 4;
    /// Its confirmed text is archived.
    pub(in super::super) const BASE_ARCHIVED: u8 = 8;
    /// JavaScript has its text.
    pub(in super::super) const SEEN: u8 = 16;
    /// It is in `dirty`.
    pub(in super::super) const DIRTY: u8 = 32;
    /// It is in `touched`.
    pub(in super::super) const TOUCHED: u8 = 64;
    /// The slot is taken, by a row or by one that is gone but may still come back.
    pub(in super::super) const TAKEN: u8 = 128;
}
use mark::{ARCHIVED, BASE, BASE_ARCHIVED, DIRTY, SEEN, SHOWN, TAKEN, TOUCHED};

/// One row. What a scan over all rows looks at is not here but in [`Rows::marks`].
struct Row {
    /// The confirmed text when marked `BASE`; otherwise at most a text kept because the id is read from it.
    base: Option<RowText>,
    extra: Option<Box<Extra>>,
    stamp: SyncId,
    /// Where the id is in `base`, unless `extra` has it.
    id_at: u32,
    id_len: u32,
}

/// What few rows have.
#[derive(Default)]
struct Extra {
    overlay: Option<Overlay>,
    id: Option<Box<str>>,
}

impl Row {
    fn overlay(&self) -> Option<&Overlay> {
        self.extra.as_ref()?.overlay.as_ref()
    }

    fn id(&self) -> &str {
        if let Some(id) = self.extra.as_ref().and_then(|extra| extra.id.as_deref()) {
            return id;
        }
        let at = self.id_at as usize;
        self.base.as_ref().and_then(|text| text.as_str().get(at..at + self.id_len as usize)).unwrap_or_default()
    }
}

/// A row that changed: what readers saw before.
pub(super) struct Before {
    pub(super) slot: u32,
    pub(super) text: Option<RowText>,
}

/// The rows of one model.
pub(super) struct Rows {
    seed: u64,
    rows: Vec<Row>,
    /// By slot.
    pub(super) marks: Vec<u8>,
    /// By slot: when the row came, in the order of the table.
    pub(super) seqs: Vec<u32>,
    /// Every taken slot.
    ids: Index,
    next_seq: u32,
    /// Whether slots ascend in the order in which their rows came.
    pub(super) is_in_order: bool,
    /// Slots to be used again.
    free: Vec<u32>,
    /// Slots whose row may be gone.
    gone: Vec<u32>,
    /// Whether somebody wants to know of all changes, and not only of those to rows that were seen.
    pub(super) is_tracked: bool,
    pub(super) dirty: Vec<Before>,
    touched: Vec<Before>,
    /// Whether anything changed since the last [`Rows::take_changes`].
    has_changed: bool,
    pub(super) version: u32,
    /// Rows that readers see, and how many of them are archived.
    pub(super) shown: usize,
    pub(super) archived: usize,
    /// Finds `archivedAt`.
    locator: Locator,
    found: Vec<Option<Found>>,
    /// Where the last id was in its text: the next one will be there too.
    id_hint: usize,
}

impl Rows {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rows: Vec::new(),
            marks: Vec::new(),
            seqs: Vec::new(),
            ids: Index::default(),
            next_seq: 0,
            is_in_order: true,
            free: Vec::new(),
            gone: Vec::new(),
            is_tracked: false,
            dirty: Vec::new(),
            touched: Vec::new(),
            has_changed: false,
            version: 0,
            shown: 0,
            archived: 0,
            locator: Locator::new(vec!["archivedAt".to_owned()]),
            found: Vec::new(),
            id_hint: 0,
        }
    }

    pub(super) fn reserve(&mut self, additional: usize) {
        let additional = additional.min(ROWS_MAX - self.rows.len().min(ROWS_MAX));
        self.rows.reserve(additional);
        self.marks.reserve(additional);
        self.seqs.reserve(additional);
        self.ids.reserve(additional);
    }

    /// Sets the confirmed text. `archived`: `None` when the text has not been looked at.
    pub(super) fn put_base(
        &mut self,
        chunks: &mut Chunks,
        id: &str,
        text: RowText,
        archived: Option<bool>,
        stamp: SyncId,
    ) -> Slot {
        let hash = hash_id(self.seed, id);
        let Some(slot) = self.slot_for(hash, id) else { return Slot::NONE };
        let index = slot as usize;
        let marks = self.mark(slot);
        let Some(row) = self.rows.get_mut(index) else { return Slot::NONE };
        row.stamp = stamp;
        if marks & BASE != 0 && row.base.as_ref() == Some(&text) {
            return Slot(slot);
        }
        let is_overlaid = row.overlay().is_some();
        let archived = archived.unwrap_or_else(|| self.is_archived(&text));
        // A row that came back unchanged looks as it did, but it does look again.
        if !is_overlaid {
            self.note_change(slot);
        }
        let id_at = find_id(text.as_str(), id, self.id_hint);
        self.id_hint = id_at.unwrap_or(self.id_hint);
        chunks.add(&text);
        let Some(row) = self.rows.get_mut(index) else { return Slot::NONE };
        row.set_id(id, id_at);
        if let Some(old) = row.base.replace(text) {
            chunks.sub(&old);
        }
        if let Some(marks) = self.marks.get_mut(index) {
            *marks = (*marks | BASE) & !BASE_ARCHIVED | if archived { BASE_ARCHIVED } else { 0 };
        }
        if !is_overlaid {
            self.show(slot, true, archived);
        }
        Slot(slot)
    }

    pub(super) fn remove_base(&mut self, chunks: &mut Chunks, slot: u32) {
        if self.mark(slot) & BASE == 0 {
            return;
        }
        let is_overlaid = self.overlay(slot).is_some();
        if !is_overlaid {
            self.note_change(slot);
            self.show(slot, false, false);
            self.gone.push(slot);
        }
        self.set_mark(slot, BASE, false);
        let Some(row) = self.rows.get_mut(slot as usize) else { return };
        row.stamp = SyncId(0);
        // A row that is gone keeps its text until it is forgotten, for the id in it.
        if is_overlaid {
            let id = row.id().to_owned();
            row.set_id(&id, None);
            if let Some(old) = row.base.take() {
                chunks.sub(&old);
            }
        }
    }

    /// Lays an overlay over a row, or takes it away. The slot, if there is a row afterwards.
    pub(super) fn set_overlay(&mut self, chunks: &mut Chunks, id: &str, overlay: Option<Overlay>) -> Option<Slot> {
        let hash = hash_id(self.seed, id);
        let known = self.lookup(hash, id);
        let slot = match known {
            Some(slot) => slot,
            None if overlay.is_none() => return None,
            None => self.slot_for(hash, id)?,
        };
        let index = slot as usize;
        if known.is_none() {
            self.rows.get_mut(index)?.set_id(id, None);
        }
        let has_base = self.mark(slot) & BASE != 0;
        let before = self.text(slot);
        let after = match &overlay {
            Some(Overlay::Shown(text)) => Some(text),
            Some(Overlay::Hidden) => None,
            None => self.rows.get(index)?.base.as_ref().filter(|_| has_base),
        };
        let is_same = before == after;
        let is_shown = after.is_some();
        let is_archived = match &overlay {
            Some(Overlay::Shown(text)) => {
                let text = text.clone();
                self.is_archived(&text)
            }
            Some(Overlay::Hidden) => false,
            None => self.mark(slot) & BASE_ARCHIVED != 0,
        };
        if !is_same {
            self.note_change(slot);
        }
        if let Some(Overlay::Shown(text)) = &overlay {
            chunks.add(text);
        }
        let row = self.rows.get_mut(index)?;
        let exists = has_base || overlay.is_some();
        let old = match overlay {
            Some(overlay) => row.extra.get_or_insert_default().overlay.replace(overlay),
            None => row.extra.as_mut().and_then(|extra| extra.overlay.take()),
        };
        if row.extra.as_ref().is_some_and(|extra| extra.overlay.is_none() && extra.id.is_none()) {
            row.extra = None;
        }
        if let Some(Overlay::Shown(text)) = old {
            chunks.sub(&text);
        }
        self.show(slot, is_shown, is_archived);
        if !exists {
            self.gone.push(slot);
        }
        exists.then_some(Slot(slot))
    }

    /// Takes everything away.
    pub(super) fn clear(&mut self, chunks: &mut Chunks) {
        for slot in 0..self.rows.len() as u32 {
            if self.overlay(slot).is_some() {
                let id = self.id(slot).unwrap_or_default().to_owned();
                self.set_overlay(chunks, &id, None);
            }
            self.remove_base(chunks, slot);
        }
    }

    /// Remembers that JavaScript has the row's text.
    pub(super) fn mark_seen(&mut self, slot: u32) {
        self.set_mark(slot, SEEN, true);
    }

    /// Drops from `dirty` what did not change after all, and notes the rest for JavaScript.
    pub(super) fn begin_settle(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|before| {
            let is_real = self.text(before.slot) != before.text.as_ref();
            if !is_real {
                self.set_mark(before.slot, DIRTY, false);
            }
            is_real
        });
        self.has_changed |= !dirty.is_empty();
        for before in &dirty {
            if self.mark(before.slot) & (SEEN | TOUCHED) == SEEN {
                self.set_mark(before.slot, TOUCHED, true);
                self.touched.push(Before { slot: before.slot, text: before.text.clone() });
            }
        }
        self.dirty = dirty;
    }

    /// The next version if anything changed, and the seen rows that did. Forgets rows that are gone.
    pub(super) fn take_changes(&mut self, chunks: &mut Chunks) -> Option<(u32, Vec<u32>)> {
        for slot in std::mem::take(&mut self.gone) {
            self.forget(chunks, slot);
        }
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        self.version = self.version.wrapping_add(1);
        let mut slots = Vec::new();
        for before in std::mem::take(&mut self.touched) {
            self.set_mark(before.slot, TOUCHED, false);
            let text = self.text(before.slot);
            if text != before.text.as_ref() {
                slots.push(before.slot << 1 | u32::from(text.is_none()));
                self.set_mark(before.slot, SEEN, false);
            }
        }
        Some((self.version, slots))
    }

    /// Moves texts out of chunks that are mostly unused, into `pack`.
    pub(super) fn compact(&mut self, chunks: &mut Chunks, pack: &mut Pack) {
        for slot in 0..self.rows.len() as u32 {
            let Some(row) = self.rows.get(slot as usize) else { continue };
            let base = row.base.as_ref();
            let over = row.overlay().and_then(|overlay| match overlay {
                Overlay::Shown(text) => Some(text),
                Overlay::Hidden => None,
            });
            for (text, is_overlay) in [(base, false), (over, true)] {
                if let Some(text) = text.filter(|text| chunks.should_move(text)) {
                    pack.push(slot, is_overlay, text);
                }
            }
            if pack.is_full() {
                self.unpack(chunks, pack);
            }
        }
        self.unpack(chunks, pack);
    }

    fn unpack(&mut self, chunks: &mut Chunks, pack: &mut Pack) {
        for (slot, is_overlay, text) in pack.take() {
            let Some(row) = self.rows.get_mut(slot as usize) else { continue };
            chunks.add(&text);
            let old = if is_overlay {
                let overlay = row.extra.as_mut().and_then(|extra| extra.overlay.replace(Overlay::Shown(text)));
                match overlay {
                    Some(Overlay::Shown(text)) => Some(text),
                    Some(Overlay::Hidden) | None => None,
                }
            } else {
                row.base.replace(text)
            };
            if let Some(old) = old {
                chunks.sub(&old);
            }
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<Slot> {
        self.lookup(hash_id(self.seed, id), id).filter(|&slot| self.exists(slot)).map(Slot)
    }

    pub(super) fn id(&self, slot: u32) -> Option<&str> {
        self.row(slot).map(Row::id)
    }

    pub(super) fn stamp(&self, slot: u32) -> SyncId {
        self.row(slot).map_or(SyncId(0), |row| row.stamp)
    }

    pub(super) fn base(&self, slot: u32) -> Option<&RowText> {
        self.row(slot).filter(|_| self.mark(slot) & BASE != 0)?.base.as_ref()
    }

    /// Where the id is in the confirmed text, and how long it is; 0 if it is not there as it is.
    pub(super) fn id_place(&self, slot: u32) -> (u32, u32) {
        match self.row(slot) {
            Some(row) if row.extra.as_ref().is_none_or(|extra| extra.id.is_none()) => (row.id_at, row.id_len),
            _ => (0, 0),
        }
    }

    pub(super) fn is_base_archived(&self, slot: u32) -> bool {
        self.mark(slot) & BASE_ARCHIVED != 0
    }

    pub(super) fn overlay(&self, slot: u32) -> Option<&Overlay> {
        self.row(slot)?.overlay()
    }

    /// What readers see.
    pub(super) fn text(&self, slot: u32) -> Option<&RowText> {
        if self.mark(slot) & SHOWN == 0 {
            return None;
        }
        let row = self.rows.get(slot as usize)?;
        match row.overlay() {
            Some(Overlay::Shown(text)) => Some(text),
            Some(Overlay::Hidden) => None,
            None => row.base.as_ref(),
        }
    }

    /// What readers saw when the row was last not dirty: the text that its cells were made from. Only a few rows may
    /// be dirty.
    pub(super) fn settled_text(&self, slot: usize) -> &str {
        let slot = slot as u32;
        let text = if self.mark(slot) & DIRTY == 0 {
            self.text(slot)
        } else {
            self.dirty.iter().find(|before| before.slot == slot).and_then(|before| before.text.as_ref())
        };
        text.map_or("", RowText::as_str)
    }

    pub(super) fn mark(&self, slot: u32) -> u8 {
        self.marks.get(slot as usize).copied().unwrap_or(0)
    }

    pub(super) fn set_mark(&mut self, slot: u32, bit: u8, on: bool) {
        if let Some(marks) = self.marks.get_mut(slot as usize) {
            *marks = if on { *marks | bit } else { *marks & !bit };
        }
    }

    /// The row in a slot, if one exists.
    fn row(&self, slot: u32) -> Option<&Row> {
        self.rows.get(slot as usize).filter(|_| self.exists(slot))
    }

    fn exists(&self, slot: u32) -> bool {
        self.mark(slot) & BASE != 0 || self.rows.get(slot as usize).is_some_and(|row| row.overlay().is_some())
    }

    /// The slot taken under `id`, even when its row is gone.
    fn lookup(&self, hash: u32, id: &str) -> Option<u32> {
        self.ids.find(hash, |slot| self.rows.get(slot as usize).is_some_and(|row| row.id() == id))
    }

    /// The slot taken under `id`, or a new one with the id still to be set.
    fn slot_for(&mut self, hash: u32, id: &str) -> Option<u32> {
        if let Some(slot) = self.lookup(hash, id) {
            return Some(slot);
        }
        let rows = &mut self.rows;
        let row = Row { base: None, extra: None, stamp: SyncId(0), id_at: 0, id_len: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                let index = slot as usize;
                self.is_in_order = false;
                *rows.get_mut(index)? = row;
                *self.marks.get_mut(index)? = TAKEN;
                *self.seqs.get_mut(index)? = self.next_seq;
                slot
            }
            None if rows.len() >= ROWS_MAX => return None,
            None => {
                rows.push(row);
                self.marks.push(TAKEN);
                self.seqs.push(self.next_seq);
                (rows.len() - 1) as u32
            }
        };
        // Rows that come after four thousand million others keep their places by slot.
        self.next_seq = self.next_seq.saturating_add(1);
        self.ids.insert(hash, slot);
        Some(slot)
    }

    /// Frees the slot of a row that is gone and has not come back.
    fn forget(&mut self, chunks: &mut Chunks, slot: u32) {
        if self.exists(slot) || self.mark(slot) & TAKEN == 0 {
            return;
        }
        let Some(row) = self.rows.get_mut(slot as usize) else { return };
        let hash = hash_id(self.seed, row.id());
        self.ids.remove(hash, slot);
        if let Some(text) = row.base.take() {
            chunks.sub(&text);
        }
        row.extra = None;
        // A seen row stays marked until it is reported, which happens before the slot is used again.
        self.set_mark(slot, TAKEN, false);
        self.free.push(slot);
    }

    /// Notes that what readers see of the row is about to change.
    fn note_change(&mut self, slot: u32) {
        let marks = self.mark(slot);
        if marks & DIRTY != 0 {
            return;
        }
        if self.is_tracked || marks & SEEN != 0 {
            let text = self.text(slot).cloned();
            self.dirty.push(Before { slot, text });
            self.set_mark(slot, DIRTY, true);
        } else {
            self.has_changed = true;
        }
    }

    /// Sets what readers see of the row.
    fn show(&mut self, slot: u32, shown: bool, archived: bool) {
        let Some(marks) = self.marks.get_mut(slot as usize) else { return };
        let archived = shown && archived;
        self.shown = self.shown + usize::from(shown) - usize::from(*marks & SHOWN != 0);
        self.archived = self.archived + usize::from(archived) - usize::from(*marks & ARCHIVED != 0);
        let state = if shown { SHOWN } else { 0 } | if archived { ARCHIVED } else { 0 };
        *marks = *marks & !(SHOWN | ARCHIVED) | state;
    }

    fn is_archived(&mut self, text: &RowText) -> bool {
        self.locator.locate(text.as_str(), &mut self.found);
        self.found.first().is_some_and(|found| found.is_some_and(|found| found.kind != Kind::Null))
    }
}

impl Row {
    /// Sets the id: where it is in the confirmed text about to be set, or `None` to keep a copy.
    fn set_id(&mut self, id: &str, at: Option<usize>) {
        let place = at.and_then(|at| Some((u32::try_from(at).ok()?, u32::try_from(id.len()).ok()?)));
        match place {
            Some((at, len)) => {
                (self.id_at, self.id_len) = (at, len);
                if let Some(extra) = &mut self.extra {
                    extra.id = None;
                    if extra.overlay.is_none() {
                        self.extra = None;
                    }
                }
            }
            None => self.extra.get_or_insert_default().id = Some(Box::from(id)),
        }
    }
}

/// A place where `id` stands in `text`, if it does at one of the likely ones: that of the caller's own slice, that of
/// the row before, behind `{"id":"`. Any place will do, the bytes are what counts.
fn find_id(text: &str, id: &str, hint: usize) -> Option<usize> {
    let own = id.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    let is_at = |&at: &usize| text.get(at..).is_some_and(|rest| rest.as_bytes().starts_with(id.as_bytes()));
    [own, hint, 7].into_iter().find(is_at)
}

/// Texts on their way into a new chunk.
#[derive(Default)]
pub(super) struct Pack {
    text: String,
    places: Vec<(u32, bool, usize, usize)>,
}

impl Pack {
    fn push(&mut self, slot: u32, is_overlay: bool, text: &RowText) {
        let start = self.text.len();
        self.text.push_str(text.as_str());
        self.places.push((slot, is_overlay, start, self.text.len()));
    }

    fn is_full(&self) -> bool {
        self.text.len() >= super::text::COPY_CHUNK_BYTES
    }

    fn take(&mut self) -> Vec<(u32, bool, RowText)> {
        let mut text = std::mem::take(&mut self.text);
        text.shrink_to_fit();
        let chunk = Chunk::new(text);
        let mut texts = Vec::with_capacity(self.places.len());
        for (slot, is_overlay, start, end) in self.places.drain(..) {
            texts.push((slot, is_overlay, RowText::slice(&chunk, start..end)));
        }
        texts
    }
}
