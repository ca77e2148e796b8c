//! What happened, as a hash for comparing runs and as lines for reading them.

use std::collections::VecDeque;

use ablo_wasm::core::output::Output;
use ablo_wasm::core::store::{StoreChange, StoreRequest};

/// An output as a line: records as text.
pub(crate) fn describe(output: &Output) -> String {
    let Output::Store(task, database, StoreRequest::Write { changes, strict }) = output else {
        return format!("{output:?}");
    };
    let mut line = format!("Store({}, {database:?}, write, strict {strict}", task.0);
    for change in changes {
        match change {
            StoreChange::Put { key, value, .. } => {
                line.push_str(&format!(", put {key} {:.3000}", String::from_utf8_lossy(value)));
            }
            StoreChange::Remove { from, to, .. } => line.push_str(&format!(", remove {from:?}..{to:?}")),
        }
    }
    line.push(')');
    line
}

/// Lines kept for the report of a failure.
pub(crate) const LINES_MAX: usize = 200;

/// A running hash (FNV-1a over words). Not for secrets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(crate) fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Hash,
    lines: Option<VecDeque<String>>,
    /// Print lines as they come.
    loud: bool,
}

impl Trace {
    /// A trace that keeps its last lines, or prints all of them.
    pub(crate) fn new(keep: bool, loud: bool) -> Self {
        Self { hash: Hash::default(), lines: (keep || loud).then(VecDeque::new), loud }
    }

    /// Something happened: `word` and `text` go into the hash, the line is written only when somebody reads it.
    pub(crate) fn note(&mut self, word: u64, text: &str, line: impl FnOnce() -> String) {
        self.hash.word(word);
        self.hash.text(text);
        let Some(lines) = &mut self.lines else { return };
        let line = line();
        if self.loud {
            println!("{line}");
        }
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.value()
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}
