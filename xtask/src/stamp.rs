//! "Nothing changed, nothing to do": remembers the inputs that an output was made from.
//!
//! A stamp is a hash over the content of the inputs, kept under `target/xtask/`. Content, not modification times:
//! switching branches back and forth must not rebuild, and a checkout by CI has fresh times on old files.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::process::note;
use crate::repo::Repo;
use crate::{Failure, Result};

/// A hash over inputs, fed piece by piece. FNV-1a: it guards against forgetting to rebuild, not against an attacker.
pub(crate) struct Inputs(u64);

impl Inputs {
    /// `recipe` is whatever else decides the output: flags, tool versions.
    pub(crate) fn new(recipe: &str) -> Self {
        let mut inputs = Self(0xcbf2_9ce4_8422_2325);
        inputs.bytes(recipe.as_bytes());
        inputs
    }

    /// Adds a file by path and content; a missing file counts as such.
    pub(crate) fn file(mut self, path: &Path) -> Self {
        self.bytes(path.to_string_lossy().as_bytes());
        match fs::read(path) {
            Ok(content) => self.bytes(&content),
            Err(_) => self.bytes(b"missing"),
        }
        self
    }

    pub(crate) fn files(self, paths: &[PathBuf]) -> Self {
        paths.iter().fold(self, |inputs, path| inputs.file(path))
    }

    pub(crate) fn key(&self) -> String {
        format!("{:016x}", self.0)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // The length first, so that ("ab", "c") and ("a", "bc") differ.
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Runs `work` unless `outputs` exist and were last made from the same `inputs`. True if it ran.
pub(crate) fn unless_fresh(
    repo: &Repo,
    name: &str,
    inputs: &Inputs,
    outputs: &[PathBuf],
    work: impl FnOnce() -> Result,
) -> Result<bool> {
    let file = repo.scratch().join(format!("{name}.stamp"));
    if fs::read_to_string(&file).is_ok_and(|key| key == inputs.key()) && outputs.iter().all(|path| path.exists()) {
        return Ok(false);
    }
    // Removed first: if the work fails half-way, the old stamp must not vouch for what it left behind.
    let _ = fs::remove_file(&file);
    work()?;
    write(&file, &inputs.key())?;
    Ok(true)
}

/// Writes a small file, making its directory first.
pub(crate) fn write(file: &Path, text: &str) -> Result {
    if let Some(dir) = file.parent() {
        create_dir(dir)?;
    }
    fs::write(file, text).map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
}

/// Waits until no other `cargo xtask` has this lock, and has it until the result is dropped.
pub(crate) fn lock(repo: &Repo, name: &str) -> Result<File> {
    create_dir(&repo.scratch())?;
    let path = repo.scratch().join(name).with_extension("lock");
    let failed = |error| Failure::new(format!("cannot lock {}: {error}", path.display()));
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => note(&format!("waiting: another cargo xtask builds the {name}")),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.lock().map_err(failed)?;
    Ok(file)
}

pub(crate) fn create_dir(dir: &Path) -> Result {
    fs::create_dir_all(dir).map_err(|error| Failure::new(format!("cannot create {}: {error}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::Inputs;

    #[test]
    fn a_different_recipe_or_split_is_a_different_key() {
        let key = |parts: &[&str]| {
            let mut inputs = Inputs::new("recipe");
            for part in parts {
                inputs.bytes(part.as_bytes());
            }
            inputs.key()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(Inputs::new("-Oz").key(), Inputs::new("-O3").key());
        assert_eq!(key(&["ab"]), key(&["ab"]));
    }
}
