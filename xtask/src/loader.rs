//! What is changed in the JavaScript that wasm-bindgen wrote to load the module: a shorter way to load, a faster way in
//! for long texts, and news of a panic.
//!
//! A panic of the module is a trap, which JavaScript sees as an error thrown by the call that led to it: a call of the
//! SDK or an event of the page. So every function of the module is called through one that tells first.

use crate::{Failure, Result};

const EXPORTS: &str = "wasm = instance.exports;";
const GUARDED: &str = "wasm = guarded(instance.exports);";

/// From here on wasm-bindgen's own ways to load, of which the SDK needs one.
const LOADING: &str = "async function __wbg_load(";

/// How wasm-bindgen copies a text into the module: character by character as long as they are ASCII.
const COPYING: &str = "function passStringToWasm0(";
/// What it adds for browsers that are older than WebAssembly with bulk memory.
const OLD_ENCODER: &str = "if (!('encodeInto' in cachedTextEncoder)) {";
/// Where either ends.
const END: &str = "\n}\n";

/// The browser encodes into as many bytes as there are characters; only what does not fit, since some take more, is given
/// the room of three each. Asking it costs as much as some hundred characters, so short texts are copied here.
const COPIED: &str = r"
function passStringToWasm0(text, malloc, realloc) {
  let room = text.length;
  let at = malloc(room, 1) >>> 0;
  let read = 0;
  if (room < 100) {
    const memory = getUint8ArrayMemory0();
    for (let code; read < room && (code = text.charCodeAt(read)) < 128; read += 1) memory[at + read] = code;
  }
  let done = read;
  while (read < text.length) {
    const step = cachedTextEncoder.encodeInto(text.slice(read), getUint8ArrayMemory0().subarray(at + done, at + room));
    read += step.read;
    done += step.written;
    if (read < text.length) at = realloc(at, room, (room = done + (text.length - read) * 3), 1) >>> 0;
  }
  WASM_VECTOR_LEN = done;
  return done < room ? realloc(at, room, done, 1) >>> 0 : at;
}
";

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
    for part in [EXPORTS, LOADING, COPYING, OLD_ENCODER] {
        if js.matches(part).count() != 1 {
            return Err(Failure::new(format!(
                "the loader that wasm-bindgen wrote has no `{part}`, or several: look how it does that now, and change \
                 xtask/src/loader.rs"
            )));
        }
    }
    let own = js.split(LOADING).next().unwrap_or_default();
    let own = without(&without(own, COPYING), OLD_ENCODER).replace(EXPORTS, GUARDED);
    Ok((own + COPIED + ADDED, format!("{declarations}{DECLARATION}")))
}

/// The text without the block that begins like this.
fn without(js: &str, begin: &str) -> String {
    let Some((before, rest)) = js.split_once(begin) else { return js.to_owned() };
    let (_, after) = rest.split_once(END).unwrap_or((rest, ""));
    before.to_owned() + after
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

    /// Copies texts into a memory whose blocks are never where they were, and reads them back.
    const COPY_PROGRAM: &str = r"
import assert from 'node:assert/strict';
const cachedTextEncoder = new TextEncoder();
let WASM_VECTOR_LEN = 0;
const memory = new Uint8Array(4096);
const getUint8ArrayMemory0 = () => memory;
let next = 0;
const malloc = (size) => (next += 512);
const realloc = (at, from, to) => {
  assert.ok(at === next && to <= 512);
  const moved = malloc(to);
  memory.copyWithin(moved, at, at + Math.min(from, to));
  memory.fill(0, at, at + from);
  return moved;
};
for (const text of ['', 'plain', 'é', 'plain and é', '\u{1f600}x\u{1f600}', 'ab\ud800', '\udc00ab', '€'.repeat(100), 'x'.repeat(200) + 'é']) {
  next = 0;
  const at = passStringToWasm0(text, malloc, realloc);
  assert.equal(new TextDecoder().decode(memory.subarray(at, at + WASM_VECTOR_LEN)), text.toWellFormed());
}
";

    #[test]
    fn texts_are_copied_whole_whatever_their_characters_take() {
        let program = format!("{COPIED}{COPY_PROGRAM}");
        let out = Command::new("node").args(["--input-type=module", "-e", &program]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    const OTHERS: &str = "let wasm;\nwasm = instance.exports;\nfunction passStringToWasm0(arg) {\n  slow\n}\nkept;\n\
                          if (!('encodeInto' in cachedTextEncoder)) {\n  outdated;\n}\nkept;\n\
                          async function __wbg_load(module) {}\nexport { initSync };";

    #[test]
    fn exports_are_guarded() {
        let (js, types) = rewrite(OTHERS, "export class Core {}").unwrap();
        assert!(js.contains(GUARDED) && !js.contains(EXPORTS) && js.contains("export function onPanic("));
        assert!(js.contains("export default") && !js.contains("initSync"));
        assert!(!js.contains("slow") && !js.contains("outdated;") && js.matches("kept;").count() == 2);
        assert!(types.contains("Core") && types.contains("onPanic"));
    }

    #[test]
    fn a_loader_of_another_shape_is_refused() {
        assert!(rewrite("wasm = exports;", "").is_err());
    }
}
