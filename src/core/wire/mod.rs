//! The protocol's frames and records: types, decoding, encoding. Client and server share this module and only it.
//!
//! Decoding borrows from the frame's text and is lenient where protocol.md says a receiver is: unknown members and
//! unknown frame types pass, ids may be numeric strings, `data` may be an object or the text of one. Encoding is
//! strict. Nothing here decides what a frame means; see `engine`.

mod client;
mod delta;
mod server;

pub use client::{ClientFrame, Commit, OnStale, OpKind, Operation, Presence, write_operations};
pub use delta::{Action, BadDelta, Delta, GroupChange, RawDelta};
pub use server::{MutationResult, ServerFrame, SubscriptionAck, SyncResponse};

use std::borrow::Cow;

use super::error::Error;
use super::json::{JsonError, JsonStr, Reader, Value};
use crate::core::text::concat;

/// The subprotocol that both sides agree on (protocol.md 6.2).
pub const SUBPROTOCOL: &str = "ablo.sync.v1";
/// Prefix of the subprotocol entry that carries the credential.
pub const BEARER_PREFIX: &str = "ablo.bearer.";
/// Longest idempotency key (api.md 2.5).
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// The text is not what the protocol says.
pub(crate) fn malformed(what: &str, why: &str) -> Error {
    Error::wire("protocol_violation", concat(&[what, ": ", why]))
}

impl From<JsonError> for Error {
    fn from(error: JsonError) -> Self {
        Self::wire("invalid_json", error.message())
    }
}

/// Splits a frame into its type and payload. The payload is the whole frame where older servers put it at top level.
/// `read` may read the value of a member of the payload, or of the frame, itself; it then says so.
fn envelope<'a>(text: &'a str, read: &mut ReadMember<'_, 'a>) -> Result<(Cow<'a, str>, Value<'a>), Error> {
    // One pass: frames with thousands of deltas come through here.
    let mut reader = Reader::new(text);
    let (mut kind, mut payload, mut first) = (None, None, true);
    reader.begin_object()?;
    while let Some(key) = reader.next_key(&mut first)? {
        match key.raw() {
            "payload" if reader.peek() == b'{' => {
                let start = reader.position();
                let mut first = true;
                reader.begin_object()?;
                while let Some(key) = reader.next_key(&mut first)? {
                    if !read(key, &mut reader)? {
                        reader.value()?;
                    }
                }
                payload = Some(reader.since(start));
            }
            "payload" => {
                reader.value()?;
                payload = Some("{}");
            }
            "type" => kind = reader.value()?.as_str(),
            _ => {
                if !read(key, &mut reader)? {
                    reader.value()?;
                }
            }
        }
    }
    reader.end()?;
    Ok((kind.unwrap_or_default(), Value::known_object(payload.unwrap_or(text))))
}

type ReadMember<'f, 'a> = dyn FnMut(JsonStr<'a>, &mut Reader<'a>) -> Result<bool, JsonError> + 'f;
