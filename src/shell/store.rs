//! The storage, the lock and the channel. The host has them; here requests become calls, and answers inputs.

use std::rc::Weak;

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use super::driver::Driver;
use super::host::StorageHost;
use super::http::describe;
use super::promise::follow;
use crate::core::id::TaskId;
use crate::core::input::Input;
use crate::core::store::{Database, Record, StoreChange, StoreFailure, StoreFailureKind, StoreRequest};

/// By the numbers that the host gives them.
const KINDS: [StoreFailureKind; 7] = [
    StoreFailureKind::Unavailable,
    StoreFailureKind::Blocked,
    StoreFailureKind::Newer,
    StoreFailureKind::Lost,
    StoreFailureKind::Quota,
    StoreFailureKind::Aborted,
    StoreFailureKind::WrongKey,
];

/// Asks; the answer is reported to the driver as `task`.
pub(super) fn ask(
    driver: Weak<Driver>,
    storage: &StorageHost,
    task: TaskId,
    database: Database,
    request: &StoreRequest,
) {
    let database = database as u32;
    let promise = match request {
        StoreRequest::Open { name } => storage.open(database, name),
        StoreRequest::Read { store, from, to } => storage.read(database, *store as u32, from, to),
        StoreRequest::Write { changes, strict } => storage.write(database, &list(changes), *strict),
        StoreRequest::Delete => storage.delete(database),
    };
    let done = move |answer: Result<JsValue, JsValue>| {
        if let Some(driver) = driver.upgrade() {
            let result = answer.map(|answer| read(&answer.unchecked_into())).map_err(|error| failure(&error));
            driver.handle_input(Input::Stored(task, result));
        }
    };
    follow(&promise, Box::new(done));
}

/// `[store, key, value]` to put, `[store, from, to]` to remove.
fn list(changes: &[StoreChange]) -> Array {
    let list = Array::new();
    for change in changes {
        let (store, key, last) = match change {
            StoreChange::Put { store, key, value } => (store, key, Uint8Array::from(value.as_slice()).into()),
            StoreChange::Remove { store, from, to } => (store, from, JsValue::from_str(to)),
        };
        list.push(&Array::of3(&JsValue::from(*store as u32), &JsValue::from_str(key), &last));
    }
    list
}

/// Reads `[key, value, key, value, …]`.
fn read(answer: &Array) -> Vec<Record> {
    let mut records = Vec::new();
    for index in (0..answer.length()).step_by(2) {
        let key = answer.get(index).as_string().unwrap_or_default();
        records.push((key, answer.get(index + 1).unchecked_into::<Uint8Array>().to_vec()));
    }
    records
}

fn failure(error: &JsValue) -> StoreFailure {
    let kind = Reflect::get(error, &JsValue::from_str("kind")).ok().and_then(|kind| kind.as_f64());
    let kind = kind.and_then(|kind| KINDS.get(kind as usize)).copied().unwrap_or(StoreFailureKind::Unknown);
    StoreFailure { kind, message: describe(error) }
}
