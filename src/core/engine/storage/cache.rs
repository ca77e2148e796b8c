//! Rows on the device: chunks of rows, a log of the deltas since, and `meta`, which names the generation that counts.

use super::*;

/// Version of what is stored. A database with a higher one is left alone.
const LAYOUT_VERSION: u64 = 2;
/// Bytes of rows in one record of the cache.
const RECORD_BYTES: usize = 512 * 1024;
/// The log may grow this far, or to half of the rows, before the rows are written anew.
const LOG_BYTES_MIN: usize = 1024 * 1024;

/// Rows being written anew.
#[derive(Debug)]
pub(super) struct Checkpoint {
    generation: u64,
    model: u16,
    slot: u32,
    number: u64,
    cursor: SyncId,
}

impl Engine {
    pub(super) fn show_cache(&mut self) {
        let mut records = std::mem::take(&mut self.storage.cache);
        let Some(at) = records.iter().position(|(key, _)| key == META) else { return };
        let (_, meta) = records.remove(at);
        let Some(meta) = std::str::from_utf8(&meta).ok().and_then(|text| Value::parse(text).ok()) else { return };
        let version = meta.get_u64("v").unwrap_or(0);
        if version > LAYOUT_VERSION {
            self.storage_problem(Error::local(
                "storage_newer_version",
                "newer code has written the rows on this device; they are loaded again",
            ));
            self.storage.cache_lost = true;
            return;
        }
        // Rows that were read through the server meanwhile may be older than these: a snapshot puts that right.
        let mut early = false;
        let mut model = ModelIndex(0);
        while self.config.schema.model(model).is_some() {
            early |= self.pool.base_slots(model).next().is_some();
            model.0 += 1;
        }
        let current = version == LAYOUT_VERSION && meta.get_u64("schema") == Some(self.config.schema.fingerprint);
        if !current || self.loaded || early {
            return;
        }
        let generation = meta.get_u64("generation").unwrap_or(0);
        let (chunks, log) = (in_generation(generation, "/c/"), in_generation(generation, "/g/"));
        let mut cursor = SyncId(meta.get_u64("cursor").unwrap_or(0));
        let mut deltas = Vec::new();
        let mut missing = meta.get_u64("chunks").unwrap_or(0);
        for (key, value) in records {
            if key.starts_with(&chunks) {
                missing = missing.saturating_sub(1);
                if self.pool.read_record(value).is_none() {
                    // Rows that cannot be read are loaded again, all of them.
                    self.pool.clear();
                    let message = concat(&["rows in record ", &key, " are damaged; they are loaded again"]);
                    self.storage_problem(Error::local("storage_record_unreadable", message));
                    return;
                }
            } else if let Some(number) = key.strip_prefix(&log) {
                self.storage.log_number = parse_hex(number).unwrap_or(0);
                self.storage.log_bytes += value.len();
                deltas.push(value);
            }
        }
        if missing > 0 {
            // A power failure may have taken what was written last.
            self.pool.clear();
            return;
        }
        self.cursor = cursor;
        for entry in deltas {
            let Some(root) = std::str::from_utf8(&entry).ok().and_then(|text| Value::parse(text).ok()) else { break };
            if root.get_u64("after").unwrap_or(0) > cursor.0 {
                // What comes before it is missing, for the same reason.
                continue;
            }
            for delta in root.at("deltas").elements() {
                match Delta::parse(delta.raw) {
                    Ok(delta) => self.apply_delta(&delta),
                    Err(bad) => self.report(&bad.error),
                }
            }
            cursor = cursor.max(SyncId(root.get_u64("cursor").unwrap_or(0)));
            self.cursor = cursor;
        }
        self.storage.generation = generation;
        self.storage.newest = generation;
        self.storage.logged_cursor = cursor;
        let had = meta.get_strings("groups");
        if self.identity.is_none() {
            self.groups = had;
            self.loading = Loading::Idle;
        } else if had.iter().any(|group| !self.groups.contains(group)) {
            // Rows of groups that we have no more must not be shown.
            self.pool.clear();
            self.cursor = SyncId(0);
            return;
        } else if had.len() == self.groups.len() && cursor > SyncId(0) {
            // A catch-up from nothing may leave out what came before (see `begin_session`).
            self.loading = Loading::Idle;
        }
        self.become_ready();
    }

    /// A snapshot has replaced the rows: what is stored stays as it is until all rows are written anew.
    pub(in crate::core::engine) fn rows_replaced(&mut self) {
        self.storage.log = String::new();
        if !bug::on(Bug::LogToOldGeneration) {
            self.storage.generation = 0;
        }
        self.storage.checkpoint = None;
        self.storage.checkpoint_due = true;
    }

    pub(super) fn pump_cache(&mut self) {
        if !self.storage.tabs.leads || self.storage.adopting || self.storage.cache_lost || !self.loaded {
            return;
        }
        if !self.rows_are_whole() {
            return;
        }
        if self.storage.checkpoint.is_some() {
            if !self.storage.is_doing(&|job| matches!(job, Job::Chunk)) {
                self.step_checkpoint();
            }
        } else {
            let full = self.storage.log_bytes > LOG_BYTES_MIN.max(self.pool.stats().live_bytes / 2);
            // Nor are rows current that are being read again.
            let current = !self.reads.is_repairing() || bug::on(Bug::StoredBeforeRepair);
            if (self.storage.checkpoint_due || full) && current {
                self.begin_checkpoint();
            }
        }
        // Into the generation that counts, and into the one being written.
        let mut generations = Vec::new();
        if self.storage.generation > 0 {
            generations.push(self.storage.generation);
        }
        if let Some(checkpoint) = &self.storage.checkpoint {
            generations.push(checkpoint.generation);
        }
        if self.storage.logging || generations.is_empty() || self.cursor <= self.storage.logged_cursor {
            return;
        }
        let mut text = String::new();
        let mut object = ObjectWriter::new(&mut text);
        object.u64("after", self.storage.logged_cursor.0);
        object.u64("cursor", self.cursor.0);
        let log = std::mem::take(&mut self.storage.log);
        object.raw("deltas", &concat(&["[", &log, "]"]));
        object.end();
        self.storage.log_number += 1;
        let number = self.storage.log_number;
        let mut changes = Vec::new();
        for generation in generations {
            changes.push(put_cache(log_key(generation, number), text.clone()));
        }
        self.storage.logging = true;
        self.storage.logged_cursor = self.cursor;
        let request = StoreRequest::Write { changes, strict: false };
        self.ask(Database::Identity, request, Job::Log(text.len()));
    }

    /// Begins to write all rows under a new generation; the old one counts until `meta` names the new one. Rows may
    /// change meanwhile: what changes goes into the logs of both.
    fn begin_checkpoint(&mut self) {
        self.storage.checkpoint_due = false;
        self.storage.log_bytes = 0;
        let generation = (self.storage.newest + 1).max(self.now.wall.0);
        self.storage.newest = generation;
        if self.storage.generation == 0 {
            self.storage.logged_cursor = self.cursor;
        }
        self.storage.checkpoint = Some(Checkpoint { generation, model: 0, slot: 0, number: 0, cursor: self.cursor });
        self.step_checkpoint();
    }

    /// A change that could not be applied is not in the rows, whatever the cursor says, before they are loaded again.
    fn rows_are_whole(&self) -> bool {
        self.loading == Loading::Idle || bug::on(Bug::StoredBeforeRepair)
    }

    pub(super) fn step_checkpoint(&mut self) {
        if !self.rows_are_whole() {
            return;
        }
        let Some(mut checkpoint) = self.storage.checkpoint.take() else { return };
        while self.config.schema.model(ModelIndex(checkpoint.model)).is_some() {
            let model = ModelIndex(checkpoint.model);
            // The rows may be ahead of the log by now: what it has of before must not be put over them.
            let (text, next) = self.pool.write_record(model, checkpoint.slot, RECORD_BYTES, self.cursor);
            match next {
                Some(slot) => checkpoint.slot = slot,
                None => {
                    checkpoint.model += 1;
                    checkpoint.slot = 0;
                }
            }
            if !text.is_empty() {
                checkpoint.number += 1;
                let key = in_generation(checkpoint.generation, &concat(&["/c/", &hex(checkpoint.number, 6)]));
                let request = StoreRequest::Write { changes: vec![put_cache(key, text)], strict: false };
                self.storage.checkpoint = Some(checkpoint);
                self.ask(Database::Identity, request, Job::Chunk);
                return;
            }
        }
        let generation = checkpoint.generation;
        let mut text = String::new();
        let mut meta = ObjectWriter::new(&mut text);
        meta.u64("v", LAYOUT_VERSION);
        meta.u64("schema", self.config.schema.fingerprint);
        meta.u64("generation", generation);
        meta.u64("cursor", checkpoint.cursor.0);
        meta.u64("chunks", checkpoint.number);
        meta.strs("groups", &self.groups);
        meta.end();
        let clear = |from: String, to: String| StoreChange::Remove { store: ObjectStore::Cache, from, to };
        let changes = vec![
            clear(String::new(), in_generation(generation, "/")),
            clear(in_generation(generation, "0"), META.to_owned()),
            put_cache(META.to_owned(), text),
        ];
        self.storage.generation = generation;
        self.ask(Database::Identity, StoreRequest::Write { changes, strict: false }, Job::Meta);
    }

    /// Another tab sends from now on, and writes the cache.
    pub(in crate::core::engine) fn leave_cache(&mut self) {
        self.rows_replaced();
        self.storage.checkpoint_due = false;
    }

    /// The cache goes on from our rows if nobody has written it since we have read it; otherwise it is written anew.
    pub(super) fn adopt_cache(&mut self, newer: &[Record]) {
        let untouched = matches!(newer, [(key, value)] if key == META && std::str::from_utf8(value).ok()
            .and_then(|text| Value::parse(text).ok()).and_then(|meta| meta.get_u64("generation"))
            == Some(self.storage.generation));
        self.storage.adopting = false;
        // Rows that somebody began to write under a number of their own must not be mixed with ours.
        for (key, _) in newer {
            let generation = generation_of(key);
            self.storage.newest = self.storage.newest.max(generation.unwrap_or(0));
        }
        // Deltas that came while another tab wrote the log are not in ours.
        if !untouched || self.cursor > self.storage.logged_cursor {
            self.rows_replaced();
        }
    }
}
