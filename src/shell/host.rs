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
    /// Calls the application's `fetch`.
    #[wasm_bindgen(method, catch)]
    pub fn fetch(this: &Host, url: &str, init: &web_sys::RequestInit) -> Result<js_sys::Promise, JsValue>;
}
