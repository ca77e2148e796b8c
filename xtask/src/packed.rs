//! The package test: packs `pkg/` as npm would publish it and uses it as an application does.
//!
//! It finds what tests inside the repository cannot: a file that `files` forgets, an export that points nowhere, a
//! declaration that imports something only this repository has, a wasm file that a bundler does not pick up, an import
//! that needs a browser before anything was called. The application is generated from the exports, so that a new entry
//! point is covered the day it appears.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::package::files_in;
use crate::process::{Cmd, announce};
use crate::repo::{Repo, files_below};
use crate::stamp::{create_dir, write};
use crate::{Failure, Result};

/// What may be in the package, by the ends of names. Sources and test files do not belong there.
const SHIPPED: &[&str] =
    &[".js", ".cjs", ".wasm", ".d.ts", ".d.cts", "/package.json", "/README.md", "/LICENSE", "/CHANGELOG.md"];

/// `skipLibCheck` is off: the declarations are what is tested. `types` is empty, as in a plain web application.
const TSCONFIG: &str = r#"{
  "compilerOptions": {
    "target": "es2022",
    "lib": ["es2022", "dom", "dom.iterable", "esnext.disposable"],
    "strict": true,
    "skipLibCheck": false,
    "types": [],
    "noEmit": true
  },
  "include": ["*.ts", "*.cts"]
}
"#;

const PAGE: &str = "<!doctype html>\n<script type=\"module\" src=\"/main.ts\"></script>\n";

/// In the place of Electron, which brings its own module: what a preload script may `require`.
const ELECTRON: &str = "exports.ipcRenderer = { on() {} };\n";

/// Packs the package that is in `pkg/` and tries it.
pub(crate) fn check(repo: &Repo) -> Result {
    let dir = repo.scratch().join("packed");
    let app = dir.join("app");
    let _ = fs::remove_dir_all(&dir);
    let installed = app.join("node_modules/ablo-wasm");
    create_dir(&installed)?;

    announce("packing and unpacking (npm pack)");
    unpack(repo, &dir, &installed)?;
    check_files(&installed)?;
    let entries = check_exports(&installed)?;

    let (shell, page): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.is_commonjs);
    write(&app.join("main.ts"), &application(&page))?;
    // A main process is written as either.
    write(&app.join("shell.ts"), &application(&shell))?;
    write(&app.join("shell.cts"), &application(&shell))?;
    write(&app.join("index.html"), PAGE)?;
    write(&app.join("tsconfig.json"), TSCONFIG)?;
    // A module type is needed for nodenext; without a name of its own the application would be part of ours.
    write(&app.join("package.json"), "{ \"name\": \"app\", \"private\": true, \"type\": \"module\" }\n")?;
    for resolution in [["esnext", "bundler"], ["nodenext", "nodenext"]] {
        let [module, resolution] = resolution;
        announce(&format!("tsc, module resolution {resolution}"));
        Cmd::new(repo, "tsc")
            .args(["-p", "."])
            .args(["--module", module, "--moduleResolution", resolution])
            .dir(&app)
            .run()?;
    }

    announce("vite build");
    Cmd::new(repo, "vite").args(["build", "--logLevel", "warn", "--assetsInlineLimit", "0"]).dir(&app).run()?;
    if files_in(&app.join("dist/assets"), ".wasm").is_empty() {
        return Err(Failure::new(
            "the application built by Vite has no .wasm file: the package must name it as \
             `new URL('ablo_wasm_bg.wasm', import.meta.url)`, in one expression",
        ));
    }

    announce("importing every entry in node, as a server-side renderer and Electron do");
    let electron = app.join("node_modules/electron");
    create_dir(&electron)?;
    write(&electron.join("index.js"), ELECTRON)?;
    let imports: Vec<String> =
        page.iter().chain(&shell).map(|entry| format!("await import('{}');", entry.import)).collect();
    Cmd::new(repo, "node").args(["--input-type=module", "-e", &imports.join("\n")]).dir(&app).run()?;
    let requires: Vec<String> = shell.iter().map(|entry| format!("require('{}');", entry.import)).collect();
    Cmd::new(repo, "node").args(["--input-type=commonjs", "-e", &requires.join("\n")]).dir(&app).run()
}

/// An entry point of the package.
struct Entry {
    /// What to import: `ablo-wasm`, `ablo-wasm/react`, …
    import: String,
    /// For Electron, not for pages.
    is_commonjs: bool,
}

fn unpack(repo: &Repo, dir: &Path, installed: &Path) -> Result {
    Cmd::new(repo, "npm")
        .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(dir)
        .dir(&repo.path("pkg"))
        .quiet()
        .run()?;
    let tarballs = files_in(dir, ".tgz");
    let [tarball] = tarballs.as_slice() else {
        return Err(Failure::new(format!("expected npm pack to write one .tgz, found {}", tarballs.len())));
    };
    Cmd::new(repo, "tar").arg("-xzf").arg(tarball).args(["--strip-components=1", "-C"]).arg(installed).run()
}

fn check_files(installed: &Path) -> Result {
    let strays: Vec<String> = files_below(installed)
        .iter()
        .map(|file| file.display().to_string())
        .filter(|file| !SHIPPED.iter().any(|end| file.ends_with(end)))
        .collect();
    if strays.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the package contains files that no user needs: {}", strays.join(", "))))
}

/// Every path under `exports` must be in the package.
fn check_exports(installed: &Path) -> Result<Vec<Entry>> {
    let manifest = installed.join("package.json");
    let json: Value = fs::read_to_string(&manifest)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .ok_or_else(|| Failure::new(format!("{} is missing or not valid JSON", manifest.display())))?;
    let mut entries = Vec::new();
    let mut missing = Vec::new();
    for (key, target) in json.get("exports").and_then(Value::as_object).into_iter().flatten() {
        let mut paths = Vec::new();
        paths_of(target, &mut paths);
        missing.extend(paths.iter().filter(|path| !installed.join(path).is_file()).cloned());
        let has = |end: &str| paths.iter().any(|path| path.extension().is_some_and(|extension| extension == end));
        if has("js") || has("cjs") {
            let import = format!("ablo-wasm{}", key.trim_start_matches('.'));
            entries.push(Entry { import, is_commonjs: !has("js") });
        }
    }
    if missing.is_empty() {
        return Ok(entries);
    }
    let missing: Vec<String> = missing.iter().map(|path| path.display().to_string()).collect();
    Err(Failure::new(format!(
        "pkg/package.json exports files that are not in the packed package: {}; build them and list them under \"files\"",
        missing.join(", ")
    )))
}

fn paths_of(target: &Value, paths: &mut Vec<PathBuf>) {
    match target {
        Value::String(path) => paths.push(PathBuf::from(path.trim_start_matches("./"))),
        Value::Object(conditions) => conditions.values().for_each(|value| paths_of(value, paths)),
        Value::Array(alternatives) => alternatives.iter().for_each(|value| paths_of(value, paths)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An application that imports everything and uses it in a way no bundler can remove.
fn application(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (index, Entry { import, .. }) in entries.iter().enumerate() {
        let _ = writeln!(text, "import * as entry{index} from '{import}';");
    }
    let names: Vec<String> = (0..entries.len()).map(|index| format!("entry{index}")).collect();
    let _ = writeln!(text, "Object.assign(globalThis, {{ loaded: [{}] }});", names.join(", "));
    text
}
