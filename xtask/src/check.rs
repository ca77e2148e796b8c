//! `lint` and `test`: lists of steps, run in order, timed and counted.
//!
//! The order is cheap first: what fails in seconds fails before what takes minutes.

use std::time::{Duration, Instant};

use crate::browsers::{Browser, take_browsers};
use crate::package::files_in;
use crate::process::{Cmd, announce, note, seconds};
use crate::repo::Repo;
use crate::setup::{self, Tool, WasmCompiler};
use crate::{Failure, Result, package, packed, run, size};

/// How many seeds of the simulation CI plays, devices and tabs included. Those behind are not clean yet (docs/status.md).
const SEEDS: &str = "300";
const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The browsers of CI: the one that most people use, and the one that differs most.
const BROWSERS: &[Browser] = &[Browser::Chromium, Browser::Firefox];

struct Step {
    name: String,
    run: Box<dyn Fn(&Repo) -> Result>,
}

fn step(name: &str, run: impl Fn(&Repo) -> Result + 'static) -> Step {
    Step { name: name.to_owned(), run: Box::new(run) }
}

/// `cargo xtask lint`.
pub(crate) fn lint(repo: &Repo, args: &[String]) -> Result {
    let steps = [
        step("fmt", fmt),
        step("tidy", tidy),
        step("clippy", clippy),
        step("clippy wasm32", clippy_wasm),
        step("docs", docs),
        step("typescript", sdk_types),
    ];
    run_steps(repo, "lint", &steps, args)
}

/// `cargo xtask test`.
pub(crate) fn test(repo: &Repo, args: &[String]) -> Result {
    let (browsers, args) = take_browsers(args, BROWSERS)?;
    let needed = browsers.clone();
    let mut steps = vec![
        step("tools", move |repo| setup::all(repo, &needed)),
        step("fmt", fmt),
        step("tidy", tidy),
        step("clippy", clippy),
        step("clippy wasm32", clippy_wasm),
        step("docs", docs),
        step("native tests", native_tests),
        step("simulation", simulation),
        step("package build", package::build),
    ];
    for browser in browsers.clone() {
        steps.push(step(&in_browser("browser tests", browser), move |repo| browser_tests(repo, browser)));
    }
    steps.extend([
        step("typescript", sdk_types),
        step("SDK tests", sdk_tests),
        step("type tests", type_tests),
        step("package test", packed::check),
    ]);
    for browser in browsers {
        steps.push(step(&in_browser("end to end", browser), move |repo| run::e2e_in(repo, browser, &[])));
    }
    steps.push(step("size", size::check));
    run_steps(repo, "test", &steps, &args)
}

fn in_browser(name: &str, browser: Browser) -> String {
    match browser {
        Browser::Chromium => name.to_owned(),
        Browser::Firefox | Browser::Webkit => format!("{name}, {}", browser.name()),
    }
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
        finished.push((&step.name, took, result));
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
        println!("  {verdict}  {name:<22} {:>12}", seconds(*time));
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

/// `tests/web.rs`.
fn browser_tests(repo: &Repo, browser: Browser) -> Result {
    match browser {
        Browser::Chromium => chromium_tests(repo),
        Browser::Firefox | Browser::Webkit => {
            setup::ensure(repo, &[Tool::WasmBindgen, Tool::Browser(browser)])?;
            let compiler = wasm_compiler(repo)?;
            announce(&format!("wasm-bindgen's test runner, {}", browser.name()));
            Cmd::new(repo, "node")
                .arg("tests/e2e/engines/web.mjs")
                .envs(&compiler.env())
                .envs(&browser.env(repo)?)
                .run()
        }
    }
}

fn chromium_tests(repo: &Repo) -> Result {
    setup::ensure(repo, &[Tool::WasmBindgen, Tool::WasmPack, Tool::Browser(Browser::Chromium)])?;
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

/// The SDK over a stand-in for its core, in node; its source connector with a server.
fn sdk_tests(repo: &Repo) -> Result {
    // Not that of the end-to-end tests: this one is there once the native tests have run.
    Cmd::new(repo, "cargo").args(["build", "--quiet", "--package", "ablo-server"]).run()?;
    announce("node --test, SDK");
    let files = files_in(&repo.path("tests/sdk"), ".test.mjs");
    if files.is_empty() {
        return Err(Failure::new("there is no tests/sdk/*.test.mjs"));
    }
    Cmd::new(repo, "node")
        .env("ABLO_SERVER", repo.cargo_target().join("debug/ablo-server"))
        // In Node 22 and later there is one anyway.
        .arg("--experimental-websocket")
        .args(["--test", "--test-reporter=dot", run::FILE_LIMIT])
        .args(files)
        .run()
}

fn type_tests(repo: &Repo) -> Result {
    announce("tsc, type tests");
    Cmd::new(repo, "tsc").args(["--noEmit", "-p", "tests/types"]).run()
}

fn wasm_compiler(repo: &Repo) -> Result<WasmCompiler> {
    setup::ensure(repo, &[Tool::WasmTarget])?;
    WasmCompiler::find(repo)
        .ok_or_else(|| Failure::new("no compiler for wasm32: run `cargo xtask setup`, then try again"))
}
