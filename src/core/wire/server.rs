//! Frames from server to client (protocol.md section 8).

use std::borrow::Cow;

use super::{RawDelta, envelope};
use crate::core::error::Error;
use crate::core::id::SyncId;
use crate::core::json::{JsonError, JsonStr, Kind, ObjectWriter, Reader, Value};

/// Answer to `sync_request`.
#[derive(Clone, Debug, Default)]
pub struct SyncResponse<'a> {
    /// The deltas missed, in order.
    pub deltas: Vec<RawDelta<'a>>,
    /// The server's head.
    pub current_sync_id: Option<SyncId>,
    /// Whether the server asks for a bootstrap instead.
    pub requires_bootstrap: bool,
    /// The cursor to hand back.
    pub cursor: Option<String>,
}

impl<'a> SyncResponse<'a> {
    /// Reads a member of the payload, if it is one of these.
    fn read(&mut self, key: JsonStr<'a>, reader: &mut Reader<'a>) -> Result<bool, JsonError> {
        match key.raw() {
            "deltas" if reader.peek() == b'[' => self.deltas = RawDelta::read_all(reader)?,
            "currentSyncId" => self.current_sync_id = reader.value()?.as_u64_lenient().map(SyncId),
            "requiresBootstrap" => self.requires_bootstrap = reader.value()?.as_bool().unwrap_or(false),
            "newCursor" => self.cursor = cursor(reader.value()?).or(self.cursor.take()),
            "cursor" if self.cursor.is_none() => self.cursor = cursor(reader.value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn cursor(value: Value<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(Cow::into_owned)
}

/// The acknowledgement of a commit (protocol.md 10.5); also the body of an HTTP receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutationResult {
    /// Which commit.
    pub client_tx_id: String,
    /// The server's name for it.
    pub server_tx_id: String,
    /// Whether it was applied.
    pub success: bool,
    /// Id of its last delta, or the head.
    pub last_sync_id: SyncId,
    /// Operations in the commit.
    pub ops: u64,
    /// The text of an array of stale notifications, if there are any.
    pub notifications: Option<String>,
    /// Why it was refused.
    pub error: Option<Error>,
}

impl MutationResult {
    /// Reads a receipt.
    pub fn parse(payload: Value<'_>) -> Self {
        let text = |key: &str| payload.get_str(key).unwrap_or_default().into_owned();
        let number = |key: &str| payload.get_u64(key).unwrap_or(0);
        let success = payload.get_bool("success").unwrap_or(false);
        let error = match payload.get("error") {
            Some(error) if error.kind == Kind::String => {
                Some(Error::wire("", error.as_str().unwrap_or_default().into_owned()))
            }
            Some(error) => Error::from_body(error),
            None => None,
        };
        let notifications = payload.get("notifications").filter(|list| list.elements().next().is_some());
        Self {
            client_tx_id: text("clientTxId"),
            server_tx_id: text("serverTxId"),
            success,
            last_sync_id: SyncId(number("lastSyncId")),
            ops: number("ops"),
            notifications: notifications.map(|list| list.raw.to_owned()),
            error: error.or_else(|| (!success).then(|| Error::wire("commit_failed", "the server gave no reason"))),
        }
    }

    /// Writes the receipt.
    pub fn write(&self, out: &mut String) {
        let mut object = ObjectWriter::new(out);
        object.str("object", "commit_receipt");
        object.str("clientTxId", &self.client_tx_id);
        object.str("serverTxId", &self.server_tx_id);
        object.bool("success", self.success);
        object.str("status", if self.success { "confirmed" } else { "rejected" });
        object.u64("lastSyncId", self.last_sync_id.0);
        object.u64("ops", self.ops);
        if let Some(notifications) = &self.notifications {
            object.raw("notifications", notifications);
        }
        if let Some(error) = &self.error {
            let mut object = object.nested("error");
            object.str("code", &error.code);
            object.str("message", &error.message);
            object.opt_str("field", error.param.as_deref());
            let capability = error.details.as_deref().and_then(|details| Value::parse(details).ok());
            if let Some(capability) = capability.and_then(|details| details.get("requiredCapability")) {
                object.raw("requiredCapability", capability.raw);
            }
            object.end();
        }
        object.end();
    }
}

/// The answer to `update_subscription`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionAck {
    /// Whether the set was accepted.
    pub success: bool,
    /// The set in effect now.
    pub sync_groups: Vec<String>,
    /// Why it was refused.
    pub error: Option<Error>,
}

/// A frame from server to client.
#[derive(Clone, Debug)]
pub enum ServerFrame<'a> {
    /// Answer to a ping.
    Pong,
    /// Traffic only.
    Ping,
    /// Answer to `sync_request`.
    SyncResponse(SyncResponse<'a>),
    /// Live deltas.
    Deltas(Vec<RawDelta<'a>>),
    /// Answer to a commit.
    MutationResult(MutationResult),
    /// Answer to `update_subscription`.
    SubscriptionAck(SubscriptionAck),
    /// Any other type: presence, claims, collaboration events, types of the future.
    Other {
        /// The type.
        kind: Cow<'a, str>,
        /// The payload.
        payload: Value<'a>,
    },
}

impl<'a> ServerFrame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let mut members = SyncResponse::default();
        let (kind, payload) = envelope(text, &mut |key, reader| members.read(key, reader))?;
        Ok(match kind.as_ref() {
            "pong" => Self::Pong,
            "ping" => Self::Ping,
            "sync_response" => Self::SyncResponse(members),
            "delta" | "" if !members.deltas.is_empty() => Self::Deltas(members.deltas),
            "delta" | "" => {
                let single = RawDelta::read(&mut Reader::new(payload.raw))?;
                Self::Deltas(if single.is_delta() { vec![single] } else { Vec::new() })
            }
            "mutation_result" => Self::MutationResult(MutationResult::parse(payload)),
            "subscription_ack" => {
                let sync_groups = payload.get_strings("syncGroups");
                let success = payload.get_bool("success").unwrap_or(false) && payload.get("syncGroups").is_some();
                let error = payload.get("error").and_then(Error::from_body);
                Self::SubscriptionAck(SubscriptionAck { success, sync_groups, error })
            }
            _ => Self::Other { payload, kind },
        })
    }

    /// Writes a `pong`.
    pub fn pong() -> String {
        r#"{"type":"pong"}"#.to_owned()
    }

    /// Writes a `mutation_result`.
    pub fn mutation_result(result: &MutationResult) -> String {
        frame("mutation_result", |out| result.write(out))
    }

    /// Writes a `subscription_ack`.
    pub fn subscription_ack(ack: &SubscriptionAck) -> String {
        frame("subscription_ack", |out| {
            let mut payload = ObjectWriter::new(out);
            payload.bool("success", ack.success);
            payload.strs("syncGroups", &ack.sync_groups);
            if let Some(error) = &ack.error {
                payload.object("error", |object| {
                    object.str("code", &error.code);
                    object.str("message", &error.message);
                });
            }
            payload.end();
        })
    }

    /// Writes a `sync_response` whose `deltas` are the given texts, written by [`super::Delta::write`].
    pub fn sync_response<S: AsRef<str>>(deltas: &[S], current_sync_id: SyncId) -> String {
        frame("sync_response", |out| {
            let mut payload = ObjectWriter::new(out);
            write_deltas(payload.key("deltas"), deltas);
            payload.u64("currentSyncId", current_sync_id.0);
            payload.end();
        })
    }

    /// Writes a `delta` frame: a single delta is the payload itself, several come as a list (protocol.md 8.3).
    pub fn deltas<S: AsRef<str>>(deltas: &[S]) -> String {
        frame("delta", |out| match deltas {
            [one] => out.push_str(one.as_ref()),
            many => {
                let mut payload = ObjectWriter::new(out);
                write_deltas(payload.key("deltas"), many);
                payload.end();
            }
        })
    }
}

fn frame(kind: &str, fill: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", kind);
    fill(frame.key("payload"));
    frame.end();
    out
}

fn write_deltas<S: AsRef<str>>(out: &mut String, deltas: &[S]) {
    crate::core::json::write_array(out, deltas, |out, delta| out.push_str(delta.as_ref()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_read_back_as_written() {
        let accepted = MutationResult {
            client_tx_id: "0b9d".into(),
            server_tx_id: "11".into(),
            success: true,
            last_sync_id: SyncId(11),
            ops: 1,
            notifications: None,
            error: None,
        };
        let refused = MutationResult {
            success: false,
            error: Some(Error::wire("stale_context", "task/t1 changed after 10")),
            ..accepted.clone()
        };
        for result in [accepted, refused] {
            let text = ServerFrame::mutation_result(&result);
            let ServerFrame::MutationResult(read) = ServerFrame::parse(&text).unwrap() else { panic!("{text}") };
            assert_eq!(read, result);
        }
    }

    #[test]
    fn receipts_at_top_level_and_numbers_as_text_are_read() {
        let text = r#"{"type":"mutation_result","clientTxId":"k","success":true,"lastSyncId":"12"}"#;
        let ServerFrame::MutationResult(result) = ServerFrame::parse(text).unwrap() else { panic!("{text}") };
        assert_eq!((result.client_tx_id.as_str(), result.last_sync_id), ("k", SyncId(12)));
    }

    #[test]
    fn a_bare_delta_without_type_is_read() {
        let text = r#"{"id":1,"actionType":"D","modelName":"Task","modelId":"t1","data":null}"#;
        assert!(matches!(ServerFrame::parse(text).unwrap(), ServerFrame::Deltas(list) if list.len() == 1));
    }

    #[test]
    fn sync_responses_read_back() {
        let text =
            ServerFrame::sync_response(&[r#"{"id":1,"actionType":"D","modelName":"T","modelId":"x"}"#], SyncId(9));
        let ServerFrame::SyncResponse(response) = ServerFrame::parse(&text).unwrap() else { panic!("{text}") };
        assert_eq!((response.deltas.len(), response.current_sync_id), (1, Some(SyncId(9))));
        assert!(!response.requires_bootstrap);
    }
}
