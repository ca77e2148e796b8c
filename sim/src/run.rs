//! Running seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bugs::{Mistake, Place};
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::stats::Stats;
use crate::world::{Options, World};

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it turned on.
    pub plan: Plan,
    /// What it did.
    pub stats: Stats,
    /// The trace's hash.
    pub hash: u64,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
    /// The last lines of the trace, when they were asked for.
    pub lines: Vec<String>,
}

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Turns of the applications, instead of what the seed says.
    pub turns: Option<u64>,
    /// The deliberate mistake to make.
    pub mistake: Option<&'static Mistake>,
    /// Keep the last lines of the trace.
    pub keep_trace: bool,
    /// Print the trace as it comes.
    pub loud: bool,
    /// Nobody has storage on the device, and several tabs, even where the seed says so.
    pub no_tabs: bool,
}

/// Runs one seed.
pub fn run_seed(seed: u64, how: How) -> Outcome {
    let mut plan = Plan::roll(seed, how.turns);
    if how.no_tabs {
        plan.tabs = 0;
    }
    run_plan(seed, plan, how)
}

/// Runs one seed with a plan of the caller's.
pub fn run_plan(seed: u64, plan: Plan, how: How) -> Outcome {
    let (bug, tamper) = match how.mistake.map(|mistake| mistake.place) {
        Some(Place::Core(bug)) => (Some(bug), None),
        Some(Place::Boundary(tamper)) => (None, Some(tamper)),
        None => (None, None),
    };
    ablo_wasm::core::bug::set(bug);
    let options = Options { tamper, keep_trace: how.keep_trace, loud: how.loud };
    let mut world = World::new(seed, plan.clone(), options);
    // A panic is a finding like any other. The world is not used again but for its report.
    let result = catch_unwind(AssertUnwindSafe(|| world.play()));
    ablo_wasm::core::bug::set(None);
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation { rule: "panic", what: text.unwrap_or_default() })
        }
    };
    let counts = world.oracle.counts;
    let stats = Stats {
        virtual_ms: world.now,
        writes: counts.writes,
        commits: counts.commits,
        repeats: counts.repeats,
        refusals: counts.refusals,
        rejected: counts.rejected,
        waited: world.host.book.as_ref().map_or(0, |book| book.promoted),
        ..world.stats
    };
    Outcome { seed, plan, stats, hash: world.trace.hash(), violation, lines: world.trace.into_lines() }
}
