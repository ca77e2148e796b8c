//! A small seeded hash of ids. Not a defence against a server that wants collisions: it could as well send garbage.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of an id: eight bytes at a time, each folded in with a multiplication.
pub(super) fn hash_id(seed: u64, id: &str) -> u32 {
    let bytes = id.as_bytes();
    let mut state = seed ^ (bytes.len() as u64);
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        state = mix(state ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    let tail = rest.iter().fold(0_u64, |word, &byte| (word << 8) | u64::from(byte));
    let state = mix(mix(state ^ tail));
    (state >> 32) as u32
}

/// The hash that the table of ids works with. It takes its bits from both ends.
pub(super) fn spread(hash: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(hash)
}

/// Hash of one word.
pub(super) fn hash_word(word: u64) -> u64 {
    mix(mix(word))
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(MULTIPLIER);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_ids_spread() {
        let mut buckets = [0_u32; 256];
        for number in 0..25_600_u32 {
            buckets[(hash_id(7, &format!("task_{number}")) & 255) as usize] += 1;
        }
        let worst = buckets.iter().max().unwrap();
        assert!(*worst < 160, "{worst} of 100 expected");
        assert_ne!(hash_id(1, "a"), hash_id(2, "a"));
        assert_ne!(hash_id(1, "a"), hash_id(1, "a\0"));
    }
}
