//! Small work on texts, without the standard library's formatting and searching: both are machines for every case, and
//! half a hundred messages are no reason to ship them (docs/decisions/size.md).

/// One text from parts.
pub fn concat(parts: &[&str]) -> String {
    let mut out = String::new();
    for part in parts {
        out.push_str(part);
    }
    out
}

/// Where `part` first is in `text`: the place of its first byte. A part of no length is at the start.
pub fn find(text: &str, part: &str) -> Option<usize> {
    let last = text.len().checked_sub(part.len())?;
    (0..=last).find(|&at| text.as_bytes().get(at..at + part.len()) == Some(part.as_bytes()))
}

/// What stands before and after the first `word`.
pub fn split<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let at = find(text, word)?;
    Some((text.get(..at)?, text.get(at + word.len()..)?))
}

/// Whether `part` is somewhere in `text`.
pub fn contains(text: &str, part: &str) -> bool {
    find(text, part).is_some()
}

/// At most the first `max` bytes of a text, whole characters: what somebody else wrote may be long.
pub fn short(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// A number in decimal digits.
pub fn digits(number: u64) -> String {
    let mut out = String::new();
    super::json::write_u64(&mut out, number);
    out
}

/// The number that at most 19 decimal digits, and nothing else, write.
pub fn parse_digits(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut number = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(byte - b'0');
    }
    Some(number)
}

/// Whether `word` is in a list of words between spaces; the list's own.
pub fn word<'a>(list: &'a str, word: &str) -> Option<&'a str> {
    let mut start = 0;
    for (end, byte) in list.bytes().chain([b' ']).enumerate() {
        if byte == b' ' {
            let one = list.get(start..end)?;
            if one == word {
                return Some(one);
            }
            start = end + 1;
        }
    }
    None
}

/// A number in hexadecimal digits, at least `width` of them.
pub fn hex(number: u64, width: u32) -> String {
    let mut out = String::new();
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4);
    for place in (0..needed.max(width)).rev() {
        let digit = number.checked_shr(place * 4).unwrap_or(0) & 0xf;
        out.push(char::from(if digit < 10 { b'0' } else { b'a' - 10 } + digit as u8));
    }
    out
}

/// The number that hexadecimal digits, and nothing else, write.
pub fn parse_hex(digits: &str) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut number = 0;
    for byte in digits.bytes() {
        number = number << 4 | u64::from(char::from(byte).to_digit(16)?);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_as_the_standard_library(number: u64, width in 0_u32..20, text in "[aé]{0,8}", part in "[aé]{0,3}") {
            prop_assert_eq!(hex(number, width), format!("{number:0width$x}", width = width as usize));
            prop_assert_eq!(parse_hex(&hex(number, 1)), Some(number));
            prop_assert_eq!(digits(number), number.to_string());
            prop_assert_eq!(parse_digits(&digits(number >> 1)), Some(number >> 1));
            prop_assert_eq!(contains(&text, &part), text.contains(&part));
            prop_assert!(text.starts_with(short(&text, width as usize)) && short(&text, width as usize).len() <= width as usize);
        }
    }

    #[test]
    fn words_are_whole() {
        for found in ["a", "bc", "d"] {
            assert_eq!(word("a bc d", found), Some(found));
        }
        for missing in ["b", "c", "a bc", "e"] {
            assert_eq!(word("a bc d", missing), None, "{missing}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in ["", "a", "+1", "-1", "1.5", "10000000000000000000"] {
            assert_eq!(parse_digits(text), None, "{text}");
        }
        for text in ["", "g", "+1", "-1", "10000000000000000"] {
            assert_eq!(parse_hex(text), None, "{text}");
        }
        assert_eq!((hex(0, 0), hex(0, 1), hex(255, 4)), (String::new(), "0".into(), "00ff".into()));
    }
}
