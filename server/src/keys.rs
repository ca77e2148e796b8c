//! The keys file: who may connect.

use std::collections::BTreeSet;

use ablo_wasm::core::json::{Kind, Value};
use ablo_wasm::core::time::WallTime;

use crate::engine::{KeyKind, Participant, ParticipantKind, StaticKey};

/// Reads a keys file. `now` is the start of the server.
///
/// # Errors
/// Which entry is wrong, and how.
pub fn parse(text: &str, now: WallTime) -> Result<Vec<StaticKey>, String> {
    let list = Value::parse(text).map_err(|error| error.to_string())?;
    if list.kind != Kind::Array {
        return Err("it must be a JSON array of keys; see --help".to_owned());
    }
    let mut tokens = BTreeSet::new();
    let mut keys = Vec::new();
    for (index, entry) in list.elements().enumerate() {
        let key = parse_key(entry, now).map_err(|why| format!("entry {index}: {why}"))?;
        if !tokens.insert(key.token.clone()) {
            return Err(format!("entry {index}: its token is that of an earlier entry; every key needs its own"));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn parse_key(entry: Value<'_>, now: WallTime) -> Result<StaticKey, String> {
    let text = |name: &str| match entry.get_str(name) {
        Some(text) if !text.is_empty() => Ok(text.into_owned()),
        _ => Err(format!("{name} must be a non-empty string")),
    };
    let token = text("token")?;
    // It travels unencoded in a list of subprotocols, where a browser accepts no other characters.
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.~!#$%&'*+^`|".contains(&byte)) {
        return Err("token may have letters, digits, - _ and . only".to_owned());
    }
    let kind = text("participantKind")?;
    let Some(kind) = ParticipantKind::parse(&kind) else {
        return Err(format!("participantKind must be user, agent or system, not {kind}"));
    };
    let (id, organization) = (text("participantId")?, text("organizationId")?);
    let strings = |name: &str| match entry.get(name).filter(|list| !list.is_null()) {
        None => Ok(None),
        Some(list) if list.kind == Kind::Array && list.elements().all(|item| item.kind == Kind::String) => {
            Ok(Some(list.elements().filter_map(|item| item.as_str().map(String::from)).collect::<Vec<_>>()))
        }
        Some(_) => Err(format!("{name} must be a list of strings")),
    };
    let usual = || {
        let own = (kind == ParticipantKind::User).then(|| format!("user:{id}"));
        std::iter::once(format!("org:{organization}")).chain(own).collect()
    };
    let expires_at = match entry.get("expiresInSeconds").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
            let seconds = seconds.ok_or("expiresInSeconds must be a number from 0 up")?;
            Some(WallTime(now.0.saturating_add((seconds * 1000.0) as u64)))
        }
    };
    let participant = Participant {
        kind,
        sync_groups: strings("syncGroups")?.unwrap_or_else(usual).into_iter().collect(),
        id: id.into(),
        organization: organization.into(),
        operations: strings("operations")?.unwrap_or_else(|| vec!["*".to_owned()]),
        key: KeyKind::of(&token),
        expires_at,
        key_hash: None,
    };
    Ok(StaticKey { token, participant })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_sensible_defaults() {
        let text = r#"[{"token":"sk_test_a","participantKind":"system","participantId":"s","organizationId":"acme"},
            {"token":"ek_test_u","participantKind":"user","participantId":"u1","organizationId":"acme","expiresInSeconds":0.5}]"#;
        let keys = parse(text, WallTime(1000)).unwrap();
        assert_eq!(keys[0].participant.key, KeyKind::Secret);
        assert_eq!(keys[0].participant.sync_groups, BTreeSet::from(["org:acme".to_owned()]));
        assert_eq!(keys[1].participant.sync_groups.len(), 2);
        assert_eq!(keys[1].participant.expires_at, Some(WallTime(1500)));
    }

    #[test]
    fn mistakes_are_named() {
        let entry = |more: &str| {
            format!(r#"{{"token":"t","participantKind":"user","participantId":"u","organizationId":"o"{more}}}"#)
        };
        for (text, word) in [
            ("{}".to_owned(), "array"),
            ("[1".to_owned(), "malformed"),
            ("[{}]".to_owned(), "token"),
            (format!("[{}]", entry(r#","token":"a b""#)), "letters"),
            (format!("[{}]", entry(r#","participantKind":"robot""#)), "robot"),
            (format!("[{}]", entry(r#","syncGroups":"org:o""#)), "syncGroups"),
            (format!("[{}]", entry(r#","expiresInSeconds":-1"#)), "expiresInSeconds"),
            (format!("[{},{}]", entry(""), entry("")), "entry 1"),
        ] {
            let error = parse(&text, WallTime(0)).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
