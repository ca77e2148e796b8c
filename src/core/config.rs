//! What the application configured, checked.

use super::connection::Source;
use super::error::Error;
use super::json::{ObjectWriter, Value};
use super::schema::{Load, Schema};
use crate::core::text::{concat, contains, split};

/// Who the client acts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `user`, `agent` or `system`.
    pub kind: String,
    /// Participant id.
    pub participant: String,
    /// Organization.
    pub organization: String,
    /// Read groups.
    pub sync_groups: Vec<String>,
}

/// Configuration of one client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The application's models.
    pub schema: Schema,
    /// Normalised base address.
    pub base_url: String,
    /// Where the credential comes from.
    pub source: Source,
    /// The key or token, when it is given as such.
    pub token: Option<String>,
    /// Known without asking the server.
    pub identity: Option<Identity>,
    /// Participant kind to ask for.
    pub kind: String,
    /// Agent or user id to ask for.
    pub participant: Option<String>,
    /// Groups besides those that the server grants.
    pub sync_groups: Vec<String>,
    /// Whether rows are loaded at start; agents do not.
    pub bootstrap: Option<bool>,
    /// IANA name, told to peers.
    pub timezone: Option<String>,
    /// Whether writes must be in the journal before they are sent.
    pub durable: bool,
    /// Whether rows and writes are kept on the device.
    pub stored: bool,
}

impl Config {
    /// Reads the configuration object that the SDK passes, which has checked kinds and words of options already. What is
    /// of the wrong kind counts as not given.
    ///
    /// # Errors
    /// `base_url_missing`, `invalid_options` or `schema_definition_invalid`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let root = Value::parse(text).map_err(|error| Error::local("invalid_options", error.message()))?;
        let string = |key: &str| {
            let text = root.get_str(key)?;
            let text = text.trim_ascii();
            if text.is_empty() { None } else { Some(text.to_owned()) }
        };
        let schema = Schema::parse(root.at("schema").raw)?;
        let base_url = check_base_url(string("baseUrl").unwrap_or_default())?;
        let kind = string("kind").unwrap_or_else(|| "user".to_owned());
        let (token, key) = (string("authToken"), string("apiKey"));
        let source = match &key {
            _ if token.is_some() => Source::Token,
            Some(key) if ["pk_", "ek_", "rk_"].iter().any(|prefix| key.starts_with(prefix)) => Source::Token,
            Some(_) => Source::Exchange,
            None if root.get_bool("apiKeyFunction").unwrap_or(false) => Source::Function,
            None => Source::Missing,
        };
        let sync_groups = root.get_strings("syncGroups");
        let participant = string("participantId");
        let identity = match (&participant, string("organizationId")) {
            (Some(participant), Some(organization)) => Some(Identity {
                kind: kind.clone(),
                participant: participant.clone(),
                organization,
                sync_groups: sync_groups.clone(),
            }),
            _ => None,
        };
        let bootstrap = string("bootstrapMode").map(|mode| mode == "full");
        Ok(Self {
            schema,
            base_url,
            source,
            token: token.or(key),
            identity,
            kind,
            participant,
            sync_groups,
            bootstrap,
            timezone: string("timezone"),
            durable: root.get_bool("durable").unwrap_or(false),
            stored: root.get_str("persistence").is_some_and(|mode| mode == "indexeddb"),
        })
    }

    /// The address of an HTTP endpoint: the base with `/api` once, and `path`.
    pub fn api(&self, path: &str) -> String {
        let api = if self.base_url.ends_with("/api") { "" } else { "/api" };
        concat(&[&self.base_url, api, path])
    }

    /// The address of the probe. `/api` is not de-duplicated here (protocol.md 2.1).
    pub fn probe_url(&self) -> String {
        concat(&[&self.base_url, "/api/auth/check"])
    }

    /// The address of the socket: no token, only what protocol.md 6.1 lists.
    pub fn socket_url(&self, cursor: Option<&str>, kind: &str, groups: &[String]) -> String {
        let base = match self.base_url.strip_prefix("http") {
            Some(rest) => concat(&["ws", rest]),
            None => self.base_url.clone(),
        };
        let mut url = concat(&[&base, "/api/sync/ws?cursor="]);
        encode(&mut url, cursor.unwrap_or_default());
        if kind != "user" {
            url.push_str("&kind=");
            encode(&mut url, kind);
        }
        for group in groups {
            url.push_str("&syncGroups=");
            encode(&mut url, group);
        }
        url
    }

    /// The address of the snapshot.
    pub fn bootstrap_url(&self, groups: &[String]) -> String {
        let mut url = self.api("/sync/bootstrap");
        let mut sign = '?';
        for group in groups {
            url.push(sign);
            url.push_str("syncGroups=");
            encode(&mut url, group);
            sign = '&';
        }
        let mut list = String::new();
        for model in self.schema.models.iter().filter(|model| model.load == Load::Instant) {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&model.typename);
        }
        if !list.is_empty() {
            url.push(sign);
            url.push_str("models=");
            encode(&mut url, &list);
        }
        url
    }

    /// The body of the start-up exchange (protocol.md 4.1).
    pub fn exchange_body(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("participantKind", if self.kind == "agent" { "agent" } else { "system" });
        object.opt_str("participantId", self.participant.as_deref());
        object.bool("wideScope", true);
        object.u64("ttlSeconds", 3600);
        object.end();
        out
    }
}

/// Checks a base address that the SDK has normalised (protocol.md 2.1): a default, aliases and schemes are its business.
///
/// ```
/// use ablo_wasm::core::config::check_base_url;
///
/// assert_eq!(check_base_url("https://sync.example.com/v2".into())?, "https://sync.example.com/v2");
/// assert_eq!(check_base_url("ftp://sync.example.com".into()).unwrap_err().code, "invalid_options");
/// # Ok::<(), ablo_wasm::core::error::Error>(())
/// ```
///
/// # Errors
/// `base_url_missing` when no host is named, `invalid_options` for another scheme, or credentials.
pub fn check_base_url(text: String) -> Result<String, Error> {
    let wrong = |code, message| Err(Error::local(code, message).param("baseURL"));
    let (scheme, rest) = split(&text, "://").unwrap_or_default();
    let host = split(rest, "/").map_or(rest, |(host, _)| host);
    if host.is_empty() {
        return wrong("base_url_missing", "baseURL names no host");
    }
    if !matches!(scheme, "http" | "https") {
        return wrong("invalid_options", "baseURL must start with http, https, ws or wss");
    }
    if contains(host, "@") {
        return wrong("invalid_options", "baseURL must not contain credentials");
    }
    Ok(text)
}

/// Percent-encodes a query value as an HTML form does, but for space, which becomes `%20`.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> Result<Config, Error> {
        Config::parse(&format!(
            r#"{{"schema":{{"v":3,"models":{{"tasks":{{"fields":{{}},"typename":"Task"}}}}}},"baseUrl":"http://h"{extra}}}"#
        ))
    }

    #[test]
    fn addresses() {
        let config = config(r#","baseUrl":"http://h:1/api""#).unwrap();
        assert_eq!(config.api("/sync/query"), "http://h:1/api/sync/query");
        assert_eq!(config.probe_url(), "http://h:1/api/api/auth/check");
        assert_eq!(
            config.socket_url(None, "agent", &["org:acme".into(), "deck:ü".into()]),
            "ws://h:1/api/api/sync/ws?cursor=&kind=agent&syncGroups=org%3Aacme&syncGroups=deck%3A%C3%BC"
        );
        assert_eq!(
            config.bootstrap_url(&["org:acme".into()]),
            "http://h:1/api/sync/bootstrap?syncGroups=org%3Aacme&models=Task"
        );
    }

    #[test]
    fn credentials_are_told_apart_by_prefix() {
        for (extra, source) in [
            ("", Source::Missing),
            (r#","apiKeyFunction":true"#, Source::Function),
            (r#","apiKey":"ek_test_1""#, Source::Token),
            (r#","apiKey":"sk_test_1""#, Source::Exchange),
            (r#","apiKey":"anything""#, Source::Exchange),
            (r#","authToken":"anything""#, Source::Token),
        ] {
            assert_eq!(config(extra).unwrap().source, source, "{extra}");
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for (extra, param) in [(r#","baseUrl":"ftp://x""#, "baseURL"), (r#","baseUrl":"http://u:p@x""#, "baseURL")] {
            assert_eq!(config(extra).unwrap_err().param.as_deref(), Some(param), "{extra}");
        }
    }
}
