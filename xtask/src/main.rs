//! One entry point for everything a developer or CI does: `cargo xtask help`.
//!
//! Each command works on a fresh clone: it first installs the tools it needs (`setup.rs`), says what it is doing
//! while it does it, and repeats no work whose inputs have not changed (`stamp.rs`). Developers and CI run the same
//! commands, so "works here" and "works there" mean the same thing.
//!
//! Reading order: the table [`COMMANDS`] below, then `process.rs` (how children run), `setup.rs` (tools),
//! `package.rs` (the npm package), `packed.rs` (trying it), `browsers.rs` (where tests run), `check.rs` (lint and test),
//! `run.rs` (server, demo, end to end, benchmarks), `size.rs` (the budget).

mod browsers;
mod check;
mod loader;
mod module;
mod names;
mod order;
mod package;
mod packed;
mod process;
mod repo;
mod run;
mod setup;
mod size;
mod stamp;

use std::fmt;
use std::process::ExitCode;

use repo::Repo;

/// What went wrong, already worded for the person who reads it: what failed, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// For a failure that is on the screen already: only the exit code is left to say.
    pub(crate) fn reported() -> Self {
        Self(String::new())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    /// Shown by `cargo xtask <name> --help` below the summary.
    details: &'static str,
    run: fn(&Repo, &[String]) -> Result,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "setup",
        arguments: "[--browsers LIST]",
        summary: "install or build the tools that are missing, and list those that are there",
        details: "Needs rustup, node 20 or newer and npm. Everything else is installed: the wasm32 target, wasm-bindgen,\n\
                  wasm-pack, the npm packages (TypeScript, esbuild, wasm-opt, Playwright), Chromium and chromedriver.\n\
                  System packages are installed through apt when run as root; otherwise the exact command is printed.\n\
                  The other commands install what they need by themselves.\n\n\
                  --browsers LIST  chromium (alone without the option), firefox, webkit, separated by commas, or all",
        run: |repo, args| {
            let (browsers, rest) = browsers::take_browsers(args, &[browsers::Browser::Chromium])?;
            no_arguments("setup", &rest)?;
            setup::all(repo, &browsers)
        },
    },
    Command {
        name: "build",
        arguments: "",
        summary: "build the complete npm package in pkg/",
        details: "cargo build, wasm-bindgen and wasm-opt for the core, esbuild and tsc for the SDK. Steps whose inputs\n\
                  have not changed are skipped.",
        run: |repo, args| {
            no_arguments("build", args)?;
            package::build(repo)
        },
    },
    Command {
        name: "lint",
        arguments: "[--keep-going]",
        summary: "formatting, repository checks, clippy, documentation, TypeScript; no tests",
        details: "fmt, tidy, clippy for the host and for wasm32, rustdoc with warnings denied, tsc.",
        run: check::lint,
    },
    Command {
        name: "test",
        arguments: "[--keep-going] [--browsers LIST]",
        summary: "everything CI runs, in CI's order",
        details: "Stops at the first step that fails; with --keep-going it runs the others too. The last line counts\n\
                  the steps: `N passed, N failed`.\n\n\
                  --browsers LIST  chromium, firefox, webkit, separated by commas, or all; without it the browsers of\n\
                  \x20                CI, chromium and firefox",
        run: check::test,
    },
    Command {
        name: "sim",
        arguments: "[simulation arguments]",
        summary: "run simulation seeds (cargo xtask sim --help lists the arguments)",
        details: "",
        run: run::sim,
    },
    Command {
        name: "e2e",
        arguments: "[file filter] [--browsers LIST] [node options]",
        summary: "end-to-end tests: package and server in a real browser",
        details: "A word selects the files of tests/e2e whose name contains it. Options go to `node --test`, for example\n\
                  `cargo xtask e2e offline --test-name-pattern=reload`.\n\n\
                  --browsers LIST  chromium (alone without the option), firefox, webkit, separated by commas, or all",
        run: run::e2e,
    },
    Command {
        name: "bench",
        arguments: "[benchmark arguments]",
        summary: "measure the budgets in a real browser, results in benches/results/",
        details: "Everything after `bench` goes to benches/run.mjs.",
        run: run::bench,
    },
    Command {
        name: "size",
        arguments: "[--functions [DEPTH]]",
        summary: "size of the package, raw, gzip and brotli, beside its budget",
        details: "Counts what a browser downloads: the wasm and the JavaScript of pkg/, without Electron's half and the\n\
                  files that xtask/size-budget.json leaves out beside the budget. --functions also\n\
                  lists the largest functions, and groups of them by the first DEPTH parts of their paths (3).",
        run: size::run,
    },
    Command {
        name: "demo",
        arguments: "[--listen ADDR] [--db FILE]",
        summary: "start the demo application with example data; Ctrl-C stops it",
        details: "The server is started with --faults: a panel of the demo makes it misbehave. Nobody else should reach it.\n\n\
                  --listen ADDR  address to listen on; without it 127.0.0.1:8787, or a free port when that is taken\n\
                  --db FILE      keep the data in FILE instead of memory",
        run: run::demo,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        print_help();
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        match rest.first().and_then(|topic| find(topic)) {
            Some(command) => print_command_help(command),
            None => print_help(),
        }
        return ExitCode::SUCCESS;
    }
    let Some(command) = find(name) else {
        eprintln!("error: unknown command `{name}`, expected one of those below\n");
        print_help();
        return ExitCode::from(2);
    };
    // `sim` and `bench` have manuals of their own.
    let own_manual = matches!(command.name, "sim" | "bench");
    if !own_manual && rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        print_command_help(command);
        return ExitCode::SUCCESS;
    }
    let outcome = Repo::find().and_then(|repo| (command.run)(&repo, rest));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.0.is_empty() {
                eprintln!("\nerror: {failure}");
            }
            ExitCode::FAILURE
        }
    }
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn print_help() {
    println!("Usage: cargo xtask <command> [arguments]\n");
    for command in COMMANDS {
        println!("  {:<7} {}", command.name, command.summary);
    }
    println!("  {:<7} this text; `cargo xtask <command> --help` says more about one", "help");
}

fn print_command_help(command: &Command) {
    println!("Usage: cargo xtask {} {}\n", command.name, command.arguments);
    println!("{}", command.summary);
    if !command.details.is_empty() {
        println!("\n{}", command.details);
    }
}

/// Refuses arguments to a command that has none: a misspelt option must not pass unnoticed.
fn no_arguments(command: &str, args: &[String]) -> Result {
    match args.first() {
        None => Ok(()),
        Some(arg) => Err(Failure::new(format!("`cargo xtask {command}` takes no arguments, found `{arg}`"))),
    }
}
