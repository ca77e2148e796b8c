//! The strongest test of what is stored: an engine is opened without a network on a copy of a device. It must show the
//! server's rows as of the stored cursor, and over them the writes that the journal has.

use std::collections::BTreeMap;

use ablo_wasm::core::Engine;
use ablo_wasm::core::config::Config;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::input::{Command, Input, Ticket};
use ablo_wasm::core::json::Value;
use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{Database, ObjectStore, StoreRequest};
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{OpKind, Operation};

use crate::client::Persona;
use crate::device::Base;
use crate::oracle::{Check, Fate, Row, broken, fingerprint};
use crate::shop;
use crate::world::World;

/// Requests that an engine may make before it has shown what is stored.
const REQUESTS_MAX: usize = 1_000;

/// A write that a journal has.
struct Pending {
    kind: OpKind,
    row: Row,
    markers: Vec<u32>,
    /// What the outbox would call it.
    name: String,
    /// It is in the outbox as refused, and its record is still to be taken out of the journal.
    refused: bool,
}

impl World {
    /// Looks at what a device would show if it was opened now, somewhere without a network.
    pub(crate) fn look_cold(&mut self, index: usize) -> Check {
        let Some(persona) = self.clients.iter().map(|one| &one.persona).find(|one| one.device == Some(index)) else {
            return Ok(());
        };
        let persona = persona.clone();
        self.stats.cold_looks += 1;
        let mut bases = self.devices[index].databases().clone();
        if self.disk.percent(40) {
            bases.values_mut().for_each(|base| base.lose_power(|count| self.disk.index(count)));
        }
        let now = self.server_now();
        let engine = open_offline(&persona, &mut bases, Now::new(0, now.wall.0))?;
        let Some((base, cursor)) = bases.values().find_map(|base| Some((base, stored_cursor(base)?))) else {
            return Ok(());
        };
        if self.devices[index].damaged || self.plan.lying || !persona.sees_all() {
            return Ok(());
        }
        // Without the directory nobody knows whose rows these are.
        if !bases.values().any(|base| base.texts(ObjectStore::Cache, "http").next().is_some()) {
            return Ok(());
        }
        if !engine.is_ready() || engine.cursor() != cursor {
            let what = format!("stored is cursor {}, shown {} of {:?}", cursor.0, engine.is_ready(), engine.cursor());
            return broken("cold-start", what);
        }
        let mut pending: BTreeMap<Row, Vec<Pending>> = BTreeMap::new();
        for (_, record) in base.texts(ObjectStore::Journal, "j/") {
            for mut write in read_record(record) {
                let letter = format!("l/{}", write.name);
                write.refused = base.texts(ObjectStore::Journal, &letter).any(|(key, _)| key == letter);
                pending.entry(write.row.clone()).or_default().push(write);
            }
        }
        for key in &self.universe {
            let row = (key.0, key.1.as_str().to_owned());
            let found = engine.base_row(key.0, &row.1);
            self.check_cold_base(&row, found, cursor)?;
            check_cold_view(&row, found, engine.row(key.0, &row.1), pending.get(&row).map_or(&[], Vec::as_slice))?;
        }
        Ok(())
    }

    /// While nothing is under way between the tabs of a device, each shows what any of them has written.
    pub(crate) fn compare_tabs(&self, index: usize) -> Check {
        let device = &self.devices[index];
        if !device.jobs.is_empty() || device.untold > 0 || device.damaged || self.plan.lying {
            return Ok(());
        }
        let mut pending: BTreeMap<Row, Vec<Pending>> = BTreeMap::new();
        for (_, record) in device.journals("j/") {
            for write in read_record(record) {
                pending.entry(write.row.clone()).or_default().push(write);
            }
        }
        for (row, writes) in pending {
            // What the server has decided on reaches each tab in its own time, and word of it may be lost with a tab.
            let due = |number: &u32| {
                self.oracle.op(*number).is_some_and(|op| op.applied.is_none() && op.fate == Fate::Open)
                    && !self.has_letter(index, *number)
            };
            let plain = |write: &Pending| matches!(write.kind, OpKind::Create | OpKind::Update);
            if !writes.iter().all(|write| plain(write) && write.markers.iter().all(due)) {
                continue;
            }
            let told = |number: &u32| {
                self.clients.iter().any(|one| {
                    let mine = self.oracle.op(*number).is_some_and(|op| op.author == one.author);
                    mine && !one.disposed && !one.disposing && !one.frozen
                })
            };
            let head = self.oracle.versions(&row).last().map_or(SyncId(0), |version| version.id);
            for client in self.clients.iter().filter(|one| one.persona.device == Some(index)) {
                let here = device.channel.contains_key(&client.author) && !client.frozen && !client.disposing;
                let Some(text) = client.row(&row).filter(|_| here && client.engine.cursor() >= head) else { continue };
                // An update shows over the row that it was made for.
                let meant = |number: &u32| {
                    let birth = self.oracle.op(*number).and_then(|op| op.birth);
                    birth.is_none_or(|birth| shop::carries(text, 'b', birth))
                };
                let numbers = writes.iter().flat_map(|write| &write.markers);
                let numbers = numbers.filter(|number| told(number) && meant(number));
                for number in numbers {
                    if !shop::carries(text, 'm', *number) {
                        let what = format!("{} does not show write {number} on {row:?}: {text}", client.name());
                        return broken("tabs-agree", what);
                    }
                }
            }
        }
        Ok(())
    }

    fn check_cold_base(&self, row: &Row, found: Option<&str>, cursor: SyncId) -> Check {
        let text = found.map(fingerprint);
        let versions = self.oracle.versions(row);
        // Read on demand, or not at all.
        if text.is_none() && (row.0 == shop::FILES || self.plan.on.reads) {
            return Ok(());
        }
        let whole = row.0 != shop::FILES || versions.iter().any(|version| version.text == text);
        if self.plan.on.reads && whole && found.is_some_and(|text| self.oracle.is_complete(row, text, cursor)) {
            return Ok(());
        }
        let from = versions.iter().rposition(|version| version.id <= cursor);
        let newer = versions.get(from.unwrap_or(0)..).unwrap_or_default();
        let fits = (from.is_none() && text.is_none()) || newer.iter().any(|version| version.text == text);
        let absent = text.is_none() && newer.iter().any(|version| version.archived);
        if fits || absent {
            return Ok(());
        }
        let what = format!("at the stored cursor {} {row:?} is {found:?}: {versions:?}", cursor.0);
        broken("cold-rows", what)
    }
}

/// What a journal's writes make of a row must show.
fn check_cold_view(row: &Row, base: Option<&str>, shown: Option<&str>, writes: &[Pending]) -> Check {
    let mut there = base.is_some();
    let mut due: Vec<u32> = Vec::new();
    let (refused, writes): (Vec<&Pending>, Vec<_>) = writes.iter().partition(|write| write.refused);
    for write in &writes {
        match write.kind {
            OpKind::Create => {
                there = true;
                due.extend(&write.markers);
            }
            OpKind::Update if there => due.extend(&write.markers),
            OpKind::Delete => {
                there = false;
                due.clear();
            }
            OpKind::Update | OpKind::Archive | OpKind::Unarchive => {}
        }
    }
    let undone = refused.iter().flat_map(|write| &write.markers);
    let fits = match shown {
        Some(text) => {
            there
                && due.iter().all(|number| shop::carries(text, 'm', *number))
                && undone.into_iter().all(|number| !shop::carries(text, 'm', *number))
        }
        None => !there,
    };
    let untouched = !writes.is_empty() || shown == base;
    if fits && untouched {
        return Ok(());
    }
    broken("cold-view", format!("{row:?} shows {shown:?} over {base:?}; the journal has writes {due:?} for it"))
}

/// Starts an engine that finds no network.
fn open_offline(persona: &Persona, bases: &mut BTreeMap<String, Base>, now: Now) -> Check<Engine> {
    let config = Config::parse(&persona.config()).expect("the configuration is valid");
    let mut engine = Engine::new(config, 1, now);
    engine.handle_input(now, Input::Offline);
    let _ = engine.command(now, Command::Start(Ticket(1)));
    let mut names: BTreeMap<Database, String> = BTreeMap::new();
    let mut answers = Vec::new();
    for _ in 0..REQUESTS_MAX {
        while let Some(output) = engine.poll_output() {
            let Output::Store(task, database, request) = output else { continue };
            let name = names.get(&database).cloned().unwrap_or_default();
            let records = match request {
                StoreRequest::Open { name } => {
                    bases.entry(name.clone()).or_default();
                    names.insert(database, name);
                    Vec::new()
                }
                StoreRequest::Read { store, from, to } => {
                    bases.get(&name).map(|base| base.read(store, &from, &to)).unwrap_or_default()
                }
                StoreRequest::Write { .. } | StoreRequest::Delete => Vec::new(),
            };
            answers.push(Input::Stored(task, Ok(records)));
        }
        if answers.is_empty() {
            return Ok(engine);
        }
        let input = answers.remove(0);
        engine.handle_input(now, input);
    }
    broken("cold-start", "no end of requests to the storage")
}

/// How far stored rows are said to be complete.
fn stored_cursor(base: &Base) -> Option<SyncId> {
    let mut cursor = 0;
    let mut generation = None;
    let mut chunks = 0;
    for (_, meta) in base.texts(ObjectStore::Cache, "meta") {
        let meta = Value::parse(meta).ok()?;
        cursor = meta.get_u64("cursor")?;
        generation = meta.get_u64("generation");
        chunks = meta.get_u64("chunks")? as usize;
    }
    let records = |kind: &str| format!("{:012x}/{kind}/", generation.unwrap_or(0));
    if generation.is_none() || base.texts(ObjectStore::Cache, &records("c")).count() < chunks {
        return None;
    }
    for (_, entry) in base.texts(ObjectStore::Cache, &records("g")) {
        let entry = Value::parse(entry).ok()?;
        // Behind a hole.
        if entry.get_u64("after")? <= cursor {
            cursor = cursor.max(entry.get_u64("cursor")?);
        }
    }
    Some(SyncId(cursor))
}

/// The writes of a journal's record that show.
fn read_record(record: &str) -> Vec<Pending> {
    let Ok(root) = Value::parse(record) else { return Vec::new() };
    if root.get_bool("atomic").unwrap_or(false) {
        return Vec::new();
    }
    let operations = root.at("operations").elements().filter_map(|item| Operation::parse(item).ok());
    let pending = operations.filter_map(|operation| {
        let row = (shop::model_of(&operation.model)?, operation.id?);
        let markers = shop::markers(operation.input.as_deref().unwrap_or("{}"));
        let name = operation.transaction_id.unwrap_or_default();
        Some(Pending { kind: operation.kind, row, markers, name, refused: false })
    });
    pending.collect()
}
