//! Reading a bootstrap's answer: from bytes to row slices, nothing copied, nothing applied.
//!
//! The whole text is read before anything is handed out, so an answer that breaks off or is garbage in the middle
//! leaves the rows as they were.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use super::error::Error;
use super::id::{ModelIndex, SyncId};
use super::json::{JsonError, Kind, Reader, Value};
use super::pool::Chunk;
use super::schema::Schema;
use crate::core::text::concat;

/// One row of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// Where its id stands in the chunk, without quotes; `None` when it had to be unescaped.
    id_at: Option<Range<usize>>,
    id: Option<Box<str>>,
    /// Where it stands in the chunk.
    pub at: Range<usize>,
    /// Whether `archivedAt` is set.
    pub archived: bool,
}

impl SnapshotRow {
    /// Its id.
    pub fn id<'a>(&'a self, chunk: &'a str) -> &'a str {
        match (&self.id, &self.id_at) {
            (Some(id), _) => id,
            (None, Some(at)) => chunk.get(at.clone()).unwrap_or_default(),
            (None, None) => "",
        }
    }
}

/// All rows that a snapshot lists of one model.
#[derive(Clone, Debug)]
pub struct SnapshotModel {
    /// The model.
    pub model: ModelIndex,
    /// The text that the rows are slices of.
    pub chunk: Rc<Chunk>,
    /// Its rows.
    pub rows: Vec<SnapshotRow>,
}

/// A bootstrap's answer (protocol.md 4.5).
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where in the stream it stands.
    pub last_sync_id: SyncId,
    /// The models listed, those that failed left out.
    pub models: Vec<SnapshotModel>,
    /// The texts of the deltas of a partial answer; `None` for a full one.
    pub deltas: Option<Vec<String>>,
    /// Rows passed over because they had no usable id or lacked a required field.
    pub skipped: usize,
}

impl Snapshot {
    /// Reads an answer.
    ///
    /// # Errors
    /// `bootstrap_response_schema_invalid` when it is not what the protocol says, `bootstrap_response_invalid` for a full
    /// answer without rows.
    pub fn parse(body: Vec<u8>, schema: &Schema) -> Result<Self, Error> {
        let text = String::from_utf8(body).map_err(|_| invalid("the answer is not UTF-8"))?;
        let chunk = Chunk::new(text);
        let mut reader = Reader::new(&chunk);
        let mut snapshot = Self { last_sync_id: SyncId(0), models: Vec::new(), deltas: None, skipped: 0 };
        let (mut kind, mut head, mut found) = (None, None, false);
        let mut deltas = Vec::new();
        let mut failed = Vec::new();
        let mut read = || -> Result<(), JsonError> {
            reader.begin_object()?;
            let mut first = true;
            while let Some(key) = reader.next_key(&mut first)? {
                match key.raw() {
                    "models" if reader.peek() == b'{' => {
                        found = true;
                        read_models(&mut reader, &chunk, schema, &mut snapshot)?;
                    }
                    "type" => kind = reader.value()?.as_str(),
                    "lastSyncId" => head = reader.value()?.as_u64(),
                    "deltas" => {
                        for delta in reader.value()?.elements() {
                            deltas.push(delta.raw.to_owned());
                        }
                    }
                    "failedModels" => {
                        let names = reader.value()?;
                        for name in names.elements() {
                            if let Some(model) = schema.by_typename(&name.as_str().unwrap_or_default()) {
                                failed.push(model);
                            }
                        }
                    }
                    _ => drop(reader.value()?),
                }
            }
            reader.end()
        };
        read().map_err(|error| invalid(&error.message()))?;
        snapshot.last_sync_id = SyncId(head.ok_or_else(|| invalid("lastSyncId must be a number"))?);
        match kind.as_deref() {
            Some("full") if found => {}
            Some("full") => {
                return Err(Error::local("bootstrap_response_invalid", "a full bootstrap must list its models"));
            }
            Some("partial") => snapshot.deltas = Some(deltas),
            _ => return Err(invalid("type must be full or partial")),
        }
        while let Some(index) = snapshot.models.iter().position(|listed| failed.contains(&listed.model)) {
            snapshot.models.remove(index);
        }
        Ok(snapshot)
    }
}

fn invalid(why: &str) -> Error {
    Error::local("bootstrap_response_schema_invalid", concat(&["bootstrap: ", why]))
}

fn read_models(
    reader: &mut Reader<'_>,
    chunk: &Rc<Chunk>,
    schema: &Schema,
    snapshot: &mut Snapshot,
) -> Result<(), JsonError> {
    reader.begin_object()?;
    let mut first = true;
    while let Some(name) = reader.next_key(&mut first)? {
        let Some(model) = schema.by_typename(&name.decode()) else {
            reader.value()?;
            continue;
        };
        match reader.peek() {
            b'[' => {
                let rows = read_rows(reader, schema, model, &mut snapshot.skipped)?;
                snapshot.models.push(SnapshotModel { model, chunk: chunk.clone(), rows });
            }
            // A string holding an array, or null; what cannot be read counts as empty (protocol.md 4.5).
            _ => {
                let value = reader.value()?;
                let text = Chunk::new(value.as_str().map_or_else(|| "[]".to_owned(), Cow::into_owned));
                let mut inner = Reader::new(&text);
                let before = snapshot.skipped;
                let rows = read_rows(&mut inner, schema, model, &mut snapshot.skipped);
                let rows = rows.and_then(|rows| inner.end().map(|()| rows)).unwrap_or_else(|_| {
                    snapshot.skipped = before;
                    Vec::new()
                });
                snapshot.models.push(SnapshotModel { model, chunk: text, rows });
            }
        }
    }
    Ok(())
}

fn read_rows(
    reader: &mut Reader<'_>,
    schema: &Schema,
    model: ModelIndex,
    skipped: &mut usize,
) -> Result<Vec<SnapshotRow>, JsonError> {
    let required = schema.model(model).map(|model| model.required_fields.as_slice()).unwrap_or_default();
    let mut rows = Vec::new();
    let mut first = true;
    reader.begin_array()?;
    while reader.next_element(&mut first)? {
        if reader.peek() != b'{' {
            reader.value()?;
            *skipped += 1;
            continue;
        }
        let start = reader.position();
        let mut row = SnapshotRow { id_at: None, id: None, at: start..start, archived: false };
        let mut present = 0;
        reader.begin_object()?;
        let mut first_key = true;
        while let Some(key) = reader.next_key(&mut first_key)? {
            let value = reader.value()?;
            match key.raw() {
                "id" => {
                    let end = reader.position();
                    read_id(&mut row, value, end);
                }
                "archivedAt" => row.archived = !value.is_null(),
                _ => {}
            }
            if !required.is_empty() && is_filled(value) && required.iter().any(|field| key.is(field)) {
                present += 1;
            }
        }
        row.at.end = reader.position();
        if (row.id.is_none() && row.id_at.is_none()) || present < required.len() {
            *skipped += 1;
        } else {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn read_id(row: &mut SnapshotRow, value: Value<'_>, end: usize) {
    row.id = None;
    row.id_at = None;
    let Some(text) = value.as_json_str() else { return };
    if !text.is_escaped() {
        let len = text.raw().len();
        row.id_at = (len > 0).then(|| end - 1 - len..end - 1);
    } else if let Some(id) = text.decode_exact() {
        row.id = Some(id.into());
    }
}

/// Whether a value counts as given: falsy ones do not (engine.md 1.14).
fn is_filled(value: Value<'_>) -> bool {
    match value.kind {
        Kind::Null => false,
        Kind::Bool => value.raw == "true",
        Kind::Number => value.as_f64().is_some_and(|number| number != 0.0),
        Kind::String => value.raw.len() > 2,
        Kind::Array | Kind::Object => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::parse(r#"{"v":3,"models":{"tasks":{"fields":{},"typename":"Task"},"decks":{"fields":{},"typename":"Deck","requiredFields":["name"]}}}"#).unwrap()
    }

    fn parse(text: &str) -> Result<Snapshot, Error> {
        Snapshot::parse(text.as_bytes().to_vec(), &schema())
    }

    fn ids(model: &SnapshotModel) -> Vec<&str> {
        model.rows.iter().map(|row| row.id(&model.chunk)).collect()
    }

    #[test]
    fn rows_are_slices_of_the_answer() {
        let snapshot = parse(
            r#"{"models":{"Task":[{"id":"t1","n":1}, {"title":"x","id":"a\"b"},{"id":"t3","archivedAt":"2026"}],"Other":[{"id":"o"}]},"type":"full","lastSyncId":7}"#,
        )
        .unwrap();
        assert_eq!((snapshot.last_sync_id, snapshot.models.len()), (SyncId(7), 1));
        let tasks = &snapshot.models[0];
        assert_eq!(ids(tasks), ["t1", "a\"b", "t3"]);
        assert_eq!(&tasks.chunk[tasks.rows[0].at.clone()], r#"{"id":"t1","n":1}"#);
        assert_eq!(tasks.rows.iter().map(|row| row.archived).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn rows_may_come_as_text_or_null_and_failed_models_are_left_out() {
        let snapshot = parse(
            r#"{"type":"full","lastSyncId":1,"models":{"Task":"[{\"id\":\"t1\"}]","Deck":null},"failedModels":["Deck"]}"#,
        )
        .unwrap();
        assert_eq!(snapshot.models.len(), 1);
        assert_eq!(ids(&snapshot.models[0]), ["t1"]);
    }

    #[test]
    fn rows_without_what_they_need_are_passed_over() {
        let snapshot = parse(
            r#"{"type":"full","lastSyncId":1,"models":{"Deck":[{"id":"a","name":"n"},{"id":"b"},{"id":"c","name":""},{"id":7,"name":"n"},{"name":"n"},5,{"id":"\ud800","name":"n"}]}}"#,
        )
        .unwrap();
        assert_eq!(ids(&snapshot.models[0]), ["a"]);
        assert_eq!(snapshot.skipped, 6);
    }

    #[test]
    fn garbage_is_refused_whole() {
        for text in [
            "",
            "<html>",
            "[]",
            r#"{"type":"full","lastSyncId":1,"models":{"Task":[{"id":"t1"}"#,
            r#"{"type":"full","lastSyncId":"1","models":{}}"#,
            r#"{"type":"odd","lastSyncId":1,"models":{}}"#,
            r#"{"type":"full","lastSyncId":1}"#,
            r#"{"type":"full","lastSyncId":1,"models":[]}"#,
        ] {
            let code = parse(text).unwrap_err().code.clone();
            assert!(code.starts_with("bootstrap_response"), "{text}: {code}");
        }
        assert!(Snapshot::parse(vec![b'"', 0xff, b'"'], &schema()).is_err());
    }

    #[test]
    fn partial_answers_carry_deltas() {
        let snapshot = parse(r#"{"type":"partial","lastSyncId":3,"deltas":[{"id":3,"operation":"D","modelName":"Task","entityId":"t1"}]}"#).unwrap();
        assert_eq!(snapshot.deltas.map(|deltas| deltas.len()), Some(1));
    }
}
