//! What the simulated application is about: its models, its ids, and the values that it writes.
//!
//! Every write carries a field of its own, `m<number>`, so that any row's text tells which writes are in it and in which
//! order they came: merging puts new members at the end. Creates also carry `b<number>`, the row's birth.

use ablo_wasm::core::id::ModelIndex;
use ablo_wasm::core::json::{ObjectWriter, Value};

use crate::dice::Dice;

/// The organization.
pub(crate) const ORGANIZATION: &str = "acme";
/// The models: tasks and notes are loaded at start, files on demand.
pub(crate) const SCHEMA: &str = r#"{"v":3,"models":{
"tasks":{"typename":"Task","load":"instant","fields":{
  "title":{"type":"string"},"status":{"type":"enum","isOptional":true,"enumValues":["todo","doing","done"]},
  "rank":{"type":"number","isOptional":true},"done":{"type":"boolean","isOptional":true},
  "teamId":{"type":"string","isOptional":true},"meta":{"type":"json","isOptional":true}},
  "entityRoles":[{"kind":"team","source":{"field":"teamId","multi":false}}]},
"notes":{"typename":"NoteModel","load":"instant","fields":{
  "title":{"type":"string"},"rank":{"type":"number","isOptional":true},"taskId":{"type":"string","isOptional":true}},
  "relations":{"task":{"type":"belongsTo","target":"tasks","foreignKey":"taskId","options":{"parent":true}}}},
"files":{"typename":"File","load":"lazy","fields":{
  "title":{"type":"string"},"rank":{"type":"number","isOptional":true}}}}}"#;

/// How many models there are.
pub(crate) const MODELS: u16 = 3;
/// Models whose rows are loaded at start.
pub(crate) const INSTANT: u16 = 2;
/// Tasks.
pub(crate) const TASKS: ModelIndex = ModelIndex(0);
/// Notes.
pub(crate) const NOTES: ModelIndex = ModelIndex(1);
/// Files.
pub(crate) const FILES: ModelIndex = ModelIndex(2);
/// Teams that own tasks.
pub(crate) const TEAMS: [&str; 2] = ["red", "blue"];

/// The schema's name of a model.
pub(crate) fn key(model: ModelIndex) -> &'static str {
    match model {
        TASKS => "tasks",
        NOTES => "notes",
        _ => "files",
    }
}

/// The model that a name in a commit or a store means.
pub(crate) fn model_of(name: &str) -> Option<ModelIndex> {
    match name.to_lowercase().as_str() {
        "task" | "tasks" => Some(TASKS),
        "note" | "notes" | "notemodel" => Some(NOTES),
        "file" | "files" => Some(FILES),
        _ => None,
    }
}

const ODD_IDS: [&str; 8] =
    ["__proto__", "a\"b\\c", "\u{1f600} \u{e9}\u{301}", "\u{0}\u{1f}", "constructor", " ", "1", "te\u{301}st/..?#&="];

/// One of the ids of a model.
pub(crate) fn id(model: ModelIndex, rows: usize, odd: bool, shared: bool, dice: &mut Dice) -> String {
    let number = dice.index(rows);
    if odd && dice.percent(30) {
        // Ids are unique across models, so each model has odd ones of its own.
        let odd = ODD_IDS.get((number * 3 + usize::from(model.0)) % ODD_IDS.len()).copied().unwrap_or("odd");
        return format!("{odd}{}", if number < ODD_IDS.len() { "" } else { "+" });
    }
    if shared && dice.percent(15) {
        return format!("x{}", number % 3);
    }
    let letter = match model {
        TASKS => 't',
        NOTES => 'n',
        _ => 'f',
    };
    format!("{letter}{number}")
}

/// What kinds of values a write may carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taste {
    pub(crate) odd: bool,
    pub(crate) invalid: bool,
    /// A write of a create: required fields are given.
    pub(crate) full: bool,
}

/// A write's fields, as JSON text, and the text of the title in it, if there is one.
pub(crate) fn fields(
    model: ModelIndex,
    number: u32,
    taste: Taste,
    tasks: usize,
    dice: &mut Dice,
) -> (String, Option<String>) {
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    let mut title = None;
    if taste.full || dice.percent(60) {
        let text = match dice.below(4) {
            0 => dice.pick(&["A", "B"]).to_owned(),
            1 if taste.odd => dice.pick(&["", "\u{1f600}", "\"\\\u{8}\u{2028}", "null", "1"]).to_owned(),
            _ => format!("title {number}"),
        };
        let mut raw = String::new();
        ablo_wasm::core::json::write_str(&mut raw, &text);
        object.raw("title", &raw);
        title = Some(raw);
    }
    if dice.percent(40) {
        let plain = ["0", "1", "2", "3"];
        let odd = ["9007199254740993", "1e400", "-0", "1.0", "0.1", "1E2", "-1e-7", "null"];
        object.raw("rank", if taste.odd && dice.percent(50) { dice.pick(&odd) } else { dice.pick(&plain) });
    }
    if model == TASKS {
        if dice.percent(40) {
            object.str("status", dice.pick(&["todo", "doing", "done"]));
        }
        if taste.invalid && dice.percent(8) {
            object.raw("done", "\"perhaps\"");
        } else if dice.percent(25) {
            object.raw("done", dice.pick(&["true", "false", "null"]));
        }
        if dice.percent(25) {
            object.raw("teamId", dice.pick(&["\"red\"", "\"blue\"", "null"]));
        }
        if taste.odd && dice.percent(30) {
            object
                .raw("meta", dice.pick(&[r#"{"__proto__":{"x":1},"a":[]}"#, "[1,[2,{}]]", "\"text\"", "1.50", "null"]));
        }
    }
    if model == NOTES && dice.percent(50) {
        let id = format!("t{}", dice.index(tasks));
        object.str("taskId", &id);
    }
    if taste.odd && dice.percent(20) {
        object.raw(dice.pick(&["__proto__", "constructor", "toString", "\u{e9}\"\u{0}"]), r#"{"polluted":true}"#);
    }
    if taste.full {
        object.raw(&format!("b{number}"), "1");
    }
    object.raw(&format!("m{number}"), "1");
    object.end();
    (out, title)
}

/// The numbers of the writes that a text of fields or a row carries, in order.
pub(crate) fn markers(text: &str) -> Vec<u32> {
    let Ok(value) = Value::parse(text) else { return Vec::new() };
    value.members().filter_map(|(key, _)| key.raw().strip_prefix('m')?.parse().ok()).collect()
}

/// Whether a row's text carries the member of this number.
pub(crate) fn carries(text: &str, letter: char, number: u32) -> bool {
    // Members have no escapes and no text value contains this, so looking for the characters is enough.
    text.contains(&format!("\"{letter}{number}\":"))
}

/// The newest birth in a row's text.
pub(crate) fn birth(text: &str) -> Option<u32> {
    let value = Value::parse(text).ok()?;
    value.members().filter_map(|(key, _)| key.raw().strip_prefix('b')?.parse().ok()).last()
}
