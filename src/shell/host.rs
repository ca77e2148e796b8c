//! What the SDK does for the shell (`Host` in `sdk/src/boundary.ts`).

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The SDK's side of one client. No method throws.
    pub type Host;

    /// Rows that the page has seen changed: `slot << 1`, plus 1 when the row is gone.
    #[wasm_bindgen(method)]
    pub fn changed(this: &Host, model: u32, slots: Vec<u32>);
    /// Windows of live views changed.
    #[wasm_bindgen(method)]
    pub fn views(this: &Host, ids: Vec<u32>);
    /// A promise settles.
    #[wasm_bindgen(method)]
    pub fn settle(this: &Host, ticket: u32, error: Option<String>, value: Option<String>);
    /// News for listeners.
    #[wasm_bindgen(method)]
    pub fn event(this: &Host, name: &str, payload: &str);
    /// The status snapshot changed.
    #[wasm_bindgen(method)]
    pub fn status(this: &Host);
    /// Calls the application's credential function.
    #[wasm_bindgen(method, catch)]
    pub fn credential(this: &Host) -> Result<js_sys::Promise, JsValue>;
    /// Makes a request with the application's `fetch`: method, address, bearer, JSON to send, whether caches stay out of
    /// it, milliseconds until it is given up. Comes to `[status, x-request-id, X-Auth-Failure, Retry-After, body]`.
    #[wasm_bindgen(method, catch)]
    pub fn request(
        this: &Host,
        method: &str,
        url: &str,
        bearer: Option<String>,
        body: Option<String>,
        no_cache: bool,
        timeout_ms: u32,
    ) -> Result<js_sys::Promise, JsValue>;
}
