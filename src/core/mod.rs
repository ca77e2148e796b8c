//! The sans-IO engine.

pub mod error;
pub mod id;
pub mod json;
pub mod time;
