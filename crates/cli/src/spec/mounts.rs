//! `-v`, `--mount` and `--tmpfs`: what is mounted into a container.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Splits a line of comma-separated fields, where a field may be quoted as in CSV.
pub(crate) fn csv_fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        let last = fields.last_mut().expect("there is always a field");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => last.push(letters.next().unwrap_or('"')),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => last.push(letter),
        }
    }
    fields
}

/// The column, from 1, of a quotation mark that does not begin its field, as Go's reader counts it.
fn bare_quote(text: &str) -> Option<usize> {
    let mut at = 0;
    for field in text.split(',') {
        // Within quotes the commas above cut too much; such fields begin with a mark and are fine.
        if field.starts_with('"') {
            return None;
        }
        if let Some(mark) = field.find('"') {
            return Some(at + mark + 1);
        }
        at += field.len() + 1;
    }
    None
}

/// Makes a path that starts with a dot absolute, as the daemon cannot know where we stand.
pub(crate) fn absolute(path: &str) -> String {
    if !path.starts_with('.') || Path::new(path).is_absolute() {
        return path.to_owned();
    }
    std::path::absolute(path).map_or_else(
        |_| path.to_owned(),
        |full| {
            let mut clean = std::path::PathBuf::new();
            for part in full.components() {
                if part == std::path::Component::ParentDir {
                    clean.pop();
                } else {
                    clean.push(part);
                }
            }
            clean.to_string_lossy().into_owned()
        },
    )
}

/// One `-v`: a bind (`source:target[:options]`) or, of one part, an anonymous volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// Goes into `HostConfig.Binds`.
    Bind(String),
    /// Goes into `Config.Volumes`.
    Anonymous(String),
}

/// Sorts a `-v` value.
///
/// # Errors
/// Docker's texts for what is no mount.
pub(crate) fn parse_volume(text: &str) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    // Too short for anything but a path, whatever is in it.
    if text.chars().count() <= 2 {
        return Ok(Volume::Anonymous(text.to_owned()));
    }
    let sections = sections(text);
    match sections.as_slice() {
        _ if sections.iter().any(|section| section.is_empty()) => {
            Err(format!("invalid spec: {text}: empty section between colons"))
        }
        [_, _, _, _, ..] => Err(format!("invalid spec: {text}: too many colons")),
        [] | [_] => Ok(Volume::Anonymous(text.to_owned())),
        [source, ..] => Ok(Volume::Bind(format!("{}{}", absolute(source), &text[source.len()..]))),
    }
}

/// What colons separate. One after a single letter separates nothing: the stock client takes that for a
/// drive of Windows.
fn sections(text: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut begin = 0;
    for (at, _) in text.match_indices(':') {
        let section = &text[begin..at];
        let mut letters = section.chars();
        if letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none() {
            continue;
        }
        sections.push(section);
        begin = at + 1;
    }
    sections.push(&text[begin..]);
    sections
}

/// One `--mount` as the API's `Mount`.
///
/// # Errors
/// Docker's texts for an unknown or incomplete field.
pub(crate) fn parse_mount(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Err("EOF".into());
    }
    if let Some(column) = bare_quote(text) {
        return Err(format!("parse error on line 1, column {column}: bare \" in non-quoted-field"));
    }
    let mut mount = Map::new();
    let mut options: [Map<String, Value>; 4] = Default::default();
    mount.insert("Type".into(), json!("volume"));
    for field in csv_fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value.to_owned()),
            None => (field.to_ascii_lowercase(), String::new()),
        };
        let bare = !field.contains('=');
        if bare && !matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive") {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        set_field(&mut mount, &mut options, &key, &value, &field)?;
    }
    finish(mount, options)
}

fn set_field(
    mount: &mut Map<String, Value>,
    [bind, volume, tmpfs, image]: &mut [Map<String, Value>; 4],
    key: &str,
    value: &str,
    field: &str,
) -> Result<(), String> {
    let flag = || match value {
        "" => Ok(true),
        text => crate::flags::check::boolean(text).ok_or_else(|| format!("invalid value for {key}: {text}")),
    };
    match key {
        "type" => drop(mount.insert("Type".into(), json!(value.to_ascii_lowercase()))),
        "source" | "src" => drop(mount.insert("Source".into(), json!(absolute(value)))),
        "target" | "dst" | "destination" => drop(mount.insert("Target".into(), json!(value))),
        "readonly" | "ro" => drop(mount.insert("ReadOnly".into(), json!(flag()?))),
        "consistency" => drop(mount.insert("Consistency".into(), json!(value.to_ascii_lowercase()))),
        "bind-propagation" => drop(bind.insert("Propagation".into(), json!(value.to_ascii_lowercase()))),
        "bind-nonrecursive" => drop(bind.insert("NonRecursive".into(), json!(flag()?))),
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => drop(bind.insert("NonRecursive".into(), json!(true))),
            "writable" => drop(bind.insert("ReadOnlyNonRecursive".into(), json!(true))),
            "readonly" => drop(bind.insert("ReadOnlyForceRecursive".into(), json!(true))),
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-nocopy" => drop(volume.insert("NoCopy".into(), json!(flag()?))),
        "volume-subpath" => drop(volume.insert("Subpath".into(), json!(value))),
        "volume-driver" => drop(nested(volume, "DriverConfig").insert("Name".into(), json!(value))),
        "volume-label" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            nested(volume, "Labels").insert(name.into(), json!(text));
        }
        "volume-opt" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            nested(nested(volume, "DriverConfig"), "Options").insert(name.into(), json!(text));
        }
        "tmpfs-size" => {
            let size =
                crate::flags::check::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            tmpfs.insert("SizeBytes".into(), json!(size));
        }
        "tmpfs-mode" => {
            let mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            tmpfs.insert("Mode".into(), json!(mode));
        }
        "image-subpath" => drop(image.insert("Subpath".into(), json!(value))),
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn nested<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object on the line above")
}

fn finish(mut mount: Map<String, Value>, options: [Map<String, Value>; 4]) -> Result<Value, String> {
    let kind = mount.get("Type").and_then(Value::as_str).unwrap_or("").to_owned();
    if kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.get("Target").and_then(Value::as_str).unwrap_or("").is_empty() {
        return Err("target is required".into());
    }
    let [bind, ..] = &options;
    let read_only = mount.get("ReadOnly") == Some(&json!(true));
    let private = bind.get("Propagation") == Some(&json!("rprivate"));
    for (option, key, needs, has) in [
        ("writable", "ReadOnlyNonRecursive", "readonly", read_only),
        ("readonly", "ReadOnlyForceRecursive", "readonly", read_only),
        ("readonly", "ReadOnlyForceRecursive", "bind-propagation=rprivate", private),
    ] {
        if bind.contains_key(key) && !has {
            return Err(format!(
                "option 'bind-recursive={option}' requires '{needs}' to be specified in conjunction"
            ));
        }
    }
    let owners = [
        ("bind", "BindOptions"),
        ("volume", "VolumeOptions"),
        ("tmpfs", "TmpfsOptions"),
        ("image", "ImageOptions"),
    ];
    for ((owner, name), set) in owners.into_iter().zip(options) {
        if set.is_empty() {
            continue;
        }
        if kind != owner {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
        mount.insert(name.into(), Value::Object(set));
    }
    Ok(Value::Object(mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        assert_eq!(parse_volume("/a:/b:ro"), Ok(Volume::Bind("/a:/b:ro".into())));
        assert_eq!(parse_volume("vol:/b"), Ok(Volume::Bind("vol:/b".into())));
        assert_eq!(parse_volume("/data"), Ok(Volume::Anonymous("/data".into())));
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse_volume("./x/../y:/b"), Ok(Volume::Bind(format!("{}/y:/b", here.display()))));
        for (text, why) in [
            ("", "invalid empty volume spec"),
            (":/a", "invalid spec: :/a: empty section between colons"),
            ("/a:", "invalid spec: /a:: empty section between colons"),
            ("/a:/b:ro:rw", "invalid spec: /a:/b:ro:rw: too many colons"),
        ] {
            assert_eq!(parse_volume(text), Err(why.to_owned()), "{text}");
        }
        for drive in ["a:/b", "a:", "ab"] {
            assert_eq!(parse_volume(drive), Ok(Volume::Anonymous(drive.into())), "{drive}");
        }
    }

    #[test]
    fn mounts() {
        for (text, want) in [
            (
                "type=bind,source=/tmp,target=/z,readonly",
                json!({"Type":"bind","Source":"/tmp","Target":"/z","ReadOnly":true}),
            ),
            (
                "src=v,dst=/z,volume-nocopy",
                json!({"Type":"volume","Source":"v","Target":"/z","VolumeOptions":{"NoCopy":true}}),
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                json!({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1_048_576,"Mode":0o1770}}),
            ),
            (
                r#"type=volume,dst=/v,"volume-opt=o=a,b""#,
                json!({"Type":"volume","Target":"/v","VolumeOptions":{"DriverConfig":{"Options":{"o":"a,b"}}}}),
            ),
        ] {
            assert_eq!(parse_mount(text), Ok(want), "{text}");
        }
        for (text, why) in [
            ("", "EOF"),
            ("type=\"bind", "parse error on line 1, column 6: bare \" in non-quoted-field"),
            ("x", "invalid field 'x' must be a key=value pair"),
            ("a=b", "unexpected key 'a' in 'a=b'"),
            ("type=bind", "target is required"),
            (
                "type=bind,src=/a,dst=/a,bind-recursive=writable",
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=bind,src=/a,dst=/a,bind-recursive=readonly,ro",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
            ),
            ("type=bind,dst=/a,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
        ] {
            assert_eq!(parse_mount(text), Err(why.to_owned()), "{text}");
        }
    }
}
