//! JSON text as rows and frames use it: a strict pull reader, shallow edits, and a writer.
//!
//! Rows stay text from the socket to the page, so this module never builds a tree. It checks every byte it passes
//! (RFC 8259, nesting up to [`DEPTH_MAX`]) and hands out slices of the input. It deliberately does not format or
//! round numbers: a number that nobody edits keeps the digits it came with.

mod read;
mod write;

pub use read::{DEPTH_MAX, Elements, JsonError, JsonStr, Kind, Members, Reader, SAFE_INTEGER_MAX, Value};
pub use write::{ArrayWriter, ObjectWriter, merge, write_array, write_str, write_u64};

/// First position at or after `pos` that holds a quote, a backslash or a control character, or the end. Eight bytes
/// at a time: strings are most of a row, and this loop is most of a bootstrap.
#[inline(always)]
fn skip_plain(bytes: &[u8], mut pos: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(pos..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let slash = word ^ (ONES * b'\\' as u64);
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & HIGH;
        if found != 0 {
            return pos + (found.trailing_zeros() / 8) as usize;
        }
        pos += 8;
    }
    while bytes.get(pos).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        pos += 1;
    }
    pos
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        Value::parse(text).is_ok()
    }

    #[test]
    fn accepts_and_refuses_what_the_grammar_says() {
        for good in
            ["0", "-0", "1.5e+3", "\"\\u00e9\"", "[]", "{}", "[1,[2,{\"a\":null}]]", " { \"a\" : [ ] } ", "\"\\ud800\""]
        {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "\"\n\"",
            "\"\\x\"",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{,}",
            "tru",
            "nul",
            "[1 2]",
            "{} {}",
            "\"",
            "[",
            "{\"a\":[}",
            "[1}",
            "\"\\u12g4\"",
            "\u{feff}1",
            "\0",
            "NaN",
        ] {
            assert!(!accepts(bad), "{bad:?}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(accepts(&deep(DEPTH_MAX)));
        assert!(!accepts(&deep(DEPTH_MAX + 1)));
    }

    #[test]
    fn strings_decode() {
        let value = Value::parse(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#).unwrap();
        assert_eq!(value.as_str().unwrap(), "a\"\\/\u{8}\u{c}\n\r\té😀z");
        let lone = Value::parse(r#""x\ud800y""#).unwrap().as_json_str().unwrap();
        assert_eq!(lone.decode(), "x\u{fffd}y");
        assert!(lone.decode_exact().is_none());
    }

    #[test]
    fn integers_stay_exact_or_are_refused() {
        let read = |text| Value::parse(text).unwrap().as_u64_lenient();
        assert_eq!(read("9007199254740991"), Some(SAFE_INTEGER_MAX));
        assert_eq!(read("9007199254740992"), None);
        assert_eq!(read("\"42\""), Some(42));
        assert_eq!(read("-1"), None);
        assert_eq!(read("1.0"), None);
    }

    #[test]
    fn merge_handles_repeated_and_escaped_keys() {
        assert_eq!(merge(r#"{"a":1,"a":2}"#, r#"{"\u0061":3}"#), r#"{"a":3}"#);
        assert_eq!(merge("{}", r#"{"__proto__":1}"#), r#"{"__proto__":1}"#);
        assert_eq!(merge(r#"{"n":9007199254740993}"#, "{}"), r#"{"n":9007199254740993}"#);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            (-1.0e9..1.0e9_f64).prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_what_a_known_writer_wrote(tree in any_json()) {
            let text = tree.to_string();
            let value = Value::parse(&text).unwrap();
            prop_assert_eq!(value.raw, text.as_str());
            for (key, member) in value.members() {
                let expected = &tree[key.decode().as_ref()];
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(member.raw).unwrap(), expected);
                if let Some(text) = expected.as_str() {
                    prop_assert_eq!(member.as_str().unwrap(), text);
                }
                if let Some(number) = expected.as_f64() {
                    prop_assert_eq!(member.as_f64().unwrap().to_bits(), number.to_bits());
                }
            }
        }

        #[test]
        fn agrees_with_a_known_parser_on_broken_text(tree in any_json(), at in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:\\\\ 0-9a-z\u{0}-\u{1f}é]") {
            let mut chars: Vec<char> = tree.to_string().chars().collect();
            let index = at.index(chars.len());
            chars[index] = with.chars().next().unwrap();
            let text: String = chars.into_iter().collect();
            // A lone surrogate escape is JSON but no Rust string, which the other parser insists on.
            prop_assume!(!text.contains("\\u"));
            prop_assert_eq!(accepts(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn written_strings_read_back(text in any::<String>()) {
            let mut out = String::new();
            write_str(&mut out, &text);
            prop_assert_eq!(Value::parse(&out).unwrap().as_str().unwrap(), text.as_str());
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }

        #[test]
        fn merge_is_a_shallow_assign(base in prop::collection::btree_map("[a-e\"\\\\]{0,2}", any::<i32>(), 0..6),
                                     patch in prop::collection::btree_map("[a-e\"\\\\]{0,2}", any::<i32>(), 0..6)) {
            let merged = merge(&serde_json::to_string(&base).unwrap(), &serde_json::to_string(&patch).unwrap());
            let mut expected = base;
            expected.extend(patch);
            prop_assert_eq!(serde_json::from_str::<std::collections::BTreeMap<String, i32>>(&merged).unwrap(), expected);
        }
    }
}
