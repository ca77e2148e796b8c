//! The sans-IO engine.

pub mod backoff;
pub mod bug;
pub mod config;
pub mod connection;
pub mod engine;
pub mod error;
pub mod filter;
pub mod fold;
pub mod id;
pub mod index;
pub mod input;
pub mod json;
pub mod map;
pub mod output;
pub mod pool;
pub mod probe;
pub mod queue;
pub mod rng;
pub mod schema;
pub mod snapshot;
pub mod sort;
pub mod store;
pub mod text;
pub mod time;
pub mod wire;

pub use engine::Engine;
