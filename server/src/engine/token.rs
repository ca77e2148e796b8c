//! Keys as text (protocol.md 3.2), and the randomness they are made of.
//!
//! The generator is SHA-256 over a secret seed and a counter: replayable in a simulation, unguessable when the seed comes
//! from the operating system.

use sha2::{Digest, Sha256};

use super::participant::Text;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters in a key.
const RANDOM_LEN: usize = 30;
/// Checksum characters after them.
const CHECKSUM_LEN: usize = 6;

/// All randomness of an engine.
#[derive(Debug)]
pub(super) struct Random {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let mut hasher = Sha256::new();
            hasher.update(self.seed);
            hasher.update(self.counter.to_be_bytes());
            self.block = hasher.finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Base-62 text of the given length.
    pub(super) fn base62(&mut self, len: usize) -> String {
        let mut out = String::with_capacity(len);
        while out.len() < len {
            // 248 is the largest multiple of 62 in a byte: the rest would favour some letters.
            let byte = self.byte();
            if byte < 248 {
                out.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
        out
    }

    /// A fresh id in the form of a version 4 UUID.
    pub(super) fn uuid(&mut self) -> String {
        let mut out = String::with_capacity(36);
        for at in 0..16 {
            let byte = match at {
                6 => self.byte() & 0x0f | 0x40,
                8 => self.byte() & 0x3f | 0x80,
                _ => self.byte(),
            };
            if matches!(at, 4 | 6 | 8 | 10) {
                out.push('-');
            }
            out.push_str(&format!("{byte:02x}"));
        }
        out
    }

    /// A new key: `prefix` is `ek`, `rk` and so on, `environment` `live` or `test`.
    pub(super) fn key(&mut self, prefix: &str, environment: &str) -> String {
        let head = format!("{prefix}_{environment}_{}", self.base62(RANDOM_LEN));
        let sum = checksum(&head);
        head + &sum
    }
}

/// The environment of a key: minted keys stay in that of the key they come from.
pub(super) fn environment(token: &str) -> &'static str {
    if token.split('_').nth(1) == Some("live") { "live" } else { "test" }
}

/// SHA-256 of a key in lower-case hexadecimal: the only form in which keys are kept.
pub(super) fn hash(token: &str) -> Text {
    hex(&Sha256::digest(token.as_bytes()).into()).into()
}

/// Bytes in lower-case hexadecimal.
fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a key is one that could have been issued: a body of 36 base-62 characters carries its checksum; any other is a
/// legacy key, valid by look-up only.
pub(super) fn is_well_formed(token: &str) -> bool {
    let Some((_, body)) = token.split_once('_').and_then(|(_, rest)| rest.split_once('_')) else { return true };
    let full = body.len() == RANDOM_LEN + CHECKSUM_LEN && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !full {
        return true;
    }
    let (head, sum) = token.split_at(token.len() - CHECKSUM_LEN);
    checksum(head) == sum
}

/// CRC-32 in base 62, six characters.
fn checksum(text: &str) -> String {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_keys_have_the_form_of_the_protocol() {
        let mut random = Random::new([7; 32]);
        let key = random.key("ek", "test");
        assert!(key.starts_with("ek_test_") && key.len() == 8 + 36, "{key}");
        assert!(is_well_formed(&key));
        let mut broken = key.clone();
        broken.replace_range(8..9, if key.as_bytes()[8] == b'A' { "B" } else { "A" });
        assert!(!is_well_formed(&broken));
        assert!(is_well_formed("ek_test_demo") && is_well_formed("anything"));
        assert_ne!(key, random.key("ek", "test"));
        assert_eq!(key, Random::new([7; 32]).key("ek", "test"));
    }

    #[test]
    fn the_checksum_is_the_known_crc() {
        // The CRC-32 of "123456789" is 0xCBF43926 = 3421780262.
        let mut rest = 3_421_780_262_u64;
        let mut expected = Vec::new();
        while expected.len() < 6 {
            expected.push(ALPHABET[(rest % 62) as usize]);
            rest /= 62;
        }
        expected.reverse();
        assert_eq!(checksum("123456789").into_bytes(), expected);
    }

    #[test]
    fn uuids_look_like_uuids() {
        let id = Random::new([1; 32]).uuid();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
    }
}
