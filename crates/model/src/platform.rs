//! Platforms: operating system, architecture and variant, in Go's words (`linux/arm64/v8`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image was built for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture in Go's words: `amd64`, `arm64`, …
    pub architecture: String,
    /// The operating system in Go's words: `linux`.
    pub os: String,
    /// The CPU variant, such as `v8`; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that this program was compiled for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: String::new() }
    }

    /// Whether what was built for this platform is what somebody wants who asks for that one; a variant that nobody
    /// asks for may be any.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        (&self.os, &self.architecture) == (&wanted.os, &wanted.architecture)
            && (wanted.variant.is_empty() || self.variant == wanted.variant)
    }

    /// How far this is from what is meant where an architecture is named without a variant, as containerd has it: 32-bit
    /// ARM is `v7`, else the one before it; 64-bit ARM is `v8`. 0 is exactly that.
    #[must_use]
    pub fn distance_from_usual(&self) -> u8 {
        match (self.architecture.as_str(), self.variant.as_str()) {
            (_, "") | ("arm", "v7") | ("arm64", "v8") => 0,
            ("arm", "v6") => 1,
            ("arm", "v5") => 2,
            _ => 3,
        }
    }
}

/// Says why a text is not a platform, in the words that Docker has from containerd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// One word that is neither.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// A part has characters that none has.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The part.
        part: String,
        /// The whole.
        text: String,
    },
    /// The first part is no operating system's name. (One with a version in parentheses is none that runs here.)
    #[error(
        "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.%-]*)((?:\\\\+[A-Za-z0-9_.%-]+)*)\\\\))?$\": invalid argument"
    )]
    System {
        /// The part.
        part: String,
        /// The whole.
        text: String,
    },
    /// It has more parts than three.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Form(String),
}

/// Operating systems in Go's words.
const SYSTEMS: [&str; 10] =
    ["aix", "android", "darwin", "dragonfly", "freebsd", "linux", "netbsd", "openbsd", "solaris", "windows"];
/// Architectures in Go's words.
const ARCHITECTURES: [&str; 12] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x",
];

/// `os/architecture[/variant]`, or an operating system or an architecture alone: the rest is the host's.
impl FromStr for Platform {
    type Err = InvalidPlatform;
    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let good = |part: &str, others: &[u8]| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
        };
        if !good(parts[0], b"_-") {
            return Err(InvalidPlatform::System { part: parts[0].into(), text: text.into() });
        }
        if let Some(bad) = parts.iter().find(|part| !good(part, b"_.-")) {
            return Err(InvalidPlatform::Component { part: (*bad).into(), text: text.into() });
        }
        let lower = |part: &str| part.to_ascii_lowercase();
        let system = |part: &str| if lower(part) == "macos" { "darwin".into() } else { lower(part) };
        let (os, (architecture, variant)) = match parts[..] {
            [one] if SYSTEMS.contains(&system(one).as_str()) => {
                let host = Self::host();
                (system(one), (host.architecture, host.variant))
            }
            [one] => {
                let (architecture, variant) = normal(&lower(one), "");
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(InvalidPlatform::Unknown(text.into()));
                }
                (Self::host().os, (architecture, variant))
            }
            [os, architecture] => (system(os), normal(&lower(architecture), "")),
            [os, architecture, variant] => (system(os), normal(&lower(architecture), &lower(variant))),
            _ => return Err(InvalidPlatform::Form(text.into())),
        };
        Ok(Self { architecture, os, variant })
    }
}

/// An architecture's name and variant, as containerd writes them.
fn normal(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8") => ("arm64", "v8"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.into(), variant.into())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_containerd_reads_them() {
        let host = Platform::host().architecture;
        for (text, platform) in [
            ("linux", format!("linux/{host}")),
            ("amd64", "linux/amd64".into()),
            ("x86_64", "linux/amd64".into()),
            ("linux/amd64/v1", "linux/amd64".into()),
            ("Linux/AMD64/v3", "linux/amd64/v3".into()),
            ("linux/arm64/v8", "linux/arm64/v8".into()),
            ("linux/aarch64", "linux/arm64".into()),
            ("linux/arm", "linux/arm".into()),
            ("linux/arm/6", "linux/arm/v6".into()),
            ("windows", format!("windows/{host}")),
            ("os/cpu/variant", "os/cpu/variant".into()),
        ] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), platform, "{text}");
        }
        for (text, distance) in [
            ("arm", 0),
            ("arm/v7", 0),
            ("arm/v6", 1),
            ("arm/v5", 2),
            ("arm/v8", 3),
            ("arm64/v8", 0),
            ("amd64/v3", 3),
        ] {
            let platform: Platform = format!("linux/{text}").parse().expect(text);
            assert_eq!(platform.distance_from_usual(), distance, "{text}");
        }
        for (text, want) in [
            ("nonsense", "\"nonsense\": unknown operating system or architecture: invalid argument"),
            ("x/y/z/a", "\"x/y/z/a\": cannot parse platform specifier: invalid argument"),
        ] {
            assert_eq!(text.parse::<Platform>().expect_err(text).to_string(), want);
        }
        for (text, part) in [
            ("", "\"\" is an invalid OS component of"),
            ("/", "\"\" is an invalid OS component of"),
            ("a.b/c", "\"a.b\" is an invalid OS component of"),
            ("linux/", "\"\" is an invalid component of"),
            ("linux//v1", "\"\" is an invalid component of"),
        ] {
            let error = text.parse::<Platform>().expect_err(text).to_string();
            assert!(error.starts_with(part), "{text}: {error}");
        }
    }
}
