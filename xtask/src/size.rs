//! How large the package is, and whether that is within its budget.
//!
//! Counted is what a browser downloads: the wasm and the JavaScript, not the declarations, not what is for Electron
//! (`.cjs`), which no browser loads, and not what the file of the budget lists: files of their own, which a page without
//! them never loads. The benchmarks count the same. The bytes are those of the built files, after every optimisation.

use std::path::PathBuf;

use serde_json::Value;

use crate::package::{self, files_in};
use crate::process::Cmd;
use crate::repo::Repo;
use crate::{Failure, Result};

const BUDGET_FILE: &str = "xtask/size-budget.json";

/// Prints one line a file, `raw gzip brotli`. Node's zlib is at hand and saves two crates.
const MEASURE: &str = "
const zlib = require('zlib');
const { BROTLI_PARAM_QUALITY } = zlib.constants;
for (const file of process.argv.slice(1)) {
  const bytes = require('fs').readFileSync(file);
  const gzip = zlib.gzipSync(bytes, { level: 9 }).length;
  const brotli = zlib.brotliCompressSync(bytes, { params: { [BROTLI_PARAM_QUALITY]: 11 } }).length;
  console.log(`${bytes.length} ${gzip} ${brotli}`);
}
";

#[derive(Clone, Copy, Default)]
struct Size {
    raw: u64,
    gzip: u64,
    brotli: u64,
}

/// `cargo xtask size`: builds, then checks; `--functions` shows what the module consists of.
pub(crate) fn run(repo: &Repo, args: &[String]) -> Result {
    let (functions, depth) = match args {
        [] => (false, None),
        [flag] if flag == "--functions" => (true, None),
        [flag, depth] if flag == "--functions" && depth.parse::<u8>().is_ok() => (true, Some(depth)),
        _ => {
            return Err(Failure::new(format!(
                "`cargo xtask size` takes --functions with an optional depth, found `{}`",
                args.join(" ")
            )));
        }
    };
    package::build(repo)?;
    if functions {
        // Names are still there; wasm-opt takes them out and a tenth of the code with them.
        let module = repo.wasm_bindgen_out().join("ablo_wasm_bg.wasm");
        Cmd::new(repo, "node").arg("xtask/wasm-functions.mjs").arg(module).args(depth).run()?;
        println!();
    }
    check(repo)
}

/// Prints the sizes of what is in `pkg/` now; fails when the total is over budget.
pub(crate) fn check(repo: &Repo) -> Result {
    let Budget { bytes: budget, not_counted } = budget(repo)?;
    let files = shipped(repo, &not_counted);
    if files.is_empty() {
        return Err(Failure::new("pkg/ holds no built files: run `cargo xtask build`, then try again"));
    }
    let sizes = measure(repo, &files)?;
    println!("{:<28} {:>9} {:>9} {:>9}", "bytes", "raw", "gzip", "brotli");
    let mut total = Size::default();
    for (file, size) in files.iter().zip(&sizes) {
        print_row(&file.file_name().unwrap_or_default().to_string_lossy(), *size);
        total.raw += size.raw;
        total.gzip += size.gzip;
        total.brotli += size.brotli;
    }
    print_row("total", total);
    println!(
        "{:<28} {:>29}  ({} % used, {:.1} of {:.1} KB)",
        "budget",
        budget,
        total.brotli * 100 / budget,
        kilobytes(total.brotli),
        kilobytes(budget)
    );
    if total.brotli <= budget {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the package is {} bytes over its budget of {budget} (brotli): find out what grew before raising the figure \
         in {BUDGET_FILE}",
        total.brotli - budget
    )))
}

fn shipped(repo: &Repo, not_counted: &[String]) -> Vec<PathBuf> {
    let pkg = repo.path("pkg");
    let mut files = files_in(&pkg, ".wasm");
    files.extend(files_in(&pkg, ".js"));
    files.retain(|file| !not_counted.iter().any(|name| file.ends_with(name)));
    files
}

fn measure(repo: &Repo, files: &[PathBuf]) -> Result<Vec<Size>> {
    let text = Cmd::new(repo, "node")
        .args(["-e", MEASURE])
        .args(files)
        .read()
        .ok_or_else(|| Failure::new("node could not measure the files of pkg/: is node 20 or newer installed?"))?;
    let sizes: Vec<Size> = text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
            Some(Size { raw: numbers.next()?, gzip: numbers.next()?, brotli: numbers.next()? })
        })
        .collect();
    if sizes.len() == files.len() {
        Ok(sizes)
    } else {
        Err(Failure::new(format!("expected {} sizes from node, got `{text}`", files.len())))
    }
}

struct Budget {
    bytes: u64,
    not_counted: Vec<String>,
}

fn budget(repo: &Repo) -> Result<Budget> {
    let wrong = |why: &str| Failure::new(format!("{BUDGET_FILE}: {why}"));
    let json: Value = serde_json::from_str(&repo.read(BUDGET_FILE)?).map_err(|error| wrong(&error.to_string()))?;
    let bytes = json
        .get("brotli_bytes_max")
        .and_then(Value::as_u64)
        .filter(|bytes| 0 < *bytes)
        .ok_or_else(|| wrong("expected \"brotli_bytes_max\" to be a positive number of bytes"))?;
    let names = json.get("not_counted").and_then(Value::as_array).into_iter().flatten();
    let not_counted = names
        .map(|name| name.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("expected \"not_counted\" to be a list of names of files"))?;
    Ok(Budget { bytes, not_counted })
}

fn print_row(name: &str, size: Size) {
    println!("{name:<28} {:>9} {:>9} {:>9}", size.raw, size.gzip, size.brotli);
}

fn kilobytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
