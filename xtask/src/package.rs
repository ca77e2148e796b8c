//! Builds the npm package: everything in `pkg/` but its package.json and README, which are kept by hand.
//!
//! ```text
//! cargo build ─► wasm-bindgen ─► wasm-opt, order ───────► pkg/ablo_wasm_bg.wasm
//!                     │ target/wasm-bindgen/ablo_wasm.js, .d.ts
//!                     └─► esbuild, terser (sdk/src) ─────► pkg/*.js, pkg/*.cjs
//!                     └─► tsc (sdk/src) ─────────────────► pkg/types/
//! ```
//!
//! The SDK imports the core as `ablo-core`, which exists only here: an alias for what wasm-bindgen wrote.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::loader;
use crate::names;
use crate::order;
use crate::process::{Cmd, note, timed};
use crate::repo::{Repo, files_below};
use crate::setup::{self, Tool, WasmCompiler};
use crate::stamp::{Inputs, create_dir, lock, unless_fresh};
use crate::{Failure, Result};

/// Cargo's profile for what ships, in the root manifest.
const PROFILE: &str = "wasm";
/// Size before speed; the figures behind it are in docs/decisions/. `-O3` is the other end.
const WASM_OPT_LEVEL: &str = "-Oz";
/// What rustc enables by default for wasm32-unknown-unknown. wasm-opt must be told, or it refuses the module.
const WASM_OPT_FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];
/// Sections that no browser reads.
const WASM_OPT_STRIP: &[&str] = &["--strip-debug", "--strip-producers", "--strip-target-features"];
/// Repeats the passes until nothing gets smaller.
///
/// Functions with a single caller stay functions unless they are tiny: the module gets longer, but packs better.
const WASM_OPT_REPEAT: &[&str] = &[
    "--flatten",
    "--rereloop",
    "-Oz",
    "--converge",
    // Which functions change nothing that others see: calls of them no longer stand in the way.
    "--generate-global-effects",
    "-Oz",
    "--one-caller-inline-max-function-size=20",
    // The stack is first in memory and grows down: its last kilobyte holds nothing that an offset could reach.
    "--low-memory-unused",
    "--dealign",
    "--skip-pass=local-cse",
    "--skip-pass=simplify-locals",
];
/// The standard library is built with the module, small first as well.
const STD: &[&str] = &["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"];
/// A panic is a trap: no texts, no places and no formatting of what is never seen (docs/decisions/size.md). `loader`
/// reports it.
const PANIC: &[&str] = &["-Zunstable-options", "-Cpanic=immediate-abort", "-Zlocation-detail=none", "-Zfmt-debug=none"];
/// Small functions become part of their callers before LLVM sees them, which at this level it does to hardly any.
const INLINE: &[&str] = &["-Zinline-mir=yes", "-Zinline-mir-threshold=15", "-Zinline-mir-hint-threshold=15"];
/// Addresses in loops are left as they are written: what LLVM makes of them is longer, and browsers do it again. Nor are
/// loads moved to where only some ways need them.
const LOOPS: &[&str] = &["-Cllvm-args=-disable-lsr", "-Cllvm-args=-enable-load-pre=false"];
/// The entry that the others import from.
const MAIN_ENTRY: &str = "index.js";
/// Entries that the main one loads when it needs them.
const LOADED_LATER: &[&str] = &["http.js", "watch.js", "encryption.js"];
/// Kinds of entry points, by their ends: modules for browsers, CommonJS for Electron, whose sandboxed preload scripts are
/// nothing else.
const ENTRY_ENDS: [(&str, &str); 2] = [(".js", "esm"), (".cjs", "cjs")];
/// Language level of the shipped JavaScript.
const JS_TARGET: &str = "es2022";

/// Fails when the module imports from "env": the sign of code that expects an operating system or C.
const CHECK_IMPORTS: &str = "
const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));
const strays = WebAssembly.Module.imports(module).filter((entry) => entry.module === 'env');
for (const entry of strays) console.error(`imports ${entry.kind} \"${entry.name}\" from \"env\"`);
process.exit(strays.length === 0 ? 0 : 1);
";

/// Builds the whole package.
pub(crate) fn build(repo: &Repo) -> Result {
    setup::ensure(repo, &[Tool::WasmTarget, Tool::WasmBindgen, Tool::NodePackages])?;
    // Two builds at once would put each other's files together.
    let _alone = lock(repo, "package")?;
    build_wasm(repo)?;
    build_sdk(repo)
}

fn build_wasm(repo: &Repo) -> Result {
    let linked = compile(repo)?;
    let out = repo.wasm_bindgen_out();
    let bound = out.join("ablo_wasm_bg.wasm");
    let outputs = [bound.clone(), out.join("ablo_wasm.js"), out.join("ablo_wasm.d.ts")];
    // The root manifest pins the version of wasm-bindgen, so it decides the output too.
    let inputs = Inputs::new("wasm-bindgen web, short names, own loading, own copying")
        .file(&linked)
        .file(&repo.path("Cargo.toml"));
    report("wasm-bindgen", unless_fresh(repo, "wasm-bindgen", &inputs, &outputs, || bind(repo, &linked, &out))?);

    let pkg = repo.path("pkg");
    let shipped = pkg.join("ablo_wasm_bg.wasm");
    let flags = [&[WASM_OPT_LEVEL], WASM_OPT_REPEAT, WASM_OPT_FEATURES, WASM_OPT_STRIP].concat();
    let inputs = Inputs::new(&format!("{}, order, stack IR", flags.join(" ")))
        .file(&bound)
        .file(&repo.path("package-lock.json"));
    let ran = unless_fresh(repo, "wasm-opt", &inputs, std::slice::from_ref(&shipped), || {
        timed(&format!("wasm-opt {WASM_OPT_LEVEL}"), || {
            create_dir(&pkg)?;
            let sorted = out.join("sorted.wasm");
            Cmd::new(repo, "wasm-opt").args(&flags).arg(&bound).arg("-o").arg(&sorted).run()?;
            let named = order::name_functions(&read(&sorted)?)?;
            write(&sorted, &named)?;
            let flags =
                [WASM_OPT_FEATURES, WASM_OPT_STRIP, &["--reorder-functions-by-name", "--optimize-stack-ir"]].concat();
            Cmd::new(repo, "wasm-opt").args(&flags).arg(&sorted).arg("-o").arg(&shipped).run()
        })
    })?;
    report("wasm-opt", ran);
    Ok(())
}

/// Where cargo puts the linked module.
fn compile(repo: &Repo) -> Result<PathBuf> {
    let compiler = WasmCompiler::find(repo)
        .ok_or_else(|| Failure::new("no compiler for wasm32: run `cargo xtask setup`, then try again"))?;
    timed("cargo build (wasm32)", || {
        Cmd::new(repo, "cargo")
            .args(["build", "--quiet", "--profile", PROFILE, "--target", "wasm32-unknown-unknown"])
            .args(STD)
            .args(["--package", "ablo-wasm", "--lib"])
            .envs(&compiler.env())
            // The flags of STD, PANIC and INLINE are not stable yet.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", [PANIC, INLINE, LOOPS].concat().join("\x1f"))
            .run()
    })?;
    Ok(repo.cargo_target().join("wasm32-unknown-unknown").join(PROFILE).join("ablo_wasm.wasm"))
}

fn bind(repo: &Repo, linked: &Path, out: &Path) -> Result {
    timed("wasm-bindgen", || {
        Cmd::new(repo, "node").args(["-e", CHECK_IMPORTS]).arg(linked).run().map_err(|failure| {
            Failure::new(format!(
                "{failure}\n{} must not import from \"env\": some crate in it is not made for browsers; \
                 `cargo tree --target wasm32-unknown-unknown` shows who brought it",
                linked.display()
            ))
        })?;
        create_dir(out)?;
        Cmd::new(repo, "wasm-bindgen").args(["--target", "web", "--out-dir"]).arg(out).arg(linked).run()?;
        let (module, loader) = (out.join("ablo_wasm_bg.wasm"), out.join("ablo_wasm.js"));
        let types = out.join("ablo_wasm.d.ts");
        let (wasm, js) = names::shorten(&read(&module)?, &text(&loader)?)?;
        let (js, declarations) = loader::rewrite(&js, &text(&types)?)?;
        write(&module, &wasm)?;
        write(&loader, js.as_bytes())?;
        write(&types, declarations.as_bytes())
    })
}

fn build_sdk(repo: &Repo) -> Result {
    let manifest = Manifest::read(repo)?;
    let pkg = repo.path("pkg");
    let core = repo.wasm_bindgen_out();
    let mut sources = files_below(&repo.path("sdk"));
    sources.extend(["pkg/package.json", "package-lock.json"].map(|file| repo.path(file)));
    // The SDK sees the core through these two; the wasm itself is only fetched when it runs.
    sources.extend(["ablo_wasm.js", "ablo_wasm.d.ts"].map(|file| core.join(file)));

    let outputs: Vec<PathBuf> = manifest.entries.iter().map(|entry| pkg.join(entry)).collect();
    let inputs = Inputs::new(&format!("esbuild {JS_TARGET}, one by one, {:?}", manifest.external)).files(&sources);
    let ran = unless_fresh(repo, "esbuild", &inputs, &outputs, || {
        timed("esbuild and terser (SDK)", || bundle(repo, &manifest))
    })?;
    report("esbuild", ran);

    let types = pkg.join("types");
    let inputs = Inputs::new("tsc, .d.cts beside .cjs").files(&sources);
    let ran = unless_fresh(repo, "tsc", &inputs, std::slice::from_ref(&types), || {
        timed("tsc (declarations)", || {
            // Declarations of removed files must not stay in the package.
            let _ = fs::remove_dir_all(&types);
            Cmd::new(repo, "tsc")
                .args(["-p", "sdk", "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir"])
                .arg(&types)
                .run()?;
            // By its end the compiler of the user knows what `require` and `import` make of the file that it describes.
            for entry in manifest.entries.iter().filter_map(|entry| entry.strip_suffix(".cjs")) {
                let (from, to) = (types.join(format!("{entry}.d.ts")), types.join(format!("{entry}.d.cts")));
                fs::rename(&from, &to)
                    .map_err(|error| Failure::new(format!("cannot rename {}: {error}", from.display())))?;
            }
            Ok(())
        })
    })?;
    report("tsc", ran);
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

fn write(path: &Path, bytes: &[u8]) -> Result {
    fs::write(path, bytes).map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

const TERSER: [&str; 5] = ["--module", "--compress=passes=2", "--mangle", "--ecma=2022", "--output"];

fn bundle(repo: &Repo, manifest: &Manifest) -> Result {
    let (pkg, core) = (repo.path("pkg"), repo.wasm_bindgen_out().join("ablo_wasm.js"));
    // Those of entries that are gone must not stay in the package.
    for file in ENTRY_ENDS.iter().flat_map(|(end, _)| files_in(&pkg, end)) {
        fs::remove_file(&file).map_err(|error| Failure::new(format!("cannot remove {}: {error}", file.display())))?;
    }
    for entry in &manifest.entries {
        let (name, end, format) = split_entry(entry).expect("only files with these ends are entries");
        let mut esbuild = Cmd::new(repo, esbuild_program(repo)).arg(entry_source(repo, name, entry)?);
        // The main entry has all that entries share: one file packs better than pieces. What it loads later stays apart.
        let apart = if entry == MAIN_ENTRY { LOADED_LATER } else { &[MAIN_ENTRY] };
        esbuild = esbuild.args(apart.iter().map(|file| format!("--external:*/{file}")));
        if format == "cjs" {
            // With this, a note of the names that are exported is left for those who `import` them.
            esbuild = esbuild.arg("--platform=node");
        }
        esbuild
            .args(["--bundle", "--minify", "--log-level=warning", &format!("--target={JS_TARGET}")])
            .args([format!("--format={format}"), format!("--out-extension:.js={end}")])
            .arg(format!("--alias:ablo-core={}", core.display()))
            .args(manifest.external.iter().map(|name| format!("--external:{name}")))
            .arg(format!("--outdir={}", pkg.display()))
            .run()?;
        if format == "esm" {
            // It sees more that nobody uses, and what can be said in fewer words. In the others that would be the note.
            let file = pkg.join(entry);
            Cmd::new(repo, "terser").arg(&file).args(TERSER).arg(&file).run()?;
        }
    }
    Ok(())
}

/// The program itself where we know its place: the script in front of it buries errors under a stack trace of its own.
fn esbuild_program(repo: &Repo) -> PathBuf {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let program = repo.path(&format!("node_modules/@esbuild/{os}-{cpu}/bin/esbuild"));
    if program.is_file() { program } else { PathBuf::from("esbuild") }
}

/// Name, end and format of an entry point.
fn split_entry(entry: &str) -> Option<(&str, &'static str, &'static str)> {
    ENTRY_ENDS.iter().find_map(|(end, format)| Some((entry.strip_suffix(end)?, *end, *format)))
}

fn entry_source(repo: &Repo, name: &str, entry: &str) -> Result<PathBuf> {
    let candidates = ["ts", "tsx"].map(|extension| repo.path(&format!("sdk/src/{name}.{extension}")));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(format!(
            "pkg/package.json exports ./{entry}, but there is no sdk/src/{name}.ts or .tsx to build it from: add the \
             file or remove the export"
        ))
    })
}

/// What the hand-kept manifest of the package says about the build.
struct Manifest {
    /// Files of the entry points: `index.js` for `./index.js`.
    entries: Vec<String>,
    /// Packages that the user brings.
    external: Vec<String>,
}

impl Manifest {
    fn read(repo: &Repo) -> Result<Self> {
        let text = repo.read("pkg/package.json")?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("pkg/package.json is not valid JSON: {error}")))?;
        let mut entries = Vec::new();
        if let Some(exports) = json.get("exports") {
            collect_entries(exports, &mut entries);
        }
        entries.sort();
        entries.dedup();
        if entries.is_empty() {
            return Err(Failure::new("pkg/package.json exports no .js file, expected at least ./index.js"));
        }
        let external = ["dependencies", "peerDependencies"]
            .iter()
            .filter_map(|key| json.get(key)?.as_object())
            .flat_map(|packages| packages.keys().cloned())
            // `react` does not cover `react/jsx-runtime`.
            .flat_map(|name| [format!("{name}/*"), name])
            .collect();
        Ok(Self { entries, external })
    }
}

/// Collects `index.js` from every `"./index.js"` under any condition.
fn collect_entries(exports: &Value, entries: &mut Vec<String>) {
    match exports {
        Value::String(path) => {
            if let Some(entry) = path.strip_prefix("./").filter(|path| split_entry(path).is_some()) {
                entries.push(entry.to_owned());
            }
        }
        Value::Object(conditions) => conditions.values().for_each(|value| collect_entries(value, entries)),
        Value::Array(alternatives) => alternatives.iter().for_each(|value| collect_entries(value, entries)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The files directly in `dir` whose names end in `suffix`, sorted.
pub(crate) fn files_in(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

fn report(step: &str, ran: bool) {
    if !ran {
        note(&format!("{step}: up to date"));
    }
}

#[cfg(test)]
mod tests {
    use super::collect_entries;

    #[test]
    fn entries_are_found_under_conditions_and_other_files_are_left_alone() {
        let exports = serde_json::json!({
            ".": { "types": "./types/index.d.ts", "import": "./index.js" },
            "./react": { "types": "./types/react.d.ts", "default": "./react.js" },
            "./electron": { "types": "./types/electron.d.cts", "default": "./electron.cjs" },
            "./ablo_wasm_bg.wasm": "./ablo_wasm_bg.wasm",
            "./package.json": "./package.json",
        });
        let mut entries = Vec::new();
        collect_entries(&exports, &mut entries);
        assert_eq!(entries, ["index.js", "react.js", "electron.cjs"]);
    }
}
