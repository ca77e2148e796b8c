//! Reads what `POST /faults` is given. A switch that is misspelt or half right would make a test pass for the wrong
//! reason, so everything is checked, and nothing is guessed.

use std::time::Duration;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Kind, Value};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Close, Outcome, Rule, Switches, is_ours};
use crate::engine::KeyEnd;

/// Longest delay: more than any client waits.
const DELAY_MAX_MS: u64 = 3_600_000;
/// How far the clock may run ahead: ten years.
const AHEAD_MAX_MS: u64 = 10 * 365 * 86_400_000;
/// Longest reason that fits a close frame.
const REASON_BYTES_MAX: usize = 123;

const SWITCHES: [&str; 10] = [
    "rules",
    "close",
    "halfOpen",
    "expire",
    "revoke",
    "endLogin",
    "restore",
    "clockAheadMs",
    "maxConnections",
    "reset",
];
const RULE: [&str; 9] = ["path", "method", "times", "delayMs", "status", "headers", "body", "stall", "drop"];
const CLOSE: [&str; 3] = ["code", "reason", "token"];

impl Switches {
    /// # Errors
    /// `invalid_json`, or `invalid_body` with the member that is wrong and what would be right.
    pub(super) fn parse(body: &str) -> Result<Self, Error> {
        let body = Value::parse(body)?;
        check_members("the body", "", body, &SWITCHES)?;
        let token = |member: &'static str| match body.get(member) {
            None => Ok(None),
            Some(value) => match value.as_str().filter(|token| !token.is_empty()) {
                Some(token) => Ok(Some(token.into_owned())),
                None => Err(wrong(member, "must be a token")),
            },
        };
        let mut switches = Self {
            reset: flag("", body, "reset")?,
            half_open: flag("", body, "halfOpen")?,
            clock_ahead_ms: number("", body, "clockAheadMs", 0, AHEAD_MAX_MS)?,
            restore: token("restore")?,
            ..Self::default()
        };
        for (member, end) in
            [("expire", KeyEnd::Expired), ("revoke", KeyEnd::Revoked), ("endLogin", KeyEnd::LoginEnded)]
        {
            if let Some(token) = token(member)? {
                switches.tokens.push((member, token.clone()));
                switches.ends.push((end, token));
            }
        }
        if let Some(token) = &switches.restore {
            switches.tokens.push(("restore", token.clone()));
        }
        switches.max_connections = match body.get("maxConnections") {
            Some(value) if value.is_null() => Some(None),
            _ => number("", body, "maxConnections", 0, u64::from(u32::MAX))?.map(|max| usize::try_from(max).ok()),
        };
        if let Some(rules) = body.get("rules") {
            if rules.kind != Kind::Array {
                return Err(wrong("rules", "must be a list of rules; an empty one removes all"));
            }
            let rules = rules.elements().enumerate().map(|(index, rule)| read_rule(&format!("rules[{index}]"), rule));
            switches.rules = Some(rules.collect::<Result<_, _>>()?);
        }
        if let Some(close) = body.get("close") {
            let close = read_close(close)?;
            if let Some(token) = &close.token {
                switches.tokens.push(("close.token", token.clone()));
            }
            switches.close = Some(close);
        }
        Ok(switches)
    }
}

fn read_rule(at: &str, rule: Value<'_>) -> Result<Rule, Error> {
    check_members(at, at, rule, &RULE)?;
    let Some(path) = rule.get_string("path").filter(|path| path.starts_with('/')) else {
        return Err(wrong(&join(at, "path"), "must be the beginning of a path, such as /api"));
    };
    let method = match rule.get("method") {
        None => None,
        Some(method) => Some(read_method(&join(at, "method"), method)?),
    };
    let status = number(at, rule, "status", 200, 599)?;
    let (stall, cut) = (flag(at, rule, "stall")?, flag(at, rule, "drop")?);
    if usize::from(status.is_some()) + usize::from(stall) + usize::from(cut) > 1 {
        return Err(wrong(at, "must have one of status, stall and drop at most"));
    }
    let (headers, body) = (read_headers(at, rule)?, text(at, rule, "body")?);
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let outcome = match status {
        Some(status) => {
            Outcome::Answer { status, headers: headers.unwrap_or_default(), body: body.unwrap_or_default() }
        }
        None if headers.is_some() || body.is_some() => {
            return Err(wrong(at, "has headers or body, which need a status"));
        }
        None if stall => Outcome::Stall,
        None if cut => Outcome::Drop,
        None => Outcome::Real,
    };
    let times = number(at, rule, "times", 1, u64::from(u32::MAX))?;
    let delay = number(at, rule, "delayMs", 0, DELAY_MAX_MS)?;
    Ok(Rule {
        path,
        method,
        left: times.unwrap_or(u64::MAX),
        delay: Duration::from_millis(delay.unwrap_or(0)),
        outcome,
    })
}

fn read_method(at: &str, value: Value<'_>) -> Result<Method, Error> {
    // Upper case only: methods differ by case, and a lower-case one would never match.
    let name = value.as_str().filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase()));
    let method = name.and_then(|name| Method::from_bytes(name.as_bytes()).ok());
    method.ok_or_else(|| wrong(at, "must be a method in capital letters, such as HEAD"))
}

fn read_headers(at: &str, rule: Value<'_>) -> Result<Option<HeaderMap>, Error> {
    let Some(headers) = rule.get("headers") else { return Ok(None) };
    let at = join(at, "headers");
    if headers.kind != Kind::Object {
        return Err(wrong(&at, "must be an object of strings"));
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers.members() {
        let name = name.decode();
        let value = value.as_str().and_then(|value| HeaderValue::from_str(&value).ok());
        let header = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !is_ours(name));
        let (Some(header), Some(value)) = (header, value) else {
            let why = format!("has {name:.40}, which is no header with a text, or one that the server sets itself");
            return Err(wrong(&at, &why));
        };
        map.append(header, value);
    }
    Ok(Some(map))
}

fn read_close(close: Value<'_>) -> Result<Close, Error> {
    check_members("close", "close", close, &CLOSE)?;
    let code = number("close", close, "code", 1000, 4999)?.and_then(|code| u16::try_from(code).ok());
    // The others may not appear on the wire (RFC 6455, 7.4).
    let code = code.filter(|code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
    let Some(code) = code else {
        return Err(wrong("close.code", "must be a close code that can be sent: 1000 to 1003, 1007 to 1014, 3000 up"));
    };
    let reason = text("close", close, "reason")?.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(wrong("close.reason", &format!("may have {REASON_BYTES_MAX} bytes at most")));
    }
    Ok(Close { code, reason, token: text("close", close, "token")? })
}

/// An object with these members and no others.
fn check_members(what: &str, at: &str, value: Value<'_>, known: &[&str]) -> Result<(), Error> {
    if value.kind != Kind::Object {
        return Err(wrong(what, "must be a JSON object"));
    }
    for (name, _) in value.members() {
        let name = name.decode();
        if !known.contains(&&*name) {
            let why = format!("has no member {name:.40}; known are {}", known.join(", "));
            return Err(Error::wire("invalid_body", format!("{what} {why}")).param(join(at, &format!("{name:.40}"))));
        }
    }
    Ok(())
}

fn flag(at: &str, value: Value<'_>, member: &str) -> Result<bool, Error> {
    match value.get(member) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(&join(at, member), "must be true or false")),
    }
}

fn text(at: &str, value: Value<'_>, member: &str) -> Result<Option<String>, Error> {
    match value.get(member) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(wrong(&join(at, member), "must be a string")),
        },
    }
}

fn number(at: &str, value: Value<'_>, member: &str, min: u64, max: u64) -> Result<Option<u64>, Error> {
    let Some(value) = value.get(member) else { return Ok(None) };
    let number = value.as_u64().filter(|number| (min..=max).contains(number));
    let why = || wrong(&join(at, member), &format!("must be a whole number from {min} to {max}"));
    number.map(Some).ok_or_else(why)
}

fn join(at: &str, member: &str) -> String {
    if at.is_empty() { member.to_owned() } else { format!("{at}.{member}") }
}

fn wrong(at: &str, why: &str) -> Error {
    Error::wire("invalid_body", format!("{at} {why}")).param(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_be_asked_for_is_read() {
        let switches = Switches::parse(
            r#"{"rules":[{"path":"/api","method":"HEAD","times":2,"delayMs":5,"status":200,"headers":{"X-A":"b"},"body":"c"},
            {"path":"/","stall":true},{"path":"/a","drop":true,"stall":false},{"path":"/b"}],
            "close":{"code":4010,"reason":"r","token":"ek_a"},"halfOpen":true,"expire":"a","revoke":"b","endLogin":"c",
            "restore":"d","clockAheadMs":7,"maxConnections":null,"reset":true}"#,
        )
        .unwrap();
        let rules = switches.rules.unwrap();
        assert_eq!(
            (rules[0].left, rules[0].delay, &rules[0].method),
            (2, Duration::from_millis(5), &Some(Method::HEAD))
        );
        let Outcome::Answer { status, headers, body } = &rules[0].outcome else { panic!("no answer") };
        assert_eq!((status.as_u16(), &headers["x-a"], body.as_str()), (200, &HeaderValue::from_static("b"), "c"));
        let rest: Vec<_> = rules.iter().skip(1).map(|rule| (&rule.outcome, rule.left)).collect();
        assert_eq!(rest, [(&Outcome::Stall, u64::MAX), (&Outcome::Drop, u64::MAX), (&Outcome::Real, u64::MAX)]);
        let close = Close { code: 4010, reason: "r".to_owned(), token: Some("ek_a".to_owned()) };
        assert_eq!((switches.close, switches.half_open, switches.reset), (Some(close), true, true));
        assert_eq!((switches.clock_ahead_ms, switches.max_connections), (Some(7), Some(None)));
        assert_eq!(switches.tokens.len(), 5);
        assert_eq!(Switches::parse("{}").unwrap(), Switches::default());
    }

    #[test]
    fn mistakes_are_named() {
        for (body, param, word) in [
            ("[]", "the body", "object"),
            (r#"{"half_open":true}"#, "half_open", "known are rules, close, halfOpen,"),
            (r#"{"halfOpen":1}"#, "halfOpen", "true or false"),
            (r#"{"reset":null}"#, "reset", "true or false"),
            (r#"{"expire":7}"#, "expire", "a token"),
            (r#"{"clockAheadMs":-1}"#, "clockAheadMs", "from 0 to"),
            (r#"{"clockAheadMs":1e99}"#, "clockAheadMs", "from 0 to"),
            (r#"{"maxConnections":"2"}"#, "maxConnections", "whole number"),
            (r#"{"rules":{}}"#, "rules", "list"),
            (r#"{"rules":[{"path":"/a"},7]}"#, "rules[1]", "object"),
            (r#"{"rules":[{}]}"#, "rules[0].path", "/api"),
            (r#"{"rules":[{"path":"api"}]}"#, "rules[0].path", "/api"),
            (r#"{"rules":[{"path":"/","verb":"GET"}]}"#, "rules[0].verb", "path, method, times"),
            (r#"{"rules":[{"path":"/","method":"head"}]}"#, "rules[0].method", "capital"),
            (r#"{"rules":[{"path":"/","times":0}]}"#, "rules[0].times", "from 1"),
            (r#"{"rules":[{"path":"/","status":101}]}"#, "rules[0].status", "from 200 to 599"),
            (r#"{"rules":[{"path":"/","status":200,"drop":true}]}"#, "rules[0]", "one of"),
            (r#"{"rules":[{"path":"/","body":"x"}]}"#, "rules[0]", "need a status"),
            (r#"{"rules":[{"path":"/","status":200,"body":{}}]}"#, "rules[0].body", "string"),
            (r#"{"rules":[{"path":"/","status":200,"headers":{"a b":"c"}}]}"#, "rules[0].headers", "a b"),
            (r#"{"rules":[{"path":"/","status":200,"headers":{"a":"\n"}}]}"#, "rules[0].headers", "no header"),
            (r#"{"rules":[{"path":"/","status":200,"headers":{"Content-Length":"9"}}]}"#, "rules[0].headers", "itself"),
            (r#"{"close":{}}"#, "close.code", "3000"),
            (r#"{"close":{"code":1006}}"#, "close.code", "1007"),
            (r#"{"close":{"code":4010,"reason":7}}"#, "close.reason", "string"),
            (r#"{"close":{"code":4010,"why":"x"}}"#, "close.why", "code, reason, token"),
        ] {
            let error = Switches::parse(body).unwrap_err();
            assert_eq!((error.code.as_ref(), error.param.as_deref()), ("invalid_body", Some(param)), "{body}");
            assert!(error.message.contains(word), "{body}: {}", error.message);
        }
        assert_eq!(Switches::parse("{").unwrap_err().code, "invalid_json");
        let long = format!(r#"{{"close":{{"code":4010,"reason":"{}"}}}}"#, "x".repeat(124));
        assert!(Switches::parse(&long).unwrap_err().message.contains("123"));
    }
}
