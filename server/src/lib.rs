//! The reference sync server: a pure [`engine`], and what puts it on a network and a disk.
//!
//! - [`engine`]: every decision; also what the simulation runs.
//! - [`driver`]: owns the engine, orders what is stored before what is told.
//! - [`store`]: the SQLite file. [`http`] and `ws`: requests and sockets. [`files`]: `--static`.
//! - `source`: data sources that dial in.
//! - `faults`: what `--faults` lets tests do to all of it.
//! - [`args`], [`keys`], [`server`]: from the command line to a bound address.

pub mod args;
pub mod driver;
pub mod engine;
mod faults;
pub mod files;
pub mod http;
pub mod keys;
mod reply;
pub mod server;
mod source;
pub mod store;
mod url;
mod ws;
