//! `-p` and `--expose`: `[address:][host[-end]:]container[-end][/protocol]`.

use serde_json::{Map, Value, json};

/// What `-p` and `--expose` together come to.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// `Config.ExposedPorts`.
    pub(crate) exposed: Map<String, Value>,
    /// `HostConfig.PortBindings`.
    pub(crate) bindings: Map<String, Value>,
}

impl Ports {
    /// Adds a `-p`.
    ///
    /// # Errors
    /// Docker's text, whole.
    pub(crate) fn publish(&mut self, spec: &str) -> Result<(), String> {
        if spec.contains('=') {
            return self.publish(&short(spec)?);
        }
        let (address, host, container) = split(spec)?;
        // What stands behind a second slash nobody looks at, as in Docker.
        let mut parts = container.split('/');
        let (container, protocol) = (parts.next().unwrap_or(""), parts.next().unwrap_or("tcp"));
        let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
        if container.is_empty() {
            return Err(format!("no port specified: {spec}<empty>"));
        }
        let (start, end) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
        let host_range = match host {
            "" => None,
            text => Some(range(text).ok_or_else(|| format!("invalid hostPort: {text}"))?),
        };
        if let Some((host_start, host_end)) = host_range
            && end - start != host_end - host_start
            && end != start
        {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(format!("invalid proto: {protocol}"));
        }
        for offset in 0..=end - start {
            let host_port = match host_range {
                None => String::new(),
                Some((first, last)) if start == end && first != last => format!("{first}-{last}"),
                Some((first, _)) => (first + offset).to_string(),
            };
            let key = format!("{}/{protocol}", start + offset);
            self.exposed.insert(key.clone(), json!({}));
            let list = self.bindings.entry(key).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!({"HostIp": address, "HostPort": host_port}));
            }
        }
        Ok(())
    }

    /// Adds an `--expose`.
    ///
    /// # Errors
    /// Docker's text, whole.
    pub(crate) fn expose(&mut self, spec: &str) -> Result<(), String> {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
        let (start, end) = range(ports).ok_or_else(|| {
            format!("invalid range format for --expose: {spec}, error: {}", why_no_range(ports))
        })?;
        for port in start..=end {
            self.exposed.insert(format!("{port}/{}", protocol.to_ascii_lowercase()), json!({}));
        }
        Ok(())
    }
}

/// The short form of a long one: `target=80,published=8080,protocol=udp,mode=host`. As in Docker, what else it says
/// is not looked at.
fn short(spec: &str) -> Result<String, String> {
    let mut fields = std::collections::BTreeMap::from([("protocol", "tcp")]);
    for field in spec.split(',') {
        match field.split_once('=') {
            Some((key, value)) if !key.is_empty() => drop(fields.insert(key, value)),
            _ => {
                let text = format!("invalid publish opts format (should be name=value but got '{field}')");
                return Err(text);
            }
        }
    }
    let of = |key: &str| fields.get(key).copied().unwrap_or("");
    Ok(format!("{}:{}/{}", of("published"), of("target"), of("protocol")))
}

/// Address, host part and container part of a spec; what is missing is empty.
fn split(spec: &str) -> Result<(String, &str, &str), String> {
    let invalid = |address: &str| format!("invalid IP address: {address}");
    let half = || {
        let cut = spec.rsplitn(3, ':').nth(2).unwrap_or(spec);
        format!("invalid IP address {cut}: address {cut}:: missing ']' in address")
    };
    if let Some(rest) = spec.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(half)?;
        let rest = rest.strip_prefix(':').ok_or_else(|| invalid(spec))?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid(address))?;
        // Docker cuts at the last two colons, so that one port alone leaves half an address.
        let (host, container) = rest.split_once(':').ok_or_else(half)?;
        return Ok((address.to_owned(), host, container));
    }
    let parts: Vec<&str> = spec.rsplitn(3, ':').collect();
    match parts[..] {
        [container] => Ok((String::new(), "", container)),
        [container, host] => Ok((String::new(), host, container)),
        [container, host, address] => {
            if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
                return Err(invalid(address));
            }
            Ok((address.to_owned(), host, container))
        }
        _ => Err(invalid(spec)),
    }
}

/// Go's reason why a text is no port, and no range of ports.
fn why_no_range(text: &str) -> String {
    if text.is_empty() {
        return "empty string specified for ports".into();
    }
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    for part in [start, end] {
        if part.parse::<u16>().is_err() {
            let digits = !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
            let why = if digits { "value out of range" } else { "invalid syntax" };
            return format!("strconv.ParseUint: parsing {part:?}: {why}");
        }
    }
    format!("invalid range specified for port: {text}")
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(spec: &str) -> Result<Value, String> {
        let mut ports = Ports::default();
        ports.publish(spec)?;
        Ok(Value::Object(ports.bindings))
    }

    #[test]
    fn publications() {
        for (spec, want) in [
            ("80", json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]})),
            ("8080:80/udp", json!({"80/udp": [{"HostIp": "", "HostPort": "8080"}]})),
            ("127.0.0.1:8080:80", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})),
            ("127.0.0.1::80", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})),
            ("[::1]:8080:80", json!({"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]})),
            ("80:80/udp/tcp", json!({"80/udp": [{"HostIp": "", "HostPort": "80"}]})),
            ("80/", json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]})),
            (
                "published=8080,target=80,protocol=udp,mode=host",
                json!({"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
            ),
            ("8000-9000:80", json!({"80/tcp": [{"HostIp": "", "HostPort": "8000-9000"}]})),
            (
                "81-82:91-92",
                json!({"91/tcp": [{"HostIp": "", "HostPort": "81"}], "92/tcp": [{"HostIp": "", "HostPort": "82"}]}),
            ),
        ] {
            assert_eq!(published(spec), Ok(want), "{spec}");
        }
        for (spec, why) in [
            ("abc", "invalid containerPort: abc"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("80/foo", "invalid proto: foo"),
            ("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
            ("[::1]:80", "invalid IP address [:: address [::: missing ']' in address"),
            ("80:", "no port specified: 80:<empty>"),
            ("70000", "invalid containerPort: 70000"),
            ("published=80", "no port specified: 80:/tcp<empty>"),
            ("target=80,protocol=x", "invalid proto: x"),
            ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ] {
            assert_eq!(published(spec), Err(why.to_owned()), "{spec}");
        }
    }
}
