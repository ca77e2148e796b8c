//! Short names for what a module imports and exports.
//!
//! wasm-bindgen names each import after what it does, with a hash of sixteen digits; the module and the JavaScript that
//! loads it both carry these names, and random digits do not compress.

use crate::Result;
use crate::module::{EXPORTS, HEADER, IMPORTS, Input, broken, write_name, write_number, write_section};

/// Read by tools that weigh a page.
const KEPT: &str = "memory";

/// The module and its loader with short names.
pub(crate) fn shorten(wasm: &[u8], js: &str) -> Result<(Vec<u8>, String)> {
    let mut out = wasm.get(..HEADER).ok_or_else(|| broken("no header"))?.to_vec();
    let mut js = js.to_owned();
    let mut input = Input { bytes: wasm, at: HEADER };
    while input.at < wasm.len() {
        let id = input.byte()?;
        let len = input.number()?;
        let body = input.take(len)?;
        let body = match id {
            IMPORTS => rename(body, true, &mut js)?,
            EXPORTS => rename(body, false, &mut js)?,
            _ => body.to_vec(),
        };
        write_section(&mut out, id, &body);
    }
    Ok((out, js))
}

/// Renames the entries of an import or export section, in the loader too.
fn rename(section: &[u8], imports: bool, js: &mut String) -> Result<Vec<u8>> {
    let mut input = Input { bytes: section, at: 0 };
    let mut out = Vec::new();
    let count = input.number()?;
    write_number(&mut out, count);
    for index in 0..count {
        if imports {
            let module = input.name()?;
            write_name(&mut out, module);
        }
        let name = input.name()?;
        let short = if name == KEPT { name.to_owned() } else { short_name(index) };
        let found = if imports { replace(js, "", name, &short) } else { replace(js, "wasm.", name, &short) };
        // Exports that the loader never uses keep their names: somebody else must.
        write_name(&mut out, if found { &short } else { name });
        if imports && !found {
            return Err(broken(&format!("the loader does not provide `{name}`")));
        }
        let kind = input.byte()?;
        if imports && kind != 0 {
            return Err(broken(&format!("`{name}` is no function")));
        }
        out.push(kind);
        write_number(&mut out, input.number()?);
    }
    Ok(out)
}

/// Replaces `name` behind `prefix` wherever it stands as a whole word; whether it did anywhere.
fn replace(js: &mut String, prefix: &str, name: &str, short: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '$';
    let wanted = format!("{prefix}{name}");
    let mut out = String::with_capacity(js.len());
    let mut rest = js.as_str();
    let mut found = false;
    while let Some(at) = rest.find(&wanted) {
        let (before, after) = (&rest[..at], &rest[at + wanted.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        out.push_str(before);
        out.push_str(if whole { prefix } else { &wanted });
        if whole {
            out.push_str(short);
        }
        found |= whole;
        rest = after;
    }
    out.push_str(rest);
    *js = out;
    found
}

/// `a` … `z`, `aa`, `ab` …
fn short_name(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.insert(0, char::from(b'a' + (index % 26) as u8));
        if index < 26 {
            return letters.into_iter().collect();
        }
        index = index / 26 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that imports `m.__wbg_now_1` and `m.__wbg_now_12` and exports `memory` and `core_new`.
    fn module() -> Vec<u8> {
        let mut imports = vec![2];
        let mut exports = vec![2];
        for name in ["__wbg_now_1", "__wbg_now_12"] {
            write_name(&mut imports, "m");
            write_name(&mut imports, name);
            imports.extend([0, 0]);
        }
        for (name, kind) in [("memory", 2), ("core_new", 0)] {
            write_name(&mut exports, name);
            exports.extend([kind, 0]);
        }
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        for (id, body) in [(IMPORTS, imports), (EXPORTS, exports)] {
            write_section(&mut out, id, &body);
        }
        out
    }

    #[test]
    fn both_sides_get_the_same_names() {
        let js = "x = { __wbg_now_1: f, __wbg_now_12: g }; wasm.core_new(wasm.memory); core_new";
        let (wasm, js) = shorten(&module(), js).unwrap();
        assert_eq!(js, "x = { a: f, b: g }; wasm.b(wasm.memory); core_new");
        let (again, same) = shorten(&wasm, &js).unwrap();
        assert_eq!((again, same), (wasm, js));
    }

    #[test]
    fn a_loader_that_lacks_an_import_is_refused() {
        assert!(shorten(&module(), "").is_err());
        assert!(shorten(&module()[..20], "__wbg_now_1 __wbg_now_12").is_err());
    }

    #[test]
    fn names_go_on_after_z() {
        assert_eq!([0, 25, 26, 27, 701, 702].map(short_name), ["a", "z", "aa", "ab", "zz", "aaa"]);
    }
}
