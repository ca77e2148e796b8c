//! The strict pull reader and the checked values it hands out.

use std::borrow::Cow;
use std::fmt;

use super::skip_plain;
use crate::core::text::{concat, digits, parse_digits, parse_hex};

/// Nesting beyond this is refused, so that no input can exhaust a stack further down (JavaScript's included).
pub const DEPTH_MAX: usize = 128;

/// Largest integer that JavaScript numbers carry exactly (2^53 - 1).
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// What is wrong with a piece of JSON text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl JsonError {
    /// What is wrong, and where.
    pub fn message(&self) -> String {
        concat(&["malformed JSON at byte ", &digits(self.offset as u64), ": expected ", self.expected])
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// The six kinds of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The inside of a JSON string: its text without the quotes, escapes still in place.
#[derive(Clone, Copy, Debug)]
pub struct JsonStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> JsonStr<'a> {
    /// A string whose text needs no unescaping.
    pub fn plain(raw: &'a str) -> Self {
        Self { raw, escaped: false }
    }

    /// The text between the quotes, as it stands in the source.
    pub fn raw(self) -> &'a str {
        self.raw
    }

    /// Whether the text contains escapes.
    pub fn is_escaped(self) -> bool {
        self.escaped
    }

    /// The string's value. A surrogate without its partner, which no Rust string can hold, becomes U+FFFD.
    pub fn decode(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw).0) } else { Cow::Borrowed(self.raw) }
    }

    /// The string's value, or `None` when it contains a surrogate without its partner.
    pub fn decode_exact(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let (text, exact) = unescape(self.raw);
        exact.then_some(Cow::Owned(text))
    }

    /// Whether the string's value is `other`.
    pub fn is(self, other: &str) -> bool {
        if self.escaped { self.decode() == other } else { self.raw == other }
    }
}

impl PartialEq for JsonStr<'_> {
    fn eq(&self, other: &Self) -> bool {
        if !self.escaped && !other.escaped { self.raw == other.raw } else { self.decode() == other.decode() }
    }
}

/// One checked JSON value: its kind and its text.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its text, without surrounding white space.
    pub raw: &'a str,
    escaped: bool,
}

impl<'a> Value<'a> {
    /// Checks `text` as one JSON value with nothing but white space around it.
    ///
    /// # Errors
    /// Where the text stops being JSON.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let mut reader = Reader::new(text);
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// An object that has been checked before, as rows are when they come in: its members are read, and checked, only
    /// as they are asked for.
    pub fn known_object(text: &'a str) -> Self {
        Self { kind: Kind::Object, raw: text, escaped: false }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind == Kind::Null
    }

    /// The string, if it is one.
    pub fn as_json_str(self) -> Option<JsonStr<'a>> {
        if self.kind != Kind::String {
            return None;
        }
        let raw = self.raw.get(1..self.raw.len().wrapping_sub(1))?;
        Some(JsonStr { raw, escaped: self.escaped })
    }

    /// The string's value, if it is one.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        self.as_json_str().map(JsonStr::decode)
    }

    /// The boolean, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind == Kind::Bool).then_some(self.raw == "true")
    }

    /// The number as JavaScript would read it, if it is one.
    pub fn as_f64(self) -> Option<f64> {
        if self.kind == Kind::Number { Some(parse_number(self.raw)) } else { None }
    }

    /// A non-negative integer that JavaScript carries exactly, written as a number without fraction or exponent.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind == Kind::Number { parse_integer(self.raw) } else { None }
    }

    /// As [`Value::as_u64`], and also from a string of digits, the form older servers use for sync ids.
    pub fn as_u64_lenient(self) -> Option<u64> {
        match self.as_json_str() {
            Some(text) => parse_integer(text.raw()),
            None => self.as_u64(),
        }
    }

    /// Its members, if it is an object. A repeated key comes again; the last one counts.
    pub fn members(self) -> Members<'a> {
        let mut reader = Reader::new(self.raw);
        let open = self.kind == Kind::Object && reader.begin_object().is_ok();
        Members { reader, open, first: true }
    }

    /// Its elements, if it is an array.
    pub fn elements(self) -> Elements<'a> {
        let mut reader = Reader::new(self.raw);
        let open = self.kind == Kind::Array && reader.begin_array().is_ok();
        Elements { reader, open, first: true }
    }

    /// [`Value::elements`] as a list.
    pub fn list(self) -> Vec<Self> {
        let mut list = Vec::new();
        for element in self.elements() {
            list.push(element);
        }
        list
    }

    /// The member `key`, if this is an object that has it.
    pub fn get(self, key: &str) -> Option<Self> {
        let mut found = None;
        for (name, value) in self.members() {
            if name.is(key) {
                found = Some(value);
            }
        }
        found
    }

    /// The member `key`, or `null`.
    pub fn at(self, key: &str) -> Self {
        self.get(key).unwrap_or(Value { kind: Kind::Null, raw: "null", escaped: false })
    }

    /// The member `key` as a string.
    pub fn get_str(self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key)?.as_str()
    }

    /// The member `key` as a string to keep.
    pub fn get_string(self, key: &str) -> Option<String> {
        self.get_str(key).map(Cow::into_owned)
    }

    /// The member `key` as a boolean.
    pub fn get_bool(self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The member `key` as an integer, from a number or a string of digits ([`Value::as_u64_lenient`]).
    pub fn get_u64(self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64_lenient()
    }

    /// The strings in the member `key`, if that is an array.
    pub fn get_strings(self, key: &str) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(list) = self.get(key) {
            for item in list.elements() {
                if let Some(text) = item.as_str() {
                    out.push(text.into_owned());
                }
            }
        }
        out
    }
}

/// Members of a checked object, in source order.
pub struct Members<'a> {
    reader: Reader<'a>,
    open: bool,
    first: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = (JsonStr<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        let step = self.reader.next_key(&mut self.first).ok().flatten();
        let item = step.and_then(|key| self.reader.value().ok().map(|value| (key, value)));
        self.open = item.is_some();
        item
    }
}

/// Elements of a checked array, in source order.
pub struct Elements<'a> {
    reader: Reader<'a>,
    open: bool,
    first: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if !self.open {
            return None;
        }
        let more = self.reader.next_element(&mut self.first).unwrap_or(false);
        let item = if more { self.reader.value().ok() } else { None };
        self.open = item.is_some();
        item
    }
}

/// A strict pull reader over JSON text.
///
/// ```
/// use ablo_wasm::core::json::Reader;
///
/// let mut reader = Reader::new(r#"{"id":"t1","rank":3}"#);
/// reader.begin_object()?;
/// let mut first = true;
/// let mut seen = Vec::new();
/// while let Some(key) = reader.next_key(&mut first)? {
///     seen.push((key.raw(), reader.value()?.raw));
/// }
/// reader.end()?;
/// assert_eq!(seen, [("id", "\"t1\""), ("rank", "3")]);
/// # Ok::<(), ablo_wasm::core::json::JsonError>(())
/// ```
#[derive(Clone)]
pub struct Reader<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, pos: 0 }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// What has been passed since `start`, an earlier position.
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.pos).unwrap_or_default()
    }

    /// Passes one whole value of any kind.
    ///
    /// # Errors
    /// Where the text stops being JSON.
    pub fn value(&mut self) -> Result<Value<'a>, JsonError> {
        let byte = self.peek();
        let start = self.pos;
        let mut escaped = false;
        let kind = match byte {
            b'"' => {
                escaped = self.string()?.escaped;
                Kind::String
            }
            b'{' => {
                self.container()?;
                Kind::Object
            }
            b'[' => {
                self.container()?;
                Kind::Array
            }
            b't' => self.literal("true", Kind::Bool)?,
            b'f' => self.literal("false", Kind::Bool)?,
            b'n' => self.literal("null", Kind::Null)?,
            _ => self.number()?,
        };
        Ok(Value { kind, raw: self.since(start), escaped })
    }

    /// Steps into an object.
    ///
    /// # Errors
    /// When the next value is not one.
    pub fn begin_object(&mut self) -> Result<(), JsonError> {
        self.expect(b'{', "an object")
    }

    /// Steps into an array.
    ///
    /// # Errors
    /// When the next value is not one.
    pub fn begin_array(&mut self) -> Result<(), JsonError> {
        self.expect(b'[', "an array")
    }

    /// The next key of the object stepped into, or `None` at its end. `first` starts as true.
    ///
    /// # Errors
    /// Where the text stops being JSON.
    pub fn next_key(&mut self, first: &mut bool) -> Result<Option<JsonStr<'a>>, JsonError> {
        if self.peek() == b'}' {
            self.pos += 1;
            return Ok(None);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',', "`,` or `}`")?;
        }
        if self.peek() != b'"' {
            return Err(self.error("a key"));
        }
        let key = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(Some(key))
    }

    /// Whether the array stepped into has another element. `first` starts as true.
    ///
    /// # Errors
    /// Where the text stops being JSON.
    pub fn next_element(&mut self, first: &mut bool) -> Result<bool, JsonError> {
        if self.peek() == b']' {
            self.pos += 1;
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            self.expect(b',', "`,` or `]`")?;
            if self.peek() == b']' {
                return Err(self.error("a value"));
            }
        }
        Ok(true)
    }

    /// Checks that only white space is left.
    ///
    /// # Errors
    /// When something else is.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.peek();
        if self.pos < self.text.len() { Err(self.error("the end")) } else { Ok(()) }
    }

    /// Passes white space; the byte after it, or 0 at the end (NUL is no JSON, so the two need no telling apart).
    pub fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.pos) {
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.pos += 1;
        }
        0
    }

    fn error(&self, expected: &'static str) -> JsonError {
        JsonError { offset: self.pos, expected }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != byte {
            return Err(self.error(expected));
        }
        self.pos += 1;
        Ok(())
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> Result<Kind, JsonError> {
        let end = self.pos + word.len();
        if self.text.as_bytes().get(self.pos..end) != Some(word.as_bytes()) {
            return Err(self.error("a value"));
        }
        self.pos = end;
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, JsonError> {
        let bytes = self.text.as_bytes();
        let mut pos = self.pos;
        let digits = |pos: &mut usize| {
            let from = *pos;
            while bytes.get(*pos).is_some_and(u8::is_ascii_digit) {
                *pos += 1;
            }
            *pos > from
        };
        if bytes.get(pos) == Some(&b'-') {
            pos += 1;
        }
        if bytes.get(pos) == Some(&b'0') {
            pos += 1;
        } else if !digits(&mut pos) {
            return Err(self.error("a value"));
        }
        if bytes.get(pos) == Some(&b'.') {
            pos += 1;
            if !digits(&mut pos) {
                return Err(JsonError { offset: pos, expected: "a digit" });
            }
        }
        if matches!(bytes.get(pos), Some(b'e' | b'E')) {
            pos += 1;
            if matches!(bytes.get(pos), Some(b'+' | b'-')) {
                pos += 1;
            }
            if !digits(&mut pos) {
                return Err(JsonError { offset: pos, expected: "a digit" });
            }
        }
        self.pos = pos;
        Ok(Kind::Number)
    }

    /// Passes a string; the next byte is its opening quote.
    fn string(&mut self) -> Result<JsonStr<'a>, JsonError> {
        let bytes = self.text.as_bytes();
        let start = self.pos + 1;
        let mut pos = start;
        let mut escaped = false;
        loop {
            pos = skip_plain(bytes, pos);
            match bytes.get(pos) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    pos += escape_len(bytes, pos).ok_or(JsonError { offset: pos, expected: "an escape" })?;
                }
                _ => return Err(JsonError { offset: pos, expected: "`\"`" }),
            }
        }
        self.pos = pos + 1;
        Ok(JsonStr { raw: self.text.get(start..pos).unwrap_or_default(), escaped })
    }

    /// Passes an object or array without recursion: one bit per level tells which of the two is open.
    fn container(&mut self) -> Result<(), JsonError> {
        let mut levels: u128 = 0;
        let mut depth = 0_usize;
        loop {
            // A value starts here.
            match self.peek() {
                open @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return Err(self.error("less nesting"));
                    }
                    self.pos += 1;
                    depth += 1;
                    levels = (levels << 1) | u128::from(open == b'{');
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() == close {
                        self.pos += 1;
                        depth -= 1;
                        levels >>= 1;
                    } else if open == b'{' {
                        self.key()?;
                        continue;
                    } else {
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b't' => drop(self.literal("true", Kind::Bool)?),
                b'f' => drop(self.literal("false", Kind::Bool)?),
                b'n' => drop(self.literal("null", Kind::Null)?),
                _ => drop(self.number()?),
            }
            // A value ended here: close what ends with it, then step to the next.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = levels & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.pos += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return Err(self.error(if object { "`,` or `}`" } else { "`,` or `]`" })),
                }
                self.pos += 1;
                depth -= 1;
                levels >>= 1;
            }
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != b'"' {
            return Err(self.error("a key"));
        }
        self.string()?;
        self.expect(b':', "`:`")
    }
}

/// Length of the escape at `pos`, if it is one.
fn escape_len(bytes: &[u8], pos: usize) -> Option<usize> {
    match bytes.get(pos + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(pos + 2..pos + 6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// The value of a checked string's text, and whether it could be expressed exactly.
fn unescape(raw: &str) -> (String, bool) {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let mut exact = true;
    // What is copied next begins at `start`; up to `pos` it is known to be plain.
    let (mut start, mut pos) = (0, 0);
    loop {
        // Nothing but escapes stops this: a checked string has no bare quotes or control characters.
        pos = skip_plain(bytes, pos);
        out.push_str(raw.get(start..pos).unwrap_or_default());
        let Some(&code) = bytes.get(pos + 1) else { break };
        start = pos + 2;
        match code {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let unit = hex4(bytes, start);
                start += 4;
                let low = if (0xd800..0xdc00).contains(&unit) && bytes.get(start..start + 2) == Some(b"\\u") {
                    let low = hex4(bytes, start + 2);
                    (0xdc00..0xe000).contains(&low).then_some(low)
                } else {
                    None
                };
                let scalar = match low {
                    Some(low) => {
                        start += 6;
                        0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    None => unit,
                };
                exact &= char::from_u32(scalar).is_some();
                out.push(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // The character stands for itself: it is copied with what follows.
            _ => {
                start = pos + 1;
                pos += 2;
                continue;
            }
        }
        pos = start;
    }
    (out, exact)
}

fn hex4(bytes: &[u8], at: usize) -> u32 {
    let digits = bytes.get(at..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(parse_hex).unwrap_or(0) as u32
}

fn parse_integer(text: &str) -> Option<u64> {
    parse_digits(text).filter(|number| *number <= SAFE_INTEGER_MAX)
}

/// Checked number text as the nearest double.
///
/// Nineteen digits and a power of ten within the nineteenth either way are exact, by integer arithmetic in 128 bits. That
/// covers every number that JavaScript prints without an exponent and nearly all with one. Longer mantissas and wilder
/// powers are within a few units in the last place: rows keep their text, this value only orders and compares them, and
/// the standard library's parser would cost a tenth of the package.
fn parse_number(text: &str) -> f64 {
    let negative = text.as_bytes().first() == Some(&b'-');
    let mut mantissa: u64 = 0;
    let mut exponent: i32 = 0;
    let mut point = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' if mantissa < 1_000_000_000_000_000_000 => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                exponent -= i32::from(point);
            }
            b'0'..=b'9' => exponent += i32::from(!point),
            b'.' => point = true,
            b'e' | b'E' => {
                let mut power: i32 = 0;
                let mut down = false;
                for byte in bytes.by_ref() {
                    match byte {
                        b'-' => down = true,
                        b'0'..=b'9' => power = power.saturating_mul(10).saturating_add(i32::from(byte - b'0')),
                        _ => {}
                    }
                }
                exponent = exponent.saturating_add(if down { power.saturating_neg() } else { power });
            }
            _ => {}
        }
    }
    let value = scale(mantissa, exponent);
    if negative { -value } else { value }
}

/// Two to a power that a double has.
fn power_of_two(power: i32) -> f64 {
    f64::from_bits(((1023 + power) as u64) << 52)
}

/// `mantissa` times ten to the power of `exponent`.
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest double is what is wanted")]
fn scale(mantissa: u64, exponent: i32) -> f64 {
    const TEN_19: u64 = 10_000_000_000_000_000_000;
    if mantissa == 0 {
        return 0.0;
    }
    if (0..=19).contains(&exponent) {
        let wide = u128::from(mantissa) * u128::from(10_u64.pow(exponent.unsigned_abs()));
        let below = u64::BITS - ((wide >> u64::BITS) as u64).leading_zeros();
        let lost = wide & ((1 << below) - 1) != 0;
        return ((wide >> below) as u64 | u64::from(lost)) as f64 * power_of_two(below as i32);
    }
    if (-19..0).contains(&exponent) {
        // A division as on paper, bit by bit, until the quotient has more bits than a double. The last is set when a
        // remainder is left: rounding then sees all it needs.
        let divisor = 10_u64.pow(exponent.unsigned_abs());
        let (mut quotient, mut rest, mut shift) = (mantissa / divisor, mantissa % divisor, 0);
        while rest != 0 && quotient >> 60 == 0 {
            let carry = rest >> 63 != 0;
            rest <<= 1;
            let one = carry || rest >= divisor;
            if one {
                rest = rest.wrapping_sub(divisor);
            }
            quotient = quotient << 1 | u64::from(one);
            shift += 1;
        }
        return (quotient | u64::from(rest != 0)) as f64 * power_of_two(-shift);
    }
    let mut value = mantissa as f64;
    let mut left = exponent.clamp(-400, 400);
    while left > 0 {
        let step = left.min(19);
        value *= 10_u64.pow(step.unsigned_abs()) as f64;
        left -= step;
    }
    while left < 0 {
        let step = (-left).min(19);
        value /= if step == 19 { TEN_19 as f64 } else { 10_u64.pow(step.unsigned_abs()) as f64 };
        left += step;
    }
    value
}
