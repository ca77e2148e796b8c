//! Finding fields in the text of rows.
//!
//! Rows of one model mostly have the same members in the same order, so a [`Locator`] remembers the shapes it has met
//! and walks a row by comparing keys with those expected. A row that fits no shape is read by the strict reader, which
//! also teaches the next shape. Both go to the row's end, since the last member of a repeated key counts. Deliberately
//! no values: see [`super::column`].

use crate::core::json::{Kind, Reader};
use crate::core::text::concat;

/// Most shapes remembered; the oldest goes first.
pub const SHAPES_MAX: usize = 8;
/// Rows with more members are always read by the strict reader.
pub const SHAPE_MEMBERS_MAX: usize = 128;
/// Shapes learnt in the life of a locator, so that rows without any regularity cost no more than their reading.
const LESSONS_MAX: u32 = 256;

/// A field's value in a row: its kind and the range of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    /// A string that contains escapes.
    pub(super) escaped: bool,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A member that a shape expects.
struct Member {
    /// Its key as it stands in the text, quotes and colon included.
    key: Box<[u8]>,
    /// The first sixteen bytes of `key` and which of them count: two comparisons settle most keys.
    words: [(u64, u64); 2],
    /// Which of the locator's fields it is.
    field: Option<usize>,
}

impl Member {
    fn new(key: &str, field: Option<usize>) -> Self {
        let key: Box<[u8]> = concat(&["\"", key, "\":"]).into_bytes().into();
        let mut words = [(0, 0); 2];
        for (index, &byte) in key.iter().enumerate().take(16) {
            let (word, mask) = if index < 8 { &mut words[0] } else { &mut words[1] };
            *word |= u64::from(byte) << (index % 8 * 8);
            *mask |= 0xff << (index % 8 * 8);
        }
        Self { key, words, field }
    }

    /// Whether the key stands at the beginning of `rest`.
    fn starts(&self, rest: &[u8]) -> bool {
        let (Some(first), Some(second)) = (rest.first_chunk::<8>(), rest.get(8..).and_then(<[u8]>::first_chunk::<8>))
        else {
            return rest.starts_with(&self.key);
        };
        let [(word, mask), (second_word, second_mask)] = self.words;
        let differs =
            ((u64::from_le_bytes(*first) ^ word) & mask) | ((u64::from_le_bytes(*second) ^ second_word) & second_mask);
        differs == 0 && (self.key.len() <= 16 || rest.starts_with(&self.key))
    }
}

type Shape = Vec<Member>;

/// Finds a fixed set of fields in row after row.
pub(super) struct Locator {
    fields: Vec<String>,
    shapes: Vec<Shape>,
    /// The shape that fitted last.
    recent: usize,
    lessons: u32,
}

impl Locator {
    pub(super) fn new(fields: Vec<String>) -> Self {
        Self { fields, shapes: Vec::new(), recent: 0, lessons: 0 }
    }

    /// Fills `found` with one entry for each field: where its value is in `text`, or that there is none.
    pub(super) fn locate(&mut self, text: &str, found: &mut Vec<Option<Found>>) {
        found.clear();
        found.resize(self.fields.len(), None);
        if self.shapes.get(self.recent).is_some_and(|shape| walk(text, shape, found)) {
            return;
        }
        for (index, shape) in self.shapes.iter().enumerate() {
            found.fill(None);
            if index != self.recent && walk(text, shape, found) {
                self.recent = index;
                return;
            }
        }
        found.fill(None);
        self.read(text, found);
    }

    /// Finds the fields with the strict reader, and learns the row's shape.
    fn read(&mut self, text: &str, found: &mut [Option<Found>]) {
        let mut shape = Shape::new();
        let mut regular = self.lessons < LESSONS_MAX;
        let mut reader = Reader::new(text);
        if reader.begin_object().is_err() {
            return;
        }
        let mut first = true;
        while let Ok(Some(key)) = reader.next_key(&mut first) {
            let Ok(value) = reader.value() else { break };
            let name = key.decode();
            let field = self.fields.iter().position(|field| *field == name);
            if let Some(entry) = field.and_then(|field| found.get_mut(field)) {
                let end = reader.position();
                *entry = found_at(text, value.kind, end - value.raw.len(), end);
            }
            regular &= shape.len() < SHAPE_MEMBERS_MAX;
            if regular {
                shape.push(Member::new(key.raw(), field));
            }
        }
        if regular && !shape.is_empty() {
            self.lessons += 1;
            if self.shapes.len() == SHAPES_MAX {
                self.shapes.remove(0);
            }
            self.recent = self.shapes.len();
            self.shapes.push(shape);
        }
    }
}

/// A value's place. `None` where no `u32` reaches.
fn found_at(text: &str, kind: Kind, start: usize, end: usize) -> Option<Found> {
    let escaped = kind == Kind::String && text.as_bytes().get(start..end)?.contains(&b'\\');
    Some(Found { kind, escaped, start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
}

/// Finds the fields of a row whose members are those of `shape`, in that order, some perhaps left out. False when the
/// row is otherwise, or not written compactly.
fn walk(text: &str, shape: &[Member], found: &mut [Option<Found>]) -> bool {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'{') {
        return false;
    }
    let mut pos = 1;
    let mut members = shape.iter();
    loop {
        let Some(rest) = bytes.get(pos..) else { return false };
        let member = loop {
            let Some(member) = members.next() else { return false };
            if member.starts(rest) {
                break member;
            }
        };
        let start = pos + member.key.len();
        let Some((kind, end)) = pass(text, start) else { return false };
        if let Some(entry) = member.field.and_then(|field| found.get_mut(field)) {
            *entry = found_at(text, kind, start, end);
        }
        match bytes.get(end) {
            Some(b',') => pos = end + 1,
            Some(b'}') => return end + 1 == bytes.len(),
            _ => return false,
        }
    }
}

/// The kind of the value at `pos` and the place behind it. The text has been checked before; wrong text gives a wrong
/// place inside of it, nothing worse.
fn pass(text: &str, pos: usize) -> Option<(Kind, usize)> {
    let bytes = text.as_bytes();
    Some(match bytes.get(pos)? {
        b'"' => (Kind::String, pass_string(bytes, pos + 1)?),
        b'n' => (Kind::Null, pos + 4),
        b't' => (Kind::Bool, pos + 4),
        b'f' => (Kind::Bool, pos + 5),
        b'{' | b'[' => {
            let mut reader = Reader::new(text.get(pos..)?);
            let kind = reader.value().ok()?.kind;
            (kind, pos + reader.position())
        }
        _ => {
            let rest = bytes.get(pos..)?;
            let len = rest.iter().position(|&byte| byte == b',' || byte == b'}' || byte <= b' ')?;
            (Kind::Number, pos + len)
        }
    })
}

/// The place behind the closing quote of the string whose inside starts at `start`: the first quote with an even number
/// of backslashes before it. Eight bytes at a time.
fn pass_string(bytes: &[u8], start: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut pos = start;
    loop {
        while let Some(chunk) = bytes.get(pos..).and_then(|rest| rest.first_chunk::<8>()) {
            let quote = u64::from_le_bytes(*chunk) ^ (ONES * b'"' as u64);
            let hits = quote.wrapping_sub(ONES) & !quote & HIGH;
            if hits != 0 {
                pos += (hits.trailing_zeros() / 8) as usize;
                break;
            }
            pos += 8;
        }
        // Near the end of the text the bytes come singly.
        while *bytes.get(pos)? != b'"' {
            pos += 1;
        }
        let inside = bytes.get(start..pos)?;
        if inside.last() != Some(&b'\\') || inside.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0 {
            return Some(pos + 1);
        }
        pos += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::Value;
    use proptest::prelude::*;

    fn located(locator: &mut Locator, text: &str) -> Vec<Option<String>> {
        let mut found = Vec::new();
        locator.locate(text, &mut found);
        let raw = |place: &Found| text[place.start as usize..place.end as usize].to_owned();
        found.iter().map(|place| place.as_ref().map(raw)).collect()
    }

    fn expected(fields: &[&str], text: &str) -> Vec<Option<String>> {
        let value = Value::parse(text).unwrap();
        fields.iter().map(|field| value.get(field).map(|value| value.raw.to_owned())).collect()
    }

    #[test]
    fn finds_fields_whatever_the_row_looks_like() {
        let fields = ["a", "b", "é\"x"];
        let mut locator = Locator::new(fields.map(str::to_owned).to_vec());
        for text in [
            r#"{"id":"1","a":1,"b":"x"}"#,
            r#"{"id":"2","a":-2.5e3,"b":"y\"\\"}"#,
            r#"{"id":"2","b":"only"}"#,
            r#"{"b":true,"id":"2","a":{"a":[1,{"b":2}]}}"#,
            r#"{"a":1,"a":2,"b":3}"#,
            r#"{"\u0061":1,"b":[]}"#,
            r#"{"\u0061":1,"b":null,"a":7}"#,
            r#" { "a" : 1 , "b" : 2 } "#,
            r#"{"é\"x":"\\","b":"\u00e9"}"#,
            "{}",
            "[]",
            "7",
        ] {
            for _ in 0..2 {
                assert_eq!(located(&mut locator, text), expected(&fields, text), "{text}");
            }
        }
    }

    #[test]
    fn shapes_stay_few_and_are_used() {
        let mut locator = Locator::new(vec!["a".into()]);
        for row in 0..1000 {
            located(&mut locator, &format!("{{\"id\":\"{row}\",\"a\":{row}}}"));
        }
        assert_eq!(locator.lessons, 1);
        for row in 0..1000 {
            located(&mut locator, &format!("{{\"k{row}\":1,\"a\":{row}}}"));
        }
        assert_eq!((locator.lessons, locator.shapes.len()), (LESSONS_MAX, SHAPES_MAX));
    }

    proptest! {
        #[test]
        fn agrees_with_the_reader(rows in prop::collection::vec(
            prop::collection::vec(("[abc\\\\]{1,2}", prop_oneof![
                any::<i32>().prop_map(serde_json::Value::from),
                "[a\"\\\\,:{}é]{0,12}".prop_map(serde_json::Value::from),
                Just(serde_json::json!(null)), Just(serde_json::json!(true)), Just(serde_json::json!([1, {"a": "}"}])),
            ]), 0..6), 1..12)) {
            let fields = ["a", "b", "ab"];
            let mut locator = Locator::new(fields.map(str::to_owned).to_vec());
            for row in rows {
                let members: Vec<String> = row.iter()
                    .map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).unwrap())).collect();
                let text = format!("{{{}}}", members.join(","));
                prop_assert_eq!(located(&mut locator, &text), expected(&fields, &text), "{}", text);
            }
        }

        #[test]
        fn broken_text_is_harmless(text in "[{}\\[\\]\",:\\\\a0nt ]{0,24}") {
            let mut locator = Locator::new(vec!["a".into()]);
            let mut found = Vec::new();
            locator.locate(r#"{"a":1,"n":"t"}"#, &mut found);
            locator.locate(&text, &mut found);
            prop_assert_eq!(found.len(), 1);
        }
    }
}
