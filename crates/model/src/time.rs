//! Points in time: nanoseconds since 1970 in UTC, written as RFC 3339 the way Go writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

const NANOS: i64 = 1_000_000_000;

/// A point in time: signed nanoseconds since 1970-01-01T00:00:00Z, years 1678 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps nanoseconds since 1970.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Wraps seconds since 1970; times out of range become the nearest that is in it.
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS))
    }

    /// Reads a system clock's value.
    #[must_use]
    pub fn from_system(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n)),
        }
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub fn secs(self) -> i64 {
        self.0.div_euclid(NANOS)
    }

    /// The nanoseconds beyond [`Self::secs`]: 0 to 999,999,999.
    #[must_use]
    pub fn subsec_nanos(self) -> u32 {
        u32::try_from(self.0.rem_euclid(NANOS)).expect("a remainder of a billion fits")
    }

    /// Parses RFC 3339 with any number of fractional digits and any offset.
    ///
    /// # Errors
    /// [`InvalidTime`] where it is anything else, or out of range.
    pub fn parse_rfc3339(text: &str) -> Result<Self, InvalidTime> {
        parse(text).ok_or_else(|| InvalidTime(text.into()))
    }

    /// Go's `RFC3339Nano`: trailing zeros of the fraction left out. What inspect shows.
    #[must_use]
    pub fn rfc3339_nano(self) -> String {
        let (base, nanos) = (self.civil(), self.subsec_nanos());
        if nanos == 0 {
            return format!("{base}Z");
        }
        let fraction = format!("{nanos:09}");
        format!("{base}.{}Z", fraction.trim_end_matches('0'))
    }

    /// RFC 3339 with exactly nine fractional digits. What `logs -t` shows.
    #[must_use]
    pub fn rfc3339_fixed(self) -> String {
        format!("{}.{:09}Z", self.civil(), self.subsec_nanos())
    }

    fn civil(self) -> String {
        let (days, second) = (self.secs().div_euclid(86_400), self.secs().rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_nano())
    }
}

/// Says why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: expected RFC 3339, such as 2015-05-06T07:08:09.5Z")]
pub struct InvalidTime(pub String);

/// Days since 1970 to a proleptic Gregorian date (the well-known era algorithm).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = &text[range];
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, want)| bytes[at] != want) || !b"Tt ".contains(&bytes[10]) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        nanos = format!("{:0<9}", &fraction[..digits.min(9)]).parse().ok()?;
        rest = &fraction[digits..];
    }
    let offset = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (rest[1..3].parse::<i64>().ok()?, rest[4..6].parse::<i64>().ok()?);
            (hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    let secs = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp(secs.checked_mul(NANOS)?.checked_add(nanos)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2015-05-06T07:08:09.5Z", 1_430_896_089_500_000_000),
            ("2000-02-29T23:59:59.000000001Z", 951_868_799_000_000_001),
            ("1969-12-31T23:59:59.999999999Z", -1),
        ] {
            let time = Timestamp::parse_rfc3339(text).expect(text);
            assert_eq!(time.nanos(), nanos, "{text}");
            assert_eq!(time.rfc3339_nano(), text);
        }
        let offset = Timestamp::parse_rfc3339("2015-05-06T09:08:09.5+02:00").expect("an offset");
        assert_eq!(offset.rfc3339_fixed(), "2015-05-06T07:08:09.500000000Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "2015-05-06",
            "2015-13-06T07:08:09Z",
            "2015-05-06T07:08:09",
            "2015-05-06T07:08:09.Z",
            "2015-05-06T07:08:09+2:00",
            "9999-05-06T07:08:09Z",
            "２015-05-06T07:08:09Z",
        ] {
            assert!(Timestamp::parse_rfc3339(bad).is_err(), "{bad:?} was taken");
        }
    }
}
