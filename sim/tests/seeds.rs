//! Fixed seeds, determinism, and proof that the rules bite.

use ablo_sim::bugs;
use ablo_sim::plan::Plan;
use ablo_sim::run::{How, run_plan, run_seed};

/// Short runs: without optimisation a seed takes a while.
const SHORT: Option<u64> = Some(60);

fn assert_clean(seed: u64, how: How) {
    let outcome = run_seed(seed, how);
    if let Some(violation) = outcome.violation {
        panic!("seed {seed}, {how:?}: {}: {}", violation.rule, violation.what);
    }
}

#[test]
fn a_calm_world_converges() {
    let outcome = run_plan(1, Plan::calm(2, 30), How::default());
    assert_eq!(outcome.violation, None);
    assert!(outcome.stats.commits > 10, "{}", outcome.stats);
}

#[test]
fn recorded_seeds_hold() {
    let turns = if cfg!(debug_assertions) { Some(100) } else { None };
    let mut count = 0;
    for line in include_str!("../seeds.txt").lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(seed) = words.next().and_then(|word| word.parse().ok()) else { continue };
        assert_clean(seed, How { turns, no_tabs: words.next() == Some("no-tabs"), ..How::default() });
        count += 1;
    }
    assert!(count > 20);
}

/// Seeds that have found something about storage and tabs in few turns.
#[test]
fn tabs_and_devices_hold() {
    for seed in [4, 17, 30, 44, 99, 131, 255, 275] {
        assert_clean(seed, How { turns: SHORT, ..How::default() });
    }
}

#[test]
fn some_fresh_seeds_hold() {
    (10_000..10_010).for_each(|seed| assert_clean(seed, How { turns: SHORT, ..How::default() }));
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in [1, 2, 3, 141, 332] {
        let how = How { turns: SHORT, ..How::default() };
        let (first, second) = (run_seed(seed, how), run_seed(seed, how));
        assert_eq!((first.hash, first.stats), (second.hash, second.stats), "seed {seed}");
    }
}

/// Every mistake is found by `cargo xtask sim --check-bugs --seeds 1000`; these are found fast.
#[test]
fn deliberate_mistakes_are_found() {
    for name in [
        "new-key-on-retry",
        "refusal-takes-neighbours",
        "rollback-takes-two",
        "overlay-not-recomputed",
        "snapshot-over-pending",
        "merged-settles-early",
        "journal-not-awaited",
        "first-delta-only",
        "ids-again",
    ] {
        let mistake = bugs::by_name(name).unwrap();
        let how = How { turns: SHORT, mistake: Some(mistake), ..How::default() };
        let found = (1..40).find(|seed| run_seed(*seed, how).violation.is_some());
        assert!(found.is_some(), "{name} went unnoticed");
    }
}
