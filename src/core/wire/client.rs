//! Frames from client to server (protocol.md section 7) and the commit (section 10).

use std::borrow::Cow;

use super::{envelope, malformed};
use crate::core::error::Error;
use crate::core::id::SyncId;
use crate::core::json::{ArrayWriter, ObjectWriter, Value, write_str};
use crate::core::text::{concat, short};

/// What an operation does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Adds the row.
    Create,
    /// Changes some fields.
    Update,
    /// Removes the row.
    Delete,
    /// Sets `archivedAt`.
    Archive,
    /// Clears `archivedAt`.
    Unarchive,
}

impl OpKind {
    /// All kinds, in the order of the protocol.
    pub const ALL: [Self; 5] = [Self::Create, Self::Update, Self::Delete, Self::Archive, Self::Unarchive];

    /// The name on the socket; HTTP spells it in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Archive => "ARCHIVE",
            Self::Unarchive => "UNARCHIVE",
        }
    }

    /// Reads either spelling.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// What the server does when a guarded row moved (protocol.md 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// Refuse the commit.
    Reject,
    /// Apply anyway.
    Overwrite,
    /// Hold this operation and say so.
    Notify,
}

impl OnStale {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Overwrite => "overwrite",
            Self::Notify => "notify",
        }
    }

    /// Reads the word.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reject, Self::Overwrite, Self::Notify].into_iter().find(|mode| mode.name() == name)
    }
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: OpKind,
    /// The model, as the sender names it (protocol.md section 1).
    pub model: String,
    /// The row. A server gives one to a create that has none.
    pub id: Option<String>,
    /// The text of the object of fields to write.
    pub input: Option<String>,
    /// The sender's name for this operation, the same on every retry.
    pub transaction_id: Option<String>,
    /// Watermark the write was based on.
    pub read_at: Option<SyncId>,
    /// What to do when the row moved past it.
    pub on_stale: Option<OnStale>,
}

impl Operation {
    /// Reads an operation in the socket's or the HTTP spelling.
    ///
    /// # Errors
    /// `commit_operation_action_required`, `commit_operation_unsupported`, `commit_operation_model_required`,
    /// `invalid_id` or `invalid_body`, each naming the member.
    pub fn parse(value: Value<'_>) -> Result<Self, Error> {
        let refuse = |code: &'static str, message: &str, param: &str| Err(Error::wire(code, message).param(param));
        let Some(kind) = value.get_str("type").or_else(|| value.get_str("action")) else {
            return refuse("commit_operation_action_required", "an operation needs a type", "type");
        };
        let Some(kind) = OpKind::parse(&kind) else {
            return refuse(
                "commit_operation_unsupported",
                &concat(&["unknown operation type ", short(&kind, 40)]),
                "type",
            );
        };
        let model = value.get_str("model").or_else(|| value.get("target")?.get_str("model")).unwrap_or_default();
        if model.is_empty() {
            return refuse("commit_operation_model_required", "an operation needs a model", "model");
        }
        let optional = |key: &str| value.get(key).filter(|member| !member.is_null());
        let id = match optional("id") {
            None => None,
            Some(id) => match id.as_json_str().and_then(crate::core::json::JsonStr::decode_exact) {
                Some(id) if !id.is_empty() => Some(id.into_owned()),
                _ => return refuse("invalid_id", "a row id is a non-empty string of Unicode text", "id"),
            },
        };
        let input = match optional("input").or_else(|| optional("data")) {
            Some(input) if input.kind != crate::core::json::Kind::Object => {
                return refuse("invalid_body", "input must be an object", "input");
            }
            input => input.map(|object| object.raw.to_owned()),
        };
        let read_at = match optional("readAt") {
            Some(mark) => match mark.as_u64() {
                Some(mark) => Some(SyncId(mark)),
                None => return refuse("invalid_body", "readAt must be a non-negative integer", "readAt"),
            },
            None => None,
        };
        let on_stale = match optional("onStale") {
            Some(mode) => match mode.as_str().and_then(|mode| OnStale::parse(&mode)) {
                Some(mode) => Some(mode),
                None => return refuse("invalid_body", "onStale must be reject, overwrite or notify", "onStale"),
            },
            None => None,
        };
        let transaction_id = optional("transactionId").and_then(Value::as_str).map(Cow::into_owned);
        Ok(Self { kind, model: model.into_owned(), id, input, transaction_id, read_at, on_stale })
    }

    /// Writes the operation in the socket's spelling.
    pub fn write(&self, out: &mut String) {
        let mut object = ObjectWriter::new(out);
        object.str("type", self.kind.name());
        object.str("model", &self.model);
        object.opt_str("id", self.id.as_deref());
        if let Some(input) = &self.input {
            object.raw("input", input);
        }
        object.opt_str("transactionId", self.transaction_id.as_deref());
        if let Some(mark) = self.read_at {
            object.u64("readAt", mark.0);
        }
        object.opt_str("onStale", self.on_stale.map(OnStale::name));
        object.end();
    }
}

/// Writes operations as an array.
pub fn write_operations(out: &mut String, operations: &[Operation]) {
    let mut list = ArrayWriter::new(out);
    for operation in operations {
        operation.write(list.item());
    }
    list.end();
}

/// What this client understands of a catch-up's answer.
const CAPABILITIES: &str = r#"["partialBootstrap","compressedDeltas","streamingBootstrap","batchedDeltas"]"#;

/// An atomic batch of operations under one idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Applied in order, all or nothing.
    pub operations: Vec<Operation>,
    /// The idempotency key.
    pub client_tx_id: String,
    /// What it depends on, as the text of an object: `reads` (protocol.md 10.4), `claim` and `fencingToken` (5.3).
    pub terms: Option<String>,
    /// When the sender made it, in milliseconds since 1970: said when the commit may have been sent before.
    pub created_at: Option<u64>,
}

impl Commit {
    /// Reads a commit's payload, or the body of `POST /v1/commits`.
    ///
    /// # Errors
    /// `idempotency_key_too_long`, `commit_operation_required`, `invalid_body`, or those of [`Operation::parse`].
    pub fn parse(payload: Value<'_>) -> Result<Self, Error> {
        let key = payload.get_str("clientTxId").or_else(|| payload.get_str("idempotencyKey")).unwrap_or_default();
        if key.is_empty() {
            return Err(Error::wire("invalid_body", "a commit needs a clientTxId").param("clientTxId"));
        }
        if key.len() > super::IDEMPOTENCY_KEY_MAX {
            return Err(
                Error::wire("idempotency_key_too_long", "a clientTxId has at most 255 bytes").param("clientTxId")
            );
        }
        let operations = payload
            .get("operations")
            .map(|list| list.elements().map(Operation::parse).collect::<Result<Vec<_>, _>>())
            .transpose()?
            .unwrap_or_default();
        if operations.is_empty() {
            return Err(Error::wire("commit_operation_required", "a commit needs an operation").param("operations"));
        }
        let mut terms = String::new();
        let mut object = ObjectWriter::new(&mut terms);
        for key in ["reads", "claim", "fencingToken"] {
            if let Some(member) = payload.get(key).filter(|member| !member.is_null()) {
                object.raw(key, member.raw);
            }
        }
        object.end();
        let terms = Some(terms).filter(|terms| terms != "{}");
        let created_at = match payload.get("createdAt").filter(|moment| !moment.is_null()) {
            None => None,
            Some(moment) => Some(moment.as_u64().ok_or_else(|| {
                Error::wire("invalid_body", "createdAt must be milliseconds since 1970").param("createdAt")
            })?),
        };
        Ok(Self { operations, client_tx_id: key.into_owned(), terms, created_at })
    }

    /// The read dependencies, if there are any.
    pub fn reads(&self) -> Option<Value<'_>> {
        Value::known_object(self.terms.as_deref()?).get("reads")
    }

    /// Writes the commit's payload in the socket's spelling.
    pub fn write(&self, out: &mut String) {
        let mut object = ObjectWriter::new(out);
        write_operations(object.key("operations"), &self.operations);
        object.str("clientTxId", &self.client_tx_id);
        if let Some(terms) = &self.terms {
            for (key, member) in Value::known_object(terms).members() {
                object.raw(key.raw(), member.raw);
            }
        }
        if let Some(moment) = self.created_at {
            object.u64("createdAt", moment);
        }
        object.end();
    }
}

/// What a participant says about itself (protocol.md 7.4). Members left out keep their value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// `online`, `away` or `offline`.
    pub status: String,
    /// Free text.
    pub custom_status: Option<String>,
    /// IANA name.
    pub timezone: Option<String>,
    /// The text of an activity object.
    pub activity: Option<String>,
}

/// A frame from client to server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// "Are you there?"
    Ping,
    /// The complete new set of read groups.
    UpdateSubscription {
        /// The set.
        sync_groups: Vec<String>,
    },
    /// "Everything up to this id is stored here."
    Ack {
        /// The id.
        last_sync_id: SyncId,
    },
    /// "Send what I missed."
    SyncRequest {
        /// The last cursor that the server handed out.
        cursor: Option<String>,
        /// The last id applied.
        last_sync_id: SyncId,
    },
    /// A batch of operations.
    Commit(Commit),
    /// A `commit` frame that could not be read; its key, if it has one, lets the server answer.
    MalformedCommit {
        /// The idempotency key, or empty.
        client_tx_id: String,
        /// What is wrong with it.
        error: Error,
    },
    /// What the participant says about itself.
    PresenceUpdate(Presence),
    /// Any other type: claims, collaboration events, types of the future.
    Other {
        /// The type.
        kind: Cow<'a, str>,
        /// The payload's text.
        payload: &'a str,
    },
}

impl<'a> ClientFrame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// When the text is not a JSON object with a `type`, or a known type lacks what it needs.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let (kind, payload) = envelope(text, &mut |_, _| Ok(false))?;
        Ok(match kind.as_ref() {
            "" => return Err(malformed("frame", "no type")),
            "ping" => Self::Ping,
            "update_subscription" => Self::UpdateSubscription { sync_groups: payload.get_strings("syncGroups") },
            "ack" => Self::Ack { last_sync_id: sync_id(payload) },
            "sync_request" => Self::SyncRequest {
                cursor: payload.get_str("cursor").filter(|cursor| !cursor.is_empty()).map(Cow::into_owned),
                last_sync_id: sync_id(payload),
            },
            "commit" => match Commit::parse(payload) {
                Ok(commit) => Self::Commit(commit),
                Err(error) => Self::MalformedCommit {
                    client_tx_id: payload.get_str("clientTxId").unwrap_or_default().into_owned(),
                    error,
                },
            },
            "presence_update" => Self::PresenceUpdate(Presence {
                status: payload.get_str("status").unwrap_or_default().into_owned(),
                custom_status: payload.get_string("customStatus"),
                timezone: payload.get_string("timezone"),
                activity: payload.get("activity").map(|activity| activity.raw.to_owned()),
            }),
            _ => Self::Other { payload: payload.raw, kind },
        })
    }

    /// Writes the frame.
    pub fn write(&self) -> String {
        let mut out = String::new();
        let mut frame = ObjectWriter::new(&mut out);
        match self {
            Self::Ping => frame.str("type", "ping"),
            Self::UpdateSubscription { sync_groups } => {
                frame.str("type", "update_subscription");
                let mut payload = frame.nested("payload");
                payload.strs("syncGroups", sync_groups);
                payload.end();
            }
            Self::Ack { last_sync_id } => {
                frame.str("type", "ack");
                let mut payload = frame.nested("payload");
                payload.u64("lastSyncId", last_sync_id.0);
                payload.end();
            }
            Self::SyncRequest { cursor, last_sync_id } => {
                frame.str("type", "sync_request");
                let mut payload = frame.nested("payload");
                match cursor {
                    Some(cursor) => payload.str("cursor", cursor),
                    None => payload.raw("cursor", "null"),
                }
                payload.u64("lastSyncId", last_sync_id.0);
                payload.raw("capabilities", CAPABILITIES);
                payload.end();
            }
            Self::Commit(commit) => {
                frame.str("type", "commit");
                commit.write(frame.key("payload"));
            }
            Self::MalformedCommit { client_tx_id, .. } => {
                frame.str("type", "commit");
                let mut payload = frame.nested("payload");
                payload.str("clientTxId", client_tx_id);
                payload.end();
            }
            Self::PresenceUpdate(presence) => {
                frame.str("type", "presence_update");
                let mut payload = frame.nested("payload");
                payload.str("status", &presence.status);
                payload.opt_str("customStatus", presence.custom_status.as_deref());
                payload.opt_str("timezone", presence.timezone.as_deref());
                if let Some(activity) = &presence.activity {
                    payload.raw("activity", activity);
                }
                payload.end();
            }
            Self::Other { kind, payload } => {
                write_str(frame.key("type"), kind);
                frame.raw("payload", payload);
            }
        }
        frame.end();
        out
    }
}

fn sync_id(payload: Value<'_>) -> SyncId {
    SyncId(payload.get_u64("lastSyncId").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_as_written() {
        let commit = Commit {
            operations: vec![Operation {
                kind: OpKind::Update,
                model: "task".into(),
                id: Some("t\"1".into()),
                input: Some(r#"{"title":"New"}"#.into()),
                transaction_id: Some("tx_1".into()),
                read_at: Some(SyncId(1210)),
                on_stale: Some(OnStale::Reject),
            }],
            client_tx_id: "0b9d".into(),
            terms: Some(r#"{"reads":[],"claim":"c1","fencingToken":7}"#.into()),
            created_at: Some(1_782_900_000_000),
        };
        for frame in [
            ClientFrame::Ping,
            ClientFrame::UpdateSubscription { sync_groups: vec!["org:acme".into(), "user:ü".into()] },
            ClientFrame::Ack { last_sync_id: SyncId(7) },
            ClientFrame::SyncRequest { cursor: Some("c:1".into()), last_sync_id: SyncId(7) },
            ClientFrame::Commit(commit),
            ClientFrame::PresenceUpdate(Presence { status: "online".into(), ..Presence::default() }),
            ClientFrame::Other { kind: "slide_cursor".into(), payload: r#"{"x":1}"# },
        ] {
            let text = frame.write();
            assert_eq!(ClientFrame::parse(&text).unwrap(), frame, "{text}");
        }
    }

    #[test]
    fn the_sample_commit_of_the_protocol() {
        let text = r#"{"type":"commit","payload":{"operations":[{"type":"UPDATE","model":"task","id":"t1","input":{"title":"B"},"transactionId":"tx_1782900300000_k3j9x0p2q","readAt":10,"onStale":"reject"}],"clientTxId":"0b9d…"}}"#;
        let frame = ClientFrame::parse(text).unwrap();
        assert_eq!(frame.write(), text);
    }

    #[test]
    fn http_spelling_and_explicit_nulls_are_read() {
        let body = r#"{"clientTxId":"k","idempotencyKey":"k","operations":[{"action":"create","model":"comments","id":"c9","data":{"taskId":"t1"},"transactionId":null,"readAt":null,"onStale":null}]}"#;
        let commit = Commit::parse(Value::parse(body).unwrap()).unwrap();
        assert_eq!(commit.operations[0].kind, OpKind::Create);
        assert_eq!(commit.operations[0].input.as_deref(), Some(r#"{"taskId":"t1"}"#));
        assert_eq!(commit.operations[0].read_at, None);
    }

    #[test]
    fn a_bad_commit_keeps_its_key_so_that_it_can_be_answered() {
        let frame =
            ClientFrame::parse(r#"{"type":"commit","payload":{"clientTxId":"k","operations":[{"type":"EXPLODE"}]}}"#);
        let ClientFrame::MalformedCommit { client_tx_id, error } = frame.unwrap() else {
            panic!("read as another frame")
        };
        assert_eq!((client_tx_id.as_str(), error.code.as_ref()), ("k", "commit_operation_unsupported"));
    }
}
