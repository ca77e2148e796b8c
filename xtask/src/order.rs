//! The order of a module's functions: similar ones side by side, which packs better.
//!
//! A compressor points back to what it has seen before, and near is cheaper than far. Behind each function comes the one
//! that has most runs of bytes in common with it, rare runs counting more. wasm-opt moves the functions; here they get
//! names by which it sorts them.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::module::{CODE, CUSTOM, HEADER, IMPORTS, Input, broken, write_name, write_number, write_section};

/// Length of the runs of bytes that are compared: an instruction or two.
const RUN: usize = 4;
/// The subsection of functions' names.
const FUNCTIONS: u8 = 1;

/// The module with names for its functions; sorted by them, similar ones are neighbours.
pub(crate) fn name_functions(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut input = Input { bytes: wasm, at: HEADER };
    let mut imported = 0;
    let mut bodies = Vec::new();
    while input.at < wasm.len() {
        let id = input.byte()?;
        let len = input.number()?;
        let mut section = Input { bytes: input.take(len)?, at: 0 };
        match id {
            IMPORTS => imported = section.number()?,
            CODE => {
                for _ in 0..section.number()? {
                    let len = section.number()?;
                    bodies.push(section.take(len)?);
                }
            }
            _ => {}
        }
    }
    if bodies.is_empty() {
        return Err(broken("it has no functions"));
    }
    let mut names = vec![String::new(); bodies.len()];
    for (place, function) in chain(&bodies).into_iter().enumerate() {
        names[function] = format!("{place:05}");
    }
    let mut map = Vec::new();
    write_number(&mut map, names.len());
    for (at, name) in names.iter().enumerate() {
        write_number(&mut map, imported + at);
        write_name(&mut map, name);
    }
    let mut section = Vec::new();
    write_name(&mut section, "name");
    write_section(&mut section, FUNCTIONS, &map);
    let mut out = wasm.to_vec();
    write_section(&mut out, CUSTOM, &section);
    Ok(out)
}

/// All functions, each followed by the one of the rest that is most like it.
fn chain(bodies: &[&[u8]]) -> Vec<usize> {
    let runs: Vec<HashSet<&[u8]>> = bodies.iter().map(|body| body.windows(RUN).collect()).collect();
    let mut users: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (function, runs) in runs.iter().enumerate() {
        for run in runs {
            users.entry(run).or_default().push(function);
        }
    }
    let mut left: Vec<usize> = (1..bodies.len()).collect();
    let mut order = vec![0];
    let mut last = 0;
    while !left.is_empty() {
        // Whole numbers: sums of fractions would depend on the order of a hash table.
        let mut shared = vec![0_u64; bodies.len()];
        for run in &runs[last] {
            let users = &users[run];
            let weight = 1_000_000 / u64::from(users.len().ilog2() + 1);
            for user in users {
                shared[*user] += weight;
            }
        }
        let likeness =
            |function: usize| shared[function] / ((runs[function].len() + runs[last].len()).isqrt() as u64 + 1);
        let mut best = 0;
        for at in 1..left.len() {
            if likeness(left[at]) > likeness(left[best]) {
                best = at;
            }
        }
        last = left.remove(best);
        order.push(last);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_functions_become_neighbours() {
        let bodies: [&[u8]; 5] = [b"abcdefgh", b"123456789", b"abcdefgg", b"xyzxyzxyz", b"012345678"];
        assert_eq!(chain(&bodies), [0, 2, 1, 4, 3]);
    }

    #[test]
    fn every_function_gets_a_name() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        write_section(&mut module, CODE, &[2, 2, 0, 11, 3, 0, 1, 11]);
        let named = name_functions(&module).unwrap();
        assert!(named.starts_with(&module));
        assert!(named.ends_with(b"\x04name\x01\x0f\x02\x00\x0500000\x01\x0500001"));
        assert!(name_functions(&module[..12]).is_err());
        assert!(name_functions(&module[..8]).is_err());
    }
}
