//! HTTP requests. The host makes them with the application's `fetch`; here they become tasks with an end.

use std::rc::Weak;

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use super::driver::Driver;
use super::host::Host;
use super::promise::follow;
use crate::core::id::TaskId;
use crate::core::input::{Input, Response};
use crate::core::output::Request;

/// Starts a request; its end is reported to the driver as `task`.
pub(super) fn start(driver: Weak<Driver>, host: &Host, task: TaskId, request: &Request) {
    let timeout = request.timeout_ms.min(super::driver::DELAY_MAX_MS);
    let promise = host.request(
        request.method.name(),
        &request.url,
        request.bearer.clone(),
        request.body.clone(),
        request.no_cache,
        u32::try_from(timeout).unwrap_or(u32::MAX),
    );
    let promise = promise.unwrap_or_else(|error| Promise::reject(&error));
    let done = move |answer: Result<JsValue, JsValue>| {
        if let Some(driver) = driver.upgrade() {
            let result = answer.map(|answer| read(&answer.unchecked_into())).map_err(|error| describe(&error));
            driver.handle_input(Input::Response(task, result));
        }
    };
    follow(&promise, Box::new(done));
}

/// Reads `[status, x-request-id, X-Auth-Failure, Retry-After, body]`.
fn read(answer: &Array) -> Response {
    let text = |index: u32| answer.get(index).as_string();
    let seconds = text(3).and_then(|text| text.trim().parse::<u32>().ok());
    Response {
        status: answer.get(0).as_f64().unwrap_or_default() as u16,
        request_id: text(1),
        auth_failure: text(2),
        retry_after_ms: seconds.map(|seconds| u64::from(seconds).saturating_mul(1000)),
        body: answer.get(4).unchecked_into::<Uint8Array>().to_vec(),
    }
}

/// A failure's text for people. Browsers put no secrets into it.
pub(super) fn describe(error: &JsValue) -> String {
    let message = js_sys::Reflect::get(error, &JsValue::from_str("message")).ok();
    message
        .and_then(|text| text.as_string())
        .or_else(|| error.as_string())
        .unwrap_or_else(|| "request failed".to_owned())
}
