//! The shell: performs the engine's outputs and turns what happens into its inputs. wasm only, no decisions.
//!
//! [`driver`] is the only owner of an engine. What belongs to the browser (sockets, timers, requests, storage) is held by
//! the SDK's half of the shell, `sdk/src/shell.ts`: there it takes a third of the bytes (docs/decisions/size.md).

mod clock;
pub(crate) mod driver;
mod host;

pub(crate) use clock::now;
pub(crate) use driver::Driver;
pub use host::Host;
