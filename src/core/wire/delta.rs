//! The delta: one change of one row, as the server broadcasts it (protocol.md section 9).

use std::borrow::Cow;

use crate::core::error::Error;
use crate::core::id::SyncId;
use crate::core::json::{JsonStr, Kind, ObjectWriter, Value};

/// A delta's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `I`: the row is new.
    Insert,
    /// `C`: the participant gained sight of an existing row.
    Cover,
    /// `U`: changed fields, or the full row.
    Update,
    /// `D`: the row is gone.
    Delete,
    /// `A`: the row is archived.
    Archive,
    /// `V`: the row is live again.
    Unarchive,
    /// `G`: a group was added.
    GroupAdded,
    /// `S`: a group was taken away.
    GroupRemoved,
}

impl Action {
    /// The letter on the wire.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Insert => "I",
            Self::Cover => "C",
            Self::Update => "U",
            Self::Delete => "D",
            Self::Archive => "A",
            Self::Unarchive => "V",
            Self::GroupAdded => "G",
            Self::GroupRemoved => "S",
        }
    }

    /// Reads a letter.
    pub fn parse(letter: &str) -> Option<Self> {
        Some(match letter {
            "I" => Self::Insert,
            "C" => Self::Cover,
            "U" => Self::Update,
            "D" => Self::Delete,
            "A" => Self::Archive,
            "V" => Self::Unarchive,
            "G" => Self::GroupAdded,
            "S" => Self::GroupRemoved,
            _ => return None,
        })
    }
}

/// One change. Borrows from the frame it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<'a> {
    /// Its place in the stream. 0 never counts as a duplicate and moves no cursor.
    pub id: SyncId,
    /// What happened.
    pub action: Action,
    /// Typename, exact case.
    pub model: Cow<'a, str>,
    /// The row.
    pub row_id: Cow<'a, str>,
    /// The text of the object of fields, if there is one.
    pub data: Option<Cow<'a, str>>,
    /// The text of an object of the fields that this update made `[]` or `{}`. In `data` they are null, for clients that
    /// drop empty values (protocol.md 9.2); servers that do not know of this member leave it out.
    pub empty_values: Option<Cow<'a, str>>,
    /// The `transactionId` of the operation that caused it, when the server tags echoes.
    pub transaction_id: Option<Cow<'a, str>>,
}

impl<'a> Delta<'a> {
    /// Reads a delta of a frame (`actionType`, `modelId`) or of a partial bootstrap (`operation`, `entityId`).
    ///
    /// # Errors
    /// `protocol_violation`, naming what is wrong. The id is reported where it could be read.
    pub fn parse(value: Value<'a>) -> Result<Self, Error> {
        let mut delta = Delta {
            id: SyncId(0),
            action: Action::Update,
            model: Cow::Borrowed(""),
            row_id: Cow::Borrowed(""),
            data: None,
            empty_values: None,
            transaction_id: None,
        };
        let mut letter = None;
        let mut data = None;
        let mut bad_id = false;
        for (key, member) in value.members() {
            match key.raw() {
                "id" => delta.id = SyncId(member.as_u64_lenient().unwrap_or(0)),
                "actionType" => letter = member.as_str(),
                "operation" | "action" if letter.is_none() => letter = member.as_str(),
                "modelName" => delta.model = member.as_str().unwrap_or_default(),
                "modelId" | "entityId" => {
                    let id = member.as_json_str().and_then(JsonStr::decode_exact);
                    bad_id = id.is_none();
                    delta.row_id = id.unwrap_or_default();
                }
                "data" => data = Some(member),
                "emptyValues" if member.kind == Kind::Object => delta.empty_values = Some(Cow::Borrowed(member.raw)),
                "transactionId" => delta.transaction_id = member.as_str(),
                _ => {}
            }
        }
        let fail = |why: &str| {
            Err(Error::wire("protocol_violation", format!("delta {} of {:.60}: {why}", delta.id.0, delta.model)))
        };
        let Some(action) = letter.and_then(|letter| Action::parse(&letter)) else { return fail("unknown action") };
        delta.action = action;
        if bad_id || delta.row_id.is_empty() {
            return fail("no usable row id");
        }
        delta.data = match data {
            None => None,
            Some(member) if member.is_null() => None,
            Some(member) if member.kind == Kind::Object => Some(Cow::Borrowed(member.raw)),
            Some(member) => {
                let text = member.as_str().unwrap_or_default();
                match Value::parse(&text) {
                    Ok(inner) if inner.kind == Kind::Object => Some(text),
                    Ok(inner) if inner.is_null() => None,
                    _ => return fail("data is no object"),
                }
            }
        };
        Ok(delta)
    }

    /// Writes the delta as a frame's element: `data` as a JSON string, which is the form that no client misreads
    /// (protocol.md 9.4).
    pub fn write(&self, out: &mut String, sync_groups: &[String], created_at: &str) {
        let mut object = ObjectWriter::new(out);
        object.u64("id", self.id.0);
        object.str("actionType", self.action.letter());
        object.str("modelName", &self.model);
        object.str("modelId", &self.row_id);
        match &self.data {
            Some(data) => object.str("data", data),
            None => object.raw("data", "null"),
        }
        if let Some(values) = &self.empty_values {
            object.raw("emptyValues", values);
        }
        object.strs("syncGroups", sync_groups);
        match &self.transaction_id {
            Some(id) => object.str("transactionId", id),
            None => object.raw("transactionId", "null"),
        }
        object.str("createdAt", created_at);
        object.end();
    }

    /// The payload of a `G` or `S` delta.
    pub fn group_change(&self) -> GroupChange {
        let Some(Ok(data)) = self.data.as_deref().map(Value::parse) else { return GroupChange::default() };
        GroupChange {
            group: data.get_string("group"),
            added: data.get_strings("addedGroups"),
            removed: data.get_strings("removedGroups"),
        }
    }
}

/// What a `G` or `S` delta says (protocol.md 9.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// The one group of the current form.
    pub group: Option<String>,
    /// Groups added, old form.
    pub added: Vec<String>,
    /// Groups removed, old form.
    pub removed: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Delta<'_>, Error> {
        Delta::parse(Value::parse(text).unwrap())
    }

    #[test]
    fn reads_data_as_text_object_or_null_and_ids_as_text() {
        let text = r#"{"id":"12","actionType":"U","modelName":"Task","modelId":"t1","data":"{\"title\":\"N\"}"}"#;
        let delta = parse(text).unwrap();
        assert_eq!((delta.id, delta.data.as_deref()), (SyncId(12), Some(r#"{"title":"N"}"#)));
        let delta = parse(r#"{"id":1,"operation":"D","modelName":"Task","entityId":"t2","data":null}"#).unwrap();
        assert_eq!((delta.action, delta.row_id.as_ref(), delta.data), (Action::Delete, "t2", None));
    }

    #[test]
    fn garbage_is_refused_with_a_code() {
        for text in [
            r#"{"id":1,"actionType":"X","modelName":"Task","modelId":"t1"}"#,
            r#"{"id":1,"actionType":"U","modelName":"Task","modelId":7}"#,
            r#"{"id":1,"actionType":"U","modelName":"Task","modelId":"t1","data":"{oops"}"#,
            r#"{"id":1,"actionType":"U","modelName":"Task","modelId":"t1","data":[1]}"#,
            r#"{"id":1,"actionType":"U","modelName":"Task","modelId":"\ud800","data":{}}"#,
        ] {
            assert_eq!(parse(text).unwrap_err().code, "protocol_violation", "{text}");
        }
    }

    #[test]
    fn a_written_delta_reads_back() {
        let delta = Delta {
            id: SyncId(3),
            action: Action::Insert,
            model: "Task".into(),
            row_id: "t\n1".into(),
            data: Some(r#"{"id":"t\n1","n":9007199254740993,"tags":null}"#.into()),
            empty_values: Some(r#"{"tags":[]}"#.into()),
            transaction_id: None,
        };
        let mut text = String::new();
        delta.write(&mut text, &["org:acme".into()], "2026-06-30T08:00:00.000Z");
        assert_eq!(parse(&text).unwrap(), delta);
    }
}
