//! The signature of a request to a source (protocol.md 16.1).

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of `webhook-signature`. The key is the API key as it stands, all of it: it is not decoded.
pub(super) fn signature(api_key: &str, id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(api_key.as_bytes()).expect("HMAC takes keys of any length");
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by `openssl dgst -sha256 -hmac sk_test_backend -binary | base64`; tests/sdk/source.test.mjs has the same.
    #[test]
    fn the_whole_key_signs_id_timestamp_and_body() {
        let body = r#"{"type":"load","model":"tasks","id":"té"}"#;
        assert_eq!(
            signature("sk_test_backend", "msg_1", "1782900000", body),
            "v1,I61kzqXRhkRn7ZcYjrdM51Jk7gLOiGnm3nHt+ofAr5Y="
        );
    }
}
