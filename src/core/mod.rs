//! The sans-IO engine.

pub mod error;
pub mod filter;
pub mod id;
pub mod json;
pub mod schema;
pub mod time;
pub mod wire;
