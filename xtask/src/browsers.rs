//! The browsers that tests run in: what `--browsers` calls them, and what each needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::repo::Repo;
use crate::{Failure, Result};

const OPTION: &str = "--browsers";
const ALL: &str = "all";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browser {
    Chromium,
    Firefox,
    Webkit,
}

impl Browser {
    pub(crate) const EVERY: [Self; 3] = [Self::Chromium, Self::Firefox, Self::Webkit];

    /// Also the name of its file in `tests/e2e/engines`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::Webkit => "webkit",
        }
    }

    /// For the message that it is missing.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Chromium => "Chromium and chromedriver (or set CHROMIUM and CHROMEDRIVER to their paths)",
            Self::Firefox => "Firefox (or set FIREFOX to its path)",
            Self::Webkit => {
                "WebKitGTK with its driver, Python for it, and Xvfb (or set WEBKIT_DRIVER, WEBKIT_PYTHON and XVFB to \
                 their paths)"
            }
        }
    }

    /// Debian's.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Chromium => &["chromium", "chromium-driver"],
            Self::Firefox => &["firefox-esr"],
            // It has no mode without a screen, so one is made for it.
            Self::Webkit => &["webkit2gtk-driver", "gir1.2-webkit2-4.1", "python3-gi", "xvfb"],
        }
    }

    /// The programs with which it is driven, under the names that `tests/e2e/engines` knows; none for what is missing.
    pub(crate) fn programs(self, repo: &Repo) -> Vec<(&'static str, Option<PathBuf>)> {
        match self {
            Self::Chromium => vec![("CHROMIUM", repo.chromium()), ("CHROMEDRIVER", repo.chromedriver())],
            Self::Firefox => vec![("FIREFOX", repo.program("FIREFOX", &["firefox-esr", "firefox"]))],
            Self::Webkit => vec![
                ("WEBKIT_DRIVER", repo.program("WEBKIT_DRIVER", &["WebKitWebDriver"])),
                ("WEBKIT_PYTHON", repo.program("WEBKIT_PYTHON", &[]).or_else(python_with_webkit)),
                ("XVFB", repo.program("XVFB", &["Xvfb"])),
            ],
        }
    }

    /// How scripts are told to use it.
    pub(crate) fn env(self, repo: &Repo) -> Result<Vec<(&'static str, OsString)>> {
        let name = self.name();
        let mut env = vec![("ABLO_BROWSER", OsString::from(name))];
        for (variable, path) in self.programs(repo) {
            let path = path.ok_or_else(|| {
                Failure::new(format!(
                    "{variable} is missing: run `cargo xtask setup --browsers {name}`, then try again"
                ))
            })?;
            env.push((variable, path.into()));
        }
        Ok(env)
    }

    pub(crate) fn is_installed(self, repo: &Repo) -> bool {
        self.programs(repo).iter().all(|(_, path)| path.is_some())
    }

    fn parse(name: &str) -> Result<Vec<Self>> {
        if name == ALL {
            return Ok(Self::EVERY.to_vec());
        }
        let found = Self::EVERY.into_iter().find(|browser| browser.name() == name);
        found.map(|browser| vec![browser]).ok_or_else(|| {
            let names = Self::EVERY.map(Self::name).join(", ");
            Failure::new(format!("{OPTION} knows {names} and {ALL}, separated by commas; found `{name}`"))
        })
    }
}

/// The system's Python, not the first on the search path, if it can use the library: see `webkit-browser.py`.
fn python_with_webkit() -> Option<PathBuf> {
    let python = PathBuf::from("/usr/bin/python3");
    let library = format!("/usr/lib/{}-linux-gnu/girepository-1.0/WebKit2-4.1.typelib", std::env::consts::ARCH);
    let needed = [python.as_path(), Path::new(&library), Path::new("/usr/lib/python3/dist-packages/gi/__init__.py")];
    needed.iter().all(|path| path.is_file()).then_some(python)
}

/// Takes `--browsers LIST` out of `args`: which browsers, or `otherwise`, and the rest.
pub(crate) fn take_browsers(args: &[String], otherwise: &[Browser]) -> Result<(Vec<Browser>, Vec<String>)> {
    let mut named = None;
    let mut rest = Vec::new();
    let mut left = args.iter();
    while let Some(arg) = left.next() {
        if arg == OPTION {
            named = Some(left.next().map_or("", String::as_str));
        } else if let Some(list) = arg.strip_prefix(OPTION).and_then(|list| list.strip_prefix('=')) {
            named = Some(list);
        } else {
            rest.push(arg.clone());
        }
    }
    let Some(list) = named else { return Ok((otherwise.to_vec(), rest)) };
    let mut asked = Vec::new();
    for name in list.split(',') {
        asked.extend(Browser::parse(name)?);
    }
    // In their own order, each once.
    Ok((Browser::EVERY.into_iter().filter(|browser| asked.contains(browser)).collect(), rest))
}

#[cfg(test)]
mod tests {
    use super::Browser::{Chromium, Firefox, Webkit};
    use super::{Browser, take_browsers};

    fn take(args: &[&str]) -> Option<(Vec<Browser>, Vec<String>)> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        take_browsers(&args, &[Chromium]).ok()
    }

    #[test]
    fn browsers_are_taken_out_of_the_arguments() {
        assert_eq!(take(&["a", "--b"]), Some((vec![Chromium], vec!["a".to_owned(), "--b".to_owned()])));
        assert_eq!(take(&["--browsers", "all"]), Some((vec![Chromium, Firefox, Webkit], vec![])));
        let both = Some((vec![Firefox, Webkit], vec!["x".to_owned()]));
        assert_eq!(take(&["--browsers=webkit,firefox,webkit", "x"]), both);
        assert_eq!(take(&["--browsers", "firefox", "x", "--browsers"]), None);
        assert_eq!(take(&["--browsers", "opera"]), None);
        assert_eq!(take(&["--browsers"]), None);
    }
}
