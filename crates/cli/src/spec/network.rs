//! `--network` and the flags that belong to one attachment: aliases, addresses, links.

use serde_json::{Map, Value, json};

use super::mounts::csv_fields;
use crate::flags::Parsed;

/// One `--network`: a name, or `name=…,alias=…,ip=…`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// A network's name or id, `host`, `none`, `default`, or `container:<id>`.
    pub(crate) target: String,
    aliases: Vec<String>,
    options: Vec<(String, String)>,
    ipv4: String,
    ipv6: String,
    mac: String,
    priority: i64,
    links: Vec<String>,
}

/// Parses a `--network` value.
///
/// # Errors
/// Docker's texts for an unknown field or one without a value.
pub(crate) fn parse_attachment(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        text.clone_into(&mut attachment.target);
        return Ok(attachment);
    }
    for field in csv_fields(text) {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => attachment.target = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ipv4 = value,
            "ip6" => attachment.ipv6 = value,
            "mac-address" => attachment.mac = value,
            "gw-priority" => {
                attachment.priority = value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?
            }
            "driver-opt" => {
                let (name, setting) =
                    value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                attachment.options.push((name.to_owned(), setting.to_owned()));
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(attachment)
}

impl Attachment {
    fn is_plain(&self) -> bool {
        *self == Self { target: self.target.clone(), ..Self::default() }
    }

    fn endpoint(&self) -> Value {
        let list = |texts: &[String]| if texts.is_empty() { Value::Null } else { json!(texts) };
        let options: Map<_, _> =
            self.options.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let addresses = if self.ipv4.is_empty() && self.ipv6.is_empty() {
            Value::Null
        } else {
            json!({"IPv4Address": self.ipv4, "IPv6Address": self.ipv6})
        };
        json!({
            "IPAMConfig": addresses,
            "Links": list(&self.links),
            "Aliases": list(&self.aliases),
            "MacAddress": self.mac,
            "DriverOpts": if options.is_empty() { Value::Null } else { Value::Object(options) },
            "GwPriority": self.priority,
        })
    }
}

/// The network mode, and `NetworkingConfig` as the API takes it. A network without settings of
/// its own is left out of the latter: the daemon makes it from the mode.
///
/// # Errors
/// Docker's texts for flags that contradict one another.
pub(crate) fn config(flags: &Parsed) -> Result<(String, Value), String> {
    let mut attachments = Vec::new();
    for text in flags.list("network") {
        let attachment = parse_attachment(text)?;
        if attachment.target.is_empty() {
            return Err("no name set for network".into());
        }
        attachments.push(attachment);
    }
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".into(), ..Attachment::default() });
    }
    let owned = |name: &str| flags.list(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let first = &mut attachments[0];
    if !first.aliases.is_empty() && flags.given("network-alias") {
        return Err("conflicting options: cannot specify both --network-alias and per-network alias".into());
    }
    first.aliases.extend(owned("network-alias"));
    first.links.extend(owned("link"));
    for (flag, slot) in [("ip", &mut first.ipv4), ("ip6", &mut first.ipv6), ("mac-address", &mut first.mac)] {
        if let Some(value) = flags.given_text(flag) {
            if !slot.is_empty() {
                return Err(format!(
                    "conflicting options: cannot specify both --{flag} and per-network {flag}"
                ));
            }
            value.clone_into(slot);
        }
    }
    if !first.mac.is_empty() && !is_mac(&first.mac) {
        return Err(format!("{} is not a valid mac address", first.mac));
    }
    let mode = first.target.clone();
    let mut endpoints = Map::new();
    let (mut user_defined, mut predefined) = (false, false);
    for attachment in &attachments {
        let special = matches!(attachment.target.as_str(), "host" | "none")
            || attachment.target.starts_with("container:");
        let special = special || matches!(attachment.target.as_str(), "default" | "bridge" | "");
        if special && !attachment.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".into());
        }
        user_defined |= !special;
        predefined |= special;
        if attachments.len() == 1 && attachment.is_plain() {
            continue;
        }
        if endpoints.insert(attachment.target.clone(), attachment.endpoint()).is_some() {
            return Err(format!("network {:?} is specified multiple times", attachment.target));
        }
    }
    if user_defined && predefined {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
        );
    }
    Ok((mode, json!({ "EndpointsConfig": endpoints })))
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments() {
        assert_eq!(parse_attachment("host").unwrap().target, "host");
        let full = parse_attachment("name=n,alias=a,ip=10.0.0.2,driver-opt=x=y").unwrap();
        assert_eq!((full.target.as_str(), full.ipv4.as_str()), ("n", "10.0.0.2"));
        assert_eq!(full.endpoint()["DriverOpts"], json!({"x": "y"}));
        for bad in ["nome=x", "alias=a", "name=a,b", "name=n,driver-opt=x"] {
            assert!(parse_attachment(bad).is_err(), "{bad}");
        }
    }
}
