//! Typed columns: for one field the values of all rows of a table, small enough to filter and sort without touching
//! text.
//!
//! A column is a cache; the text of a row is the truth. A cell holds a number whole, and of a string its place in the
//! row's text plus eight bytes that tell it from the other strings of the column, which settles nearly every comparison:
//! those behind the beginning that all share, or all digits of a timestamp. Deliberately knows no rows: the table supplies the
//! text of a row when a comparison needs it.

use crate::core::sort::sorted_indices;
use std::borrow::Cow;
use std::cmp::Ordering;

use super::scan::Found;
use crate::core::filter::{Clause, Literal, Operator, is_like};
use crate::core::json::{Kind, Reader, Value};

/// Gives the text of the row in a slot, as it was when the row's cells were made.
pub(super) type Texts<'t> = dyn Fn(usize) -> &'t str + 't;

/// What a cell holds. Two tags share a rank when one is only another form of the same kind.
const NUMBER: u32 = 0;
/// A string without escapes; its length is in the cell.
const PLAIN: u32 = 2;
/// A string with escapes, or too long for the cell's length.
const ESCAPED: u32 = 3;
const BOOL: u32 = 4;
const OTHER: u32 = 6;
const NULL: u32 = 8;
const MISSING: u32 = 9;

const TEXT_RANK: u32 = PLAIN >> 1;
const LAST_RANK: u32 = NULL >> 1;

const LEN_BITS: u32 = 28;
const LEN_MAX: u32 = (1 << LEN_BITS) - 1;

/// A field's value in one row.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    /// Orders cells of one rank: a number's order-preserving bits, a string's eight bytes behind the common prefix.
    key: u64,
    /// Where the value starts in the row's text, opening quote included.
    start: u32,
    /// The tag, above the length of a plain string.
    meta: u32,
}

impl Cell {
    pub(super) const MISSING: Self = Self { key: 0, start: 0, meta: MISSING << LEN_BITS };

    fn tag(self) -> u32 {
        self.meta >> LEN_BITS
    }

    fn rank(self) -> u32 {
        self.meta >> (LEN_BITS + 1)
    }

    fn len(self) -> usize {
        (self.meta & LEN_MAX) as usize
    }

    /// The string that this cell stands for, `row` being the text it was read from.
    fn text(self, row: &str) -> Cow<'_, str> {
        let start = self.start as usize;
        if self.tag() == PLAIN {
            return Cow::Borrowed(row.get(start + 1..start + 1 + self.len()).unwrap_or_default());
        }
        self.value(row).and_then(Value::as_str).unwrap_or_default()
    }

    /// The value as JSON.
    fn value(self, row: &str) -> Option<Value<'_>> {
        Reader::new(row.get(self.start as usize..)?).value().ok()
    }
}

/// The cells of one field.
pub(super) struct Column {
    pub(super) name: String,
    /// By slot. Cells of rows that nobody sees mean nothing.
    pub(super) cells: Vec<Cell>,
    common: Common,
    /// Set when `common` got weaker, until all keys are made anew.
    is_stale: bool,
    /// Open views that use the column.
    pub(super) pins: usize,
    /// When it was last used, by the table's count of plans.
    pub(super) used: u64,
}

impl Column {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), cells: Vec::new(), common: Common::Nothing, is_stale: false, pins: 0, used: 0 }
    }

    /// Takes a row's value into account for what strings have in common, ahead of the cells themselves.
    pub(super) fn sample(&mut self, found: Option<Found>, row: &str) {
        let _ = self.cell(found, row);
        // Nothing has been keyed yet, so nothing needs to be again.
        self.is_stale &= !self.cells.is_empty();
    }

    /// The cell for a value found in a row's text.
    pub(super) fn cell(&mut self, found: Option<Found>, row: &str) -> Cell {
        let Some(found) = found else { return Cell::MISSING };
        let raw = || row.get(found.start as usize..found.end as usize).unwrap_or_default();
        let (tag, key, len) = match found.kind {
            Kind::Null => (NULL, 0, 0),
            Kind::Bool => (BOOL, u64::from(raw() == "true"), 0),
            Kind::Number => (NUMBER, number_key(read_number(raw())), 0),
            Kind::Array | Kind::Object => (OTHER, 0, 0),
            Kind::String => {
                let len = (found.end - found.start).saturating_sub(2);
                if found.escaped || len > LEN_MAX {
                    let cell = Cell { key: 0, start: found.start, meta: ESCAPED << LEN_BITS };
                    (ESCAPED, self.text_key(cell.text(row).as_bytes()), 0)
                } else {
                    let inside = row.as_bytes().get(found.start as usize + 1..(found.end as usize).wrapping_sub(1));
                    (PLAIN, self.text_key(inside.unwrap_or_default()), len)
                }
            }
        };
        Cell { key, start: found.start, meta: (tag << LEN_BITS) | len }
    }

    /// Makes all keys anew when strings have less in common than when they were made.
    pub(super) fn renew_if_stale(&mut self, texts: &Texts<'_>) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        for (slot, cell) in self.cells.iter_mut().enumerate().filter(|(_, cell)| cell.rank() == TEXT_RANK) {
            cell.key = self.common.key(cell.text(texts(slot)).as_bytes()).unwrap_or_default();
        }
    }

    /// Order of two rows' cells: null and missing last whatever the direction.
    pub(super) fn compare(&self, a: usize, b: usize, is_descending: bool, texts: &Texts<'_>) -> Ordering {
        let cell = |slot| self.cells.get(slot).copied().unwrap_or(Cell::MISSING);
        let (one, other) = (cell(a), cell(b));
        let rank = one.rank().cmp(&other.rank());
        let order = if rank != Ordering::Equal {
            if one.rank() == LAST_RANK || other.rank() == LAST_RANK {
                return rank;
            }
            rank
        } else if one.key != other.key {
            one.key.cmp(&other.key)
        } else if one.rank() != TEXT_RANK || (one.meta == other.meta && self.is_whole(one)) {
            return Ordering::Equal;
        } else {
            one.text(texts(a)).cmp(&other.text(texts(b)))
        };
        if is_descending { order.reverse() } else { order }
    }

    /// Whether the key, with the length, is all there is to know of a plain string.
    fn is_whole(&self, cell: Cell) -> bool {
        let is_short = match &self.common {
            Common::Nothing => false,
            Common::Timestamps => true,
            Common::Prefix(prefix) => cell.len() <= prefix.len() + 8,
        };
        is_short && cell.tag() == PLAIN
    }

    fn text_key(&mut self, text: &[u8]) -> u64 {
        if let Some(key) = self.common.key(text) {
            return key;
        }
        self.is_stale |= !matches!(self.common, Common::Nothing);
        self.common.weaken(text);
        self.common.key(text).unwrap_or_default()
    }
}

/// What all strings of a column have in common, so that a key need not hold it. It only ever gets less.
enum Common {
    /// There was no string yet.
    Nothing,
    /// The form of JavaScript's `toISOString`: a key is all of it.
    Timestamps,
    /// The same beginning; perhaps none.
    Prefix(Vec<u8>),
}

impl Common {
    /// The key of a string that has this in common with the others.
    fn key(&self, text: &[u8]) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Timestamps => timestamp_key(text),
            Self::Prefix(prefix) => text.starts_with(prefix).then(|| bytes_key(text, prefix.len())),
        }
    }

    /// Takes in a string that has less in common with the others.
    fn weaken(&mut self, text: &[u8]) {
        match self {
            Self::Nothing if timestamp_key(text).is_some() => *self = Self::Timestamps,
            Self::Nothing => *self = Self::Prefix(text.to_vec()),
            Self::Timestamps => *self = Self::Prefix(Vec::new()),
            Self::Prefix(prefix) => {
                let common = prefix.iter().zip(text).take_while(|(a, b)| a == b).count();
                prefix.truncate(common);
            }
        }
    }
}

/// The digits of a timestamp as one number, which orders like it.
fn timestamp_key(text: &[u8]) -> Option<u64> {
    const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    if text.len() != FORM.len() {
        return None;
    }
    let mut key = 0;
    for (&byte, &form) in text.iter().zip(FORM) {
        if form == b'0' && byte.is_ascii_digit() {
            key = key * 10 + u64::from(byte - b'0');
        } else if byte != form {
            return None;
        }
    }
    Some(key)
}

/// Checked number text as a double. Short whole numbers, most of those that are sorted by, need no parser.
fn read_number(raw: &str) -> f64 {
    if raw.len() < 10 && raw.bytes().all(|byte| byte.is_ascii_digit()) {
        let digit = |number: u32, byte: u8| number * 10 + u32::from(byte - b'0');
        return f64::from(raw.bytes().fold(0, digit));
    }
    Value::parse(raw).ok().and_then(Value::as_f64).unwrap_or_default()
}

/// The eight bytes behind `skip` as a number that orders like them; what is missing counts as zero.
fn bytes_key(text: &[u8], skip: usize) -> u64 {
    let rest = text.get(skip..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let word = rest.iter().fold(0_u64, |word, &byte| (word << 8) | u64::from(byte));
            word.checked_shl(64 - 8 * rest.len() as u32).unwrap_or(0)
        }
    }
}

/// Bits that order as the numbers do. Zero has one form.
fn number_key(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn key_number(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

/// A condition made ready for a column. It means exactly what [`Clause::matches`] says of the row's text.
pub(super) struct Test {
    pub(super) column: usize,
    /// The only value that it compares with, unless it is one of a set.
    operand: Literal,
    kind: TestKind,
}

enum TestKind {
    /// The value is one of a set; `false`: it is none of them.
    In(Set, bool),
    /// Less, less or equal, greater, greater or equal: which outcomes of a comparison pass.
    Range { less: bool, equal: bool, greater: bool },
    /// Patterns.
    Like(Operator),
}

#[derive(Default)]
struct Set {
    null: bool,
    yes: bool,
    no: bool,
    /// Keys of numbers, sorted.
    numbers: Vec<u64>,
    /// Sorted.
    texts: Vec<String>,
}

impl Set {
    fn new(operands: &[Literal]) -> Self {
        let mut set = Self::default();
        for operand in operands {
            match operand {
                Literal::Null => set.null = true,
                Literal::Bool(true) => set.yes = true,
                Literal::Bool(false) => set.no = true,
                Literal::Number(number) => set.numbers.push(number_key(*number)),
                Literal::Text(text) => set.texts.push(text.clone()),
            }
        }
        let Self { numbers, texts, .. } = &mut set;
        let order = sorted_indices(numbers.len(), &mut |a, b| numbers.get(a).cmp(&numbers.get(b)));
        let mut sorted = Vec::with_capacity(numbers.len());
        for index in order {
            sorted.push(numbers.get(index as usize).copied().unwrap_or_default());
        }
        *numbers = sorted;
        let order = sorted_indices(texts.len(), &mut |a, b| texts.get(a).cmp(&texts.get(b)));
        let mut sorted = Vec::with_capacity(texts.len());
        for index in order {
            sorted.push(texts.get_mut(index as usize).map(std::mem::take).unwrap_or_default());
        }
        *texts = sorted;
        set
    }
}

/// What a test can know about its column before it looks at cells. Good until the column changes.
pub(super) struct Probe {
    /// The only string that the test compares with: its key, or `None` when no string of the column is equal to it.
    key: Option<u64>,
}

impl Test {
    pub(super) fn new(column: usize, clause: &Clause) -> Self {
        let one = clause.operands.get(..1).unwrap_or(&[Literal::Null]);
        let range = |less, equal, greater| TestKind::Range { less, equal, greater };
        let kind = match clause.operator {
            Operator::Eq | Operator::Is => TestKind::In(Set::new(one), true),
            Operator::Ne | Operator::IsNot => TestKind::In(Set::new(one), false),
            Operator::In => TestKind::In(Set::new(&clause.operands), true),
            Operator::NotIn => TestKind::In(Set::new(&clause.operands), false),
            Operator::Lt => range(true, false, false),
            Operator::Le => range(true, true, false),
            Operator::Gt => range(false, false, true),
            Operator::Ge => range(false, true, true),
            Operator::Like | Operator::NotLike | Operator::ILike | Operator::NotILike => {
                TestKind::Like(clause.operator)
            }
        };
        Self { column, operand: one.first().cloned().unwrap_or(Literal::Null), kind }
    }

    pub(super) fn probe(&self, column: &Column) -> Probe {
        let text = match &self.kind {
            TestKind::In(set, _) => set.texts.first().map(String::as_str),
            TestKind::Range { .. } => match &self.operand {
                Literal::Text(text) => Some(text.as_str()),
                Literal::Null | Literal::Bool(_) | Literal::Number(_) => None,
            },
            TestKind::Like(_) => None,
        };
        Probe { key: text.and_then(|text| column.common.key(text.as_bytes())) }
    }

    /// Whether the row in `slot` passes.
    pub(super) fn passes(&self, probe: &Probe, column: &Column, slot: usize, texts: &Texts<'_>) -> bool {
        let cell = column.cells.get(slot).copied().unwrap_or(Cell::MISSING);
        match &self.kind {
            TestKind::In(set, expected) => is_in(set, probe, column, cell, &|| texts(slot)) == *expected,
            TestKind::Range { less, equal, greater } => match self.order(probe, cell, &|| texts(slot)) {
                Some(Ordering::Less) => *less,
                Some(Ordering::Equal) => *equal,
                Some(Ordering::Greater) => *greater,
                None => false,
            },
            TestKind::Like(operator) => {
                cell.rank() == TEXT_RANK && is_like(*operator, cell.value(texts(slot)), &self.operand)
            }
        }
    }

    /// Order of the value and the operand, if they have one.
    fn order<'t>(&self, probe: &Probe, cell: Cell, row: &dyn Fn() -> &'t str) -> Option<Ordering> {
        match &self.operand {
            Literal::Number(number) if cell.tag() == NUMBER => key_number(cell.key).partial_cmp(number),
            Literal::Text(text) if cell.rank() == TEXT_RANK => {
                let order = probe.key.map_or(Ordering::Equal, |key| cell.key.cmp(&key));
                Some(order.then_with(|| cell.text(row()).as_ref().cmp(text.as_str())))
            }
            Literal::Null | Literal::Bool(_) | Literal::Number(_) | Literal::Text(_) => None,
        }
    }
}

fn is_in<'t>(set: &Set, probe: &Probe, column: &Column, cell: Cell, row: &dyn Fn() -> &'t str) -> bool {
    match cell.tag() {
        NULL | MISSING => set.null,
        BOOL if cell.key == 1 => set.yes,
        BOOL => set.no,
        NUMBER => match set.numbers.as_slice() {
            [one] => *one == cell.key,
            many => many.binary_search(&cell.key).is_ok(),
        },
        PLAIN | ESCAPED => match set.texts.as_slice() {
            [] => false,
            [one] if probe.key != Some(cell.key) || (cell.tag() == PLAIN && cell.len() != one.len()) => false,
            [_] if column.is_whole(cell) => true,
            [one] => cell.text(row()) == one.as_str(),
            many => {
                let text = cell.text(row());
                many.binary_search_by(|other| other.as_str().cmp(&text)).is_ok()
            }
        },
        _ => false,
    }
}
