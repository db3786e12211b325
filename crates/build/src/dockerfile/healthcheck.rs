//! `HEALTHCHECK`: its flags, Go's durations, and Go's way to print the value in the history.

use gantry_model::image::Healthcheck;

/// Parses a duration as Go does: `1h2m3.5s`, with an optional sign; nanoseconds.
///
/// # Errors
/// Go's text.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1f64,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if total > 9e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let nanos = total as i64;
    Ok(if negative { -nanos } else { nanos })
}

/// Prints a duration as Go does: `1m30s`, `500ms`, `0s`.
pub(super) fn print_duration(nanos: i64) -> String {
    let fraction = |whole: i64, part: i64, digits: usize| {
        if part == 0 {
            return whole.to_string();
        }
        format!("{whole}.{}", format!("{part:0digits$}").trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".into(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", fraction(n / 1_000, n % 1_000, 3)),
        n if n < 1_000_000_000 => format!("{}ms", fraction(n / 1_000_000, n % 1_000_000, 6)),
        n => {
            let (secs, part) = (n / 1_000_000_000, n % 1_000_000_000);
            let (hours, minutes) = (secs / 3600, secs / 60 % 60);
            let seconds = fraction(secs % 60, part, 9);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// Go's `%v` of the value, as the classic builder writes it into the history.
pub(super) fn print_healthcheck(check: &Healthcheck) -> String {
    format!(
        "&{{[{}] {} {} {} {} {}}}",
        check.test.join(" "),
        print_duration(check.interval_ns),
        print_duration(check.timeout_ns),
        print_duration(check.start_period_ns),
        print_duration(check.start_interval_ns),
        check.retries
    )
}

/// Reads the flags of `HEALTHCHECK CMD` into `check`.
///
/// # Errors
/// The classic builder's text, without the line.
pub(super) fn read_flags(flags: &[(String, String)], check: &mut Healthcheck) -> Result<(), String> {
    for (name, value) in flags {
        if name == "retries" {
            let retries: i64 = if value.is_empty() {
                0
            } else {
                value.parse().map_err(|_| format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))?
            };
            if retries < 0 {
                return Err(format!("--retries cannot be negative ({retries})"));
            }
            check.retries = retries;
            continue;
        }
        let nanos = if value.is_empty() { 0 } else { parse_duration(value)? };
        if nanos != 0 && nanos < 1_000_000 {
            return Err(format!("Interval {name:?} cannot be less than 1ms"));
        }
        match name.as_str() {
            "interval" => check.interval_ns = nanos,
            "timeout" => check.timeout_ns = nanos,
            "start-period" => check.start_period_ns = nanos,
            _ => check.start_interval_ns = nanos,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos, printed) in [
            ("5s", 5_000_000_000, "5s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("500ms", 500_000_000, "500ms"),
            ("1500us", 1_500_000, "1.5ms"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(print_duration(nanos), printed);
        }
        assert_eq!(parse_duration("1"), Err("time: missing unit in duration \"1\"".into()));
        assert_eq!(parse_duration("1x"), Err("time: unknown unit \"x\" in duration \"1x\"".into()));
        for bad in ["", "s", "-", "1.1.1s", "99999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was taken");
        }
    }
}
