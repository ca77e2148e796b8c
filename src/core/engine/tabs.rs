//! Tabs of one identity: who sends, and what they tell each other (docs/offline.md).
//!
//! Every tab reads the stream on a socket of its own, shows all pending writes and journals its own. The one that holds
//! the lock sends, and writes the cache. That something was journaled and what the server accepted goes over the channel;
//! the records themselves, refusals too, are read from the journal, which alone knows what is true now. A sender that does
//! not answer while something waits to be sent is frozen or has no connection, and loses the lock to a tab that has one.

use super::Engine;
use super::keys::{journal_order, letter_id};
use super::storage::{Stage, refusal};
use crate::core::id::SyncId;
use crate::core::json::{ObjectWriter, Value};
use crate::core::output::Output;
use crate::core::store::StoreChange;
use crate::core::text::{concat, hex, parse_hex};
use crate::core::time::Instant;
use crate::core::wire::MutationResult;

/// Version of the messages between tabs. Others are ignored: two versions of the code may run side by side.
const VERSION: u64 = 1;
/// A sender that does not answer for so long is taken to be frozen.
pub(super) const SENDER_ANSWER_MS: u64 = 800;
/// While something waits to be sent, the sender is asked this often whether it is there.
pub(super) const SENDER_ASK_MS: u64 = 5_000;

/// What a tab knows of the others.
#[derive(Debug, Default)]
pub(super) struct Tabs {
    pub(super) tab: u32,
    joined: bool,
    /// Whether this tab holds the lock.
    pub(super) leads: bool,
    /// The lock is lost, and a write of the journal still under way.
    yielding: bool,
    /// What other tabs have said and this one has not looked at.
    pub(super) later: Vec<String>,
    /// The keys of what they have written.
    pub(super) puts: Vec<String>,
    /// When the sender was asked, until it answers.
    asked_at: Option<Instant>,
    /// When it is asked again.
    ask_at: Option<Instant>,
}

impl Tabs {
    /// When to call again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked_at.map(|at| at.after(SENDER_ANSWER_MS)).or(self.ask_at)
    }
}

impl Engine {
    fn tabs_name(&self) -> Option<String> {
        self.storage.owner.as_ref().map(|owner| self.database_name(owner))
    }

    pub(super) fn join_tabs(&mut self) {
        let Some(name) = self.tabs_name() else { return };
        self.storage.tabs.joined = true;
        self.emit(Output::OpenChannel(name.clone()));
        self.emit(Output::RequestLock { name, steal: false });
    }

    pub(super) fn leave_tabs(&mut self) {
        self.storage.tabs.leads = false;
        self.storage.tabs.yielding = false;
        self.storage.tabs.later.clear();
        self.storage.tabs.puts.clear();
        self.storage.tabs.asked_at = None;
        self.storage.tabs.ask_at = None;
        if std::mem::take(&mut self.storage.tabs.joined) {
            self.emit(Output::ReleaseLock);
            self.emit(Output::CloseChannel);
        }
    }

    pub(super) fn handle_lock(&mut self, held: bool) {
        if !self.storage.tabs.joined || held == self.storage.tabs.leads {
            return;
        }
        self.storage.tabs.leads = held;
        self.storage.tabs.asked_at = None;
        if held {
            self.catch_up_with_tabs();
        } else {
            self.queue.stop_sending();
            self.storage.tabs.yielding = true;
            self.yield_writes();
            self.leave_cache();
            self.read_journal_again(Vec::new());
            if let Some(name) = self.tabs_name() {
                self.emit(Output::RequestLock { name, steal: false });
            }
        }
    }

    /// Leaves to the new sender what the journal has, once it is known what that is.
    pub(super) fn yield_writes(&mut self) {
        if !self.storage.tabs.yielding || self.is_journaling() {
            return;
        }
        self.storage.tabs.yielding = false;
        let outcome = self.queue.take_back(self.now.wall, &mut self.rng);
        self.take_outcome(outcome);
    }

    /// Looks after the sender while this tab waits for it.
    pub(super) fn pump_tabs(&mut self) {
        let now = self.now.mono;
        let tabs = &mut self.storage.tabs;
        // Without a connection of our own there is nothing to do better.
        if !tabs.joined || tabs.leads || self.session.is_none() || !self.queue.has_unsent() {
            tabs.asked_at = None;
            tabs.ask_at = None;
            return;
        }
        match (tabs.asked_at, tabs.ask_at) {
            (Some(at), _) if at.after(SENDER_ANSWER_MS) <= now => {
                tabs.asked_at = None;
                tabs.ask_at = Some(now.after(SENDER_ASK_MS));
                if let Some(name) = self.tabs_name() {
                    self.emit(Output::RequestLock { name, steal: true });
                }
            }
            (Some(_), _) => {}
            (None, Some(at)) if at > now => {}
            (None, _) => {
                tabs.asked_at = Some(now);
                let first = self.queue.first_order().unwrap_or(0);
                self.post("who", &|message| message.str("first", &concat(&[&hex(first, 1)])));
            }
        }
    }

    fn post(&mut self, kind: &str, fill: &dyn Fn(&mut ObjectWriter<'_>)) {
        if !self.storage.tabs.joined {
            return;
        }
        let mut text = String::new();
        let mut message = ObjectWriter::new(&mut text);
        message.u64("v", VERSION);
        message.str("t", kind);
        fill(&mut message);
        message.end();
        self.emit(Output::Post(text));
    }

    /// Tells what is in the journal now, and what is not any more.
    pub(super) fn share_journal(&mut self, changes: &[StoreChange]) {
        let cursor = self.cursor;
        self.post("journal", &|message| {
            write_keys(message, "put", changes);
            let mut dropped = message.array("drop");
            for change in changes {
                if let StoreChange::Remove { from, .. } = change {
                    dropped.str(from);
                }
            }
            dropped.end();
            message.u64("cursor", cursor.0);
        });
    }

    /// Tells what was found in the journal, before anything is written on top of it: a tab that crashed may have journaled
    /// it and told nobody.
    pub(super) fn share_seen(&mut self, found: &[StoreChange]) {
        if !found.is_empty() {
            self.post("journal", &|message| write_keys(message, "seen", found));
        }
    }

    /// Tells how the server answered a commit.
    pub(super) fn share_result(&mut self, result: &MutationResult) {
        if self.storage.tabs.leads && result.success {
            self.post("result", &|message| result.write(message.key("result")));
        }
    }

    /// Tells that everything of this identity is deleted.
    pub(super) fn share_purge(&mut self) {
        self.post("purged", &|_| {});
    }

    pub(super) fn handle_posted(&mut self, text: &str) {
        let Ok(message) = Value::parse(text) else { return };
        if message.get_u64("v") != Some(VERSION) || self.storage.stage != Stage::Open {
            return;
        }
        match message.get_str("t").unwrap_or_default().as_ref() {
            // Who cannot send keeps silent, and loses the lock to who can.
            "who" if self.storage.tabs.leads && self.session.is_some() => {
                self.post("here", &|_| {});
                // A tab that crashed may have journaled it and told nobody.
                let first = message.get_str("first").and_then(|first| parse_hex(&first));
                if let Some(order) = first.filter(|order| *order > 0 && !self.queue.knows(*order)) {
                    self.read_journal_again(vec![order]);
                }
            }
            "here" => {
                self.storage.tabs.asked_at = None;
                self.storage.tabs.ask_at = Some(self.now.mono.after(SENDER_ASK_MS));
            }
            "purged" => self.handle_purged(),
            _ => {
                for key in message.get_strings("put") {
                    if let Some(order) = journal_order(&key) {
                        self.queue.note_order(order);
                    }
                    self.storage.tabs.puts.push(key);
                }
                for key in message.get_strings("seen") {
                    if journal_order(&key).is_some_and(|order| !self.queue.knows(order)) {
                        self.storage.tabs.puts.push(key);
                    }
                }
                self.storage.tabs.later.push(text.to_owned());
                self.read_news();
            }
        }
    }

    /// What other tabs have said about commits that are known by now.
    pub(super) fn handle_news(&mut self, texts: &[String]) {
        self.handle_results(texts);
        for text in texts {
            let Ok(message) = Value::parse(text) else { continue };
            let cursor = SyncId(message.get_u64("cursor").unwrap_or(0));
            for key in message.get_strings("drop") {
                self.handle_dropped(&key, cursor);
            }
        }
    }

    /// What the server has accepted is so whatever else there is to read: a record that was read late must not lie over
    /// newer writes.
    pub(super) fn handle_results(&mut self, texts: &[String]) {
        for text in texts {
            if let Ok(message) = Value::parse(text)
                && let Some(result) = message.get("result")
            {
                let outcome = self.queue.handle_shared_result(&MutationResult::parse(result), self.cursor);
                self.take_outcome(outcome);
            }
        }
    }

    /// Another tab, which had rows up to `cursor`, has taken a record out of the journal.
    fn handle_dropped(&mut self, key: &str, cursor: SyncId) {
        if let Some(id) = letter_id(key) {
            if let Some(index) = self.storage.letters.iter().position(|letter| letter.id == id) {
                self.storage.letters.remove(index);
            }
            self.announce_outbox();
        } else if let Some(order) = journal_order(key) {
            let outcome = self.queue.retire(order, cursor, self.cursor, &|name| refusal(&self.storage.letters, name));
            self.take_outcome(outcome);
        }
    }
}

/// Writes the keys of the records that were put.
fn write_keys(message: &mut ObjectWriter<'_>, name: &str, changes: &[StoreChange]) {
    let mut keys = message.array(name);
    for change in changes {
        if let StoreChange::Put { key, .. } = change {
            keys.str(key);
        }
    }
    keys.end();
}
