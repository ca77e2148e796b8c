//! The little of URLs that this server needs: percent encoding, path segments, query parameters.

/// Undoes percent encoding. `None` for broken escapes and for what is not UTF-8 afterwards.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// The segments of a path, decoded, empty ones at the end left out. `None` when one cannot be decoded.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let trimmed = path.trim_start_matches('/').trim_end_matches('/');
    if trimmed.is_empty() {
        return Some(Vec::new());
    }
    trimmed.split('/').map(|segment| decode(segment, false)).collect()
}

/// The parameters of a query, decoded. Those that cannot be are left out.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        for (text, expected) in [
            ("a%20b", Some("a b")),
            ("a+b", Some("a+b")),
            ("%C3%A9", Some("é")),
            ("%", None),
            ("%2", None),
            ("%+1", None),
            ("%ff", None),
            ("%é", None),
            ("é%41", Some("éA")),
        ] {
            assert_eq!(decode(text, false).as_deref(), expected, "{text}");
        }
        assert_eq!(segments("/api/sync/").unwrap(), ["api", "sync"]);
        assert_eq!(segments("/a%2Fb/c").unwrap(), ["a/b", "c"]);
        assert_eq!(
            parameters("syncGroups=org%3Aacme&syncGroups=deck%3Ad+1&x"),
            [("syncGroups", "org:acme"), ("syncGroups", "deck:d 1"), ("x", "")].map(|(a, b)| (a.into(), b.into()))
        );
    }
}
