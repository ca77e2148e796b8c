//! `lint` and `test`: lists of steps, run in order, timed and counted.
//!
//! The order is cheap first: what fails in seconds fails before what takes minutes.

use std::time::{Duration, Instant};

use crate::package::files_in;
use crate::process::{Cmd, announce, note, seconds};
use crate::repo::Repo;
use crate::setup::{self, Tool, WasmCompiler};
use crate::{Failure, Result, package, packed, run, size};

/// How many seeds of the simulation CI plays, devices and tabs included. Those behind are not clean yet (docs/status.md).
const SEEDS: &str = "120";
const WASM_TARGET: &str = "wasm32-unknown-unknown";

struct Step {
    name: &'static str,
    run: fn(&Repo) -> Result,
}

const LINT: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "tidy", run: tidy },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy wasm32", run: clippy_wasm },
    Step { name: "docs", run: docs },
    Step { name: "typescript", run: sdk_types },
];

const TEST: &[Step] = &[
    Step { name: "tools", run: tools },
    Step { name: "fmt", run: fmt },
    Step { name: "tidy", run: tidy },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy wasm32", run: clippy_wasm },
    Step { name: "docs", run: docs },
    Step { name: "native tests", run: native_tests },
    Step { name: "simulation", run: simulation },
    Step { name: "package build", run: package::build },
    Step { name: "browser tests", run: browser_tests },
    Step { name: "typescript", run: sdk_types },
    Step { name: "SDK tests", run: sdk_tests },
    Step { name: "type tests", run: type_tests },
    Step { name: "package test", run: packed::check },
    Step { name: "end to end", run: end_to_end },
    Step { name: "size", run: size::check },
];

/// `cargo xtask lint`.
pub(crate) fn lint(repo: &Repo, args: &[String]) -> Result {
    run_steps(repo, "lint", LINT, args)
}

/// `cargo xtask test`.
pub(crate) fn test(repo: &Repo, args: &[String]) -> Result {
    run_steps(repo, "test", TEST, args)
}

fn run_steps(repo: &Repo, command: &str, steps: &[Step], args: &[String]) -> Result {
    let keep_going = match args {
        [] => false,
        [arg] if arg == "--keep-going" => true,
        _ => {
            return Err(Failure::new(format!(
                "`cargo xtask {command}` takes --keep-going and nothing else, found `{}`",
                args.join(" ")
            )));
        }
    };
    let start = Instant::now();
    let mut finished: Vec<(&str, Duration, Result)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n=== {}/{} {}", index + 1, steps.len(), step.name);
        let step_start = Instant::now();
        let result = (step.run)(repo);
        let took = step_start.elapsed();
        match &result {
            Ok(()) => println!("=== {} passed in {}", step.name, seconds(took)),
            Err(failure) => println!("=== {} FAILED after {}: {failure}", step.name, seconds(took)),
        }
        let failed = result.is_err();
        finished.push((step.name, took, result));
        if failed && !keep_going {
            break;
        }
    }
    summarize(command, steps.len(), &finished, start.elapsed())
}

fn summarize(command: &str, planned: usize, finished: &[(&str, Duration, Result)], took: Duration) -> Result {
    println!("\nSummary of `cargo xtask {command}`, {} in all:", seconds(took));
    for (name, time, result) in finished {
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        println!("  {verdict}  {name:<16} {:>12}", seconds(*time));
    }
    let failed = finished.iter().filter(|(_, _, result)| result.is_err()).count();
    for (name, _, result) in finished {
        if let Err(failure) = result {
            println!("  {name}: {failure}");
        }
    }
    let not_run = planned - finished.len();
    if not_run > 0 {
        println!("  {not_run} more not run after the first failure; --keep-going runs them too");
    }
    println!("{} passed, {failed} failed", finished.len() - failed);
    if failed == 0 { Ok(()) } else { Err(Failure::reported()) }
}

fn tools(repo: &Repo) -> Result {
    setup::all(repo)
}

fn fmt(repo: &Repo) -> Result {
    announce("cargo fmt --check");
    Cmd::new(repo, "cargo")
        .args(["fmt", "--all", "--check"])
        .run()
        .map_err(|failure| Failure::new(format!("{failure}: run `cargo fmt --all`")))
}

fn tidy(repo: &Repo) -> Result {
    announce("checks of the repository itself (tests/tidy.rs)");
    Cmd::new(repo, "cargo").args(["test", "--quiet", "--package", "ablo-wasm", "--test", "tidy"]).run()
}

fn clippy(repo: &Repo) -> Result {
    announce("cargo clippy, all members and targets");
    Cmd::new(repo, "cargo")
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        .run()
}

fn clippy_wasm(repo: &Repo) -> Result {
    let compiler = wasm_compiler(repo)?;
    announce("cargo clippy, wasm32");
    let mut cmd = Cmd::new(repo, "cargo")
        .args(["clippy", "--quiet", "--package", "ablo-wasm", "--lib", "--target", WASM_TARGET])
        .envs(&compiler.env());
    match compiler {
        WasmCompiler::Rustup => cmd = cmd.args(["--", "--deny", "warnings"]),
        // Debian's compiler is another version than the one developers use, and every version has lints of its own.
        WasmCompiler::Debian => note("with rustc-web: warnings are shown but do not fail"),
    }
    cmd.run()
}

fn docs(repo: &Repo) -> Result {
    announce("cargo doc, warnings denied");
    let doc = || {
        Cmd::new(repo, "cargo")
            .args(["doc", "--quiet", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings")
    };
    doc().arg("--workspace").run()?;
    // The shell and the exported classes exist only there.
    announce("cargo doc, wasm32");
    doc().args(["--package", "ablo-wasm", "--lib", "--target", WASM_TARGET]).envs(&wasm_compiler(repo)?.env()).run()
}

fn native_tests(repo: &Repo) -> Result {
    announce("cargo test, all members, with documentation tests");
    Cmd::new(repo, "cargo").args(["test", "--workspace"]).run()
}

fn simulation(repo: &Repo) -> Result {
    run::sim(repo, &["--seeds".to_owned(), SEEDS.to_owned()])
}

fn browser_tests(repo: &Repo) -> Result {
    setup::ensure(repo, &[Tool::WasmBindgen, Tool::WasmPack, Tool::Chromium])?;
    let compiler = wasm_compiler(repo)?;
    let driver = repo.chromedriver().ok_or_else(|| Failure::new("chromedriver is missing: run `cargo xtask setup`"))?;
    announce("wasm-pack test, headless Chromium");
    Cmd::new(repo, "wasm-pack")
        .args(["test", "--headless", "--chrome", "--chromedriver"])
        .arg(driver)
        .args(["--", "--test", "web"])
        .envs(&compiler.env())
        .run()
}

fn sdk_types(repo: &Repo) -> Result {
    setup::ensure(repo, &[Tool::NodePackages])?;
    announce("tsc, SDK");
    Cmd::new(repo, "tsc").args(["--noEmit", "-p", "sdk"]).run()
}

/// The SDK over a stand-in for its core, in node.
fn sdk_tests(repo: &Repo) -> Result {
    announce("node --test, SDK");
    let files = files_in(&repo.path("tests/sdk"), ".test.mjs");
    if files.is_empty() {
        return Err(Failure::new("there is no tests/sdk/*.test.mjs"));
    }
    Cmd::new(repo, "node").args(["--test", "--test-reporter=dot"]).args(files).run()
}

fn type_tests(repo: &Repo) -> Result {
    announce("tsc, type tests");
    Cmd::new(repo, "tsc").args(["--noEmit", "-p", "tests/types"]).run()
}

fn end_to_end(repo: &Repo) -> Result {
    run::e2e(repo, &[])
}

fn wasm_compiler(repo: &Repo) -> Result<WasmCompiler> {
    setup::ensure(repo, &[Tool::WasmTarget])?;
    WasmCompiler::find(repo)
        .ok_or_else(|| Failure::new("no compiler for wasm32: run `cargo xtask setup`, then try again"))
}
