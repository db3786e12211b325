//! Points in time as parameters give them: seconds since 1970 with a fraction, RFC 3339, a date, or a Go
//! duration before now.

use gantry_model::Timestamp;

/// Reads a time; empty and `0` are none.
pub(crate) fn parse(text: &str, now: Timestamp) -> Option<Option<Timestamp>> {
    if text.is_empty() || text == "0" {
        return Some(None);
    }
    let found = unix(text)
        .or_else(|| duration(text).map(|nanos| Timestamp::from_nanos(now.nanos().saturating_sub(nanos))))
        .or_else(|| Timestamp::parse_rfc3339(text).ok())
        .or_else(|| date(text))?;
    Some(Some(found))
}

/// What is said about a time that is none.
pub(crate) fn refusal(text: &str) -> String {
    format!("strconv.ParseInt: parsing {text:?}: invalid syntax")
}

/// `1700000000.000000001`: the fraction is nanoseconds however many digits there are.
fn unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    // What is farther away than can be told is as far as can be told.
    Some(Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

/// `2015-05-06` and `2015-05-06T07:08:09`, in UTC.
fn date(text: &str) -> Option<Timestamp> {
    let full = if text.contains('T') { format!("{text}Z") } else { format!("{text}T00:00:00Z") };
    Timestamp::parse_rfc3339(&full).ok()
}

/// Go's `1h30m`, `1.5s`, `10ms`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(number_len);
        let unit_len = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_len);
        let scale: i64 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        total = total.checked_add(whole.parse::<i64>().ok()?.checked_mul(scale)?)?;
        let mut part = scale;
        for digit in fraction.chars() {
            part /= 10;
            total = total.checked_add(i64::from(digit.to_digit(10)?) * part)?;
        }
        rest = next;
    }
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_time_are_read() {
        let now = Timestamp::from_secs(1_700_000_000);
        for (text, want) in [
            ("1699999999", 1_699_999_999_000_000_000),
            ("1699999999.5", 1_699_999_999_500_000_000),
            ("1699999999.000000001", 1_699_999_999_000_000_001),
            ("10m", 1_699_999_400_000_000_000),
            ("1h30m", 1_699_994_600_000_000_000),
            ("1.5s", 1_699_999_998_500_000_000),
            ("2015-05-06T07:08:09Z", 1_430_896_089_000_000_000),
            ("2015-05-06T07:08:09", 1_430_896_089_000_000_000),
            ("2015-05-06", 1_430_870_400_000_000_000),
            ("32472144000.000000000", i64::MAX),
        ] {
            assert_eq!(parse(text, now), Some(Some(Timestamp::from_nanos(want))), "{text}");
        }
        assert_eq!(parse("", now), Some(None));
        assert_eq!(parse("0", now), Some(None));
        for bad in ["x", "1x", "-", ".", "1.2.3", "h"] {
            assert_eq!(parse(bad, now), None, "{bad:?}");
        }
    }
}
