//! HTTP requests: one value per request, aborted when dropped.

use std::rc::Weak;

use gloo_timers::callback::Timeout;
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, Headers, RequestCache, RequestInit};

use super::driver::Driver;
use super::host::Host;
use super::promise::follow;
use crate::core::id::TaskId;
use crate::core::input::{Input, Response};
use crate::core::output::Request;

/// A request under way. Dropping it aborts it.
pub(super) struct Fetch {
    controller: Option<AbortController>,
    _timeout: Timeout,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(controller) = &self.controller {
            controller.abort();
        }
    }
}

/// Starts a request; its end is reported to the driver as `task`.
pub(super) fn start(driver: Weak<Driver>, host: &Host, task: TaskId, request: &Request) -> Fetch {
    let controller = AbortController::new().ok();
    let timeout = {
        let controller = controller.clone();
        Timeout::new(
            u32::try_from(request.timeout_ms.min(super::driver::DELAY_MAX_MS)).unwrap_or(u32::MAX),
            move || {
                if let Some(controller) = controller {
                    controller.abort();
                }
            },
        )
    };
    let promise = init(request, controller.as_ref()).and_then(|init| host.fetch(&request.url, &init));
    let promise = promise.unwrap_or_else(|error| Promise::reject(&error));
    follow(&promise, Box::new(move |response| read(driver, task, response)));
    Fetch { controller, _timeout: timeout }
}

fn init(request: &Request, controller: Option<&AbortController>) -> Result<RequestInit, JsValue> {
    let headers = Headers::new()?;
    headers.set("Accept", "application/json")?;
    if let Some(bearer) = &request.bearer {
        headers.set("Authorization", &format!("Bearer {bearer}"))?;
    }
    let init = RequestInit::new();
    init.set_method(request.method.name());
    if let Some(body) = &request.body {
        headers.set("Content-Type", "application/json")?;
        init.set_body(&JsValue::from_str(body));
    }
    if request.no_cache {
        init.set_cache(RequestCache::NoStore);
    }
    init.set_headers(headers.as_ref());
    init.set_signal(controller.map(AbortController::signal).as_ref());
    Ok(init)
}

/// The headers are here, or will never be.
fn read(driver: Weak<Driver>, task: TaskId, response: Result<JsValue, JsValue>) {
    let begun = response.and_then(|response| {
        let response: web_sys::Response = response.unchecked_into();
        Ok((head(&response), response.array_buffer()?))
    });
    match begun {
        Err(error) => finish(&driver, task, Err(error)),
        Ok((mut answer, body)) => follow(
            body.unchecked_ref(),
            Box::new(move |body| {
                let result = body.map(|buffer| {
                    answer.body = Uint8Array::new(&buffer).to_vec();
                    answer
                });
                finish(&driver, task, result);
            }),
        ),
    }
}

/// An answer without its body.
fn head(response: &web_sys::Response) -> Response {
    let headers = response.headers();
    let header = |name: &str| headers.get(name).ok().flatten();
    Response {
        status: response.status(),
        request_id: header("x-request-id"),
        auth_failure: header("X-Auth-Failure"),
        retry_after_ms: header("Retry-After")
            .and_then(|text| Some(text.trim().parse::<u32>().ok()?.into()))
            .map(|seconds: u64| seconds.saturating_mul(1000)),
        body: Vec::new(),
    }
}

fn finish(driver: &Weak<Driver>, task: TaskId, result: Result<Response, JsValue>) {
    if let Some(driver) = driver.upgrade() {
        driver.finish_fetch(task);
        driver.handle_input(Input::Response(task, result.map_err(|error| describe(&error))));
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
