//! What is changed in the JavaScript that wasm-bindgen wrote to load the module: a shorter way to load, and news of a
//! panic.
//!
//! A panic of the module is a trap, which JavaScript sees as an error thrown by the call that led to it: a call of the
//! SDK or an event of the page. So every function of the module is called through one that tells first.

use crate::{Failure, Result};

const EXPORTS: &str = "wasm = instance.exports;";
const GUARDED: &str = "wasm = guarded(instance.exports);";

/// From here on wasm-bindgen's own ways to load, of which the SDK needs one.
const LOADING: &str = "async function __wbg_load(";

const ADDED: &str = r"
export default async function init({ module_or_path: source }) {
  const imports = __wbg_get_imports();
  const given = await (typeof source === 'string' || source instanceof URL ? fetch(source) : source);
  let made;
  if (!(given instanceof Response)) made = await WebAssembly.instantiate(given, imports);
  else if (!given.ok) throw new Error(`${given.status} for ${given.url}`);
  // Browsers refuse to compile while it arrives what is served under another type.
  else if (given.headers.get('Content-Type') !== 'application/wasm')
    made = await WebAssembly.instantiate(await given.arrayBuffer(), imports);
  else made = await WebAssembly.instantiateStreaming(given, imports);
  __wbg_finalize_init(made.instance ?? made);
}
let told;
export function onPanic(callback) {
  told = callback;
}
function guarded(exports) {
  const out = { ...exports };
  for (const name in out) {
    const call = out[name];
    if (typeof call !== 'function') continue;
    out[name] = (...args) => {
      try {
        return call(...args);
      } catch (error) {
        if (error instanceof WebAssembly.RuntimeError) {
          told?.(error);
          told = undefined;
        }
        throw error;
      }
    };
  }
  return out;
}
";

const DECLARATION: &str = "
/** Calls back once, when the module has panicked. */
export function onPanic(callback: (error: Error) => void): void;
";

/// The loader with one way to load in place of its own, guarded exports and `onPanic`; its declarations with `onPanic`.
pub(crate) fn rewrite(js: &str, declarations: &str) -> Result<(String, String)> {
    for part in [EXPORTS, LOADING] {
        if js.matches(part).count() != 1 {
            return Err(Failure::new(format!(
                "the loader that wasm-bindgen wrote has no `{part}`: look how it loads the module now, and change \
                 xtask/src/loader.rs"
            )));
        }
    }
    let own = js.split(LOADING).next().unwrap_or_default();
    Ok((own.replace(EXPORTS, GUARDED) + ADDED, format!("{declarations}{DECLARATION}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Calls a function that traps, one that does not, and the first again, in a module of 46 bytes.
    const PROGRAM: &str = r"
import assert from 'node:assert/strict';
const bytes = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 8, 2, 96, 0, 0, 96, 0, 1, 127, 3, 3, 2, 0, 1, 7, 9, 2, 1, 97, 0, 0, 1, 98, 0, 1,
  10, 10, 2, 3, 0, 0, 11, 4, 0, 65, 7, 11,
]);
const { instance } = await WebAssembly.instantiate(bytes);
const seen = [];
onPanic((error) => seen.push(error));
const { a, b } = guarded(instance.exports);
assert.equal(b(), 7);
assert.equal(seen.length, 0);
assert.throws(() => a(), WebAssembly.RuntimeError);
assert.throws(() => a(), WebAssembly.RuntimeError);
assert.equal(seen.length, 1);
assert.ok(seen[0] instanceof WebAssembly.RuntimeError);
";

    #[test]
    fn a_trap_is_told_once_and_thrown_on() {
        let program = format!("{ADDED}{PROGRAM}");
        let out = Command::new("node").args(["--input-type=module", "-e", &program]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    const OTHERS: &str =
        "let wasm;\nwasm = instance.exports;\nasync function __wbg_load(module) {}\nexport { initSync };";

    #[test]
    fn exports_are_guarded() {
        let (js, types) = rewrite(OTHERS, "export class Core {}").unwrap();
        assert!(js.contains(GUARDED) && !js.contains(EXPORTS) && js.contains("export function onPanic("));
        assert!(js.contains("export default") && !js.contains("initSync"));
        assert!(types.contains("Core") && types.contains("onPanic"));
    }

    #[test]
    fn a_loader_of_another_shape_is_refused() {
        assert!(rewrite("wasm = exports;", "").is_err());
    }
}
