//! `EXPOSE`: port specifications.

use gantry_model::image::{Empty, KeySet};

/// More than every port of a protocol is a mistake, or an attack.
const MAX_PORTS: usize = 65_536;

/// Adds the ports of one specification, `80`, `80/udp` or `8000-8010/tcp`, as `80/tcp` and so on.
///
/// # Errors
/// The classic builder's text.
pub(super) fn add_ports(specification: &str, ports: &mut KeySet) -> Result<(), String> {
    let (range, protocol) = match specification.split_once('/') {
        Some((range, "")) => (range, "tcp"),
        Some((range, protocol)) => (range, protocol),
        None => (specification, "tcp"),
    };
    let protocol = protocol.to_ascii_lowercase();
    // An address or a host port before the port is allowed and ignored, as Docker does.
    let range = range.rsplit(':').next().unwrap_or(range);
    let invalid = || format!("Invalid containerPort: {range}");
    if range.is_empty() {
        return Err(format!("No port specified: {specification}<empty>"));
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(invalid());
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    for port in first..=last {
        ports.insert(format!("{port}/{protocol}"), Empty {});
        if ports.len() > 3 * MAX_PORTS {
            return Err(invalid());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(specification: &str, expected: Result<&[&str], &str>) {
        let mut ports = KeySet::new();
        let result = add_ports(specification, &mut ports);
        let names: Vec<&str> = ports.keys().map(String::as_str).collect();
        match (result, expected) {
            (Ok(()), Ok(expected)) => assert_eq!(names, expected, "{specification}"),
            (Err(text), Err(expected)) => assert_eq!(text, expected, "{specification}"),
            (result, expected) => panic!("{specification}: {result:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        check("80", Ok(&["80/tcp"]));
        check("90/UDP", Ok(&["90/udp"]));
        check("1-3/sctp", Ok(&["1/sctp", "2/sctp", "3/sctp"]));
        check("abc", Err("Invalid containerPort: abc"));
        check("99999", Err("Invalid containerPort: 99999"));
        check("3-1", Err("Invalid containerPort: 3-1"));
        check("80/foo", Err("Invalid proto: foo"));
    }
}
