//! The driver: the one owner of an engine. It performs outputs, arms the timer and tells the page what changed.
//!
//! JavaScript may run while outputs are performed, and may call back in. The whole defence is that no borrow of the
//! engine is alive then: every borrow ends on the line that takes it.

use std::cell::{Cell, RefCell};

use super::host::{Host, Perform};
use super::now;
use crate::core::Engine;
use crate::core::error::Error;
use crate::core::input::{Command, Input};
use crate::core::output::{Output, Request};
use crate::core::store::{Record, StoreChange, StoreRequest};
use crate::core::text::concat;

/// `setTimeout` takes a signed 32-bit delay.
const DELAY_MAX_MS: u64 = i32::MAX as u64;

/// One client's engine and its way to the browser.
pub(crate) struct Driver {
    engine: RefCell<Engine>,
    host: Host,
    draining: Cell<bool>,
    /// When the armed timer fires, on the engine's monotonic clock.
    armed_for: Cell<Option<u64>>,
    turn_due: Cell<bool>,
    /// Views to tell about at the end of the turn.
    views: RefCell<Vec<u32>>,
    /// What was given for the next input.
    given: RefCell<Vec<Record>>,
}

impl Driver {
    /// Takes an engine into its care.
    pub(crate) fn new(engine: Engine, host: Host) -> Self {
        Self {
            engine: RefCell::new(engine),
            host,
            draining: Cell::new(false),
            armed_for: Cell::new(None),
            turn_due: Cell::new(false),
            views: RefCell::default(),
            given: RefCell::default(),
        }
    }

    /// Tells the engine a fact.
    pub(crate) fn handle_input(&self, input: Input) {
        self.engine.borrow_mut().handle_input(now(), input);
        self.after_call();
    }

    /// The timer fired: none is armed now.
    pub(crate) fn handle_timer(&self) {
        self.armed_for.set(None);
        self.handle_input(Input::Timeout);
    }

    /// Passes on what the application asks for.
    pub(crate) fn command(&self, command: Command) -> Result<(), Error> {
        let result = self.engine.borrow_mut().command(now(), command);
        self.after_call();
        result
    }

    /// Reads from, or does something small with, the engine.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.engine.borrow_mut())
    }

    /// Keeps a record, or bytes of another kind, for the next input.
    pub(crate) fn give(&self, key: String, value: Vec<u8>) {
        self.given.borrow_mut().push((key, value));
    }

    /// What was given.
    pub(crate) fn take_given(&self) -> Vec<Record> {
        self.given.take()
    }

    /// Every call into the engine ends here. The page's cache comes first: whatever runs next must not read a stale row.
    fn after_call(&self) {
        self.tell_changes();
        if self.draining.replace(true) {
            // Re-entered from an output below: the outer loop will see the new outputs.
            return;
        }
        loop {
            let next = self.engine.borrow_mut().poll_output();
            let Some(output) = next else { break };
            self.perform(output);
        }
        self.draining.set(false);
        self.arm();
    }

    fn tell_changes(&self) {
        let changes = self.engine.borrow_mut().take_changes();
        for model in changes.models {
            self.host.changed(u32::from(model.model.0), model.rows);
        }
        if !changes.views.is_empty() {
            let mut views = self.views.borrow_mut();
            for view in changes.views {
                if !views.contains(&view.0) {
                    views.push(view.0);
                }
            }
            drop(views);
            self.request_turn();
        }
    }

    fn say(&self, kind: Perform, id: u64, number: u32, texts: [Option<&str>; 3]) {
        let [first, second, third] = texts;
        self.host.perform(kind as u32, id as f64, number, first, second, third);
    }

    fn perform(&self, mut output: Output) {
        let written;
        let (kind, id, number, texts) = match &mut output {
            Output::OpenSocket { socket, url, protocols } => {
                let mut list = String::new();
                for protocol in protocols {
                    list.push_str(protocol);
                    list.push(' ');
                }
                written = list;
                (Perform::OpenSocket, socket.0, 0, [Some(&**url), Some(written.trim_ascii_end()), None])
            }
            Output::SendFrame(socket, text) => (Perform::Send, socket.0, 0, one(text)),
            Output::CloseSocket { socket, code, reason } => {
                (Perform::CloseSocket, socket.0, u32::from(*code), one(reason))
            }
            Output::Fetch(task, Request { method, url, bearer, body, no_cache, timeout_ms }) => {
                written = concat(&[method.name(), if *no_cache { " no-store " } else { " default " }, url]);
                (Perform::Request, task.0, delay(*timeout_ms), [Some(&*written), bearer.as_deref(), body.as_deref()])
            }
            Output::AskCredential(task) => (Perform::Credential, task.0, 0, [None; 3]),
            // Memory mode: what is applied is as safe as it gets.
            Output::Journal(task, _) => return self.handle_input(Input::Journaled(*task, Ok(()))),
            Output::Store(task, database, request) => {
                let database = *database as u32;
                match request {
                    StoreRequest::Open { name } => (Perform::OpenStore, task.0, database, one(name)),
                    StoreRequest::Read { store, from, to } => {
                        (Perform::ReadStore, task.0, database * 2 + *store as u32, [Some(&**from), Some(&**to), None])
                    }
                    StoreRequest::Write { changes, strict } => {
                        for change in std::mem::take(changes) {
                            match change {
                                StoreChange::Put { store, key, value } => self.host.put(store as u32, &key, value),
                                StoreChange::Remove { store, from, to } => {
                                    self.say(Perform::Remove, 0, store as u32, [Some(&from), Some(&to), None]);
                                }
                            }
                        }
                        (Perform::WriteStore, task.0, database * 2 + u32::from(*strict), [None; 3])
                    }
                    StoreRequest::Delete => (Perform::DeleteStore, task.0, database, [None; 3]),
                }
            }
            Output::CloseStores => (Perform::CloseStores, 0, 0, [None; 3]),
            Output::RequestLock { name, steal } => (Perform::Lock, 0, u32::from(*steal), one(name)),
            Output::ReleaseLock => (Perform::Lock, 0, 0, [None; 3]),
            Output::OpenChannel(name) => (Perform::Channel, 0, 0, one(name)),
            Output::Post(text) => (Perform::Post, 0, 0, one(text)),
            Output::CloseChannel => (Perform::Channel, 0, 0, [None; 3]),
            Output::Settle(ticket, result) => {
                let texts = match result {
                    Ok(value) => [None, value.as_deref(), None],
                    Err(error) => {
                        written = error.to_json();
                        one(&written)
                    }
                };
                (Perform::Settle, u64::from(ticket.0), 0, texts)
            }
            Output::Event(name, payload) => (Perform::Event, 0, 0, [Some(&**name), Some(&**payload), None]),
            Output::StatusChanged => (Perform::Status, 0, 0, [None; 3]),
        };
        self.say(kind, id, number, texts);
    }

    fn arm(&self) {
        let deadline = self.engine.borrow().poll_timeout().map(|(at, _)| at);
        let now = now().mono;
        if let Some(at) = deadline
            && at <= now
        {
            self.request_turn();
            return;
        }
        let at = deadline.map(|at| at.0);
        if self.armed_for.replace(at) != at {
            // Clocks round down and timers may fire early: one millisecond more spares a wasted wake-up. 0 is none.
            let wait = deadline.map_or(0, |at| delay(at.since(now).saturating_add(1)));
            self.say(Perform::Timer, 0, wait, [None; 3]);
        }
    }

    fn request_turn(&self) {
        if !self.turn_due.replace(true) {
            self.say(Perform::Turn, 0, 0, [None; 3]);
        }
    }

    /// The end of the turn: what was gathered is sent, and live views are told once.
    pub(crate) fn end_turn(&self) {
        self.turn_due.set(false);
        let due = self.engine.borrow().poll_timeout().is_some_and(|(at, _)| at <= now().mono);
        if due {
            self.handle_input(Input::Timeout);
        }
        let views = self.views.take();
        if !views.is_empty() {
            self.host.views(views);
        }
    }
}

fn one(text: &str) -> [Option<&str>; 3] {
    [Some(text), None, None]
}

fn delay(ms: u64) -> u32 {
    ms.min(DELAY_MAX_MS) as u32
}
