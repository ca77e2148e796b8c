//! The tools: finds them, installs or builds what is missing.
//!
//! What an ordinary machine has to bring is rustup, node with npm, and a C compiler. The compiler for wasm32 comes
//! from rustup; where rustup may not download anything, from Debian's `rustc-web` and a standard library that is built
//! here once ([`WasmCompiler`]). Every check is cheap, so each command runs the ones it needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::browsers::Browser;
use crate::process::{Cmd, announce, note, timed};
use crate::repo::{Repo, cargo_bin, rustup_home};
use crate::stamp::{Inputs, create_dir, write};
use crate::{Failure, Result};

const TARGET: &str = "wasm32-unknown-unknown";
/// Below the compiler's directory, when it has the source of the standard library.
const STD_SOURCE: &str = "lib/rustlib/src/rust/library/Cargo.toml";
const WASM_PACK_VERSION: &str = "0.15.1";
const NODE_MAJOR_MIN: u32 = 20;

/// Debian's compiler for browsers with its standard library's source, linker and clippy; all of one version.
const APT_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "lld-22"];
const APT_LINKER: &str = "wasm-ld-22";
const APT_SYSROOT: &str = "/usr";

/// One thing that a command can need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    WasmTarget,
    WasmBindgen,
    WasmPack,
    NodePackages,
    Browser(Browser),
}

const EVERY_TOOL: &[Tool] = &[Tool::WasmTarget, Tool::WasmBindgen, Tool::WasmPack, Tool::NodePackages];

/// `cargo xtask setup`: everything, with a list of what there is.
pub(crate) fn all(repo: &Repo, browsers: &[Browser]) -> Result {
    let tools: Vec<Tool> = EVERY_TOOL.iter().copied().chain(browsers.iter().copied().map(Tool::Browser)).collect();
    ensure(repo, &tools)?;
    println!("All tools are installed:");
    for tool in tools {
        println!("  {}", tool.describe(repo));
    }
    Ok(())
}

/// Installs those of `tools` that are missing. Silent when none is.
pub(crate) fn ensure(repo: &Repo, tools: &[Tool]) -> Result {
    let mut apt = Apt { repo, updated: false };
    // What the system has to bring comes first: a machine that may not install it says so at once, and completely,
    // instead of one package at a time after minutes of building.
    let mut refused = Vec::new();
    for tool in tools {
        let done = match tool {
            Tool::WasmTarget => ensure_wasm_target(repo, &mut apt),
            Tool::Browser(browser) if browser.is_installed(repo) => Ok(()),
            Tool::Browser(browser) => apt.install(browser.what(), browser.packages()),
            Tool::NodePackages => check_node(repo),
            Tool::WasmBindgen | Tool::WasmPack => Ok(()),
        };
        refused.extend(done.err().map(|failure| failure.to_string()));
    }
    if !refused.is_empty() {
        return Err(Failure::new(refused.join("\n")));
    }
    for tool in tools {
        match tool {
            Tool::WasmBindgen => ensure_wasm_bindgen(repo)?,
            Tool::WasmPack => ensure_cargo_tool(repo, "wasm-pack", "wasm-pack", WASM_PACK_VERSION)?,
            Tool::NodePackages => ensure_node_packages(repo)?,
            Tool::WasmTarget | Tool::Browser(_) => {}
        }
    }
    // Hundreds of megabytes that only an interrupted installation needs.
    let _ = fs::remove_dir_all(tools_build_dir(repo));
    Ok(())
}

fn tools_build_dir(repo: &Repo) -> PathBuf {
    repo.scratch().join("tools")
}

impl Tool {
    fn describe(self, repo: &Repo) -> String {
        let version = |program: &str| {
            Cmd::new(repo, program).arg("--version").read().unwrap_or_else(|| format!("{program} is missing"))
        };
        match self {
            Self::WasmTarget => match WasmCompiler::find(repo) {
                Some(WasmCompiler::Rustup) => format!("{TARGET}, from rustup"),
                Some(WasmCompiler::Debian) => format!("{TARGET}, from Debian's rustc-web"),
                None => format!("{TARGET} is missing"),
            },
            Self::WasmBindgen => version("wasm-bindgen"),
            Self::WasmPack => version("wasm-pack"),
            Self::NodePackages => format!("node {}, npm packages in node_modules/", version("node")),
            Self::Browser(browser) => {
                let show =
                    |path: Option<PathBuf>| path.map_or_else(|| "missing".into(), |path| path.display().to_string());
                let programs: Vec<String> = browser.programs(repo).into_iter().map(|(_, path)| show(path)).collect();
                format!("{}: {}", browser.name(), programs.join(", "))
            }
        }
    }
}

/// Which compiler builds for the browser.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WasmCompiler {
    /// rustup's default toolchain, with the target added to it.
    Rustup,
    /// Debian's rustc-web, linked into rustup under the name `wasm`, for machines without rustup downloads.
    Debian,
}

impl WasmCompiler {
    /// The compiler that is ready for use, if one is.
    pub(crate) fn find(repo: &Repo) -> Option<Self> {
        if rustup_has_target(repo) {
            Some(Self::Rustup)
        } else if debian_has_target(repo) {
            Some(Self::Debian)
        } else {
            None
        }
    }

    /// The environment that makes cargo, wasm-pack and clippy use this compiler.
    pub(crate) fn env(self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Rustup => Vec::new(),
            Self::Debian => vec![
                ("RUSTUP_TOOLCHAIN", "wasm".into()),
                ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", APT_LINKER.into()),
            ],
        }
    }
}

fn rustup_has_target(repo: &Repo) -> bool {
    let read = |what: &[&str]| Cmd::new(repo, "rustc").arg("--print").args(what).read().map(PathBuf::from);
    let (Some(dir), Some(sysroot)) = (read(&["target-libdir", "--target", TARGET]), read(&["sysroot"])) else {
        return false;
    };
    // The package brings a standard library built for it; tests use the one that is there.
    has_std(&dir) && sysroot.join(STD_SOURCE).is_file()
}

fn debian_has_target(repo: &Repo) -> bool {
    let Some(version) = debian_rustc_version(repo) else { return false };
    has_std(&debian_std_dir())
        && repo.which(APT_LINKER).is_some()
        && rustup_home().join("toolchains/wasm").exists()
        // An upgrade of the packages makes the library unreadable for the new compiler.
        && fs::read_to_string(debian_std_stamp()).is_ok_and(|built_for| built_for == version)
}

fn has_std(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // `test` is what browser tests need beyond an ordinary build.
    ["libcore-", "libstd-", "libtest-"].iter().all(|start| names.iter().any(|name| name.starts_with(start)))
}

fn debian_rustc_version(repo: &Repo) -> Option<String> {
    Cmd::new(repo, Path::new(APT_SYSROOT).join("bin/rustc")).arg("-vV").read()
}

fn debian_std_dir() -> PathBuf {
    Path::new(APT_SYSROOT).join("lib/rustlib").join(TARGET).join("lib")
}

fn debian_std_stamp() -> PathBuf {
    debian_std_dir().join("built-for")
}

fn ensure_wasm_target(repo: &Repo, apt: &mut Apt<'_>) -> Result {
    if WasmCompiler::find(repo).is_some() {
        return Ok(());
    }
    announce(&format!("adding the target {TARGET} and the standard library's source with rustup"));
    let rustup = |args: &[&str]| Cmd::new(repo, "rustup").args(args).run();
    let added = rustup(&["target", "add", TARGET]).and_then(|()| rustup(&["component", "add", "rust-src"]));
    if added.is_ok() && rustup_has_target(repo) {
        return Ok(());
    }
    note("rustup cannot add them on this machine; falling back to Debian's rustc-web");
    apt.install(
        "a compiler for wasm32 (or make `rustup target add wasm32-unknown-unknown` and `rustup component add \
         rust-src` work)",
        APT_COMPILER,
    )?;
    timed("linking it into rustup as the toolchain `wasm`", || {
        Cmd::new(repo, "rustup").args(["toolchain", "link", "wasm", APT_SYSROOT]).quiet().run()
    })?;
    timed("building the standard library for wasm32, once (about a minute)", || build_debian_std(repo))?;
    if debian_has_target(repo) {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the standard library was built, but {} does not have it: remove that directory and run \
             `cargo xtask setup` again",
            debian_std_dir().display()
        )))
    }
}

/// Builds the standard library in a throw-away crate and puts its parts where the compiler looks for them.
fn build_debian_std(repo: &Repo) -> Result {
    const CRATE: &str = "throw_away";
    let dir = repo.scratch().join("std");
    let target = dir.join("target");
    let manifest = format!(
        "[package]\nname = \"{CRATE}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = \"lib.rs\"\ncrate-type = [\"cdylib\"]\n\n[workspace]\n"
    );
    let _ = fs::remove_dir_all(&dir);
    write(&dir.join("Cargo.toml"), &manifest)?;
    write(&dir.join("lib.rs"), "//! Only here so that cargo builds the standard library.\n")?;
    Cmd::new(repo, "cargo")
        .args(["build", "--release", "--target", TARGET, "-Z", "build-std=std,panic_abort,test"])
        .envs(&WasmCompiler::Debian.env())
        .env("CARGO_TARGET_DIR", &target)
        // `lto = true` reads bitcode from the library, which is left out unless asked for.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        // build-std is an unstable option of cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .dir(&dir)
        .run()?;

    let std_dir = debian_std_dir();
    // Two builds side by side would be two candidates for every crate.
    let _ = fs::remove_dir_all(&std_dir);
    create_dir(&std_dir)?;
    let built = target.join(TARGET).join("release/deps");
    let copy_failure = |what: &Path, error: &std::io::Error| {
        Failure::new(format!("cannot copy {} to {}: {error}", what.display(), std_dir.display()))
    };
    for entry in fs::read_dir(&built).map_err(|error| copy_failure(&built, &error))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("lib") && name.ends_with(".rlib") && !name.contains(CRATE) {
            fs::copy(entry.path(), std_dir.join(&name)).map_err(|error| copy_failure(&entry.path(), &error))?;
        }
    }
    write(&debian_std_stamp(), &debian_rustc_version(repo).unwrap_or_default())?;
    let _ = fs::remove_dir_all(&dir);
    // What was compiled against another build of the library cannot be linked with this one.
    let _ = fs::remove_dir_all(repo.cargo_target().join(TARGET));
    Ok(())
}

fn ensure_wasm_bindgen(repo: &Repo) -> Result {
    let version = wasm_bindgen_version(&repo.read("Cargo.toml")?)?;
    ensure_cargo_tool(repo, "wasm-bindgen", "wasm-bindgen-cli", &version)
}

/// The version that the root manifest pins; generated code and generator must be of one version.
fn wasm_bindgen_version(manifest: &str) -> Result<String> {
    manifest
        .lines()
        .filter(|line| line.starts_with("wasm-bindgen ") || line.starts_with("wasm-bindgen="))
        .find_map(|line| Some(line.split_once("\"=")?.1.split_once('"')?.0.to_owned()))
        .ok_or_else(|| {
            Failure::new(
                "the root Cargo.toml does not pin wasm-bindgen exactly: write `wasm-bindgen = \"=0.2.x\"`, so that \
                 the matching wasm-bindgen program can be installed",
            )
        })
}

/// Installs `package` from crates.io unless `program` already has the wanted version.
fn ensure_cargo_tool(repo: &Repo, program: &str, package: &str, version: &str) -> Result {
    let found = Cmd::new(repo, program).arg("--version").read();
    if found.as_deref() == Some(&format!("{program} {version}")) {
        return Ok(());
    }
    let why = match found {
        Some(found) => format!("this machine has {found}"),
        None => "not on this machine".to_owned(),
    };
    // The tools share a build directory, and an interrupted installation goes on where it stopped.
    timed(&format!("building {package} {version} ({why}); takes a few minutes"), || {
        Cmd::new(repo, "cargo")
            // Without --locked: the lock file of a tool may name versions that a mirror does not have.
            .args(["install", package, "--version", version, "--force"])
            .env("CARGO_TARGET_DIR", tools_build_dir(repo))
            .run()
    })?;
    let found = Cmd::new(repo, program).arg("--version").read().unwrap_or_default();
    if found.ends_with(version) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "installed {package} {version} into {}, but `{program} --version` says `{found}`: remove the other {program} \
         from PATH",
        cargo_bin().display()
    )))
}

fn ensure_node_packages(repo: &Repo) -> Result {
    let stamp = repo.path("node_modules/.installed");
    let wanted = Inputs::new("npm ci").file(&repo.path("package-lock.json")).key();
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    timed("installing npm packages (npm ci)", || {
        Cmd::new(repo, "npm")
            // No package we use needs its install script to work; not running them is one thing less to trust.
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .run()
    })?;
    write(&stamp, &wanted)
}

fn check_node(repo: &Repo) -> Result {
    let found = Cmd::new(repo, "node").arg("--version").read();
    let major = found.as_deref().and_then(|text| text.trim_start_matches('v').split('.').next()?.parse().ok());
    match (major, repo.which("npm")) {
        (Some(major), Some(_)) if NODE_MAJOR_MIN <= major => Ok(()),
        _ => Err(Failure::new(format!(
            "node {NODE_MAJOR_MIN} or newer and npm are needed, found node {} and {}: install them and try again",
            found.as_deref().unwrap_or("missing"),
            if repo.which("npm").is_some() { "npm" } else { "no npm" },
        ))),
    }
}

/// Debian's package manager, if this machine has it and lets us use it.
struct Apt<'a> {
    repo: &'a Repo,
    updated: bool,
}

impl Apt<'_> {
    fn install(&mut self, what: &str, packages: &[&str]) -> Result {
        let by_hand = format!("apt-get update && apt-get install --no-install-recommends {}", packages.join(" "));
        let refuse = |why: &str| Err(Failure::new(format!("missing: {what}. {why}; as root, run\n  {by_hand}")));
        if self.repo.which("apt-get").is_none() {
            return refuse("There is no apt-get on this machine to install it with. On Debian or Ubuntu");
        }
        if Cmd::new(self.repo, "id").arg("-u").read().as_deref() != Some("0") {
            return refuse("Only root may install it");
        }
        if !self.updated {
            self.updated = true;
            // Stale lists name packages that are gone. If this fails the installation may still succeed.
            if let Err(failure) =
                timed("reading the package lists (apt-get update)", || self.apt_get(&["update"]).quiet().run())
            {
                note(&failure.to_string());
            }
        }
        timed(&format!("installing {}", packages.join(", ")), || {
            self.apt_get(&["install", "--yes", "--no-install-recommends"]).args(packages).quiet().run()
        })
    }

    fn apt_get(&self, args: &[&str]) -> Cmd<'_> {
        Cmd::new(self.repo, "apt-get")
            // Another apt may be at work, for example the system's own updates.
            .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
    }
}

#[cfg(test)]
mod tests {
    use super::wasm_bindgen_version;

    #[test]
    fn the_pin_is_read_in_both_spellings() {
        for manifest in [
            "[dependencies]\nwasm-bindgen-test = \"0.3\"\nwasm-bindgen = \"=0.2.130\"\n",
            "wasm-bindgen = { version = \"=0.2.130\", default-features = false }\n",
        ] {
            assert_eq!(wasm_bindgen_version(manifest).ok().as_deref(), Some("0.2.130"));
        }
        assert!(wasm_bindgen_version("wasm-bindgen = \"0.2.130\"\n").is_err());
    }
}
