//! Where things are: the checkout, its build output, the tools on this machine.
//!
//! Nothing here is remembered between runs and nothing is compiled in, so that a moved checkout keeps working.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Failure, Result};

/// The checkout that the command runs in.
pub(crate) struct Repo {
    root: PathBuf,
}

impl Repo {
    /// Walks up from the current directory to the workspace root.
    pub(crate) fn find() -> Result<Self> {
        let start =
            env::current_dir().map_err(|error| Failure::new(format!("cannot read the current directory: {error}")))?;
        let found =
            start.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file() && dir.join("Cargo.toml").is_file());
        match found {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => Err(Failure::new(format!(
                "{} is not inside a checkout of this repository: change into one and try again",
                start.display()
            ))),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Cargo's build directory, which `CARGO_TARGET_DIR` may have moved.
    pub(crate) fn cargo_target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => self.root.join(dir),
            None => self.root.join("target"),
        }
    }

    /// Our own place for stamps and intermediate files. It does not move with `CARGO_TARGET_DIR`: `tests/types` names
    /// `target/wasm-bindgen` and cannot follow a variable.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("target/xtask")
    }

    pub(crate) fn wasm_bindgen_out(&self) -> PathBuf {
        self.root.join("target/wasm-bindgen")
    }

    /// `PATH` for every child: the npm tools of this checkout and cargo's tools come first.
    pub(crate) fn search_path(&self) -> OsString {
        let mut dirs = vec![self.root.join("node_modules/.bin"), cargo_bin()];
        if let Some(path) = env::var_os("PATH") {
            dirs.extend(env::split_paths(&path));
        }
        // A directory with the separator in its name cannot be searched anyway.
        env::join_paths(dirs).unwrap_or_else(|_| env::var_os("PATH").unwrap_or_default())
    }

    /// Finds a program on the children's `PATH`.
    pub(crate) fn which(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
    }

    /// The browser for tests: `$CHROMIUM`, else the first that is installed.
    pub(crate) fn chromium(&self) -> Option<PathBuf> {
        self.program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])
    }

    /// Its WebDriver: `$CHROMEDRIVER`, else the one that is installed.
    pub(crate) fn chromedriver(&self) -> Option<PathBuf> {
        self.program("CHROMEDRIVER", &["chromedriver"])
    }

    /// What the variable names, else the first of `names` that is installed.
    pub(crate) fn program(&self, variable: &str, names: &[&str]) -> Option<PathBuf> {
        match env::var_os(variable) {
            Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
            None => names.iter().find_map(|name| self.which(name)),
        }
    }

    pub(crate) fn read(&self, relative: &str) -> Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
    }
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> PathBuf {
    cargo_home().join("bin")
}

pub(crate) fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

pub(crate) fn rustup_home() -> PathBuf {
    env::var_os("RUSTUP_HOME").map_or_else(|| home().join(".rustup"), PathBuf::from)
}

fn home() -> PathBuf {
    env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Every file below `dir`, sorted, without directories that hold only build output.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !matches!(entry.file_name().to_str(), Some("node_modules" | "target" | ".git")) {
                    pending.push(path);
                }
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
