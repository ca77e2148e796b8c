//! The class that JavaScript sees (`Core` in `sdk/src/boundary.ts`): thin, coarse, no decisions.
//!
//! Everything composite crosses as JSON text, rows as slots. Methods take `&self` and hold only the driver, so calls
//! from inside callbacks are ordinary.

use std::rc::Rc;

use wasm_bindgen::prelude::*;

use crate::core::Engine;
use crate::core::config::Config;
use crate::core::error::Error;
use crate::core::id::ModelIndex;
use crate::core::input::{Change, Command, Input, Ticket, Write};
use crate::core::json::Value;
use crate::core::pool::{Edit, Query, Slot, ViewChange, ViewId};
use crate::core::store::Database;
use crate::shell::Driver;

pub use crate::shell::{Host, StorageHost};

/// The allocator: two-level segregated fit, in constant time and a sixth of the code of the standard library's choice for
/// this target.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn fill_random(bytes: &js_sys::Uint8Array) -> js_sys::Uint8Array;
}

/// One client.
#[wasm_bindgen]
pub struct Core {
    driver: Rc<Driver>,
}

#[wasm_bindgen]
impl Core {
    /// Creates a client from the text of its configuration. It does nothing before it is asked to.
    ///
    /// # Errors
    /// The text of an error object, as every method that throws.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str, host: Host, storage: StorageHost) -> Result<Core, JsValue> {
        let config = Config::parse(config).map_err(thrown)?;
        let bytes = js_sys::Uint8Array::new_with_length(16);
        let filled = fill_random(&bytes).to_vec();
        let seed = filled.iter().fold(0_u128, |seed, byte| (seed << 8) | u128::from(*byte));
        let engine = Engine::new(config, seed, crate::shell::driver::now());
        Ok(Self { driver: Driver::new(engine, host, storage) })
    }

    /// Slot + 1 of a visible row, 0 when there is none.
    pub fn find(&self, model: u32, id: &str) -> u32 {
        self.driver.with(|engine| engine.find(index(model), id)).map_or(0, |slot| slot.0 + 1)
    }

    /// The texts of rows, as one JSON array.
    pub fn rows(&self, model: u32, slots: &[u32]) -> String {
        let mut wanted = Vec::with_capacity(slots.len());
        for slot in slots {
            wanted.push(Slot(*slot));
        }
        let mut text = String::new();
        self.driver.with(|engine| engine.write_rows(index(model), &wanted, &mut text));
        text
    }

    /// Slots of the rows that a query selects.
    pub fn query(&self, model: u32, options: Option<String>) -> Result<Vec<u32>, JsValue> {
        let query = parse_query(options.as_deref())?;
        Ok(self.driver.with(|engine| engine.query(index(model), &query)).into_iter().map(|slot| slot.0).collect())
    }

    /// How many rows a query selects.
    pub fn count(&self, model: u32, options: Option<String>) -> Result<u32, JsValue> {
        let query = parse_query(options.as_deref())?;
        Ok(u32::try_from(self.driver.with(|engine| engine.count(index(model), &query))).unwrap_or(u32::MAX))
    }

    /// Opens a live view.
    #[wasm_bindgen(js_name = viewOpen)]
    pub fn view_open(&self, model: u32, options: Option<String>) -> Result<u32, JsValue> {
        let query = parse_query(options.as_deref())?;
        Ok(self.driver.with(|engine| engine.open_view(index(model), &query)).0)
    }

    /// What has become of a view's window since it was last read: `[0]` nothing, `[1, ...slots]` all of it,
    /// `[2, kind, at, slot, ...]` edits in order.
    #[wasm_bindgen(js_name = viewRead)]
    pub fn view_read(&self, view: u32) -> Vec<u32> {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        match self.driver.with(|engine| engine.take_view_change(ViewId(view))) {
            ViewChange::None => vec![0],
            ViewChange::Reset(slots) => {
                let mut window = Vec::with_capacity(slots.len() + 1);
                window.push(1);
                for slot in slots {
                    window.push(slot.0);
                }
                window
            }
            ViewChange::Edits(edits) => {
                let mut steps = vec![2];
                for edit in edits {
                    steps.extend_from_slice(&match edit {
                        Edit::Remove(at) => [0, place(at), 0],
                        Edit::Insert(at, slot) => [1, place(at), slot.0],
                        Edit::Change(at) => [2, place(at), 0],
                    });
                }
                steps
            }
        }
    }

    /// Closes a view.
    #[wasm_bindgen(js_name = viewClose)]
    pub fn view_close(&self, view: u32) {
        self.driver.with(|engine| engine.close_view(ViewId(view)));
    }

    /// Writes that are not confirmed, as the text of an array.
    pub fn outbox(&self) -> String {
        if cfg!(feature = "storage") { self.driver.with(|engine| engine.outbox()) } else { "[]".to_owned() }
    }

    /// The text of the status snapshot.
    pub fn status(&self) -> String {
        self.driver.with(Engine::status)
    }

    /// The bearer in use.
    pub fn token(&self) -> Option<String> {
        self.driver.with(|engine| engine.token().map(str::to_owned))
    }

    /// Does what the application asks for (`Ask` in `sdk/src/boundary.ts` names the kinds), or takes in a fact. One method
    /// for all: each exported method has its price in bytes.
    pub fn ask(
        &self,
        kind: u32,
        ticket: u32,
        number: f64,
        first: Option<String>,
        second: Option<String>,
        third: Option<String>,
    ) -> Result<(), JsValue> {
        let ticket = Ticket(ticket);
        let model = index(number as u32);
        let text = first.unwrap_or_default();
        let write = |id, change, options| Command::Write(ticket, Write { model, id, change, options });
        let command = match kind {
            0 => Command::Start(ticket),
            1 => write(text, Change::Create(second.unwrap_or_default()), third),
            2 => write(text, Change::Update(second.unwrap_or_default()), third),
            3 => write(text, Change::Delete, third),
            4 => Command::Read(ticket, model, text),
            5 => Command::Commit(ticket, text),
            6 => Command::Flush(ticket, Some(number).filter(|ms| *ms >= 0.0).map(|ms| ms as u64)),
            7 => Command::Confirmation(ticket, text, second.unwrap_or_default()),
            8 => Command::SetToken(text),
            9 => Command::SetCredentialSource(number > 0.0),
            10 => Command::Nudge,
            11 => Command::SetOffline(number > 0.0),
            12 => Command::Retry(ticket, text, second),
            13 => Command::Discard(ticket, text),
            14 => Command::Purge(ticket),
            15 => Command::Dispose(ticket),
            _ => {
                self.driver.handle_input(match kind {
                    16 if number > 0.0 => Input::StoreClosed(Database::Identity),
                    16 => Input::StoreClosed(Database::Directory),
                    17 => Input::Lock(number > 0.0),
                    _ => Input::Posted(text),
                });
                return Ok(());
            }
        };
        self.driver.command(command).map_err(thrown)
    }
}

fn index(model: u32) -> ModelIndex {
    ModelIndex(u16::try_from(model).unwrap_or(u16::MAX))
}

fn parse_query(options: Option<&str>) -> Result<Query, JsValue> {
    let options = Value::parse(options.unwrap_or("{}")).map_err(|error| thrown(error.into()))?;
    Query::parse(options).map_err(thrown)
}

fn thrown(error: Error) -> JsValue {
    JsValue::from_str(&error.to_json())
}
