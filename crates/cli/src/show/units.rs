//! Sizes and ages as Docker words them.

/// A size with powers of 1000 and three digits: `1.98MB`, as image sizes are shown.
pub(crate) fn human_size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// The same with four digits, as a build context's size is shown.
pub(crate) fn human_size4(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 4)
}

/// A size with powers of 1024 and four digits: `23.54GiB`.
pub(crate) fn binary_size(bytes: i64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

fn scaled(bytes: i64, base: f64, units: &[&str], digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    format!("{}{}", significant(number, digits), units[unit])
}

/// Go's `%.Ng`: so many significant digits, without trailing zeros.
fn significant(number: f64, digits: usize) -> String {
    let mut whole_digits = 1;
    while number >= 10_f64.powi(whole_digits) {
        whole_digits += 1;
    }
    let places = digits.saturating_sub(usize::try_from(whole_digits).unwrap_or(1));
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span of whole seconds in words: `About a minute`, `5 hours`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Seconds since 1970 by this machine's clock.
pub(crate) fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// How long ago a time was, with the word.
pub(crate) fn ago(seconds: i64) -> String {
    format!("{} ago", human_duration(now().saturating_sub(seconds)))
}

/// Year, month, day, hour, minute, second of a time in UTC.
pub(crate) fn civil(seconds: i64) -> [i64; 6] {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    [year + era * 400 + i64::from(month <= 2), month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

/// Go's default form of a time: `2026-11-21 11:39:40 +0000 UTC`.
pub(crate) fn go_time(seconds: i64) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// RFC 3339 with nine digits of the second's fraction, as `events` shows it.
pub(crate) fn rfc3339_nano(nanos: i64) -> String {
    let [year, month, day, hour, minute, second] = civil(nanos.div_euclid(1_000_000_000));
    let fraction = nanos.rem_euclid(1_000_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Seconds since 1970 of an RFC 3339 text and what follows the seconds; `None` where it is none.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = match text.len() {
        10 => (0, 0, 0),
        _ => (number(11, 13)?, number(14, 16)?, number(17, 19).unwrap_or(0)),
    };
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let of_era = shifted_year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let zone = text.get(19..).map_or(0, |rest| {
        let rest = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let sign = if rest.starts_with('-') { 1 } else { -1 };
        match (
            rest.get(1..3).and_then(|h| h.parse::<i64>().ok()),
            rest.get(4..6).and_then(|m| m.parse::<i64>().ok()),
        ) {
            (Some(hours), Some(minutes)) => sign * (hours * 3600 + minutes * 60),
            _ => 0,
        }
    });
    Some(days * 86_400 + hour * 3600 + minute * 60 + second + zone)
}

/// A `--since` or `--until` as the API takes it: seconds since 1970 with a fraction if there is one.
/// Takes a time, seconds since 1970, or a duration back from now.
///
/// # Errors
/// Docker's text for anything else.
pub(crate) fn timestamp(text: &str) -> Result<String, String> {
    // Not a duration without a unit, but the beginning of time.
    if text == "0" {
        return Ok(text.to_owned());
    }
    if let Some(back) = crate::flags::check::duration(text).filter(|_| !text.is_empty()) {
        let nanos =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let at = i64::try_from(nanos).unwrap_or(i64::MAX).saturating_sub(back);
        return Ok(format!("{}.{:09}", at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000)));
    }
    if text.contains('-') {
        let seconds =
            parse_time(text).ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))?;
        let fraction: String = text
            .get(19..)
            .and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_digit)
            .take(9)
            .collect();
        return Ok(format!("{seconds}.{fraction:0<9}"));
    }
    let valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("failed to parse value as time or duration: {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1_982_528, "1.98MB", "1.891MiB"),
            (125_000_000, "125MB", "119.2MiB"),
            (25_276_502_016, "25.3GB", "23.54GiB"),
            (2_048, "2.05kB", "2KiB"),
        ] {
            assert_eq!((human_size(bytes).as_str(), binary_size(bytes).as_str()), (decimal, binary));
        }
        assert_eq!(human_size4(2_048), "2.048kB");
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (125, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
            (90 * 86_400, "3 months"),
            (1000 * 86_400, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn times() {
        assert_eq!(go_time(1_795_261_180), "2026-11-21 11:39:40 +0000 UTC");
        assert_eq!(parse_time("2026-11-21T11:39:40.5Z"), Some(1_795_261_180));
        assert_eq!(parse_time("2026-11-21T12:39:40+01:00"), Some(1_795_261_180));
        assert_eq!(timestamp("2026-11-21T11:39:40.5Z").as_deref(), Ok("1795261180.500000000"));
        assert_eq!(timestamp("12").as_deref(), Ok("12"));
        assert!(timestamp("x").is_err() && timestamp("2026-x").is_err());
    }
}
