//! The delta: one change of one row, as the server broadcasts it (protocol.md section 9).

use std::borrow::Cow;

use crate::core::error::Error;
use crate::core::id::SyncId;
use crate::core::json::{JsonError, JsonStr, Kind, ObjectWriter, Reader, Value};
use crate::core::text::{concat, digits, short};

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

/// A delta that means nothing: what could be read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDelta {
    /// Its place in the stream, or 0.
    pub id: SyncId,
    /// Typename, or nothing.
    pub model: String,
    /// `protocol_violation` or `invalid_json`, naming what is wrong.
    pub error: Error,
}

/// A delta as it stands in a frame, checked as JSON and no further.
#[derive(Clone, Copy, Debug)]
pub struct RawDelta<'a> {
    /// Its text.
    pub raw: &'a str,
    id: SyncId,
    letter: Option<JsonStr<'a>>,
    model: Option<JsonStr<'a>>,
    row_id: Option<JsonStr<'a>>,
    data: Option<Value<'a>>,
    empty_values: Option<&'a str>,
    transaction_id: Option<JsonStr<'a>>,
}

impl<'a> RawDelta<'a> {
    /// Passes the next value of a text, which should be a delta.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut delta = RawDelta {
            raw: "",
            id: SyncId(0),
            letter: None,
            model: None,
            row_id: None,
            data: None,
            empty_values: None,
            transaction_id: None,
        };
        if reader.peek() != b'{' {
            delta.raw = reader.value()?.raw;
            return Ok(delta);
        }
        let start = reader.position();
        let mut first = true;
        reader.begin_object()?;
        while let Some(key) = reader.next_key(&mut first)? {
            let member = reader.value()?;
            match key.raw() {
                "id" => delta.id = SyncId(member.as_u64_lenient().unwrap_or(0)),
                "actionType" => delta.letter = member.as_json_str(),
                "operation" | "action" if delta.letter.is_none() => delta.letter = member.as_json_str(),
                "modelName" => delta.model = member.as_json_str(),
                "modelId" | "entityId" => delta.row_id = member.as_json_str(),
                "data" => delta.data = Some(member),
                "emptyValues" if member.kind == Kind::Object => delta.empty_values = Some(member.raw),
                "transactionId" => delta.transaction_id = member.as_json_str(),
                _ => {}
            }
        }
        delta.raw = reader.since(start);
        Ok(delta)
    }

    /// Passes an array of deltas.
    pub(super) fn read_all(reader: &mut Reader<'a>) -> Result<Vec<Self>, JsonError> {
        let (mut deltas, mut first) = (Vec::new(), true);
        reader.begin_array()?;
        while reader.next_element(&mut first)? {
            deltas.push(Self::read(reader)?);
        }
        Ok(deltas)
    }

    /// Whether a frame without a type is a delta (protocol.md 8.3).
    pub(super) fn is_delta(&self) -> bool {
        self.letter.is_some() || self.model.is_some()
    }

    /// Reads it as what it means.
    ///
    /// # Errors
    /// What could be read of it, with the error.
    pub fn read_delta(&self) -> Result<Delta<'a>, Box<BadDelta>> {
        let model = self.model.map(JsonStr::decode).unwrap_or_default();
        let bad = |why: &str| {
            let message = concat(&["delta ", &digits(self.id.0), " of ", short(&model, 60), ": ", why]);
            let error = Error::wire("protocol_violation", message);
            Err(Box::new(BadDelta { id: self.id, model: model.clone().into_owned(), error }))
        };
        let Some(action) = self.letter.and_then(|letter| Action::parse(&letter.decode())) else {
            return bad("unknown action");
        };
        let row_id = self.row_id.and_then(JsonStr::decode_exact).filter(|id| !id.is_empty());
        let Some(row_id) = row_id else { return bad("no usable row id") };
        let data = match self.data {
            None => None,
            Some(member) if member.is_null() => None,
            Some(member) if member.kind == Kind::Object => Some(Cow::Borrowed(member.raw)),
            Some(member) => {
                let text = member.as_str().unwrap_or_default();
                match Value::parse(&text) {
                    Ok(inner) if inner.kind == Kind::Object => Some(text),
                    Ok(inner) if inner.is_null() => None,
                    _ => return bad("data is no object"),
                }
            }
        };
        let empty_values = self.empty_values.map(Cow::Borrowed);
        let transaction_id = self.transaction_id.map(JsonStr::decode);
        Ok(Delta { id: self.id, action, model, row_id, data, empty_values, transaction_id })
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
    /// What could be read of it, with the error.
    pub fn parse(text: &'a str) -> Result<Self, Box<BadDelta>> {
        let mut reader = Reader::new(text);
        let raw = RawDelta::read(&mut reader).and_then(|raw| reader.end().map(|()| raw));
        raw.map_err(|error| Box::new(BadDelta { id: SyncId(0), model: String::new(), error: error.into() }))?
            .read_delta()
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
        Delta::parse(text).map_err(|bad| bad.error)
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
