//! The values that flags take: what each kind accepts, and the reason when it does not, in the
//! words of the Go libraries that Docker uses.

use gantry_client::api::model::container::is_sysctl_of_ipc;
use gantry_client::api::model::{Reference, go};

use super::Kind;

/// Checks a value against its flag's kind.
///
/// # Errors
/// The reason, to be put behind `invalid argument … for … flag:`.
pub(crate) fn value(kind: Kind, text: &str) -> Result<(), String> {
    let quoted = |function: &str| format!("strconv.{function}: parsing {text:?}: invalid syntax");
    match kind {
        Kind::Bool => boolean(text).map(drop).ok_or_else(|| quoted("ParseBool")),
        Kind::Int => integer(text).map(drop).ok_or_else(|| quoted("ParseInt")),
        Kind::Uint16 if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) => {
            let beyond = |_| format!("strconv.ParseUint: parsing {text:?}: value out of range");
            text.parse::<u16>().map(drop).map_err(beyond)
        }
        Kind::Uint16 => Err(quoted("ParseUint")),
        Kind::SwapBytes if text == "-1" => Ok(()),
        Kind::Bytes | Kind::SwapBytes => bytes(text).map(drop),
        Kind::Duration => duration(text).map(drop).ok_or_else(|| format!("time: invalid duration {text:?}")),
        Kind::Cpus => nano_cpus(text).map(drop),
        Kind::Ulimit => ulimit(text).map(drop),
        Kind::Mount => crate::spec::mounts::parse_mount(text).map(drop),
        Kind::Network => crate::spec::network::parse_attachment(text).map(drop),
        Kind::Stream => match text.to_ascii_lowercase().as_str() {
            "stdin" | "stdout" | "stderr" => Ok(()),
            _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
        },
        Kind::Filter if !text.is_empty() && !text.contains('=') => {
            Err("bad format of filter (expected name=value)".into())
        }
        Kind::Env if text.starts_with('=') || text.is_empty() => {
            Err(format!("invalid environment variable: {text}"))
        }
        Kind::Sysctl => sysctl(text),
        Kind::Label => label(text),
        Kind::Address if text.trim().parse::<std::net::IpAddr>().is_err() => {
            Err(format!("IP address is not correctly formatted: {text}"))
        }
        Kind::Domain if !is_domain(text.trim_matches(' ')) => Err(format!("{text} is not a valid domain")),
        Kind::HostEntry => host_entry(text).map(drop),
        Kind::Link if text.is_empty() => Err("empty string specified for links".into()),
        Kind::Link if text.matches(':').count() > 1 => Err(format!("bad format for links: {text}")),
        Kind::ByteRate => rate(text, true).map(drop),
        Kind::IoRate => rate(text, false).map(drop),
        Kind::DeviceWeight => weight(text).map(drop),
        Kind::DeviceRule if !is_device_rule(text) => Err(format!("invalid device cgroup format '{text}'")),
        Kind::Gpus => gpus(text).map(drop),
        Kind::Tag => Reference::parse_normalized(text).map(drop).map_err(|why| why.to_string()),
        Kind::Text
        | Kind::List
        | Kind::Strings
        | Kind::Map
        | Kind::Filter
        | Kind::Env
        | Kind::Address
        | Kind::Domain
        | Kind::Link
        | Kind::DeviceRule => Ok(()),
    }
}

fn label(text: &str) -> Result<(), String> {
    let name = text.split('=').next().unwrap_or("").trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("label '{name}' contains whitespaces"));
    }
    Ok(())
}

/// Whether a text is a domain to search; a dot stands for none.
fn is_domain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(inner)
    };
    text == "."
        || (text.len() < 255
            && text.bytes().any(|b| b.is_ascii_alphabetic())
            && text.strip_suffix('.').unwrap_or(text).split('.').all(part))
}

/// A name and an address for `/etc/hosts`, as `name:address`.
///
/// # Errors
/// Docker's text for what has no address, or one that is none.
pub(crate) fn host_entry(text: &str) -> Result<String, String> {
    let at = text.find('=').or_else(|| text.find(':'));
    let (name, address) = at.map_or((text, ""), |at| (&text[..at], &text[at + 1..]));
    if name.is_empty() || at.is_none() {
        return Err(format!("bad format for add-host: {text:?}"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// A device's path and a rate: bytes with a unit, or a plain number.
///
/// # Errors
/// Docker's texts.
pub(crate) fn rate(text: &str, sized: bool) -> Result<(&str, i64), String> {
    let (path, number) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let rate = if sized { bytes(number).ok() } else { number.parse().ok().filter(|rate: &i64| *rate >= 0) };
    let (unit, units) =
        if sized { ("[<unit>]", ". Unit is optional and can be kb, mb, or gb") } else { ("", "") };
    rate.map(|rate| (path, rate)).ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}. Number must be a positive integer{units}"
        )
    })
}

/// A device's path and its weight, 10 to 1000, or 0.
///
/// # Errors
/// Docker's texts.
pub(crate) fn weight(text: &str) -> Result<(&str, u16), String> {
    let (path, number) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    let weight = number.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    weight.map(|weight| (path, weight)).ok_or_else(|| format!("invalid weight for device: {text}"))
}

/// `a 1:3 rwm`, with `*` for any number.
fn is_device_rule(text: &str) -> bool {
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(mode), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(kind, "a" | "b" | "c")
        && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&mode.len())
        && mode.chars().all(|letter| "rwm".contains(letter))
}

/// Graphics processors, as the fields of a device request that were given.
///
/// # Errors
/// Docker's texts.
pub(crate) fn gpus(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    for field in crate::spec::mounts::csv_fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        let (key, value) = (key.to_owned(), value.to_owned());
        match key.as_str() {
            "count" if value != "all" && value.parse::<i64>().is_err() => {
                return Err(format!(
                    "invalid count ({value}): value must be either \"all\" or an integer: invalid syntax"
                ));
            }
            "driver" | "count" | "device" | "options" | "capabilities" => fields.push((key, value)),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    Ok(fields)
}

/// Go's `strconv.ParseBool`; an absent value is false.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.is_empty() { Some(false) } else { go::parse_bool(text) }
}

/// A decimal number, or with `0x`, `0o`, `0b`.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (digits, sign) = match text.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (text.strip_prefix('+').unwrap_or(text), 1),
    };
    let magnitude = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i64::from_str_radix(octal, 8)
    } else {
        digits.parse()
    };
    magnitude.ok().filter(|_| !digits.starts_with(['-', '+'])).map(|number| number * sign)
}

/// A size such as `64m`, `1.5GiB` or `512`: powers of 1024.
///
/// # Errors
/// `invalid size: '…'`.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit()).ok_or_else(invalid)? + 1;
    let number = &text[..end];
    let number: f64 =
        number.parse().map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    let suffix = text[end..].trim_start().to_ascii_lowercase();
    let unit = suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(invalid()),
    };
    let total = number * (1_u64 << shift) as f64;
    if !(0.0..9.0e18).contains(&total) {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked above; a fraction of a byte is dropped"
    )]
    Ok(total as i64)
}

/// A Go duration in nanoseconds: `300ms`, `1.5h`, `2h45m`; nothing is 0.
pub(crate) fn duration(text: &str) -> Option<i64> {
    if text.is_empty() || text == "0" {
        return Some(0);
    }
    let (mut rest, sign) = match text.strip_prefix('-') {
        Some(rest) => (rest, -1.0),
        None => (text.strip_prefix('+').unwrap_or(text), 1.0),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked; below a nanosecond is dropped"
    )]
    (total < 9.2e18).then_some((total * sign) as i64)
}

/// A number of CPUs in billionths.
///
/// # Errors
/// Docker's text for what is no number, or too precise.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let not_a_number = || format!("failed to parse {text} as a rational number");
    let (sign, magnitude) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if let Some((numerator, denominator)) = magnitude.split_once('/') {
        let number = |part: &str| part.parse::<u32>().map(i64::from).map_err(|_| not_a_number());
        let (numerator, denominator) = (number(numerator)? * 1_000_000_000, number(denominator)?);
        return match numerator.checked_rem(denominator) {
            None => Err(not_a_number()),
            Some(0) => Ok(numerator / denominator * sign),
            Some(_) => Err("value is too precise".into()),
        };
    }
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(not_a_number());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| not_a_number())? };
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| not_a_number())?;
    let cpus = whole.checked_mul(1_000_000_000).and_then(|cpus| cpus.checked_add(nanos));
    cpus.map(|cpus| cpus * sign).ok_or_else(not_a_number)
}

/// One resource limit: name, soft and hard; -1 is no limit.
///
/// # Errors
/// Docker's text for an unknown name, a missing `=`, or soft above hard.
pub(crate) fn ulimit(text: &str) -> Result<(&str, i64, i64), String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |part: &str| {
        part.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {part:?}: invalid syntax"))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok((name, soft, hard))
}

/// Kernel settings that belong to a namespace of the container, so that setting them is safe.
fn sysctl(text: &str) -> Result<(), String> {
    let name = text.split_once('=').map(|(name, _)| name);
    match name {
        Some(name) if is_sysctl_of_ipc(name) || name.starts_with("net.") => Ok(()),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in
            [("0", 0), ("512", 512), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048), ("1 GB", 1 << 30)]
        {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "abc", "m", "1x", "-1", "1e400"] {
            assert_eq!(bytes(text), Err(format!("invalid size: '{text}'")));
        }
    }

    #[test]
    fn values_of_lists() {
        for (kind, good, bad, why) in [
            (Kind::Label, "a=b", "=x", "invalid label '=x': empty name"),
            (Kind::Label, "a", "a b=c", "label 'a b' contains whitespaces"),
            (Kind::Address, "::1", "bogus", "IP address is not correctly formatted: bogus"),
            (Kind::Domain, "a-b.example", "b_a d", "b_a d is not a valid domain"),
            (Kind::HostEntry, "a=host-gateway", "bogus", "bad format for add-host: \"bogus\""),
            (Kind::HostEntry, "a:::1", "a:bogus", "invalid IP address in add-host: \"bogus\""),
            (Kind::Link, "a:b", "a:b:c", "bad format for links: a:b:c"),
            (Kind::ByteRate, "/dev/x:1mb", "/x:1", "bad format for device path: /x:1"),
            (Kind::IoRate, "/dev/x:1", "nope", "bad format: nope"),
            (Kind::DeviceWeight, "/dev/x:500", "/dev/x:5", "invalid weight for device: /dev/x:5"),
            (Kind::DeviceRule, "c 1:* rwm", "bogus", "invalid device cgroup format 'bogus'"),
            (Kind::Gpus, "all", "bogus=x", "unexpected key 'bogus' in 'bogus=x'"),
            (Kind::Uint16, "65535", "65536", "strconv.ParseUint: parsing \"65536\": value out of range"),
            (
                Kind::Tag,
                "a:1",
                "A B",
                "invalid reference format: repository name (library/A B) must be lowercase",
            ),
        ] {
            assert_eq!(value(kind, good), Ok(()), "{kind:?} {good}");
            assert_eq!(value(kind, bad), Err(why.to_owned()), "{kind:?} {bad}");
        }
    }

    #[test]
    fn durations_and_cpus() {
        assert_eq!(duration("1m30s"), Some(90_000_000_000));
        assert_eq!(duration("1.5h"), Some(5_400_000_000_000));
        assert_eq!((duration("5"), duration("x"), duration("1y")), (None, None, None));
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("1/2"), Ok(500_000_000));
        assert_eq!(nano_cpus("1/3"), Err("value is too precise".into()));
        assert!(nano_cpus("1/0").is_err() && nano_cpus("1/x").is_err());
        assert!(nano_cpus("x").is_err() && nano_cpus("0.0000000001").is_err());
    }

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=10:20"), Ok(("nofile", 10, 20)));
        assert_eq!(ulimit("core=-1"), Ok(("core", -1, -1)));
        for bad in ["x", "x=1", "nofile=a", "nofile=20:10", "nofile=1:2:3"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }
}
