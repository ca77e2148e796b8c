//! A simulated world for the client core and the server engine: virtual time, a network that fails, stores that are
//! slow, tabs that die; and checks of everything that must hold all the same.
//!
//! A run is a function of its seed. It has two halves: trouble, with what must never be checked after every step; then
//! everything is mended, and within bounded time all clients must show what the server holds and every write must be
//! accounted for. See sim/README.md for the list of faults and of rules.
//!
//! Reading order: [`plan`] (what a seed turns on), `world` (the loop), `net`, `fault`, `work`, then `oracle` and
//! `client` (the rules), `tabs` and `cold` (what browsers keep), [`bugs`] (proof that they bite), [`run`] (seeds).

#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::large_enum_variant,
    reason = "a simulation may stop at anything, and its queues are short"
)]

mod book;
pub mod bugs;
mod claims;
mod client;
mod cold;
mod device;
mod dice;
mod fault;
mod host;
mod lie;
mod line;
mod net;
mod oracle;
pub mod plan;
pub mod run;
mod shop;
mod stats;
mod tabs;
mod trace;
mod views;
mod work;
mod world;

pub use oracle::Violation;
pub use stats::Stats;
pub use world::HEAL_MS;
