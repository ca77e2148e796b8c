//! Commands that run what was built: the simulation, the server behind the demo, end-to-end tests, benchmarks.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::browsers::{Browser, take_browsers};
use crate::package::{self, files_in};
use crate::process::{Cmd, announce, note, timed};
use crate::repo::Repo;
use crate::setup::{self, Tool};
use crate::{Failure, Result};

/// Where the demo listens when nobody says otherwise and nobody else does.
const DEMO_ADDRESS: &str = "127.0.0.1:8787";
const ANY_FREE_PORT: &str = "127.0.0.1:0";

/// `cargo xtask sim`: all arguments belong to the simulation.
pub(crate) fn sim(repo: &Repo, args: &[String]) -> Result {
    announce(&format!("simulation {}", args.join(" ")));
    Cmd::new(repo, "cargo").args(["run", "--quiet", "--release", "--package", "ablo-sim", "--"]).args(args).run()
}

/// A file of tests that takes longer, in milliseconds, hangs where its own limit for a test does not reach.
pub(crate) const FILE_LIMIT: &str = "--test-timeout=900000";

/// Tests of these files need what only Playwright does: clicks, and all that happens on the network; or Chromium itself,
/// which Electron is.
const CHROMIUM_ONLY: &[&str] = &["demo", "electron", "package"];

/// `cargo xtask e2e`: words select files, options go to node.
pub(crate) fn e2e(repo: &Repo, args: &[String]) -> Result {
    let (browsers, args) = take_browsers(args, &[Browser::Chromium])?;
    let tools: Vec<Tool> = browsers.iter().copied().map(Tool::Browser).collect();
    setup::ensure(repo, &tools)?;
    for browser in browsers {
        e2e_in(repo, browser, &args)?;
    }
    Ok(())
}

/// End-to-end tests in one browser.
pub(crate) fn e2e_in(repo: &Repo, browser: Browser, args: &[String]) -> Result {
    setup::ensure(repo, &[Tool::Browser(browser)])?;
    let (options, words): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with('-'));
    let mut files = files_in(&repo.path("tests/e2e"), ".test.mjs");
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_named = words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        is_named && (browser == Browser::Chromium || !CHROMIUM_ONLY.iter().any(|only| name.starts_with(only)))
    });
    if files.is_empty() {
        let filter: Vec<String> = words.iter().map(|word| format!(" with `{word}` in its name")).collect();
        let name = browser.name();
        return Err(Failure::new(format!("there is no tests/e2e/*.test.mjs{} for {name}", filter.join(" or"))));
    }
    package::build(repo)?;
    let server = build_server(repo)?;
    announce(&format!("end-to-end tests, {}", browser.name()));
    let evidence = empty_evidence(repo, browser)?;
    browser_env(repo, Cmd::new(repo, "node"), server, browser)?
        .env("ABLO_EVIDENCE", &evidence)
        .args(["--test", "--test-reporter=spec", FILE_LIMIT])
        .args(options)
        .args(files)
        .run()?;
    announce("tokens in logs, addresses, errors, events and storage");
    let all = args.is_empty().then_some("--all");
    Cmd::new(repo, "node").arg("tests/e2e/secrets.mjs").arg(evidence).args(all).run()
}

/// Where end-to-end tests record what servers and pages say and store (`tests/e2e/evidence.mjs`).
fn empty_evidence(repo: &Repo, browser: Browser) -> Result<PathBuf> {
    let dir = repo.scratch().join("evidence").join(browser.name());
    // What is not there cannot be removed; what cannot be removed is found when it is searched.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
    Ok(dir)
}

/// `cargo xtask bench`: all arguments belong to the benchmark runner.
pub(crate) fn bench(repo: &Repo, args: &[String]) -> Result {
    const RUNNER: &str = "benches/run.mjs";
    if args.iter().any(|arg| arg == "--help") {
        return Cmd::new(repo, "node").arg(RUNNER).args(args).run();
    }
    setup::ensure(repo, &[Tool::Browser(Browser::Chromium)])?;
    package::build(repo)?;
    let server = build_server(repo)?;
    announce("benchmarks");
    browser_env(repo, Cmd::new(repo, "node"), server, Browser::Chromium)?.arg(RUNNER).args(args).run()
}

/// What the demo is served with. `--faults`: the panel of the demo has buttons that make the server misbehave.
const DEMO_SERVER: &[&str] = &[
    "--static",
    "www",
    "--static",
    "/pkg=pkg",
    "--schema",
    "www/schema.json",
    "--keys",
    "www/dev-keys.json",
    "--faults",
];

/// `cargo xtask demo`: builds everything, then becomes the server. The page itself fills an empty database with example
/// rows, through the client.
pub(crate) fn demo(repo: &Repo, args: &[String]) -> Result {
    let options = DemoOptions::parse(args)?;
    package::build(repo)?;
    let server = build_server(repo)?;
    let listen = options.listen.unwrap_or_else(|| {
        if TcpListener::bind(DEMO_ADDRESS).is_ok() {
            return DEMO_ADDRESS.to_owned();
        }
        note(&format!("{DEMO_ADDRESS} is taken, using a free port"));
        ANY_FREE_PORT.to_owned()
    });
    announce("demo: open the address below in a browser, Ctrl-C stops it");
    // The server takes over this process, so that Ctrl-C and its exit code are its own.
    Err(Cmd::new(repo, server)
        .args(["--listen", &listen, "--db", &options.db])
        .args(DEMO_SERVER)
        .replace_this_process())
}

#[derive(Debug, PartialEq, Eq)]
struct DemoOptions {
    listen: Option<String>,
    db: String,
}

impl DemoOptions {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { listen: None, db: ":memory:".to_owned() };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), rest.next().cloned()),
            };
            let Some(value) = value.filter(|_| matches!(name, "--listen" | "--db")) else {
                return Err(Failure::new(format!(
                    "`cargo xtask demo` takes --listen ADDR and --db FILE, found `{arg}`"
                )));
            };
            if name == "--listen" {
                options.listen = Some(value);
            } else {
                options.db = value;
            }
        }
        Ok(options)
    }
}

fn build_server(repo: &Repo) -> Result<PathBuf> {
    timed("cargo build (server)", || {
        Cmd::new(repo, "cargo").args(["build", "--quiet", "--release", "--package", "ablo-server"]).run()
    })?;
    Ok(repo.cargo_target().join("release/ablo-server"))
}

/// The agreement with the scripts in tests/e2e and benches: where the server is, which browser, and where that is.
fn browser_env<'a>(repo: &Repo, cmd: Cmd<'a>, server: PathBuf, browser: Browser) -> Result<Cmd<'a>> {
    Ok(cmd.env("ABLO_SERVER", server).envs(&browser.env(repo)?))
}

#[cfg(test)]
mod tests {
    use super::{DEMO_SERVER, DemoOptions};

    fn parse(args: &[&str]) -> Option<DemoOptions> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        DemoOptions::parse(&args).ok()
    }

    #[test]
    fn the_server_of_the_demo_misbehaves_on_request() {
        assert!(DEMO_SERVER.contains(&"--faults"));
    }

    #[test]
    fn demo_options() {
        let given =
            |listen: Option<&str>, db: &str| Some(DemoOptions { listen: listen.map(str::to_owned), db: db.to_owned() });
        assert_eq!(parse(&[]), given(None, ":memory:"));
        assert_eq!(parse(&["--listen", "127.0.0.1:1", "--db=a.db"]), given(Some("127.0.0.1:1"), "a.db"));
        assert_eq!(parse(&["--listen"]), None);
        assert_eq!(parse(&["--port", "1"]), None);
    }
}
