//! The driver: the one owner of an engine. It performs outputs, arms the timer and tells the page what changed.
//!
//! JavaScript may run while outputs are performed, and may call back in. The whole defence is that no borrow of the
//! engine is alive then: every borrow ends on the line that takes it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use gloo_timers::callback::Timeout;
use js_sys::Promise;
use wasm_bindgen::prelude::*;

use super::dom::{self, PageEvents};
use super::host::{Host, StorageHost};
use super::http;
use super::promise::follow;
use super::socket::{CODE_NEVER_OPENED, Socket};
use super::store;
use crate::core::Engine;
use crate::core::error::Error;
use crate::core::id::TaskId;
use crate::core::input::{Command, Credential, Input};
use crate::core::map::SmallMap;
use crate::core::output::Output;

pub(crate) use super::clock::now;

/// `setTimeout` takes a signed 32-bit delay.
pub(crate) const DELAY_MAX_MS: u64 = i32::MAX as u64;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = queueMicrotask)]
    fn queue_microtask(callback: &js_sys::Function);
}

/// One client's engine with everything that it holds of the browser.
pub(crate) struct Driver {
    me: Weak<Self>,
    engine: RefCell<Engine>,
    host: Host,
    storage: StorageHost,
    draining: Cell<bool>,
    /// When the armed timer fires, on the engine's monotonic clock.
    armed_for: Cell<Option<u64>>,
    timer: RefCell<Option<Timeout>>,
    microtask: Closure<dyn FnMut()>,
    microtask_due: Cell<bool>,
    /// Views to tell about at the end of the turn.
    views: RefCell<Vec<u32>>,
    sockets: RefCell<SmallMap<TaskId, Socket>>,
    page: RefCell<Option<PageEvents>>,
}

impl Driver {
    /// Takes an engine into its care.
    pub(crate) fn new(engine: Engine, host: Host, storage: StorageHost) -> Rc<Self> {
        Rc::new_cyclic(|me: &Weak<Self>| {
            let weak = me.clone();
            let microtask = Closure::<dyn FnMut()>::new(move || {
                if let Some(driver) = weak.upgrade() {
                    driver.end_turn();
                }
            });
            Self {
                me: me.clone(),
                engine: RefCell::new(engine),
                host,
                storage,
                draining: Cell::new(false),
                armed_for: Cell::new(None),
                timer: RefCell::new(None),
                microtask,
                microtask_due: Cell::new(false),
                views: RefCell::new(Vec::new()),
                sockets: RefCell::new(SmallMap::default()),
                page: RefCell::new(None),
            }
        })
    }

    /// Tells the engine a fact.
    pub(crate) fn handle_input(&self, input: Input) {
        self.engine.borrow_mut().handle_input(now(), input);
        self.after_call();
    }

    /// Passes on what the application asks for.
    pub(crate) fn command(&self, command: Command) -> Result<(), Error> {
        let starts = matches!(command, Command::Start(_) | Command::Write(..) | Command::Commit(..));
        let starts = starts && self.page.borrow().is_none();
        if starts {
            *self.page.borrow_mut() = Some(PageEvents::listen(&self.me));
            if dom::is_offline() {
                self.handle_input(Input::Offline);
            }
        }
        let result = self.engine.borrow_mut().command(now(), command);
        self.after_call();
        result
    }

    /// Reads from, or does something small with, the engine.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.engine.borrow_mut())
    }

    pub(super) fn drop_socket(&self, task: TaskId) {
        let socket = self.sockets.borrow_mut().remove(&task);
        drop(socket);
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
            self.request_microtask();
        }
    }

    fn perform(&self, output: Output) {
        match output {
            Output::OpenSocket { socket, url, protocols } => {
                let opened = Socket::open(&self.me, socket, &url, &protocols);
                match opened {
                    Ok(value) => self.sockets.borrow_mut().insert(socket, value),
                    Err(_) => self.handle_input(Input::SocketClosed { socket, code: CODE_NEVER_OPENED }),
                }
            }
            Output::SendFrame(socket, text) => {
                if let Some(socket) = self.sockets.borrow().get(&socket) {
                    socket.send(&text);
                }
            }
            Output::CloseSocket { socket, code, reason } => {
                let closing = self.sockets.borrow_mut().remove(&socket);
                if let Some(socket) = closing {
                    socket.close(code, reason);
                }
            }
            Output::Fetch(task, request) => http::start(self.me.clone(), &self.host, task, &request),
            Output::AskCredential(task) => self.ask_credential(task),
            Output::Journal(task, _) => {
                // Memory mode: what is applied is as safe as it gets.
                self.handle_input(Input::Journaled(task, Ok(())));
            }
            Output::Store(..)
            | Output::CloseStores
            | Output::RequestLock { .. }
            | Output::ReleaseLock
            | Output::OpenChannel(_)
            | Output::Post(_)
            | Output::CloseChannel
                if !cfg!(feature = "storage") => {}
            Output::Store(task, database, request) => {
                store::ask(self.me.clone(), &self.storage, task, database, &request);
            }
            Output::CloseStores => self.storage.close(),
            Output::RequestLock { name, steal } => self.storage.lock(Some(&name), steal),
            Output::ReleaseLock => self.storage.lock(None, false),
            Output::OpenChannel(name) => self.storage.channel(Some(&name)),
            Output::Post(text) => self.storage.post(&text),
            Output::CloseChannel => self.storage.channel(None),
            Output::Settle(ticket, result) => match result {
                Ok(value) => self.host.settle(ticket.0, None, value),
                Err(error) => self.host.settle(ticket.0, Some(error.to_json()), None),
            },
            Output::Event(name, payload) => self.host.event(name, &payload),
            Output::StatusChanged => self.host.status(),
        }
    }

    fn ask_credential(&self, task: TaskId) {
        let promise = self.host.credential().unwrap_or_else(|error| Promise::reject(&error));
        let driver = self.me.clone();
        let take = move |answer: Result<JsValue, JsValue>| {
            let credential = match answer {
                Ok(value) if value.is_null() => Credential::SignedOut,
                Ok(value) => match value.as_string().filter(|token| !token.trim().is_empty()) {
                    Some(token) => Credential::Token(token),
                    None => Credential::Unavailable("it returned neither a token nor null".to_owned()),
                },
                Err(error) => Credential::Unavailable(http::describe(&error)),
            };
            if let Some(driver) = driver.upgrade() {
                driver.handle_input(Input::Credential(task, credential));
            }
        };
        follow(&promise, Box::new(take));
    }

    fn arm(&self) {
        let deadline = self.engine.borrow().poll_timeout();
        let Some((at, _)) = deadline else {
            self.armed_for.set(None);
            let timer = self.timer.borrow_mut().take();
            drop(timer);
            return;
        };
        let now = now().mono;
        if at <= now {
            self.request_microtask();
            return;
        }
        if self.armed_for.get() == Some(at.0) {
            return;
        }
        self.armed_for.set(Some(at.0));
        let driver = self.me.clone();
        // Clocks round down and timers may fire early: one millisecond more spares a wasted wake-up.
        let delay = u32::try_from(at.since(now).saturating_add(1).min(DELAY_MAX_MS)).unwrap_or(u32::MAX);
        let timer = Timeout::new(delay, move || {
            if let Some(driver) = driver.upgrade() {
                driver.armed_for.set(None);
                driver.handle_input(Input::Timeout);
            }
        });
        let old = self.timer.borrow_mut().replace(timer);
        drop(old);
    }

    fn request_microtask(&self) {
        if !self.microtask_due.replace(true) {
            queue_microtask(self.microtask.as_ref().unchecked_ref());
        }
    }

    /// The end of the turn: what was gathered is sent, and live views are told once.
    fn end_turn(&self) {
        self.microtask_due.set(false);
        let due = self.engine.borrow().poll_timeout().is_some_and(|(at, _)| at <= now().mono);
        if due {
            self.handle_input(Input::Timeout);
        }
        let views = std::mem::take(&mut *self.views.borrow_mut());
        if !views.is_empty() {
            self.host.views(views);
        }
    }
}
