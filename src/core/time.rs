//! Time as the engine sees it: an argument, never a clock.

/// A moment on the monotonic clock, in milliseconds since some fixed point. Deadlines use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The moment `ms` milliseconds later.
    #[must_use]
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 when it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment on the wall clock, in milliseconds since the Unix epoch. Stamps that people see use it; it may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

impl WallTime {
    /// How many milliseconds from this moment to the one that an ISO 8601 text in UTC names. `None` if that is not later, or
    /// more than a month, or no such text.
    ///
    /// ```
    /// use ablo_wasm::core::time::WallTime;
    ///
    /// assert_eq!(WallTime(1_782_900_000_000).until_iso("2026-07-01T10:15:00.000Z"), Some(900_000));
    /// assert_eq!(WallTime(1_782_900_000_000).until_iso("tomorrow"), None);
    /// ```
    pub fn until_iso(self, text: &str) -> Option<u64> {
        // The order of such texts is the order in time, so the bits of the answer are found one after another.
        let mut ms = 0;
        for bit in (0..32).rev() {
            let more = ms + (1 << bit);
            if Self(self.0 + more).to_iso().as_str() <= text {
                ms = more;
            }
        }
        Some(ms).filter(|ms| *ms > 0 && *ms < u64::from(u32::MAX))
    }

    /// The moment as ISO 8601 in UTC with milliseconds, the form of `createdAt` and `updatedAt`.
    ///
    /// ```
    /// use ablo_wasm::core::time::WallTime;
    ///
    /// assert_eq!(WallTime(1_782_900_000_000).to_iso(), "2026-07-01T10:00:00.000Z");
    /// ```
    pub fn to_iso(self) -> String {
        let days = self.0 / 86_400_000;
        let ms = self.0 % 86_400_000;
        // Days to civil date, after Howard Hinnant's `civil_from_days`, for days since 1970-01-01.
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let mut out = String::with_capacity(24);
        let mut part = |number: u64, width: u32, end: char| {
            for place in (0..width).rev() {
                out.push(char::from(b'0' + ((number / 10_u64.pow(place)) % 10) as u8));
            }
            out.push(end);
        };
        part(year, 4, '-');
        part(month, 2, '-');
        part(day, 2, 'T');
        part(ms / 3_600_000, 2, ':');
        part(ms / 60_000 % 60, 2, ':');
        part(ms / 1000 % 60, 2, '.');
        part(ms % 1000, 3, 'Z');
        out
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The wall clock.
    pub wall: WallTime,
}

impl Now {
    /// Both clocks at once, in milliseconds.
    pub fn new(mono_ms: u64, wall_ms: u64) -> Self {
        Self { mono: Instant(mono_ms), wall: WallTime(wall_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_stamps() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_740_787_199_999, "2025-02-28T23:59:59.999Z"),
            (1_835_417_784_007, "2028-02-29T06:16:24.007Z"),
        ] {
            assert_eq!(WallTime(ms).to_iso(), text);
        }
    }
}
