//! Making row texts out of what senders give: stamping, validating, comparing (protocol.md 10.8).
//!
//! Only the members that change are looked at. Everything else, numbers beyond 2^53 and odd names included, passes as it
//! was written.

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{JsonStr, Kind, ObjectWriter, Value, merge};
use ablo_wasm::core::schema::{Field, Model};

use super::history::is_empty;
use super::participant::Text;

/// Members that only the server writes.
const STAMPED: [&str; 6] = ["id", "organizationId", "createdBy", "createdAt", "updatedAt", "__typename"];

/// An object's members without those that only the server writes.
fn without_stamps(input: &str) -> String {
    let Ok(input) = Value::parse(input) else { return "{}".to_owned() };
    if !input.members().any(|(key, _)| STAMPED.iter().any(|name| key.is(name))) {
        return input.raw.to_owned();
    }
    let mut out = String::from("{");
    for (key, value) in input.members() {
        if !STAMPED.iter().any(|name| key.is(name)) {
            if out.len() > 1 {
                out.push(',');
            }
            out.push('"');
            out.push_str(key.raw());
            out.push_str("\":");
            out.push_str(value.raw);
        }
    }
    out.push('}');
    out
}

/// The text of a new row.
pub(super) fn created(id: &str, input: &str, organization: &str, by: &str, at: &str) -> String {
    let mut base = String::new();
    let mut object = ObjectWriter::new(&mut base);
    object.str("id", id);
    object.end();
    let mut stamps = String::new();
    let mut object = ObjectWriter::new(&mut stamps);
    object.str("organizationId", organization);
    object.str("createdBy", by);
    object.str("createdAt", at);
    object.str("updatedAt", at);
    object.end();
    merge(&merge(&base, &without_stamps(input)), &stamps)
}

/// A row with an input over it.
pub(super) fn updated(row: &str, input: &str, at: &str) -> String {
    merge(&merge(row, &without_stamps(input)), &updated_at(at, None))
}

/// A row with `archivedAt` set or cleared.
pub(super) fn archived(row: &str, archived: bool, at: &str) -> String {
    merge(row, &updated_at(at, Some(archived)))
}

fn updated_at(at: &str, archived: Option<bool>) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    match archived {
        Some(true) => object.str("archivedAt", at),
        Some(false) => object.raw("archivedAt", "null"),
        None => {}
    }
    object.str("updatedAt", at);
    object.end();
    out
}

/// The names of an input's members, and those among them that become `[]` or `{}` in a row where they were not.
pub(super) fn written(row: &str, input: &str) -> (Vec<Text>, Vec<Text>) {
    let mut fields: Vec<Text> = Vec::new();
    let mut emptied: Vec<Text> = Vec::new();
    let Ok(input) = Value::parse(input) else { return (fields, emptied) };
    let old = Value::parse(row).ok();
    for (key, value) in input.members() {
        let name: Text = key.decode().into();
        if is_empty(value) && !old.and_then(|old| old.get(&name)).is_some_and(is_empty) {
            emptied.push(name.clone());
        }
        fields.push(name);
    }
    (fields, emptied)
}

/// Checks an input against the model's declaration. Undeclared members pass: the server keeps what it is given.
///
/// # Errors
/// `not_null_violation` or `check_violation`, naming the field.
pub(super) fn validate(model: &Model, input: &str, is_new: bool) -> Result<(), Error> {
    let Ok(input) = Value::parse(input) else { return Ok(()) };
    let members: Vec<(JsonStr<'_>, Value<'_>)> = input.members().collect();
    for field in &model.fields {
        // The last of a repeated member is the one that will be stored.
        let given = members.iter().rev().find(|(key, _)| key.is(&field.name)).map(|(_, value)| *value);
        match given {
            None if is_new && !field.optional => {
                let why = format!("{} is required to create a {}", field.name, model.typename);
                return Err(Error::wire("not_null_violation", why).param(field.name.as_str()));
            }
            Some(value) if value.is_null() && !field.optional => {
                let why = format!("{} of a {} cannot be null", field.name, model.typename);
                return Err(Error::wire("not_null_violation", why).param(field.name.as_str()));
            }
            Some(value) if !value.is_null() => check_field(model, field, value)?,
            None | Some(_) => {}
        }
    }
    Ok(())
}

fn check_field(model: &Model, field: &Field, value: Value<'_>) -> Result<(), Error> {
    let fits = match field.kind.as_str() {
        "string" | "enum" => value.kind == Kind::String,
        "number" => value.kind == Kind::Number,
        "boolean" => value.kind == Kind::Bool,
        "date" => matches!(value.kind, Kind::String | Kind::Number),
        _ => true,
    };
    if !fits {
        let why = format!("{} of a {} must be a {}, not {:.60}", field.name, model.typename, field.kind, value.raw);
        return Err(Error::wire("check_violation", why).param(field.name.as_str()));
    }
    let text = if field.kind == "enum" { value.as_json_str() } else { None };
    if text.is_some_and(|text| !field.enum_values.is_empty() && !field.enum_values.iter().any(|known| text.is(known))) {
        let known = field.enum_values.join(", ");
        let why = format!("{} of a {} must be one of {known}, not {:.60}", field.name, model.typename, value.raw);
        return Err(Error::wire("check_violation", why).param(field.name.as_str()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ablo_wasm::core::schema::Schema;

    #[test]
    fn a_row_keeps_what_it_is_given_and_gets_its_stamps() {
        let text = created(
            "t\"1",
            r#"{"n":9007199254740993,"id":"x","__proto__":{"a":1},"createdBy":"eve"}"#,
            "acme",
            "u1",
            "T",
        );
        assert_eq!(
            text,
            r#"{"id":"t\"1","n":9007199254740993,"__proto__":{"a":1},"organizationId":"acme","createdBy":"u1","createdAt":"T","updatedAt":"T"}"#
        );
        let text = updated(&text, r#"{"n":1e400,"organizationId":"evil"}"#, "U");
        assert!(
            text.contains(r#""n":1e400"#)
                && text.contains(r#""organizationId":"acme""#)
                && text.ends_with(r#""updatedAt":"U"}"#)
        );
    }

    #[test]
    fn emptied_fields_are_those_that_were_not_empty() {
        let (fields, emptied) = written(r#"{"a":[1],"b":[],"c":null}"#, r#"{"a":[ ],"b":[],"c":{},"d":1}"#);
        assert_eq!(fields.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(emptied.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn declared_fields_are_checked() {
        let schema = Schema::parse_all(
            r#"{"v":3,"models":{"tasks":{"typename":"Task","fields":{
                "title":{"type":"string"},"rank":{"type":"number","isOptional":true},
                "status":{"type":"enum","isOptional":true,"enumValues":["todo","done"]},
                "due":{"type":"date","isOptional":true},"done":{"type":"boolean","isOptional":true},"meta":{"type":"json","isOptional":true}}}}}"#,
        )
        .unwrap();
        let model = &schema.models[0];
        for (input, is_new, code) in [
            (r#"{"title":"a"}"#, true, ""),
            (r#"{"title":"a","rank":null,"extra":[1]}"#, true, ""),
            ("{}", true, "not_null_violation"),
            ("{}", false, ""),
            (r#"{"title":null}"#, false, "not_null_violation"),
            (r#"{"title":1}"#, false, "check_violation"),
            (r#"{"rank":"1"}"#, false, "check_violation"),
            (r#"{"status":"doing"}"#, false, "check_violation"),
            (r#"{"status":"done","due":1782900000000,"done":true,"meta":[]}"#, false, ""),
            (r#"{"due":true}"#, false, "check_violation"),
            (r#"{"done":"yes"}"#, false, "check_violation"),
        ] {
            let found = validate(model, input, is_new).err().map_or(String::new(), |error| error.code.to_string());
            assert_eq!(found, code, "{input}");
        }
    }
}
