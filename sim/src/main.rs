//! `ablo-sim`: plays seeds and says what broke.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ablo_sim::Stats;
use ablo_sim::bugs::{self, Mistake};
use ablo_sim::plan::Switches;
use ablo_sim::run::{How, Outcome, run_seed};

const HELP: &str = "\
Plays seeds of the simulated world: clients, one server, and everything that goes wrong between them.

  cargo xtask sim [options]

  --seeds N       how many seeds (default 100)
  --start S       the first seed (default 1)
  --seed S        play only this one, and show the last lines of its trace when it fails
  --turns N       turns of the applications per seed, instead of what the seed says
  --trace         with --seed: print the whole trace
  --twice         play each seed twice and compare
  --no-tabs       without devices, storage and tabs
  --keep-going    do not stop at the first failure; sum up failures by rule
  --bug NAME      make this deliberate mistake
  --list-bugs     list the deliberate mistakes
  --check-bugs    show for each mistake (or the one of --bug) the first seed that finds it
  --list-faults   list the faults and habits, with how many seeds in a hundred have them
  --jobs N        threads (default 2)
  --help          this text

The exit code is 1 when something broke, or with --check-bugs when a mistake was not found.";

#[derive(Clone, Debug)]
struct Args {
    seeds: u64,
    start: u64,
    single: bool,
    turns: Option<u64>,
    trace: bool,
    twice: bool,
    no_tabs: bool,
    keep_going: bool,
    bug: Option<&'static Mistake>,
    check_bugs: bool,
    jobs: usize,
}

enum Task {
    Play(Args),
    ListBugs,
    ListFaults,
    Help,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Task, String> {
    let mut args = Args {
        seeds: 100,
        start: 1,
        single: false,
        turns: None,
        trace: false,
        twice: false,
        no_tabs: false,
        keep_going: false,
        bug: None,
        check_bugs: false,
        jobs: 2,
    };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.replace('_', "").parse().map_err(|_| format!("{word} needs a number, not {text}"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = number()?,
            "--start" => args.start = number()?,
            "--seed" => {
                args.start = number()?;
                args.seeds = 1;
                args.single = true;
            }
            "--turns" | "--steps" => args.turns = Some(number()?),
            "--jobs" => args.jobs = number()?.clamp(1, 64) as usize,
            "--trace" => args.trace = true,
            "--twice" => args.twice = true,
            "--no-tabs" => args.no_tabs = true,
            "--keep-going" => args.keep_going = true,
            "--check-bugs" | "--bugs" => args.check_bugs = true,
            "--bug" => {
                let name = words.next().ok_or("--bug needs a name; --list-bugs lists them")?;
                let known = bugs::by_name(&name).ok_or_else(|| format!("no bug {name}; --list-bugs lists them"))?;
                args.bug = Some(known);
            }
            "--list-bugs" => return Ok(Task::ListBugs),
            "--list-faults" => return Ok(Task::ListFaults),
            "--help" | "-h" => return Ok(Task::Help),
            other => return Err(format!("unknown option {other}; --help lists them")),
        }
    }
    Ok(Task::Play(args))
}

fn main() -> ExitCode {
    // A panic inside of a seed is reported with the seed; the default report would say it twice.
    std::panic::set_hook(Box::new(|_| {}));
    match parse(std::env::args().skip(1)) {
        Ok(Task::Play(args)) if args.check_bugs => check_bugs(&args),
        Ok(Task::Play(args)) => play(&args),
        Ok(Task::ListBugs) => {
            for mistake in bugs::ALL {
                println!("{:<26} {}", mistake.name, mistake.about);
            }
            ExitCode::SUCCESS
        }
        Ok(Task::ListFaults) => {
            for (name, percent, about) in Switches::ALL {
                println!("{name:<18} {percent:>3} %  {about}");
            }
            ExitCode::SUCCESS
        }
        Ok(Task::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Plays seeds until one fails, or all of them.
fn play(args: &Args) -> ExitCode {
    let began = Instant::now();
    let how = How {
        turns: args.turns,
        mistake: args.bug,
        keep_trace: args.single,
        loud: args.single && args.trace,
        no_tabs: args.no_tabs,
    };
    let progress = AtomicU64::new(0);
    let total = Mutex::new((Stats::default(), Vec::<Outcome>::new()));
    each_seed(args.start, args.seeds, args.jobs, |seed| {
        let outcome = run_seed(seed, how);
        let mut failed = outcome.violation.is_some();
        let mut outcome = outcome;
        if args.twice && !failed {
            let again = run_seed(seed, how);
            if again.hash != outcome.hash {
                failed = true;
                let what = format!("the first run's hash is {:x}, the second's {:x}", outcome.hash, again.hash);
                outcome.violation = Some(ablo_sim::Violation { rule: "determinism", what });
            }
        }
        let done = progress.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(500) {
            eprintln!("{done} of {} seeds, {:.0} s", args.seeds, began.elapsed().as_secs_f64());
        }
        let mut total = total.lock().expect("no seed panics outside of its own catch");
        total.0 += outcome.stats;
        if failed {
            total.1.push(outcome);
        }
        !failed || args.keep_going
    });
    let (stats, mut failures) = total.into_inner().expect("all seeds are done");
    failures.sort_by_key(|outcome| outcome.seed);
    let done = progress.into_inner();
    report(args, &failures);
    let seconds = began.elapsed().as_secs_f64();
    println!("{done} seeds in {seconds:.1} s ({:.0} a second): {stats}", done as f64 / seconds.max(0.001));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(args: &Args, failures: &[Outcome]) {
    let mut by_rule: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for outcome in failures {
        if let Some(violation) = &outcome.violation {
            by_rule.entry(violation.rule).or_default().push(outcome.seed);
        }
    }
    let Some(first) = failures.first() else { return };
    let traced = if args.single {
        first.clone()
    } else {
        // The run is the same every time: the lines of its end come from playing it again.
        run_seed(
            first.seed,
            How { turns: args.turns, mistake: args.bug, keep_trace: true, loud: false, no_tabs: args.no_tabs },
        )
    };
    if !args.trace {
        for line in &traced.lines {
            println!("{:.2000}", line);
        }
    }
    if let Some(violation) = &first.violation {
        println!("\nseed {} broke the rule `{}`: {}", first.seed, violation.rule, violation.what);
    }
    println!("it had {} clients and: {}", first.plan.clients, first.plan.on.names().join(", "));
    let bug = args.bug.map(|mistake| format!(" --bug {}", mistake.name)).unwrap_or_default();
    let turns = args.turns.map(|turns| format!(" --turns {turns}")).unwrap_or_default();
    let tabs = if args.no_tabs { " --no-tabs" } else { "" };
    println!("again: cargo xtask sim --seed {}{bug}{turns}{tabs}", first.seed);
    if args.keep_going {
        for (rule, seeds) in by_rule {
            println!("  {:>5} × {rule}: seeds {:?}", seeds.len(), seeds.get(..20).unwrap_or(&seeds));
        }
    }
}

/// For each mistake, looks for a seed that finds it.
fn check_bugs(args: &Args) -> ExitCode {
    let mut missed = 0;
    let list: Vec<&'static Mistake> = match args.bug {
        Some(one) => vec![one],
        None => bugs::ALL.iter().collect(),
    };
    for mistake in list {
        let began = Instant::now();
        let found: Mutex<Option<Outcome>> = Mutex::new(None);
        let how = How { turns: args.turns, mistake: Some(mistake), no_tabs: args.no_tabs, ..How::default() };
        each_seed(args.start, args.seeds, args.jobs, |seed| {
            let outcome = run_seed(seed, how);
            if outcome.violation.is_none() {
                return true;
            }
            let mut found = found.lock().expect("no seed panics outside of its own catch");
            if found.as_ref().is_none_or(|known| known.seed > seed) {
                *found = Some(outcome);
            }
            false
        });
        let seconds = began.elapsed().as_secs_f64();
        let found = found.into_inner().expect("all seeds are done");
        match found.as_ref().and_then(|outcome| Some((outcome.seed, outcome.violation.as_ref()?))) {
            Some((seed, violation)) => {
                println!("{:<26} seed {seed:<5} {seconds:>5.1} s  {}", mistake.name, violation.rule);
            }
            None => {
                missed += 1;
                println!("{:<26} NOT FOUND in {} seeds, {seconds:.1} s", mistake.name, args.seeds);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays seeds on several threads, lowest first, until one says stop. Seeds below that one are always finished, so the
/// first failure is the first failure however many threads there are.
fn each_seed(start: u64, count: u64, jobs: usize, play: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(start);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + count {
                        break;
                    }
                    if !play(seed) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}
