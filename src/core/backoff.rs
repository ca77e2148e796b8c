//! Pauses between attempts.

use super::rng::Rng;

/// First pause after a failed attempt.
pub const BACKOFF_BASE_MS: u64 = 500;
/// Longest pause between attempts.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// Pauses vary by this share either way, so that clients do not return in step.
pub const BACKOFF_JITTER_PERCENT: u64 = 15;

/// The pause before attempt number `attempt`, counted from 0.
pub fn backoff(attempt: u32, rng: &mut Rng) -> u64 {
    let nominal = BACKOFF_BASE_MS.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX_MS);
    let spread = nominal * BACKOFF_JITTER_PERCENT / 100;
    nominal - spread + rng.below(2 * spread + 1)
}
