//! One incarnation of a client: the engine and what a page around it keeps: tickets, open views, a cache of rows, the
//! journal. And what must hold for it after every step.

use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::Engine;
use ablo_wasm::core::id::{ModelIndex, RowId, SyncId, TaskId};
use ablo_wasm::core::input::{Input, Ticket};
use ablo_wasm::core::json::{ObjectWriter, Value};
use ablo_wasm::core::output::JournalOp;
use ablo_wasm::core::pool::{Changes, RowRef, Slot};
use ablo_wasm::core::queue::{Overlay, RowKey};
use ablo_wasm::core::store::{Database, ObjectStore};
use ablo_wasm::core::time::Now;
use ablo_wasm::core::wire::{OpKind, Operation};

use crate::claims::AppClaim;
use crate::host::LinkNo;
use crate::line::Line;
use crate::oracle::{Author, Check, Fate, Oracle, Row, broken, fingerprint};
use crate::shop;
use crate::views::OpenView;

/// Where the server is.
pub(crate) const BASE_URL: &str = "http://sim";

/// Where a client's credential comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A key that works for ever.
    Fixed,
    /// The application mints keys.
    Function,
    /// A secret key is exchanged.
    Exchange,
}

/// What stays the same when a client dies and another takes its place.
#[derive(Clone, Debug)]
pub(crate) struct Persona {
    pub(crate) user: String,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) source: Source,
    pub(crate) durable: bool,
    /// Rows and writes are kept on this device.
    pub(crate) device: Option<usize>,
}

impl Persona {
    /// The token of its fixed key.
    pub(crate) fn token(&self) -> String {
        format!("ek_sim_{}", self.user)
    }

    /// Whether it sees every row.
    pub(crate) fn sees_all(&self) -> bool {
        self.groups.contains(&format!("org:{}", shop::ORGANIZATION))
    }

    /// The client's configuration.
    pub(crate) fn config(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.raw("schema", shop::SCHEMA);
        object.str("baseUrl", BASE_URL);
        match self.source {
            Source::Fixed => object.str("authToken", &self.token()),
            Source::Function => object.bool("apiKeyFunction", true),
            Source::Exchange => object.str("apiKey", crate::host::SECRET),
        }
        object.bool("durable", self.durable);
        if self.device.is_some() {
            object.str("persistence", "indexeddb");
        }
        object.end();
        out
    }
}

/// What a ticket was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Start,
    /// Writes that settle together, and whether when confirmed.
    Write {
        numbers: Vec<u32>,
        confirmed: bool,
    },
    /// A call that has nothing to do: it settles at once.
    Nothing,
    Read(ModelIndex),
    /// A claim, or groups.
    Claim(String),
    Flush,
    Confirmation,
    Dispose,
}

/// A database as a tab has it open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handle {
    pub(crate) name: String,
    pub(crate) connection: u64,
    /// The next request begins then.
    pub(crate) turn_at: u64,
}

/// One incarnation.
pub(crate) struct Client {
    /// Its place in the world.
    pub(crate) no: usize,
    pub(crate) author: Author,
    pub(crate) persona: Persona,
    pub(crate) engine: Engine,
    /// The page's clock started then.
    pub(crate) born: u64,
    /// The wall clock is wrong by so much.
    pub(crate) skew: i64,
    pub(crate) line: Line,
    pub(crate) links: BTreeMap<TaskId, LinkNo>,
    pub(crate) tickets: BTreeMap<Ticket, Use>,
    next_ticket: u32,
    pub(crate) views: Vec<OpenView>,
    /// Its application's claims, by id.
    pub(crate) claims: BTreeMap<String, AppClaim>,
    /// What its user does.
    pub(crate) activity: Option<String>,
    /// Whoever waits for a claim may go on waiting.
    pub(crate) patient: bool,
    /// Writes that were refused: they must not show any more.
    refused: Vec<(Row, u32)>,
    /// Rows as the page has seen them.
    cache: BTreeMap<(ModelIndex, Slot), String>,
    pub(crate) journal: BTreeMap<u64, String>,
    /// Changes on their way to it.
    pub(crate) journaling: BTreeMap<TaskId, Vec<JournalOp>>,
    pub(crate) journal_at: u64,
    /// Its optimistic writes that may still be pending, by row.
    watch: BTreeMap<Row, Vec<u32>>,
    cursor: SyncId,
    pub(crate) timer_at: Option<u64>,
    /// Timers come late.
    pub(crate) background: bool,
    /// There is a network.
    pub(crate) online: bool,
    /// The system has said that there is none.
    pub(crate) told_offline: bool,
    /// The directory and the database of the identity.
    pub(crate) stores: [Handle; 2],
    /// When the last answer of an object store comes.
    pub(crate) answered: BTreeMap<(Database, ObjectStore), u64>,
    /// Its request for the lock.
    pub(crate) claim: u64,
    /// It has given up its storage.
    pub(crate) memory: bool,
    /// It gets nothing to do; what it misses waits.
    pub(crate) frozen: bool,
    pub(crate) thawing: bool,
    pub(crate) backlog: Vec<Input>,
    pub(crate) disposing: bool,
    pub(crate) disposed: bool,
    steps: u64,
    /// The server can be believed, so rows and cursor must be right.
    pub(crate) honest: bool,
    /// Rows read ahead of the stream lose their stamps when they are stored: changes since may be seen again (README).
    pub(crate) mixes: bool,
    /// Hide changes from the page (a deliberate mistake).
    pub(crate) hide_changes: bool,
}

impl Client {
    pub(crate) fn new(no: usize, author: Author, persona: Persona, seed: u128, born: u64, now: Now) -> Self {
        let config = ablo_wasm::core::config::Config::parse(&persona.config()).expect("the configuration is valid");
        Self {
            no,
            author,
            persona,
            engine: Engine::new(config, seed, now),
            born,
            skew: 0,
            line: Line::default(),
            links: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            views: Vec::new(),
            claims: BTreeMap::new(),
            activity: None,
            patient: true,
            refused: Vec::new(),
            cache: BTreeMap::new(),
            journal: BTreeMap::new(),
            journaling: BTreeMap::new(),
            journal_at: 0,
            watch: BTreeMap::new(),
            cursor: SyncId(0),
            timer_at: None,
            background: false,
            online: true,
            told_offline: false,
            stores: Default::default(),
            answered: BTreeMap::new(),
            claim: 0,
            memory: false,
            frozen: false,
            thawing: false,
            backlog: Vec::new(),
            disposing: false,
            disposed: false,
            steps: 0,
            honest: true,
            mixes: false,
            hide_changes: false,
        }
    }

    /// A name for the trace.
    pub(crate) fn name(&self) -> String {
        format!("c{}.{}", self.no, self.author)
    }

    /// A fresh ticket.
    pub(crate) fn ticket(&mut self, used: Use) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, used);
        ticket
    }

    /// The row as readers see it.
    pub(crate) fn row(&self, row: &Row) -> Option<&str> {
        self.engine.row(row.0, &row.1)
    }

    /// What the outbox calls the delete of a row that has just been made.
    pub(crate) fn newest_delete(&self, row: &Row) -> Option<String> {
        let outbox = self.engine.outbox();
        let outbox = Value::parse(&outbox).ok()?;
        let fresh = outbox.elements().filter(|entry| entry.get_str("stage").is_some_and(|stage| stage == "applied"));
        let operations = fresh.flat_map(|entry| entry.at("operations").elements());
        let operations = operations.filter_map(|item| Operation::parse(item).ok());
        let is_it = |operation: &Operation| operation.kind == OpKind::Delete && operation.id.as_ref() == Some(&row.1);
        operations.filter(is_it).last()?.transaction_id
    }

    /// A write of this client may be pending from now on.
    pub(crate) fn watch(&mut self, row: &Row, number: u32) {
        self.watch.entry(row.clone()).or_default().push(number);
    }

    /// Forgets writes that are past: the base has them, or they never will be.
    fn unwatch(&mut self, oracle: &Oracle) {
        let cursor = self.engine.cursor();
        let refused = &mut self.refused;
        self.watch.retain(|row, numbers| {
            numbers.retain(|number| {
                // Tabs hear of each other's refusals in their own time.
                if oracle.op(*number).is_some_and(|op| op.fate == Fate::Rejected && op.device.is_none()) {
                    refused.push((row.clone(), *number));
                }
                oracle.op(*number).is_some_and(|op| {
                    op.fate == Fate::Open && op.applied.is_none_or(|at| at > cursor) && !oracle.is_superseded(*number)
                })
            });
            !numbers.is_empty()
        });
    }

    /// The page looks at some rows and keeps what it saw.
    pub(crate) fn look(&mut self, rows: &[Row]) -> Check {
        for row in rows {
            let Some(slot) = self.engine.find(row.0, &row.1) else { continue };
            let mut text = String::new();
            self.engine.write_rows(row.0, &[slot], &mut text);
            let text = text.trim_start_matches('[').trim_end_matches(']').to_owned();
            if let Some(known) = self.cache.insert((row.0, slot), text.clone())
                && known != text
            {
                return broken("cache", format!("{}: {row:?} changed unannounced from {known} to {text}", self.name()));
            }
        }
        Ok(())
    }

    /// The page is told what changed.
    fn take_changes(&mut self) -> Changes {
        let changes = self.engine.take_changes();
        for model in &changes.models {
            for entry in &model.rows {
                if self.hide_changes {
                    continue;
                }
                self.cache.remove(&(model.model, Slot(entry >> 1)));
            }
        }
        changes
    }

    /// The journal takes changes in.
    pub(crate) fn write_journal(&mut self, ops: &[JournalOp]) {
        for op in ops {
            match op {
                JournalOp::Put { order, record } => drop(self.journal.insert(*order, record.clone())),
                JournalOp::Remove { order } => drop(self.journal.remove(order)),
            }
        }
    }

    /// Whether the journal has a write.
    pub(crate) fn has_journaled(&self, number: u32, oracle: &Oracle) -> bool {
        let Some(op) = oracle.op(number) else { return true };
        // Deletes carry no number of their own: the row's id must do.
        self.journal.values().any(|record| match op.kind {
            OpKind::Create | OpKind::Update => shop::carries(record, 'm', number),
            OpKind::Delete | OpKind::Archive | OpKind::Unarchive => record.contains(op.kind.name()),
        })
    }

    /// Everything that must hold after every step.
    pub(crate) fn check(&mut self, universe: &[RowKey], oracle: &Oracle) -> Check {
        self.steps += 1;
        // Whose login is over has nothing to show.
        if self.disposed || self.line.signed_out {
            return Ok(());
        }
        let changes = self.take_changes();
        let cursor = self.engine.cursor();
        if cursor < self.cursor && self.honest {
            return broken(
                "cursor",
                format!("{}: the cursor went from {} to {}", self.name(), self.cursor.0, cursor.0),
            );
        }
        if cursor > oracle.head() && self.honest {
            let what = format!("{}: the cursor is {}, the server's head {}", self.name(), cursor.0, oracle.head().0);
            return broken("cursor", what);
        }
        self.cursor = cursor;
        self.check_overlays(universe, self.steps.is_multiple_of(4))?;
        self.unwatch(oracle);
        if !self.steps.is_multiple_of(2) {
            self.check_own_writes(oracle)?;
        }
        self.check_cache()?;
        for index in 0..self.views.len() {
            let news = self.views.get(index).is_some_and(|view| changes.views.contains(&view.id));
            let due = news || self.steps.is_multiple_of(16);
            self.check_view(index, due, universe)?;
        }
        if self.steps.is_multiple_of(16) {
            self.check_base(universe, oracle)?;
            self.check_refused()?;
        }
        Ok(())
    }

    /// What readers see is the base with the pending writes over it. Laying them over takes time: unless it is `due`,
    /// only rows without pending writes are looked at.
    fn check_overlays(&self, universe: &[RowKey], due: bool) -> Check {
        let queue = self.engine.queue();
        for key in universe {
            let id = key.1.as_str();
            let (shown, base) = (self.engine.row(key.0, id), self.engine.base_row(key.0, id));
            if !due && queue.is_pending(key) {
                continue;
            }
            let overlay = queue.overlay(key, base);
            let expected = match &overlay {
                None => base,
                Some(Overlay::Shown(text)) => Some(text.as_str()),
                Some(Overlay::Hidden) => None,
            };
            if shown != expected {
                let what = format!(
                    "{}: {key:?} shows {shown:?}; the base {base:?} with pending writes is {expected:?}",
                    self.name()
                );
                return broken("view-is-base-plus-pending", what);
            }
        }
        Ok(())
    }

    /// An own write shows until it is rejected or undone by a later one, whatever else happens.
    fn check_own_writes(&self, oracle: &Oracle) -> Check {
        for (row, numbers) in &self.watch {
            let shown = self.row(row);
            for (index, number) in numbers.iter().enumerate() {
                let Some(op) = oracle.op(*number) else { continue };
                let later = numbers.get(index + 1..).unwrap_or_default();
                if oracle.is_shared(*number, self.cursor) {
                    continue;
                }
                let undone =
                    |kind: OpKind| later.iter().filter_map(|later| oracle.op(*later)).any(|later| later.kind == kind);
                let pending = op.applied.is_none();
                if !pending && !self.honest {
                    continue;
                }
                let wrong = match (op.kind, shown) {
                    (OpKind::Create, None) if pending && !undone(OpKind::Delete) => "a pending create is hidden",
                    (OpKind::Create, Some(text))
                        if pending && !shop::carries(text, 'b', *number) && !undone(OpKind::Delete) =>
                    {
                        "a pending create does not show"
                    }
                    (OpKind::Update, Some(text))
                        if op.birth.is_none_or(|birth| shop::carries(text, 'b', birth))
                            && !shop::carries(text, 'm', *number) =>
                    {
                        "an own update does not show"
                    }
                    (OpKind::Delete, Some(_)) if pending && !undone(OpKind::Create) => {
                        "a row that is being deleted shows"
                    }
                    _ => "",
                };
                if !wrong.is_empty() {
                    let what =
                        format!("{}: {wrong}: write {number} on {row:?} is {op:?}; shown: {shown:?}", self.name());
                    return broken("own-write-shows", what);
                }
            }
            self.check_own_title(row, numbers, shown, oracle)?;
        }
        Ok(())
    }

    /// What was refused, or held back, does not show.
    fn check_refused(&self) -> Check {
        for (row, number) in &self.refused {
            if self.row(row).is_some_and(|text| shop::carries(text, 'm', *number)) {
                let what = format!("{}: the refused write {number} shows in {:?}", self.name(), self.row(row));
                return broken("held-shows", what);
            }
        }
        Ok(())
    }

    /// While an own write is on its way, its values show, not those of others.
    fn check_own_title(&self, row: &Row, numbers: &[u32], shown: Option<&str>, oracle: &Oracle) -> Check {
        let Some(shown) = shown else { return Ok(()) };
        let last = numbers.iter().rev().filter_map(|number| oracle.op(*number)).find(|op| op.title.is_some());
        let Some(op) = last.filter(|op| op.applied.is_none()) else { return Ok(()) };
        if numbers.iter().any(|number| oracle.is_shared(*number, self.cursor)) {
            return Ok(());
        }
        let alive = op.birth.is_none_or(|birth| shop::carries(shown, 'b', birth));
        let value = Value::parse(shown).ok().and_then(|row| row.get("title"));
        let title = value.map(|value| value.raw);
        if alive && title != op.title.as_deref() {
            let what = format!("{}: the title of {row:?} is {title:?}, the pending write is {op:?}", self.name());
            return broken("own-value-shows", what);
        }
        Ok(())
    }

    /// What the page has cached is what it would read.
    fn check_cache(&self) -> Check {
        for ((model, slot), text) in &self.cache {
            let now = self.engine.pool().text(RowRef { model: *model, slot: *slot }).map(|text| text.as_str());
            if now != Some(text) {
                let what = format!("{}: the page still has {text} where {now:?} is", self.name());
                return broken("cache", what);
            }
        }
        Ok(())
    }

    /// Confirmed rows are at least as new as the cursor says.
    fn check_base(&self, universe: &[RowKey], oracle: &Oracle) -> Check {
        if !self.engine.is_ready() || !self.persona.sees_all() || !self.honest {
            return Ok(());
        }
        let cursor = self.engine.cursor();
        for key in universe {
            let row = (key.0, key.1.as_str().to_owned());
            let versions = oracle.versions(&row);
            let base = self.engine.base_row(key.0, &row.1).map(fingerprint);
            // Whoever has not asked for a row on demand lacks it; and after a snapshot all of them are read again.
            if key.0.0 >= shop::INSTANT && (base.is_none() || self.engine.is_repairing()) {
                continue;
            }
            let from = versions.iter().rposition(|version| version.id <= cursor);
            let newer = versions.get(from.unwrap_or(0)..).unwrap_or_default();
            let fits = (from.is_none() && base.is_none()) || newer.iter().any(|version| version.text == base);
            // Snapshots leave archived rows out, so a client may well lack one.
            let absent = base.is_none() && newer.iter().any(|version| version.archived);
            let text = self.engine.base_row(key.0, &row.1);
            let mixed = self.mixes && text.is_none_or(|text| oracle.is_complete(&row, text, cursor));
            if !fits && !absent && !mixed {
                let what = format!(
                    "{}: at cursor {} the base of {row:?} is {:?}, which is older or never was: {versions:?}",
                    self.name(),
                    cursor.0,
                    self.engine.base_row(key.0, &row.1)
                );
                return broken("base-is-current", what);
            }
        }
        Ok(())
    }

    fn check_view(&mut self, index: usize, due: bool, universe: &[RowKey]) -> Check {
        let Some(view) = self.views.get_mut(index) else { return Ok(()) };
        let name = format!("c{}.{}", self.no, self.author);
        view.follow(&mut self.engine, &name)?;
        if due {
            view.compare(&mut self.engine, universe, &name)?;
        }
        Ok(())
    }

    /// Everything is confirmed and nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.disposed
            || (self.engine.is_connected()
                && self.engine.is_ready()
                && self.engine.pending_count() == 0
                && self.tickets.values().all(|used| self.patient && matches!(used, Use::Claim(_)))
                && self.journal.is_empty())
    }

    /// Why [`Client::is_quiet`] is false.
    pub(crate) fn unrest(&mut self) -> String {
        let tickets: Vec<_> = self.tickets.iter().take(3).collect();
        let journal: Vec<_> = self.journal.iter().take(2).collect();
        format!(
            "{}: status {}, outbox {:.800}, pending {}, tickets {tickets:?}, journal {journal:?}, timer {:?}",
            self.name(),
            self.engine.status(),
            self.engine.outbox(),
            self.engine.pending_count(),
            self.engine.poll_timeout(),
        )
    }

    /// After everything healed: the rows are the server's.
    pub(crate) fn check_converged(
        &mut self,
        universe: &[RowKey],
        server: &BTreeMap<Row, String>,
        oracle: &Oracle,
    ) -> Check {
        if self.disposed {
            return Ok(());
        }
        if self.engine.cursor() != oracle.head() {
            let what = format!("{}: cursor {}, head {}", self.name(), self.engine.cursor().0, oracle.head().0);
            return broken("converged", what);
        }
        let archived: BTreeSet<&Row> = oracle.rows().filter(|(_, archived)| *archived).map(|(row, _)| row).collect();
        for key in universe {
            let row = (key.0, key.1.as_str().to_owned());
            let visible = self.persona.sees_all() || oracle.shows(&self.persona.groups, &row);
            let expected = server.get(&row).filter(|_| visible).map(String::as_str);
            let shown = self.row(&row);
            let same = match (shown, expected) {
                (Some(shown), Some(expected)) => fingerprint(shown) == fingerprint(expected),
                (None, None) => true,
                // Rows on demand are here when somebody read them; archived rows come only as changes.
                (None, Some(_)) => row.0 == shop::FILES || archived.contains(&row),
                // A row on demand that is no longer visible is not known to have gone.
                (Some(_), None) => false,
            };
            if !same {
                let what = format!("{}: {row:?} is {shown:?} and should be {expected:?}", self.name());
                return broken("converged", what);
            }
        }
        self.check_overlays(universe, true)?;
        self.check_base(universe, oracle)?;
        for index in 0..self.views.len() {
            self.check_view(index, true, universe)?;
        }
        Ok(())
    }

    /// The key of a row in the queue.
    pub(crate) fn key(row: &Row) -> RowKey {
        (row.0, RowId::from(row.1.as_str()))
    }
}
