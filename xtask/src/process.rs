//! How child processes run: announced, timed, in the right environment, and never left behind.
//!
//! A child dies with this process. On Ctrl-C the terminal signals the whole process group; for the other ways to die
//! each child is started through `setpriv --pdeathsig` where that exists (Linux), which needs no unsafe code.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::repo::Repo;
use crate::{Failure, Result};

/// Says what starts now. Children print below it.
pub(crate) fn announce(what: &str) {
    println!("==> {what}");
}

/// A remark under the current step.
pub(crate) fn note(what: &str) {
    println!("    {what}");
}

/// Runs `work` under an announced heading and says how long it took.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    announce(what);
    let start = Instant::now();
    let result = work()?;
    note(&format!("done in {}", seconds(start.elapsed())));
    Ok(result)
}

pub(crate) fn seconds(time: Duration) -> String {
    let all = time.as_secs_f64();
    if all < 60.0 { format!("{all:.1} s") } else { format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60) }
}

/// A child process, described before it runs.
pub(crate) struct Cmd<'a> {
    repo: &'a Repo,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<std::path::PathBuf>,
    quiet: bool,
}

impl<'a> Cmd<'a> {
    pub(crate) fn new(repo: &'a Repo, program: impl AsRef<OsStr>) -> Self {
        Self { repo, program: program.as_ref().to_owned(), args: Vec::new(), env: Vec::new(), dir: None, quiet: false }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn envs(mut self, all: &[(&'static str, OsString)]) -> Self {
        self.env.extend(all.iter().map(|(name, value)| (OsString::from(name), value.clone())));
        self
    }

    /// Runs in `dir` instead of the workspace root.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Shows the child's output only when it fails.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs the child and waits for it; an exit code other than 0 is a failure.
    pub(crate) fn run(self) -> Result {
        let line = self.line();
        let missing = self.missing_program();
        let mut command = self.command();
        command.stdin(Stdio::null());
        let status = if self.quiet {
            let output = command.output().map_err(|error| start_failure(&line, &error))?;
            if !output.status.success() {
                print!("{}", String::from_utf8_lossy(&output.stdout));
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
            }
            output.status
        } else {
            command.status().map_err(|error| start_failure(&line, &error))?
        };
        if status.success() {
            return Ok(());
        }
        if let Some(program) = missing {
            return Err(Failure::new(format!("`{program}` was not found: run `cargo xtask setup`, then try again")));
        }
        match status.code() {
            Some(code) => Err(Failure::new(format!("`{line}` failed with exit code {code}"))),
            None => Err(Failure::new(format!("`{line}` was killed ({status})"))),
        }
    }

    /// Runs the child silently; its standard output if it could be started and succeeded.
    pub(crate) fn read(self) -> Option<String> {
        let output = self.command().stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Becomes the child. Signals then reach it directly, and its exit code is ours.
    pub(crate) fn replace_this_process(self) -> Failure {
        use std::os::unix::process::CommandExt as _;
        let line = self.line();
        let error = self.plain_command().exec();
        start_failure(&line, &error)
    }

    fn command(&self) -> Command {
        let Some(setpriv) = self.repo.which("setpriv").filter(|_| cfg!(target_os = "linux")) else {
            return self.plain_command();
        };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "TERM", "--"]).arg(&self.program).args(&self.args);
        self.surround(command)
    }

    fn plain_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        self.surround(command)
    }

    fn surround(&self, mut command: Command) -> Command {
        command.current_dir(self.dir.as_deref().unwrap_or_else(|| self.repo.root()));
        command.env("PATH", self.repo.search_path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Through `setpriv` a missing program is an exit code; this turns it back into words.
    fn missing_program(&self) -> Option<String> {
        let program = self.program.to_string_lossy().into_owned();
        let found =
            if program.contains('/') { Path::new(&program).is_file() } else { self.repo.which(&program).is_some() };
        (!found).then_some(program)
    }

    /// The command as one would type it, long inline scripts cut short.
    fn line(&self) -> String {
        let mut line = self.program.to_string_lossy().into_owned();
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            let shown: String = arg.lines().next().unwrap_or_default().chars().take(80).collect();
            let _ = write!(line, " {shown}");
            if shown.len() < arg.len() {
                line.push('…');
            }
        }
        line
    }
}

fn start_failure(line: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("could not start `{line}`: {error}"))
}
