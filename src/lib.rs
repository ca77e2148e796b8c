//! Ablo's sync client: a Rust core for browsers, shipped as the npm package `ablo-wasm`.
//!
//! - [`core`]: every decision, without I/O; native and wasm.
//! - `shell` (wasm only): performs what the core asks for, tells it what happened.
//! - `js` (wasm only): the class that JavaScript sees.

pub mod core;
#[cfg(target_arch = "wasm32")]
pub mod js;
#[cfg(target_arch = "wasm32")]
mod shell;
