//! The class that JavaScript sees (`Core` in `sdk/src/boundary.ts`): thin, coarse, no decisions.
//!
//! Everything composite crosses as JSON text, rows as slots. Methods take `&self` and hold only the driver, so calls
//! from inside callbacks are ordinary.

mod kinds;

use wasm_bindgen::prelude::*;

use crate::core::Engine;
use crate::core::config::Config;
use crate::core::error::Error;
use crate::core::id::{ModelIndex, TaskId};
use crate::core::input::{Change, Command, Credential, Input, Response, Ticket, Write};
use crate::core::json::Value;
use crate::core::pool::{Edit, Query, Slot, ViewChange, ViewId};
use crate::core::store::{Database, StoreFailure, StoreFailureKind};
use crate::core::text::parse_digits;
use crate::shell::{Driver, now};
use kinds::{ask, numbers, text};

pub use crate::shell::Host;

/// The allocator: two-level segregated fit, in constant time and a sixth of the code of the standard library's choice for
/// this target.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// One client.
#[wasm_bindgen]
pub struct Core {
    driver: Driver,
}

#[wasm_bindgen]
impl Core {
    /// Creates a client from the text of its configuration and 16 random bytes. It does nothing before it is asked to.
    ///
    /// # Errors
    /// The text of an error object, as every method that throws.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &str, random: &[u8], host: Host) -> Result<Core, JsValue> {
        let config = Config::parse(config).map_err(thrown)?;
        let mut seed = 0;
        for byte in random {
            seed = (seed << 8) | u128::from(*byte);
        }
        Ok(Self { driver: Driver::new(Engine::new(config, seed, now()), host) })
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

    /// Reads numbers; `Numbers` in `sdk/src/boundary.ts` names the kinds.
    pub fn numbers(&self, kind: u32, number: u32, options: Option<String>) -> Result<Vec<u32>, JsValue> {
        if kind >= numbers::VIEW {
            return Ok(self.driver.with(|engine| window(engine.take_view_change(ViewId(number)))));
        }
        let options = Value::parse(options.as_deref().unwrap_or("{}")).map_err(|error| thrown(error.into()))?;
        let query = Query::parse(options).map_err(thrown)?;
        let model = index(number);
        Ok(self.driver.with(|engine| match kind {
            numbers::QUERY => numbers(&engine.query(model, &query)),
            numbers::COUNT => vec![engine.count(model, &query) as u32],
            _ => vec![engine.open_view(model, &query).0],
        }))
    }

    /// Reads a text; `Text` in `sdk/src/boundary.ts` names the kinds.
    pub fn text(&self, kind: u32) -> Option<String> {
        self.driver.with(|engine| match kind {
            text::STATUS => Some(engine.status()),
            text::OUTBOX => Some(engine.outbox()),
            text::ASIDE => Some(engine.records_aside()),
            text::COORDINATION => Some(engine.coordination()),
            _ => engine.token().map(str::to_owned),
        })
    }

    /// Bytes for the fact that is told next.
    pub fn give(&self, key: String, bytes: Vec<u8>) {
        self.driver.give(key, bytes);
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
        let count = ticket;
        let ticket = Ticket(ticket);
        let task = TaskId(number as u64);
        let model = index(number as u32);
        let is = number > 0.0;
        let given = first.is_some();
        let text = first.unwrap_or_default();
        let write = |id, change, options| Command::Write(ticket, Write { model, id, change, options });
        let command = match kind {
            ask::START => Command::Start(ticket),
            ask::CREATE => write(text, Change::Create(second.unwrap_or_default()), third),
            ask::UPDATE => write(text, Change::Update(second.unwrap_or_default()), third),
            ask::DELETE => write(text, Change::Delete, third),
            ask::READ => Command::Read(ticket, model, text),
            ask::COMMIT => Command::Commit(ticket, text),
            ask::FLUSH => Command::Flush(ticket, (number >= 0.0).then_some(number as u64)),
            ask::CONFIRMATION => Command::Confirmation(ticket, text, second.unwrap_or_default()),
            ask::SET_TOKEN => Command::SetToken(text),
            ask::SET_CREDENTIAL_SOURCE => Command::SetCredentialSource(is),
            ask::NUDGE => Command::Nudge,
            ask::SET_OFFLINE => Command::SetOffline(is),
            ask::RETRY => Command::Retry(ticket, text, second),
            ask::DISCARD => Command::Discard(ticket, text),
            ask::RECEIPT => Command::Receipt(ticket, text),
            ask::CLAIM => Command::Claim(ticket, model, text, second.unwrap_or_default()),
            ask::RELEASE => Command::Release(text),
            ask::LEAVE => Command::LeaveClaims,
            ask::ACTIVITY => Command::Activity(text),
            ask::BROADCAST => Command::Broadcast(text, second.unwrap_or_default()),
            ask::PURGE => Command::Purge(ticket),
            ask::DISPOSE => Command::Dispose(ticket),
            ask::CLOSE_VIEW => {
                self.driver.with(|engine| engine.close_view(ViewId(number as u32)));
                return Ok(());
            }
            ask::TURN => {
                self.driver.end_turn();
                return Ok(());
            }
            ask::TIMEOUT => {
                self.driver.handle_timer();
                return Ok(());
            }
            _ => {
                self.driver.handle_input(match kind {
                    ask::STORE_CLOSED if is => Input::StoreClosed(Database::Identity),
                    ask::STORE_CLOSED => Input::StoreClosed(Database::Directory),
                    ask::LOCK => Input::Lock(is),
                    ask::POSTED => Input::Posted(text),
                    ask::SOCKET_OPENED => Input::SocketOpened(task),
                    ask::SOCKET_MESSAGE => Input::SocketMessage(task, text),
                    ask::SOCKET_CLOSED => Input::SocketClosed { socket: task, code: count as u16 },
                    ask::RESPONSE => {
                        let seconds = third.and_then(|text| parse_digits(text.trim_ascii()));
                        let retry_after_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
                        let (request_id, auth_failure, body) = (Some(text).filter(|_| given), second, self.body());
                        let response =
                            Response { status: count as u16, request_id, auth_failure, retry_after_ms, body };
                        Input::Response(task, Ok(response))
                    }
                    ask::REQUEST_FAILED => Input::Response(task, Err(text)),
                    ask::CREDENTIAL if !given => Input::Credential(task, Credential::SignedOut),
                    ask::CREDENTIAL => Input::Credential(task, Credential::Token { token: text, expires_at: second }),
                    ask::CREDENTIAL_FAILED => Input::Credential(task, Credential::Unavailable(text)),
                    ask::STORED => Input::Stored(task, Ok(self.driver.take_given())),
                    ask::STORE_FAILED => {
                        let kind = FAILURES.get(count as usize).copied().unwrap_or(StoreFailureKind::Unknown);
                        Input::Stored(task, Err(StoreFailure { kind, message: text }))
                    }
                    ask::ONLINE => Input::Online,
                    ask::OFFLINE => Input::Offline,
                    ask::VISIBLE => Input::Visible,
                    _ => Input::Wake,
                });
                return Ok(());
            }
        };
        self.driver.command(command).map_err(thrown)
    }

    fn body(&self) -> Vec<u8> {
        self.driver.take_given().pop().unwrap_or_default().1
    }
}

/// By the numbers that the SDK gives them.
const FAILURES: [StoreFailureKind; 7] = [
    StoreFailureKind::Unavailable,
    StoreFailureKind::Blocked,
    StoreFailureKind::Newer,
    StoreFailureKind::Lost,
    StoreFailureKind::Quota,
    StoreFailureKind::Aborted,
    StoreFailureKind::WrongKey,
];

/// `[0]` nothing, `[1, ...slots]` all of it, `[2, kind, at, slot, ...]` edits in order.
fn window(change: ViewChange) -> Vec<u32> {
    match change {
        ViewChange::None => vec![0],
        ViewChange::Reset(slots) => {
            let mut window = numbers(&slots);
            window.insert(0, 1);
            window
        }
        ViewChange::Edits(edits) => {
            let mut steps = vec![2];
            for edit in edits {
                let (kind, at, slot) = match edit {
                    Edit::Remove(at) => (0, at, 0),
                    Edit::Insert(at, slot) => (1, at, slot.0),
                    Edit::Change(at) => (2, at, 0),
                };
                steps.extend_from_slice(&[kind, at as u32, slot]);
            }
            steps
        }
    }
}

fn numbers(slots: &[Slot]) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(slots.len());
    for slot in slots {
        numbers.push(slot.0);
    }
    numbers
}

fn index(model: u32) -> ModelIndex {
    ModelIndex(u16::try_from(model).unwrap_or(u16::MAX))
}

fn thrown(error: Error) -> JsValue {
    JsValue::from_str(&error.to_json())
}
