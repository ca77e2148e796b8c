//! Rows and writes on the device: opening, warm start, journal, row cache, trouble (docs/offline.md).
//!
//! The directory says who used this application here last, so that a start without a network finds its rows. The
//! identity's database holds the journal (commits and refused writes) and the cache: chunks of rows, a log of the deltas
//! since, and `meta`, which names the generation that counts. Rows of another identity are never shown: what was opened
//! on the directory's word is shown only when the server confirms who we are, or cannot be reached.

mod cache;
mod directory;
mod news;
mod purge;
mod trouble;

use super::keys::{
    LAST, LETTERS, META, after, all, generation_of, in_generation, journal_key, journal_order, letter_id, log_key, put,
    put_cache, remove,
};
use super::tabs::Tabs;
use super::{Engine, Loading, Phase};
use crate::core::bug::{self, Bug};
use crate::core::config::Identity;
use crate::core::connection::State;
use crate::core::error::Error;
use crate::core::id::{ModelIndex, SyncId, TaskId};
use crate::core::json::{ObjectWriter, Value};
use crate::core::map::SmallMap;
use crate::core::output::{JournalOp, Output};
use crate::core::queue::same_commit;
use crate::core::store::{
    Database, ObjectStore, Record, StoreChange, StoreFailure, StoreFailureKind, StoreRequest, fingerprint,
};
use crate::core::text::{concat, hex, parse_hex};
use crate::core::wire::Delta;
use cache::Checkpoint;

/// How far the storage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Rows and writes are in memory only: not asked for, or given up.
    Memory,
    /// Not begun.
    Idle,
    /// Looking up who was here last.
    Directory,
    /// Nobody known was, and the server has not said yet.
    Unknown,
    /// Opening and reading the database.
    Reading,
    /// Read, and not shown yet.
    Hidden,
    /// In use.
    Open,
    /// Deleting everything; settles `purging`.
    Purging,
}

/// What a request to the storage was for.
#[derive(Clone, Debug)]
enum Job {
    OpenDirectory,
    ReadDirectory,
    Open,
    ReadCache,
    ReadJournal,
    Reopen,
    Journal(Vec<StoreChange>, Vec<u64>),
    Log(usize),
    Chunk,
    Meta,
    /// Reading what other tabs have written, on becoming the one that sends.
    CatchUpCache,
    /// With the places that others ask about.
    CatchUpJournal(Vec<u64>),
    /// Reading what other tabs say that they have written, before what else they say is believed.
    News {
        texts: Vec<String>,
        puts: Vec<String>,
    },
    /// Reading whom to forget, and who else is here.
    PurgeKnown,
    PurgeDirectory,
    Quiet,
}

/// A write that the server refused, kept until the application decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) text: String,
}

/// What the engine knows about its storage.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) stage: Stage,
    jobs: SmallMap<TaskId, Job>,
    /// Whose database is open, or being opened.
    pub(super) owner: Option<Identity>,
    /// Who was here last.
    known: Option<Identity>,
    cache: Vec<Record>,
    journal: Vec<Record>,
    /// The generation that counts and may be added to, or 0.
    generation: u64,
    /// The highest generation known.
    newest: u64,
    log_number: u64,
    log_bytes: usize,
    /// Deltas for the log, comma-separated.
    log: String,
    logging: bool,
    logged_cursor: SyncId,
    checkpoint: Option<Checkpoint>,
    checkpoint_due: bool,
    /// What other tabs have written is being looked at: until then nothing may be added to it.
    adopting: bool,
    /// The cache is written no more: it was given up.
    cache_lost: bool,
    /// The connection was lost once before.
    reopened: bool,
    /// The request that opened it again.
    reopened_by: Option<TaskId>,
    pub(super) problem: Option<Error>,
    /// Records that cannot be read, by key.
    pub(super) aside: Vec<(String, String)>,
    pub(super) letters: Vec<Letter>,
    /// Changes of letters for the next write of the journal.
    pub(super) letter_changes: Vec<StoreChange>,
    pub(super) tabs: Tabs,
    /// Says when everything is deleted.
    purging: Option<Output>,
}

impl Storage {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            stage: if wanted { Stage::Idle } else { Stage::Memory },
            jobs: SmallMap::default(),
            owner: None,
            known: None,
            cache: Vec::new(),
            journal: Vec::new(),
            generation: 0,
            newest: 0,
            log_number: 0,
            log_bytes: 0,
            log: String::new(),
            logging: false,
            logged_cursor: SyncId(0),
            checkpoint: None,
            checkpoint_due: false,
            adopting: false,
            cache_lost: false,
            reopened: false,
            reopened_by: None,
            problem: None,
            aside: Vec::new(),
            letters: Vec::new(),
            letter_changes: Vec::new(),
            tabs: Tabs::default(),
            purging: None,
        }
    }

    /// Whether something of this kind is under way.
    fn is_doing(&self, kind: &dyn Fn(&Job) -> bool) -> bool {
        self.jobs.values().any(kind)
    }

    /// Whether it is known what rows and writes there are.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Memory | Stage::Open)
    }
}

impl Engine {
    pub(super) fn begin_storage(&mut self) {
        if self.storage.stage != Stage::Idle {
            return;
        }
        self.storage.stage = Stage::Directory;
        self.queue.set_sender(false);
        let tab = (self.rng.next_u64() >> 33) as u32 + 1;
        self.queue.set_tab(tab);
        self.storage.tabs.tab = tab;
        self.open_directory();
        let key = self.directory_key();
        let to = after(&key);
        self.ask(
            Database::Directory,
            StoreRequest::Read { store: ObjectStore::Cache, from: key, to },
            Job::ReadDirectory,
        );
    }

    fn ask(&mut self, database: Database, request: StoreRequest, job: Job) {
        let task = self.task_id();
        self.storage.jobs.insert(task, job);
        self.emit(Output::Store(task, database, request));
    }

    pub(super) fn database_name(&self, owner: &Identity) -> String {
        concat(&[&self.config.base_url, "\n", &owner.organization, "\n", &owner.kind, "\n", &owner.participant])
    }

    /// Goes on as far as what is known allows.
    pub(super) fn pump_storage(&mut self) {
        let confirmed = self.identity.clone();
        match self.storage.stage {
            Stage::Unknown => {
                if let Some(owner) = confirmed.or_else(|| self.storage.known.clone()) {
                    self.open_storage(owner);
                }
            }
            Stage::Hidden => match confirmed {
                Some(who) if self.is_owner(&who) => self.reveal(),
                Some(_) => self.change_owner(),
                None if self.is_unreachable() => self.reveal(),
                None => {}
            },
            Stage::Open => {
                if confirmed.is_some_and(|who| !self.is_owner(&who)) {
                    self.change_owner();
                    return;
                }
                self.pump_cache();
                self.pump_tabs();
            }
            Stage::Memory | Stage::Idle | Stage::Directory | Stage::Reading | Stage::Purging => {}
        }
    }

    fn is_owner(&self, who: &Identity) -> bool {
        self.storage.owner.as_ref().is_some_and(|owner| {
            owner.participant == who.participant && owner.organization == who.organization && owner.kind == who.kind
        })
    }

    /// Whether there is no telling whether the server would let us in.
    fn is_unreachable(&self) -> bool {
        matches!(self.connection.state(), State::Offline | State::Waiting { .. } | State::Blocked { .. })
    }

    fn open_storage(&mut self, owner: Identity) {
        self.storage.stage = Stage::Reading;
        let name = self.database_name(&owner);
        self.storage.owner = Some(owner);
        self.ask(Database::Identity, StoreRequest::Open { name }, Job::Open);
        self.ask(Database::Identity, all(ObjectStore::Cache, ""), Job::ReadCache);
        self.ask(Database::Identity, all(ObjectStore::Journal, ""), Job::ReadJournal);
    }

    /// The server says that we are somebody else than the directory thought.
    fn change_owner(&mut self) {
        let shown = self.storage.stage == Stage::Open;
        self.emit(Output::CloseStores);
        self.leave_tabs();
        let tab = self.storage.tabs.tab;
        self.storage = Storage::new(true);
        self.storage.tabs.tab = tab;
        if shown {
            let error = Error::local("identity_changed", "another login is in use; the write stays with the other one");
            self.pool.clear();
            self.fail_waiting(&error);
            self.cursor = SyncId(0);
            self.loaded = false;
            self.want_rows(self.now.mono);
        }
        self.storage.stage = Stage::Unknown;
        self.pump_storage();
    }

    pub(super) fn handle_stored(&mut self, task: TaskId, result: Result<Vec<Record>, StoreFailure>) {
        let Some(job) = self.storage.jobs.remove(&task) else { return };
        match result {
            Ok(records) => self.handle_done(job, records),
            Err(failure) => {
                // It was asked of a connection that is known to be lost.
                let old = self.storage.reopened_by.is_some_and(|reopen| task < reopen);
                self.handle_failure(job, &failure, old);
            }
        }
        self.yield_writes();
        if self.storage.stage == Stage::Purging && self.storage.jobs.is_empty() {
            self.finish_purge();
        }
    }

    fn handle_done(&mut self, job: Job, records: Vec<Record>) {
        match job {
            Job::OpenDirectory | Job::Open | Job::Quiet => {}
            Job::ReadDirectory => {
                self.storage.known = directory::read(&records);
                self.storage.stage = Stage::Unknown;
            }
            Job::ReadCache => {
                self.storage.cache = records;
                self.handle_read();
            }
            Job::ReadJournal => {
                self.storage.journal = records;
                self.handle_read();
            }
            Job::Reopen => {
                // It may be a new database in place of one that was deleted.
                self.rows_replaced();
                self.read_journal_again(Vec::new());
                // Who has yet to learn what there was before has nothing to add.
                if self.queue.is_sender() {
                    self.queue.offer_again();
                    for letter in &self.storage.letters {
                        self.storage.letter_changes.push(put(concat(&[LETTERS, &letter.id]), letter.text.clone()));
                    }
                }
            }
            Job::Journal(changes, orders) => {
                let outcome = self.queue.handle_journaled(&orders);
                self.share_journal(&changes);
                self.take_outcome(outcome);
            }
            Job::Log(bytes) => {
                self.storage.logging = false;
                self.storage.log_bytes += bytes;
            }
            Job::Chunk => self.step_checkpoint(),
            Job::Meta => {}
            Job::CatchUpCache => self.adopt_cache(&records),
            Job::News { texts, puts } => {
                let mut told = Vec::new();
                for key in &puts {
                    told.push(journal_order(key).unwrap_or(0));
                }
                // What was journaled and is no more is done with, whatever has become of its parts.
                self.adopt_records(records, &puts, &told);
                self.drop_refused();
                self.handle_news(&texts);
                self.read_news();
            }
            Job::CatchUpJournal(asked) => {
                self.adopt_journal(records, &asked);
                // One that was asked for before this tab had the lock says nothing about what the sender did since.
                let last = !self.storage.is_doing(&|job| matches!(job, Job::CatchUpJournal(..)));
                if self.storage.tabs.leads && last {
                    self.queue.set_sender(true);
                }
                self.drop_refused();
                self.read_news();
            }
            Job::PurgeKnown => self.purge_known(&records),
            Job::PurgeDirectory => self.purge_directory(records.is_empty()),
        }
    }

    /// The two object stores are read side by side, and either may take longer.
    fn handle_read(&mut self) {
        if !self.storage.is_doing(&|job| matches!(job, Job::ReadCache | Job::ReadJournal)) {
            self.storage.stage = Stage::Hidden;
        }
    }

    fn handle_failure(&mut self, job: Job, failure: &StoreFailure, old: bool) {
        let lost = matches!(failure.kind, StoreFailureKind::Lost | StoreFailureKind::Aborted);
        let again = lost && (old || self.may_reopen());
        match job {
            // Without a directory a start without a network finds nothing; the rest works.
            Job::OpenDirectory => {}
            Job::ReadDirectory => {
                self.storage.stage = Stage::Unknown;
                if matches!(failure.kind, StoreFailureKind::Unavailable) {
                    self.give_up(failure);
                }
            }
            Job::Quiet | Job::Meta => {}
            Job::CatchUpCache => self.adopt_cache(&[]),
            Job::Open
                if failure.kind == StoreFailureKind::Lost && !std::mem::replace(&mut self.storage.reopened, true) =>
            {
                let owner = self.storage.owner.take();
                self.storage.jobs.take();
                if let Some(owner) = owner {
                    self.open_storage(owner);
                }
            }
            // It is read again when the database is open.
            Job::CatchUpJournal(..) if again => self.reopen(),
            Job::News { mut texts, .. } if again => {
                texts.append(&mut self.storage.tabs.later);
                self.storage.tabs.later = texts;
                self.reopen();
            }
            // The two reads behind it fail with it.
            Job::Open
            | Job::ReadCache
            | Job::ReadJournal
            | Job::Reopen
            | Job::CatchUpJournal(..)
            | Job::News { .. } => self.give_up(failure),
            Job::Journal(changes, orders) => match failure.kind {
                StoreFailureKind::Lost | StoreFailureKind::Aborted if again => {
                    self.write_again(changes, orders);
                    self.reopen();
                }
                // The journal is worth more than the cache.
                StoreFailureKind::Quota if !self.storage.cache_lost => {
                    self.give_up_cache(failure);
                    self.write_again(changes, orders);
                }
                StoreFailureKind::Unavailable
                | StoreFailureKind::Blocked
                | StoreFailureKind::Newer
                | StoreFailureKind::Lost
                | StoreFailureKind::Quota
                | StoreFailureKind::Aborted
                | StoreFailureKind::WrongKey
                | StoreFailureKind::Unknown => self.give_up(failure),
            },
            Job::Log(_) | Job::Chunk => {
                self.storage.logging = false;
                if again {
                    self.reopen();
                } else {
                    self.give_up_cache(failure);
                }
            }
            Job::PurgeKnown => {}
            Job::PurgeDirectory => self.purge_directory(false),
        }
    }

    pub(super) fn handle_store_closed(&mut self, database: Database) {
        if database == Database::Identity && self.storage.stage == Stage::Open {
            if self.storage.reopened {
                let message = "the browser closed the database twice".to_owned();
                self.give_up(&StoreFailure { kind: StoreFailureKind::Lost, message });
            } else {
                self.reopen();
            }
        }
    }

    /// Whether the database is tried once more, or that is under way.
    fn may_reopen(&self) -> bool {
        !self.storage.reopened || self.storage.is_doing(&|job| matches!(job, Job::Reopen))
    }

    fn reopen(&mut self) {
        if std::mem::replace(&mut self.storage.reopened, true) {
            return;
        }
        let Some(name) = self.storage.owner.as_ref().map(|owner| self.database_name(owner)) else { return };
        self.ask(Database::Identity, StoreRequest::Open { name }, Job::Reopen);
        self.storage.reopened_by = Some(TaskId(self.next_task));
    }

    /// Shows what was read, and joins the other tabs.
    fn reveal(&mut self) {
        self.show_cache();
        self.storage.stage = Stage::Open;
        let journal = std::mem::take(&mut self.storage.journal);
        let seen = self.restore(journal, false, &[]);
        self.queue.put_new_last();
        // Writes made before this lie over rows that were not there yet.
        for (model, id) in self.queue.pending_rows() {
            self.refresh_overlay(model, id.as_str());
        }
        if let Some(who) = self.identity.clone() {
            self.note_identity(&who);
        }
        self.join_tabs();
        self.share_seen(&seen);
        if !bug::on(Bug::JournalNotReadAgain) {
            self.read_journal_again(Vec::new());
        }
        self.flush_due = true;
    }

    /// The server has said which groups we have; stored rows may be those of others.
    pub(super) fn check_stored_groups(&mut self, had: &[String]) {
        if self.storage.stage != Stage::Open || !self.loaded {
            return;
        }
        let lost = had.iter().any(|group| !self.groups.contains(group));
        if lost {
            self.pool.clear();
            self.cursor = SyncId(0);
            self.loaded = false;
        }
        if lost || self.groups.iter().any(|group| !had.contains(group)) {
            self.want_rows(self.now.mono);
        }
        if let Some(who) = self.identity.clone() {
            self.note_identity(&who);
        }
    }

    /// Takes in refused writes and commits from the journal. Those that were news.
    ///
    /// With `told`, of the commits only those, with all their parts: what comes before them, of the same tab, may be news
    /// that is on its way.
    pub(super) fn restore(&mut self, mut records: Vec<Record>, replace: bool, told: &[String]) -> Vec<StoreChange> {
        let mut news = Vec::new();
        if replace {
            // A commit that was split has given operations to those behind it.
            records.reverse();
        }
        // Letters first: what they say was refused is not taken in again.
        for letters in [true, false] {
            for (key, value) in &mut records {
                if letter_id(key).is_some() != letters {
                    continue;
                }
                let key = std::mem::take(key);
                let Ok(text) = String::from_utf8(std::mem::take(value)) else {
                    if journal_order(&key).is_some_and(|order| self.queue.mend(order)) {
                        continue;
                    }
                    self.set_aside(key, String::new(), Error::local("storage_record_unreadable", "it is no text"));
                    continue;
                };
                if let Some(id) = letter_id(&key) {
                    self.put_letter(Letter { id: id.to_owned(), text });
                } else if let Some(order) = journal_order(&key) {
                    let is_told = |told: &String| journal_order(told).is_some_and(|told| same_commit(told, order));
                    if !told.is_empty() && !told.iter().any(is_told) {
                        continue;
                    }
                    let refusal = |name: &str| refusal(&self.storage.letters, name);
                    match self.queue.restore(order, &text, replace, &self.config.schema, &refusal) {
                        Ok(outcome) => {
                            if !outcome.rows.is_empty() {
                                news.push(put(key, text));
                            }
                            self.take_outcome(outcome);
                        }
                        Err(_) if self.queue.mend(order) => {}
                        Err(error) => self.set_aside(key, text, error),
                    }
                }
            }
        }
        news
    }

    /// A tab that lost the lock may have refused writes, and told its application, after this one had read them.
    fn drop_refused(&mut self) {
        let outcome = self.queue.drop_refused(&|name| refusal(&self.storage.letters, name));
        self.take_outcome(outcome);
    }

    /// Sends journal changes on their way to the disk.
    pub(super) fn flush_journal(&mut self) {
        if self.storage.stage == Stage::Memory {
            drop(self.queue.take_journal_ops());
            self.storage.letter_changes.clear();
            return;
        }
        if self.storage.stage != Stage::Open || self.is_reopening() {
            return;
        }
        // One after the other: if one fails, nothing that builds on it may have been done.
        if self.is_journaling() && !bug::on(Bug::JournalWritesOverlap) {
            return;
        }
        let mut changes = std::mem::take(&mut self.storage.letter_changes);
        let mut orders = Vec::new();
        for op in self.queue.take_journal_ops() {
            match op {
                JournalOp::Put { order, record } => {
                    orders.push(order);
                    changes.push(put(journal_key(order), record));
                }
                JournalOp::Remove { order } => changes.push(remove(&journal_key(order))),
            }
        }
        if !changes.is_empty() {
            self.write_journal(changes, orders);
        }
    }

    fn is_reopening(&self) -> bool {
        self.storage.is_doing(&|job| matches!(job, Job::Reopen))
    }

    pub(super) fn is_journaling(&self) -> bool {
        self.storage.is_doing(&|job| matches!(job, Job::Journal(..)))
    }

    /// Changes of the journal failed, and go with the next, as things are by then.
    fn write_again(&mut self, changes: Vec<StoreChange>, mut orders: Vec<u64>) {
        for change in changes {
            let (key, put) = match &change {
                StoreChange::Put { key, .. } => (key, true),
                StoreChange::Remove { from, .. } => (from, false),
            };
            if let Some(id) = letter_id(key) {
                if self.storage.letters.iter().any(|letter| letter.id == id) == put {
                    self.storage.letter_changes.push(change);
                }
            } else if let (Some(order), false) = (journal_order(key), put) {
                orders.push(order);
            }
        }
        self.queue.handle_journal_failed(&orders);
    }

    fn write_journal(&mut self, changes: Vec<StoreChange>, orders: Vec<u64>) {
        let request = StoreRequest::Write { changes: changes.clone(), strict: true };
        if bug::on(Bug::StoredBeforeComplete) {
            let outcome = self.queue.handle_journaled(&orders);
            self.take_outcome(outcome);
        }
        self.ask(Database::Identity, request, Job::Journal(changes, orders));
    }

    /// Keeps a refused write.
    pub(super) fn keep_letter(&mut self, id: String, text: String) {
        if !bug::on(Bug::LettersLost) {
            self.storage.letter_changes.push(put(concat(&[LETTERS, &id]), text.clone()));
        }
        self.put_letter(Letter { id, text });
    }

    pub(super) fn put_letter(&mut self, letter: Letter) {
        match self.storage.letters.iter_mut().find(|known| known.id == letter.id) {
            Some(known) => *known = letter,
            None => {
                // Their names begin with the moment: the order is the same in every tab, and after a restart.
                let later = self.storage.letters.iter().position(|known| known.id > letter.id);
                self.storage.letters.insert(later.unwrap_or(self.storage.letters.len()), letter);
            }
        }
        self.announce_outbox();
    }

    /// Forgets a refused write; says whether it was there.
    pub(super) fn remove_letter(&mut self, id: &str) -> Option<Letter> {
        let index = self.storage.letters.iter().position(|letter| letter.id == id)?;
        self.storage.letter_changes.push(remove(&concat(&[LETTERS, id])));
        self.announce_outbox();
        Some(self.storage.letters.remove(index))
    }

    /// Notes applied deltas for the log.
    pub(super) fn log_delta(&mut self, raw: &str) {
        if self.storage.stage == Stage::Open && self.storage.tabs.leads && !self.storage.cache_lost {
            if !self.storage.log.is_empty() {
                self.storage.log.push(',');
            }
            self.storage.log.push_str(raw);
        }
    }
}

/// Why an operation was refused, if one of the refused writes is it.
pub(super) fn refusal(letters: &[Letter], name: &str) -> Option<Error> {
    let letter = letters.iter().find(|letter| letter.id == name)?;
    let error = Value::parse(&letter.text).ok().and_then(|letter| Error::from_body(letter.at("error")));
    Some(error.unwrap_or_else(|| Error::local("commit_failed", "the server refused the write")))
}
