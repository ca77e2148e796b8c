//! The reference sync server: a pure [`engine`], and what puts it on a network and a disk.

pub mod engine;
