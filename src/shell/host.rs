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
    /// A record that the next write to a database keeps.
    #[wasm_bindgen(method)]
    pub fn put(this: &Host, store: u32, key: &str, value: Vec<u8>);
    /// Does what [`Perform`] says. One method for all: each imported method has its price in bytes.
    #[wasm_bindgen(method)]
    pub fn perform(
        this: &Host,
        kind: u32,
        id: f64,
        number: u32,
        first: Option<&str>,
        second: Option<&str>,
        third: Option<&str>,
    );
}

/// What [`Host::perform`] is for. `Perform` in `sdk/src/boundary.ts` says with which arguments; the order is the same.
#[derive(Clone, Copy, Debug)]
pub(super) enum Perform {
    Settle,
    Event,
    Status,
    Turn,
    Timer,
    Credential,
    Request,
    OpenSocket,
    Send,
    CloseSocket,
    OpenStore,
    ReadStore,
    Remove,
    WriteStore,
    DeleteStore,
    CloseStores,
    Lock,
    Channel,
    Post,
}
