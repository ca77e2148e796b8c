//! The shell: performs the engine's outputs and turns what happens into its inputs. wasm only, no decisions.
//!
//! Start at [`driver`]: it is the only owner of an engine. The other modules each wrap one facility of the browser in a
//! value whose drop gives it back.

mod clock;
mod dom;
pub(crate) mod driver;
mod host;
mod http;
mod promise;
mod socket;
mod store;

pub(crate) use driver::Driver;
pub use host::{Host, StorageHost};
