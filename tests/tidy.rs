//! Checks of the repository itself: rules that a machine can check are not left to reviewers.
//!
//! Each test is one rule, looks at every file that git would commit, and reports all violations at once with the reason
//! for the rule. It does not compile or run anything; lints of the compiler and of clippy are in the root manifest and
//! in `clippy.toml`. Exceptions are spelled out here, next to the rule.

#![cfg(not(target_arch = "wasm32"))]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Longer files hide more than one subject.
const LINES_MAX: usize = 900;

/// A text file of the repository.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    fn is_source(&self) -> bool {
        self.is(&["rs", "ts", "tsx", "js", "mjs", "html", "css", "sh"])
    }

    fn below(&self, dirs: &[&str]) -> bool {
        dirs.iter().any(|dir| self.path.starts_with(dir))
    }

    /// Lines with their numbers, without those that are only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !["//", "*", "/*"].iter().any(|start| line.trim_start().starts_with(start)))
    }

    /// Every place in the code where one of `words` occurs.
    fn find(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .flat_map(|(number, line)| {
                words.iter().filter(|word| line.contains(**word)).map(move |word| (number, *word))
            })
            .map(|(number, word)| format!("{}:{number}: {word}", self.path))
            .collect()
    }
}

/// Every text file that git tracks, or would track after `git add`.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .expect("git must be installed to list the files of the repository");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files: Vec<File> = names
        .split_terminator('\0')
        // A file that is deleted but still tracked, or is not text, has no lines to check.
        .filter_map(|name| Some(File { path: name.to_owned(), text: fs::read_to_string(root.join(name)).ok()? }))
        .collect();
    assert!(files.iter().any(|file| file.path == "Cargo.toml"), "git ls-files does not list this checkout");
    files
}

/// Fails with every violation and the reason for the rule.
#[track_caller]
fn expect_none(reason: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{reason}:\n  {}\n", violations.join("\n  "));
}

fn find_in(selected: impl Fn(&File) -> bool, words: &[&str]) -> Vec<String> {
    files().iter().filter(|file| selected(file)).flat_map(|file| file.find(words)).collect()
}

#[test]
fn every_rust_file_says_what_it_is() {
    let violations = files()
        .iter()
        .filter(|file| file.is(&["rs"]) && !file.text.starts_with("//!"))
        .map(|file| file.path.clone())
        .collect();
    expect_none("a Rust file opens with `//!`: what it is, what it leaves to others", violations);
}

#[test]
fn no_file_is_too_long() {
    let violations = files()
        .iter()
        .filter(|file| file.is(&["rs", "ts", "tsx"]) && LINES_MAX < file.text.lines().count())
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    expect_none(&format!("more than {LINES_MAX} lines: split the file by subject"), violations);
}

#[test]
fn the_core_does_not_touch_the_world() {
    let words = [
        "web_sys",
        "js_sys",
        "wasm_bindgen",
        "Instant::now",
        "SystemTime",
        "cfg(target_arch",
        "async ",
        ".await",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "getrandom",
        "rand::",
        // Its hasher is seeded from the operating system.
        "std::collections::HashMap",
        "std::collections::HashSet",
        "RandomState",
        "println!",
        "crate::shell",
        "crate::js",
    ];
    let violations = find_in(|file| file.below(&["src/core/"]), &words);
    expect_none("src/core makes decisions only; clocks, randomness and I/O are passed in", violations);
}

/// The order of a hash map differs between runs, so it must not reach an output. A line that does not depend on the order
/// says so in a comment that starts with `// Order:`, on the line itself or just above.
#[test]
fn the_core_does_not_iterate_hash_maps() {
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| file.is(&["rs"]) && file.below(&["src/core/", "server/src/engine"])) {
        let names = hash_map_names(file);
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.code() {
            let above = number.checked_sub(2).and_then(|index| lines.get(index)).unwrap_or(&"");
            if line.contains("// Order:") || above.contains("// Order:") {
                continue;
            }
            if names.iter().any(|name| iterates(line, name)) {
                violations.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none(
        "iteration over a hash map; use a BTreeMap, sort, or add `// Order: why it does not matter`",
        violations,
    );
}

/// Names that are declared in this file with a hash map as their type: `name: HashMap<…>`.
fn hash_map_names(file: &File) -> Vec<&str> {
    file.code()
        .filter_map(|(_, line)| {
            let (name, kind) = line.split_once(": ")?;
            let kind = kind.trim_start_matches(['&', '(']).trim_start_matches("mut ");
            let is_hash = ["HashMap<", "HashSet<", "FastMap<", "FastSet<"].iter().any(|start| kind.starts_with(start));
            is_hash.then(|| name.rsplit([' ', '(', ',']).next().unwrap_or(name))
        })
        .filter(|name| !name.is_empty())
        .collect()
}

fn iterates(line: &str, name: &str) -> bool {
    let methods = [".iter(", ".iter_mut(", ".keys(", ".values(", ".values_mut(", ".into_iter(", ".drain("];
    let uses = |end: &str| {
        line.match_indices(&format!("{name}{end}"))
            .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
    };
    let in_loop = line.trim_start().starts_with("for ") && (uses(" {") && line.contains(" in "));
    in_loop || methods.iter().any(|method| uses(method))
}

#[test]
fn the_iteration_rule_sees_what_it_should() {
    let file = File {
        path: "src/core/sample.rs".to_owned(),
        text: "struct Sample {\n    pub rows: HashMap<Id, Row>,\n    order: Vec<Id>,\n}\n".to_owned(),
    };
    assert_eq!(hash_map_names(&file), ["rows"]);
    assert!(iterates("for row in self.rows.values() {", "rows"));
    assert!(iterates("for (id, row) in &self.rows {", "rows"));
    assert!(!iterates("for id in self.arrows.iter() {", "rows"));
    assert!(!iterates("if let Some(row) = self.rows.get(&id) {", "rows"));
}

#[test]
fn nothing_nearer_the_page_is_known_further_in() {
    let violations = find_in(|file| file.below(&["src/shell/"]), &["crate::js"]);
    expect_none("the shell does not know the exported classes; js → shell → core", violations);
}

#[test]
fn both_sides_of_the_boundary_count_alike() {
    let files = files();
    let file = |path: &str| files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is not here"));
    let boundary = file("sdk/src/boundary.ts");
    let pairs = [
        ("src/shell/host.rs", "enum Perform {", "const enum Perform {"),
        ("src/js/kinds.rs", "mod ask {", "const enum Ask {"),
        ("src/js/kinds.rs", "mod numbers {", "const enum Numbers {"),
        ("src/js/kinds.rs", "mod text {", "const enum Text {"),
    ];
    let differences =
        pairs.iter().filter_map(|(path, core, sdk)| first_difference((file(path), core), (boundary, sdk))).collect();
    expect_none("a number that crosses the boundary means the same on both sides", differences);
}

/// Where two lists, each in the block of a file that begins with such a line, first differ.
fn first_difference(core: (&File, &str), sdk: (&File, &str)) -> Option<String> {
    let (ours, theirs) = (numbered(core.0, core.1), numbered(sdk.0, sdk.1));
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at))?;
    let name = |names: &[String]| names.get(at).map_or("nothing".to_owned(), |name| format!("`{name}`"));
    let (ours, theirs) = (name(&ours), name(&theirs));
    Some(format!("{at} is {ours} in {} (`{}`), {theirs} in {} (`{}`)", core.0.path, core.1, sdk.0.path, sdk.1))
}

/// The names of an enum, or of constants as an enum would write them; with the number where that is not its place.
fn numbered(file: &File, start: &str) -> Vec<String> {
    let block = file.code().map(|(_, line)| line.trim()).skip_while(|line| !line.ends_with(start)).skip(1);
    let lines = block.take_while(|line| *line != "}").filter(|line| !line.is_empty() && !line.starts_with("#["));
    let names: Vec<String> = lines
        .enumerate()
        .map(|(at, line)| {
            let line = line.trim_end_matches([',', ';']);
            let Some((name, number)) = line.split_once("const ").and_then(|(_, rest)| rest.split_once(": u32 = "))
            else {
                return line.to_owned();
            };
            let name: String = name.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect();
            if number == at.to_string() { name } else { format!("{name} = {number}") }
        })
        .collect();
    assert!(!names.is_empty(), "{} has no block `{start}` with names in it", file.path);
    names
}

#[test]
fn the_rule_of_the_boundary_sees_what_it_should() {
    let file = |text: &str| File { path: "sample".to_owned(), text: text.to_owned() };
    let sdk = file("export const enum Ask {\n  /** Options. */\n  Start,\n  /**\n   * Token,\n   */\n  SetToken,\n}\n");
    let check = |core: &str, start: &str| first_difference((&file(core), start), (&sdk, "const enum Ask {"));
    assert_eq!(check("pub enum Ask {\n    Start,\n    SetToken,\n}\nenum Other {\n    Stop,\n}\n", "enum Ask {"), None);
    let consts = |[first, second]: [u32; 2]| {
        format!("mod ask {{\n    pub const START: u32 = {first};\n    const SET_TOKEN: u32 = {second};\n}}\n")
    };
    assert_eq!(check(&consts([0, 1]), "mod ask {"), None);
    assert!(check(&consts([0, 2]), "mod ask {").unwrap().starts_with("1 is `SetToken = 2` in sample"));
    assert!(check("enum Ask {\n    SetToken,\n    Start,\n}\n", "enum Ask {").unwrap().starts_with("0 is `SetToken`"));
    assert!(check("enum Ask {\n    Start,\n}\n", "enum Ask {").unwrap().starts_with("1 is nothing"));
    assert!(
        check("enum Ask {\n    Start,\n    SetToken,\n    Wake,\n}\n", "enum Ask {").unwrap().contains(", nothing in")
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let words = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("@ts-", "ignore"),
        concat!("@ts-", "nocheck"),
    ];
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| file.is_source()) {
        for (index, line) in file.text.lines().enumerate() {
            for word in words.iter().filter(|word| has_word(line, word)) {
                violations.push(format!("{}:{}: {word}", file.path, index + 1));
            }
        }
    }
    expect_none("finish it, or write an issue", violations);
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(at, _)| {
        !part_of_word(line[..at].chars().next_back()) && !part_of_word(line[at + word.len()..].chars().next())
    })
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let is_test = |file: &File| file.is_source() && (file.path.starts_with("tests/") || file.path.contains("/tests/"));
    let violations =
        find_in(is_test, &[concat!("thread::", "sleep"), concat!("time::", "sleep("), concat!("waitFor", "Timeout(")]);
    expect_none("a test waits for the event itself, never for a time", violations);
    let attributes =
        [concat!("#[ig", "nore"), concat!("#[should_", "panic"), concat!("test.", "skip("), concat!("test.", "only(")];
    expect_none("a test runs always and says what it expects", find_in(File::is_source, &attributes));
}

#[test]
fn no_machine_leaks_into_the_repository() {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/tmp/ba", "sh_jobs"),
        concat!("registry.npm", "js"),
        concat!("registry.yarn", "pkg"),
        concat!("index.cra", "tes.io"),
        concat!("static.cra", "tes.io"),
        concat!("static.rust-", "lang.org"),
        concat!("arti", "factory"),
        concat!("deb.deb", "ian.org"),
    ];
    let mut violations = Vec::new();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                violations.push(format!("{}:{}: {word}", file.path, index + 1));
            }
        }
    }
    expect_none("paths of one machine and addresses of registries do not belong in the repository", violations);
}

#[test]
fn lock_files_name_no_registry() {
    let violations = files()
        .iter()
        .filter(|file| file.path.ends_with("package-lock.json") && file.text.contains("\"resolved\""))
        .map(|file| file.path.clone())
        .collect();
    expect_none("set omit-lockfile-registry-resolved=true in your npmrc and run npm install again", violations);
}

#[test]
fn npm_versions_are_exact() {
    let files = files();
    let manifest = files.iter().find(|file| file.path == "package.json").expect("package.json is in the root");
    let json: serde_json::Value = serde_json::from_str(&manifest.text).expect("package.json is valid JSON");
    let packages = json["devDependencies"].as_object().expect("package.json has devDependencies");
    let violations = packages
        .iter()
        .filter(|(_, version)| {
            !version.as_str().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|(name, version)| format!("{name}: {version}"))
        .collect();
    expect_none("tools are pinned to one version, so that every machine builds the same", violations);
}

#[test]
fn nothing_is_kept_in_local_storage() {
    let storage = concat!("local", "Storage");
    let violations = find_in(|file| file.below(&["sdk/", "src/"]), &[storage]);
    expect_none("no localStorage: it is shared by all identities and survives purge()", violations);
}

#[test]
fn the_sdk_does_not_chatter() {
    let violations = find_in(|file| file.below(&["sdk/src/"]), &["console.log(", "console.debug(", "debugger;"]);
    expect_none("the console belongs to the application", violations);
}

#[test]
fn links_between_documents_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| file.is(&["md"])) {
        let dir = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (index, line) in file.text.lines().enumerate() {
            for target in link_targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !path.contains("://") && !root.join(dir).join(path).exists() {
                    violations.push(format!("{}:{}: {target}", file.path, index + 1));
                }
            }
        }
    }
    expect_none("the link points to no file", violations);
}

/// The targets of `[text](target)` in a line.
fn link_targets(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .filter(|target| !target.contains(' ') && !target.starts_with("mailto:"))
        .collect()
}

/// A promise whose test was renamed or removed is a promise no more.
#[test]
fn promises_have_their_tests() {
    let all = files();
    let promises = all.iter().find(|file| file.path == "docs/promises.md").expect("docs/promises.md");
    let tests: Vec<&File> = all.iter().filter(|file| file.below(&["tests/", "src/", "sim/"])).collect();
    let mut bad = Vec::new();
    for (number, line) in promises.text.lines().enumerate() {
        let Some((_, shown)) = line.strip_prefix("| ").and_then(|row| row.split_once(" | ")) else { continue };
        for name in shown.split('`').skip(1).step_by(2) {
            let is_file = all.iter().any(|file| file.path == name);
            if !is_file && !tests.iter().any(|file| file.text.contains(name)) {
                bad.push(format!("docs/promises.md:{}: nothing is called `{name}`", number + 1));
            }
        }
    }
    assert!(bad.is_empty(), "promises without a test:\n{}", bad.join("\n"));
}
