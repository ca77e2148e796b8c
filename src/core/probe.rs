//! What the probe's answer means (protocol.md 4.4, connection.md 2).

use super::error::{Error, Recovery};
use super::input::Response;

/// What a probe found (protocol.md 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server answers and the credential is good.
    Reachable,
    /// No answer, or not from this server, or it asks to be left alone for a while.
    Unreachable(Error),
    /// A new credential is needed.
    Stale(Error),
    /// The login is over.
    SessionExpired(Error),
    /// The credential is refused.
    Blocked(Error),
}

impl Probe {
    /// Reads a probe's answer. Whatever answers in the server's place (a captive portal, a gateway) does not say 204, nor
    /// why it refuses.
    pub fn classify(response: &Result<Response, String>) -> Self {
        let unreachable = |code: &'static str, why| Self::Unreachable(Error::local(code, why));
        let Ok(response) = response else { return unreachable("commit_no_result", "the server cannot be reached") };
        let Some(code) = response.auth_failure.as_deref().filter(|code| !code.is_empty()) else {
            return match response.status {
                401 => Self::Stale(Error::wire("apikey_expired", REFUSED)),
                200..=399 if response.status != 204 => unreachable(
                    "captive_portal",
                    "something else answers in the server's place; a network's login page?",
                ),
                429 | 502..=504 => {
                    let mut error = Error::local("instance_at_capacity", "the server is too busy or not there");
                    error.retry_after_ms = response.retry_after_ms;
                    Self::Unreachable(error)
                }
                _ => Self::Reachable,
            };
        };
        let mut error = Error::wire(code.to_owned(), REFUSED);
        match error.recovery() {
            Recovery::SessionExpiry => Self::SessionExpired(error),
            Recovery::AccessCredentialExpiry => Self::Stale(error),
            Recovery::Transient => {
                error.retry_after_ms = response.retry_after_ms;
                Self::Unreachable(error)
            }
            Recovery::Permission | Recovery::AuthBlocked | Recovery::None => Self::Blocked(error),
        }
    }
}

const REFUSED: &str = "the server refused the credential";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_the_protocol_says() {
        let answer = |status, failure: Option<&str>| {
            Probe::classify(&Ok(Response { status, auth_failure: failure.map(Into::into), ..Response::default() }))
        };
        let unreachable =
            |probe: Probe| if let Probe::Unreachable(error) = probe { error.code.to_string() } else { String::new() };
        assert_eq!(unreachable(Probe::classify(&Err("timeout".into()))), "commit_no_result");
        assert_eq!(answer(204, None), Probe::Reachable);
        assert_eq!(answer(404, None), Probe::Reachable);
        assert_eq!(answer(500, None), Probe::Reachable);
        assert_eq!(unreachable(answer(200, None)), "captive_portal");
        assert_eq!(unreachable(answer(302, None)), "captive_portal");
        assert_eq!(unreachable(answer(503, None)), "instance_at_capacity");
        assert!(matches!(answer(401, None), Probe::Stale(_)));
        assert!(matches!(answer(401, Some("apikey_expired")), Probe::Stale(_)));
        assert!(matches!(answer(401, Some("session_expired")), Probe::SessionExpired(_)));
        assert!(matches!(answer(401, Some("apikey_revoked")), Probe::Blocked(_)));
        assert!(matches!(answer(401, Some("a_code_from_the_future")), Probe::Blocked(_)));
        assert_eq!(unreachable(answer(429, Some("rate_limit_exceeded"))), "rate_limit_exceeded");
    }
}
