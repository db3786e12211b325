//! `--security-opt`: what the options say, and seccomp profiles in Docker's form. Pure but for the kernel's
//! version.

use gantry_model::go;
use oci_spec::runtime as oci;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::containers::{Error, journal};

/// The options, the last of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecurityOptions {
    /// `no-new-privileges[=bool]`.
    pub(crate) no_new_privileges: Option<bool>,
    /// `seccomp=`: `unconfined`, `builtin`, or a profile's JSON.
    pub(crate) seccomp: Option<String>,
    /// `apparmor=`: a profile's name. Kept for inspect; without AppArmor nothing comes of it, as in Docker.
    pub(crate) apparmor: Option<String>,
    /// `writable-cgroups=bool`.
    pub(crate) writable_cgroups: Option<bool>,
}

impl SecurityOptions {
    /// Reads them: `key=value` or, as old clients write it, `key:value`.
    ///
    /// # Errors
    /// [`Error::Invalid`] in Docker's words.
    pub(crate) fn parse(given: &[String]) -> Result<Self, Error> {
        let mut options = Self::default();
        for option in given {
            let invalid = |number: u8| Error::Invalid(format!("invalid --security-opt {number}: {option:?}"));
            match option.as_str() {
                "no-new-privileges" => {
                    options.no_new_privileges = Some(true);
                    continue;
                }
                "writable-cgroups" => {
                    options.writable_cgroups = Some(true);
                    continue;
                }
                // Of labels, which nobody enforces here.
                "disable" => continue,
                _ => {}
            }
            let pair = option.split_once('=').or_else(|| option.split_once(':'));
            let (key, value) = pair.ok_or_else(|| invalid(1))?;
            match key {
                "label" => {}
                "apparmor" => options.apparmor = Some(value.into()),
                "seccomp" => options.seccomp = Some(value.into()),
                "no-new-privileges" => {
                    options.no_new_privileges = Some(go::parse_bool(value).ok_or_else(|| invalid(2))?);
                }
                "writable-cgroups" => {
                    options.writable_cgroups = Some(go::parse_bool(value).ok_or_else(|| invalid(2))?);
                }
                _ => return Err(invalid(2)),
            }
        }
        Ok(options)
    }

    /// Whether Docker's default profile is for a container, which is an annotation, so that its list is not sent
    /// around.
    pub(crate) fn has_default_seccomp(&self, privileged: bool) -> bool {
        !privileged && matches!(self.seccomp.as_deref(), None | Some("" | "builtin"))
    }

    /// The user's own profile, as it is for a process with these capabilities.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no profile; [`Error::Launch`] for an action that the runtime does not know.
    pub(crate) fn own_seccomp(
        &self,
        bounding: &[oci::Capability],
    ) -> Result<Option<oci::LinuxSeccomp>, Error> {
        match self.seccomp.as_deref() {
            None | Some("" | "unconfined" | "builtin") => Ok(None),
            Some(json) => profile(json, bounding, &kernel()).map(Some),
        }
    }
}

/// A profile as Docker's users write it: OCI's, and what is resolved for a host and a container.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: Value,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Value>>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<Value>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Calls>>,
}

/// An architecture, and those whose programs run on it too.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Family {
    architecture: String,
    sub_architectures: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Calls {
    name: String,
    names: Option<Vec<String>>,
    action: Value,
    errno_ret: Option<u32>,
    args: Option<Vec<Value>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

/// When calls are, or are not, part of the profile.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What conditions are put to.
struct Host<'a> {
    bounding: &'a [oci::Capability],
    kernel: &'a str,
}

impl Condition {
    /// Whether this leaves calls out that are written under `excludes`.
    fn excludes(&self, host: &Host<'_>) -> bool {
        let caps = self.caps.iter().flatten();
        self.arches.iter().flatten().any(|arch| arch == ARCHITECTURE)
            || caps.clone().any(|name| host.has(name))
            || self.min_kernel.as_deref().is_some_and(|least| at_least(host.kernel, least))
    }

    /// Whether this takes calls in that are written under `includes`.
    fn includes(&self, host: &Host<'_>) -> bool {
        let arches = self.arches.as_deref().unwrap_or_default();
        (arches.is_empty() || arches.iter().any(|arch| arch == ARCHITECTURE))
            && self.caps.iter().flatten().all(|name| host.has(name))
            && self.min_kernel.as_deref().is_none_or(|least| at_least(host.kernel, least))
    }
}

impl Host<'_> {
    fn has(&self, name: &str) -> bool {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        bare.parse().is_ok_and(|capability: oci::Capability| self.bounding.contains(&capability))
    }
}

/// This machine's architecture, as conditions name it and as OCI does.
const ARCHITECTURE: &str = "amd64";
const OCI_ARCHITECTURE: &str = "SCMP_ARCH_X86_64";

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether one version (`6.18.2-x`) is another (`4.8`) or a later one.
fn at_least(kernel: &str, least: &str) -> bool {
    let number = |text: &str| -> Vec<u32> {
        let digits = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse();
        text.split('.').take(2).map(|part| digits(part).unwrap_or(0)).collect()
    };
    number(kernel) >= number(least)
}

/// Resolves a profile.
fn profile(json: &str, bounding: &[oci::Capability], kernel: &str) -> Result<oci::LinuxSeccomp, Error> {
    let undecoded =
        |error: serde_json::Error| Error::Invalid(format!("Decoding seccomp profile failed: {error}"));
    let Profile {
        default_action,
        default_errno_ret,
        architectures,
        arch_map,
        flags,
        listener_path,
        listener_metadata,
        syscalls,
    } = serde_json::from_str(json).map_err(undecoded)?;
    let both = |one: &str, other: &str| {
        Err(Error::Invalid(format!(
            "both '{one}' and '{other}' are specified in the seccomp profile, use either '{one}' or '{other}'"
        )))
    };
    let (mut architectures, arch_map) = (architectures.unwrap_or_default(), arch_map.unwrap_or_default());
    if !architectures.is_empty() && !arch_map.is_empty() {
        return both("architectures", "archMap");
    }
    for family in arch_map.into_iter().filter(|family| family.architecture == OCI_ARCHITECTURE) {
        architectures.push(family.architecture.into());
        architectures.extend(family.sub_architectures.unwrap_or_default());
    }
    let host = Host { bounding, kernel };
    let mut calls = Vec::new();
    for call in syscalls.unwrap_or_default() {
        let mut names = call.names.unwrap_or_default();
        if !call.name.is_empty() {
            if !names.is_empty() {
                return both("name", "names");
            }
            names.push(call.name);
        }
        let left_out = call.excludes.is_some_and(|condition| condition.excludes(&host))
            || call.includes.is_some_and(|condition| !condition.includes(&host));
        if left_out {
            continue;
        }
        known(&call.action)?;
        let mut one = json!({ "names": names, "action": call.action });
        if let Some(number) = call.errno_ret {
            one["errnoRet"] = number.into();
        }
        if let Some(args) = call.args.filter(|args| !args.is_empty()) {
            one["args"] = args.into();
        }
        calls.push(one);
    }
    known(&default_action)?;
    let mut whole = json!({
        "defaultAction": default_action,
        "architectures": architectures,
        "syscalls": calls,
        "flags": flags.unwrap_or_default(),
    });
    let optional = [
        ("defaultErrnoRet", default_errno_ret.map(Value::from)),
        ("listenerPath", listener_path.filter(|path| !path.is_empty()).map(Value::from)),
        ("listenerMetadata", listener_metadata.filter(|data| !data.is_empty()).map(Value::from)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            whole[key] = value;
        }
    }
    serde_json::from_value(whole).map_err(undecoded)
}

/// Refuses an action as the runtime does, before a process is made.
fn known(action: &Value) -> Result<(), Error> {
    let name = action.as_str().unwrap_or_default();
    if ACTIONS.contains(&name) {
        return Ok(());
    }
    let text = journal::specification_text(&format!("string {name} is not a valid action for seccomp"));
    Err(Error::Launch { text, exit_code: 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<SecurityOptions, String> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        SecurityOptions::parse(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_as_docker_reads_them() {
        let all = parse(&[
            "no-new-privileges",
            "seccomp=a=b:c",
            "apparmor:x",
            "label=disable",
            "disable",
            "writable-cgroups",
            "no-new-privileges:False",
        ]);
        let want = SecurityOptions {
            no_new_privileges: Some(false),
            seccomp: Some("a=b:c".into()),
            apparmor: Some("x".into()),
            writable_cgroups: Some(true),
        };
        assert_eq!(all, Ok(want));
        for (option, number) in [
            ("nonsense", 1),
            ("", 1),
            ("a=b", 2),
            ("systempaths=unconfined", 2),
            ("no-new-privileges=yes", 2),
            ("writable-cgroups=nonsense", 2),
        ] {
            assert_eq!(
                parse(&[option]),
                Err(format!("invalid --security-opt {number}: {option:?}")),
                "{option}"
            );
        }
    }

    fn resolved(text: &str) -> Result<Value, String> {
        let bounding = [oci::Capability::SysAdmin];
        let made = profile(text, &bounding, "5.10.0-1").map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(made).expect("a profile"))
    }

    #[test]
    fn profiles_are_resolved_for_host_and_container() {
        let calls = |conditions: &str| {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["mount"],"action":"SCMP_ACT_ALLOW",{conditions}}}]}}"#
            );
            resolved(&text).map(|made| made["syscalls"].as_array().map_or(0, Vec::len))
        };
        for (conditions, count) in [
            (r#""comment":"x","includes":{},"excludes":{}"#, 1),
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, 1),
            (r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, 0),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, 0),
            (r#""excludes":{"caps":["CAP_BPF"]}"#, 1),
            (r#""includes":{"arches":["s390x"]}"#, 0),
            (r#""includes":{"arches":["amd64","x32"]}"#, 1),
            (r#""excludes":{"arches":["amd64"]}"#, 0),
            (r#""includes":{"minKernel":"4.8"}"#, 1),
            (r#""includes":{"minKernel":"5.11"}"#, 0),
            (r#""excludes":{"minKernel":"5.10"}"#, 0),
        ] {
            assert_eq!(calls(conditions), Ok(count), "{conditions}");
        }
        let families = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[
            {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}]}"#;
        let made = resolved(families).expect("a profile");
        assert_eq!(made["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        let old = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","errnoRet":28,"args":null}]}"#;
        assert_eq!(resolved(old).expect("a profile")["syscalls"][0]["errnoRet"], 28);
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_told_in_dockers_words() {
        for (text, want) in [
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{}]}"#,
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_NOSUCH"}"#,
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: string SCMP_ACT_NOSUCH is not a valid action for seccomp",
            ),
        ] {
            assert_eq!(resolved(text).expect_err(text), want);
        }
        assert!(resolved("{").expect_err("no JSON").starts_with("Decoding seccomp profile failed: "));
    }
}
