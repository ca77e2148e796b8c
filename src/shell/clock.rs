//! The two clocks, read at the edge and passed in.

use wasm_bindgen::prelude::*;

use crate::core::time::Now;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn monotonic() -> f64;
    #[wasm_bindgen(js_namespace = Date, js_name = now)]
    fn wall() -> f64;
}

/// Both clocks at this moment.
pub(crate) fn now() -> Now {
    Now::new(monotonic() as u64, wall() as u64)
}
