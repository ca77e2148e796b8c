//! Plays seeds.
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (start, count) = (args.first().copied().unwrap_or(1), args.get(1).copied().unwrap_or(10));
    for seed in start..start + count {
        let outcome = ablo_sim::run::run_seed(seed, ablo_sim::run::How { keep_trace: count == 1, ..Default::default() });
        for line in &outcome.lines { println!("{line}"); }
        println!("{seed} {:?} {:x} {:?}", outcome.violation, outcome.hash, outcome.stats.steps);
    }
}
