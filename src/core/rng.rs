//! The engine's only source of randomness: one generator, seeded from outside, so that a run replays exactly.

/// A small fast generator (SplitMix64 over a 128-bit seed). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    stream: u64,
}

impl Rng {
    /// Starts from a seed. Keys must be unique between clients, so the shell passes 128 random bits.
    pub fn new(seed: u128) -> Self {
        Self { state: seed as u64, stream: (seed >> 64) as u64 | 1 }
    }

    /// What comes from now on depends on `text` too.
    pub fn stir(&mut self, text: &str) {
        for byte in text.bytes() {
            self.stream ^= u64::from(byte);
            self.next_u64();
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state ^ self.stream.rotate_left(32);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.stream = self.stream.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        word ^ (word >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// A version 4 UUID (RFC 9562).
    pub fn uuid(&mut self) -> String {
        let bits = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let mut out = String::with_capacity(36);
        for place in (0..32).rev() {
            out.push(char::from_digit(((bits >> (place * 4)) & 0xf) as u32, 16).unwrap_or('0'));
            if matches!(place, 24 | 20 | 16 | 12) {
                out.push('-');
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_texts_make_the_same_numbers() {
        let stirred = |texts: &[&str]| {
            let mut rng = Rng::new(0);
            texts.iter().for_each(|text| rng.stir(text));
            rng.uuid()
        };
        assert_eq!(stirred(&["tx_1", "tx_2"]), stirred(&["tx_1", "tx_2"]));
        let texts: [&[&str]; 5] = [&[], &["tx_1"], &["tx_2"], &["tx_2", "tx_1"], &["tx_1", "tx_2"]];
        let different: std::collections::BTreeSet<String> = texts.into_iter().map(stirred).collect();
        assert_eq!(different.len(), texts.len());
    }

    #[test]
    fn uuids_have_their_form_and_do_not_repeat() {
        let mut rng = Rng::new(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let id = rng.uuid();
            assert_eq!(id.len(), 36);
            assert_eq!(&id[14..15], "4");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
            assert!(seen.insert(id));
        }
    }
}
