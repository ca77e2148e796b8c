//! Fixed seeds, determinism, and proof that the rules bite.

use ablo_sim::bugs;
use ablo_sim::plan::Plan;
use ablo_sim::run::{How, run_plan, run_seed};

/// Short runs: without optimisation a seed takes a while.
const SHORT: Option<u64> = Some(60);

fn assert_clean(seed: u64, turns: Option<u64>) {
    let outcome = run_seed(seed, How { turns, ..How::default() });
    if let Some(violation) = outcome.violation {
        panic!("seed {seed}: {}: {}\nagain: cargo xtask sim --seed {seed}", violation.rule, violation.what);
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
    let seeds = include_str!("../seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let seeds: Vec<u64> = seeds.collect();
    assert!(seeds.len() > 10);
    let turns = if cfg!(debug_assertions) { Some(100) } else { None };
    seeds.into_iter().for_each(|seed| assert_clean(seed, turns));
}

/// Seeds that have found something about storage and tabs.
#[test]
fn tabs_and_devices_hold() {
    for seed in [4, 17, 30, 44, 99, 131, 255, 275] {
        let outcome = run_seed(seed, How { turns: SHORT, tabs: true, ..How::default() });
        assert_eq!(outcome.violation, None, "again: cargo xtask sim --tabs --turns 60 --seed {seed}");
    }
}

#[test]
fn some_fresh_seeds_hold() {
    (10_000..10_010).for_each(|seed| assert_clean(seed, SHORT));
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
