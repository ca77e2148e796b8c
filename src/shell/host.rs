//! What the SDK does for the shell (`Host` and `StorageHost` in `sdk/src/boundary.ts`).

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

    /// The storage of the browser and what its tabs share. No method throws.
    pub type StorageHost;

    /// Opens a database.
    #[wasm_bindgen(method)]
    pub fn open(this: &StorageHost, database: u32, name: &str) -> js_sys::Promise;
    /// Comes to `[key, value, key, value, …]`.
    #[wasm_bindgen(method)]
    pub fn read(this: &StorageHost, database: u32, store: u32, from: &str, to: &str) -> js_sys::Promise;
    /// Changes records: `[store, key, value]` to put, `[store, from, to]` to remove.
    #[wasm_bindgen(method)]
    pub fn write(this: &StorageHost, database: u32, changes: &js_sys::Array, strict: bool) -> js_sys::Promise;
    /// Closes and deletes a database.
    #[wasm_bindgen(method)]
    pub fn delete(this: &StorageHost, database: u32) -> js_sys::Promise;
    /// Closes both databases.
    #[wasm_bindgen(method)]
    pub fn close(this: &StorageHost);
    /// Asks for a lock, or gives it back.
    #[wasm_bindgen(method)]
    pub fn lock(this: &StorageHost, name: Option<&str>, steal: bool);
    /// Joins a channel, or leaves it.
    #[wasm_bindgen(method)]
    pub fn channel(this: &StorageHost, name: Option<&str>);
    /// Tells the other tabs.
    #[wasm_bindgen(method)]
    pub fn post(this: &StorageHost, text: &str);
}
