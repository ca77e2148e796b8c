//! One entry point for everything a developer or CI does: `cargo xtask help`.

fn main() {}
