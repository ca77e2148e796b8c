//! Writing JSON text, and shallow edits of objects.

use super::{JsonStr, Value, skip_plain};

/// Writes `text` as a JSON string, quotes included.
pub fn write_str(out: &mut String, text: &str) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut start = 0;
    loop {
        let stop = skip_plain(bytes, start);
        out.push_str(text.get(start..stop).unwrap_or_default());
        let Some(&byte) = bytes.get(stop) else { break };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(HEX[usize::from(digit & 15)]));
                }
            }
        }
        start = stop + 1;
    }
    out.push('"');
}

/// Writes a non-negative integer.
pub fn write_u64(out: &mut String, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

/// Writes an object member by member, leaving the commas to it.
///
/// ```
/// use ablo_wasm::core::json::ObjectWriter;
///
/// let mut text = String::new();
/// let mut object = ObjectWriter::new(&mut text);
/// object.str("type", "ack");
/// object.object("payload", |payload| payload.u64("lastSyncId", 7));
/// object.end();
/// assert_eq!(text, r#"{"type":"ack","payload":{"lastSyncId":7}}"#);
/// ```
pub struct ObjectWriter<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object at the end of `out`.
    pub fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Writes `key` and gives the text for its value to be written to.
    pub fn key(&mut self, key: &str) -> &mut String {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(',');
        }
        write_str(self.out, key);
        self.out.push(':');
        self.out
    }

    /// A string member.
    pub fn str(&mut self, key: &str, value: &str) {
        write_str(self.key(key), value);
    }

    /// A string member, left out when `None`.
    pub fn opt_str(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(key, value);
        }
    }

    /// An integer member.
    pub fn u64(&mut self, key: &str, value: u64) {
        write_u64(self.key(key), value);
    }

    /// A boolean member.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    /// A member whose value is JSON text already.
    pub fn raw(&mut self, key: &str, json: &str) {
        self.key(key).push_str(json);
    }

    /// An array of strings.
    pub fn strs<S: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = S>) {
        let mut list = self.array(key);
        for value in values {
            list.str(value.as_ref());
        }
        list.end();
    }

    /// A nested object, to be ended by the caller.
    pub fn nested(&mut self, key: &str) -> ObjectWriter<'_> {
        ObjectWriter::new(self.key(key))
    }

    /// A nested object.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        let mut inner = self.nested(key);
        fill(&mut inner);
        inner.end();
    }

    /// A nested array, to be ended by the caller.
    pub fn array(&mut self, key: &str) -> ArrayWriter<'_> {
        ArrayWriter::new(self.key(key))
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push('}');
    }
}

/// Writes an array item by item, leaving the commas to it.
///
/// ```
/// use ablo_wasm::core::json::ArrayWriter;
///
/// let mut text = String::new();
/// let mut list = ArrayWriter::new(&mut text);
/// list.str("a");
/// list.item().push_str("7");
/// list.end();
/// assert_eq!(text, r#"["a",7]"#);
/// ```
pub struct ArrayWriter<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> ArrayWriter<'a> {
    /// Opens an array at the end of `out`.
    pub fn new(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, empty: true }
    }

    /// Gives the text for the next item to be written to.
    pub fn item(&mut self) -> &mut String {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(',');
        }
        self.out
    }

    /// A string.
    pub fn str(&mut self, text: &str) {
        write_str(self.item(), text);
    }

    /// Closes the array.
    pub fn end(self) {
        self.out.push(']');
    }
}

/// Writes an array, one element at a time.
pub fn write_array<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
    let mut list = ArrayWriter::new(out);
    for item in items {
        each(list.item(), item);
    }
    list.end();
}

/// Whether `patch` begins with the members of `base`, in their order: servers mostly send full rows.
fn covers(patch: Value<'_>, base: Value<'_>) -> bool {
    let mut members = patch.members();
    base.members().all(|(key, _)| members.next().is_some_and(|(name, _)| name.raw() == key.raw()))
}

/// The object `base` with the members of the object `patch` over it (shallow; a member of `patch` always wins).
/// Both are checked text. Members keep their place; new ones are added at the end.
///
/// ```
/// use ablo_wasm::core::json::merge;
///
/// assert_eq!(merge(r#"{"id":"t1","a":1,"b":2}"#, r#"{"b":null,"c":3}"#), r#"{"id":"t1","a":1,"b":null,"c":3}"#);
/// ```
pub fn merge(base: &str, patch: &str) -> String {
    let (base, patch) = (Value::known_object(base), Value::known_object(patch));
    if covers(patch, base) {
        return patch.raw.to_owned();
    }
    let mut edits: Vec<(JsonStr<'_>, Value<'_>, bool)> = Vec::new();
    for (key, value) in patch.members() {
        match edits.iter_mut().find(|(name, ..)| *name == key) {
            Some(edit) => edit.1 = value,
            None => edits.push((key, value, false)),
        }
    }
    let mut out = String::with_capacity(base.raw.len() + patch.raw.len());
    out.push('{');
    let mut empty = true;
    let mut member = |key: JsonStr<'_>, raw: &str| {
        if !std::mem::replace(&mut empty, false) {
            out.push(',');
        }
        out.push('"');
        out.push_str(key.raw());
        out.push_str("\":");
        out.push_str(raw);
    };
    for (key, value) in base.members() {
        match edits.iter_mut().find(|(name, ..)| *name == key) {
            Some(edit) if edit.2 => {}
            Some(edit) => {
                edit.2 = true;
                member(key, edit.1.raw);
            }
            None => member(key, value.raw),
        }
    }
    for (key, value, done) in &edits {
        if !done {
            member(*key, value.raw);
        }
    }
    out.push('}');
    out
}
