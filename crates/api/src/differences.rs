//! What an older client must not see and may not send: one table of endpoint × field × version.
//!
//! Handlers answer as the newest version does (or with what an old one has beside it) and read every
//! parameter; [`reply`], [`body`] and [`query`] then make it what the client's own version has. The
//! rows are exact from 1.41 on; where Docker's changelog and its daemon differ, the daemon is right.
//!
//! A field's path is its keys joined with dots; `*` stands for every value of a map or list, and an
//! empty path for the whole.

use serde_json::Value;

use crate::endpoints::{Endpoint, Method};
use crate::version::MAX;
use crate::{ApiVersion, Query, gojson};
use Method::{Delete, Get, Post};

/// In which part of the conversation a row's field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Reply,
    Body,
    Query,
}

/// How versions differ in a field.
#[derive(Clone, Copy)]
enum Rule {
    /// It came with this minor version.
    Since(u16),
    /// It was there up to and including this minor version.
    Until(u16),
    /// From this minor version on it is left out where it is empty.
    OmitEmptySince(u16),
    /// Below this minor version its value, or its object's, is changed.
    Below(u16, fn(&mut Value)),
}

struct Row(Method, &'static str, Part, &'static str, Rule);

use Part::{Body, Reply};
use Rule::{Below, OmitEmptySince, Since, Until};

/// Removes from a reply what the client's version does not have.
pub fn reply(endpoint: &Endpoint, version: ApiVersion, value: &mut Value) {
    apply(endpoint, version, Reply, value);
}

/// Removes from a request's body what the client's version cannot say.
pub fn body(endpoint: &Endpoint, version: ApiVersion, value: &mut Value) {
    apply(endpoint, version, Body, value);
}

/// Removes parameters that the client's version does not have.
pub fn query(endpoint: &Endpoint, version: ApiVersion, query: &mut Query) {
    for Row(_, _, _, key, rule) in rows(endpoint, Part::Query) {
        if !rule.holds(version) {
            query.remove(key);
        }
    }
}

/// The text of a reply for the client's version: the one given, where nothing that the version concerns is in it.
///
/// # Panics
/// Where the text is no JSON.
#[must_use]
pub fn reply_text(endpoint: &Endpoint, version: ApiVersion, text: Vec<u8>) -> Vec<u8> {
    if reply_is_as_given(endpoint, version, &text) {
        return text;
    }
    let mut value = serde_json::from_slice(&text).expect("it was written as JSON");
    reply(endpoint, version, &mut value);
    gojson::to_vec(&value)
}

/// Whether no row changes a reply. It looks for the keys anywhere in the text, so that a long list is not made a tree
/// for a field that nothing in it has; wire types write keys as the table spells them.
fn reply_is_as_given(endpoint: &Endpoint, version: ApiVersion, text: &[u8]) -> bool {
    rows(endpoint, Reply).all(|Row(.., path, rule)| {
        let holds = match rule {
            Since(_) | Until(_) => rule.holds(version),
            OmitEmptySince(minor) => version.minor < *minor,
            Below(minor, _) => version.minor >= *minor,
        };
        let key = path.rsplit('.').next().unwrap_or_default();
        holds || (!key.is_empty() && memchr::memmem::find(text, format!("\"{key}\"").as_bytes()).is_none())
    })
}

impl Rule {
    fn holds(&self, version: ApiVersion) -> bool {
        match self {
            Since(minor) => version.minor >= *minor,
            Until(minor) => version.minor <= *minor,
            OmitEmptySince(_) | Below(..) => true,
        }
    }
}

fn rows(endpoint: &Endpoint, part: Part) -> impl Iterator<Item = &'static Row> {
    let (method, pattern) = (endpoint.method, endpoint.pattern);
    TABLE.iter().filter(move |row| row.2 == part && row.0 == method && row.1 == pattern)
}

fn apply(endpoint: &Endpoint, version: ApiVersion, part: Part, value: &mut Value) {
    debug_assert!(version <= MAX);
    for Row(_, _, _, path, rule) in rows(endpoint, part) {
        match rule {
            Since(_) | Until(_) if !rule.holds(version) => {
                at(value, path, &mut |parent, key| drop(parent.shift_remove(key)));
            }
            OmitEmptySince(minor) if version.minor >= *minor => at(value, path, &mut |parent, key| {
                if parent.get(key).is_some_and(is_empty) {
                    parent.shift_remove(key);
                }
            }),
            Below(minor, change) if version.minor < *minor && path.is_empty() => change(value),
            Below(minor, change) if version.minor < *minor => at(value, path, &mut |parent, key| {
                if let Some(value) = parent.get_mut(key) {
                    change(value);
                }
            }),
            _ => {}
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Calls `change` with every object that holds the path's last key, and that key.
fn at(value: &mut Value, path: &str, change: &mut dyn FnMut(&mut serde_json::Map<String, Value>, &str)) {
    let Some((first, rest)) = path.split_once('.') else {
        if let Value::Object(map) = value {
            // Bodies keep the client's spelling; Go takes keys in any case.
            let keys: Vec<String> =
                map.keys().filter(|key| key.eq_ignore_ascii_case(path)).cloned().collect();
            keys.iter().for_each(|key| change(map, key));
        }
        return;
    };
    match (first, value) {
        ("*", Value::Array(items)) => items.iter_mut().for_each(|item| at(item, rest, change)),
        ("*", Value::Object(map)) => map.values_mut().for_each(|item| at(item, rest, change)),
        (key, Value::Object(map)) => map
            .iter_mut()
            .filter(|(have, _)| have.eq_ignore_ascii_case(key))
            .for_each(|(_, value)| at(value, rest, change)),
        _ => {}
    }
}

/// Below 1.43 an image without a name had one that says so.
fn none_none(value: &mut Value) {
    let Value::Object(_) = value else { return };
    let untagged = ["RepoTags", "RepoDigests"].iter().all(|key| value.get(key).is_none_or(is_empty));
    if untagged {
        value["RepoTags"] = serde_json::json!(["<none>:<none>"]);
        value["RepoDigests"] = serde_json::json!(["<none>@<none>"]);
    } else if value.get("RepoDigests").is_some_and(is_empty) {
        value["RepoDigests"] = Value::Null;
    }
}

fn none_none_each(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(none_none);
    }
}

/// Lists of names go through another path in a disk usage, where an empty one is `null`.
fn null_if_empty(value: &mut Value) {
    if is_empty(value) {
        *value = Value::Null;
    }
}

fn minus_one(value: &mut Value) {
    *value = Value::from(-1);
}

/// Below 1.30 security options were bare names.
fn bare_options(value: &mut Value) {
    if let Value::Array(items) = value {
        for item in items {
            if let Some(name) = item.as_str().and_then(|text| text.strip_prefix("name=")) {
                *item = Value::from(name.split(',').next().unwrap_or(name));
            }
        }
    }
}

const INSPECT: &str = "/containers/{id}/json";
const IMAGE: &str = "/images/{name…}/json";
const CREATE: &str = "/containers/create";
const NETWORK: &str = "/networks/{id}";

static TABLE: &[Row] = &[
    // --- containers
    Row(Post, "/containers/{id}/stop", Part::Query, "signal", Since(42)),
    Row(Post, "/containers/{id}/restart", Part::Query, "signal", Since(42)),
    Row(Post, CREATE, Part::Query, "platform", Since(41)),
    Row(Post, CREATE, Body, "HostConfig.CgroupnsMode", Since(41)),
    Row(Post, CREATE, Body, "HostConfig.KernelMemory", Until(41)),
    Row(Post, CREATE, Body, "HostConfig.ConsoleSize", Since(42)),
    Row(Post, CREATE, Body, "HostConfig.Annotations", Since(43)),
    Row(Post, CREATE, Body, "HostConfig.Mounts.*.BindOptions.ReadOnlyNonRecursive", Since(44)),
    Row(Post, CREATE, Body, "HostConfig.Mounts.*.TmpfsOptions.Options", Since(46)),
    Row(Post, CREATE, Body, "HostConfig.KernelMemoryTCP", Until(51)),
    Row(Post, CREATE, Body, "Healthcheck.StartInterval", Since(44)),
    Row(Post, CREATE, Body, "MacAddress", Until(51)),
    Row(Post, CREATE, Body, "NetworkingConfig.EndpointsConfig.*.MacAddress", Since(44)),
    Row(Post, CREATE, Body, "NetworkingConfig.EndpointsConfig.*.GwPriority", Since(48)),
    Row(Post, "/containers/{id}/update", Body, "PidsLimit", Since(40)),
    Row(Post, "/containers/{id}/update", Body, "KernelMemory", Until(41)),
    Row(Post, "/containers/{id}/update", Body, "KernelMemoryTCP", Until(51)),
    Row(Post, "/containers/{id}/exec", Body, "ConsoleSize", Since(42)),
    Row(Post, "/exec/{id}/start", Body, "ConsoleSize", Since(42)),
    Row(Get, "/containers/{id}/logs", Part::Query, "until", Since(35)),
    Row(Get, "/containers/json", Reply, "*.HostConfig.Annotations", Since(46)),
    Row(Get, "/containers/json", Reply, "*.Health", Since(52)),
    Row(Get, INSPECT, Reply, "HostConfig.KernelMemoryTCP", Until(51)),
    Row(Get, INSPECT, Reply, "Config.OnBuild", OmitEmptySince(52)),
    Row(Get, INSPECT, Reply, "Config.MacAddress", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.Bridge", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.HairpinMode", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.LinkLocalIPv6Address", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.LinkLocalIPv6PrefixLen", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.SecondaryIPAddresses", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.SecondaryIPv6Addresses", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.EndpointID", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.Gateway", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.GlobalIPv6Address", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.GlobalIPv6PrefixLen", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.IPAddress", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.IPPrefixLen", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.IPv6Gateway", Until(51)),
    Row(Get, INSPECT, Reply, "NetworkSettings.MacAddress", Until(51)),
    // --- images
    Row(Get, "/images/json", Part::Query, "shared-size", Since(42)),
    Row(Get, "/images/json", Part::Query, "manifests", Since(47)),
    Row(Get, "/images/json", Part::Query, "identity", Since(54)),
    Row(Get, "/images/json", Part::Query, "filter", Until(40)),
    Row(Get, "/images/json", Reply, "", Below(43, none_none_each)),
    Row(Get, "/images/json", Reply, "*.VirtualSize", Until(43)),
    Row(Get, "/images/json", Reply, "*.Containers", Below(51, minus_one)),
    Row(Get, IMAGE, Part::Query, "platform", Since(49)),
    Row(Get, IMAGE, Part::Query, "manifests", Since(48)),
    Row(Get, IMAGE, Reply, "VirtualSize", Until(43)),
    Row(Get, IMAGE, Reply, "Container", Until(44)),
    Row(Get, IMAGE, Reply, "Container", OmitEmptySince(24)),
    Row(Get, IMAGE, Reply, "ContainerConfig", Until(44)),
    Row(Get, IMAGE, Reply, "Parent", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Comment", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "DockerVersion", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Author", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.Hostname", Until(49)),
    Row(Get, IMAGE, Reply, "Config.Domainname", Until(49)),
    Row(Get, IMAGE, Reply, "Config.AttachStdin", Until(49)),
    Row(Get, IMAGE, Reply, "Config.AttachStdout", Until(49)),
    Row(Get, IMAGE, Reply, "Config.AttachStderr", Until(49)),
    Row(Get, IMAGE, Reply, "Config.Tty", Until(49)),
    Row(Get, IMAGE, Reply, "Config.OpenStdin", Until(49)),
    Row(Get, IMAGE, Reply, "Config.StdinOnce", Until(49)),
    Row(Get, IMAGE, Reply, "Config.Image", Until(49)),
    Row(Get, IMAGE, Reply, "Config.Cmd", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.Entrypoint", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.Env", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.Labels", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.OnBuild", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.User", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.Volumes", OmitEmptySince(52)),
    Row(Get, IMAGE, Reply, "Config.WorkingDir", OmitEmptySince(52)),
    Row(Get, "/images/{name…}/history", Part::Query, "platform", Since(48)),
    Row(Get, "/images/{name…}/get", Part::Query, "platform", Since(48)),
    Row(Get, "/images/get", Part::Query, "platform", Since(48)),
    Row(Post, "/images/load", Part::Query, "platform", Since(48)),
    Row(Delete, "/images/{name…}", Part::Query, "platforms", Since(50)),
    // --- networks
    Row(Post, "/networks/create", Body, "EnableIPv4", Since(48)),
    Row(Post, "/networks/{id}/connect", Body, "EndpointConfig.MacAddress", Since(44)),
    Row(Post, "/networks/{id}/connect", Body, "EndpointConfig.GwPriority", Since(48)),
    Row(Get, "/networks", Reply, "*.Containers", Until(51)),
    Row(Get, NETWORK, Reply, "Status", Since(52)),
    // --- builds
    Row(Post, "/build/prune", Part::Query, "keep-storage", Until(51)),
    Row(Post, "/build/prune", Part::Query, "reserved-space", Since(48)),
    Row(Post, "/build/prune", Part::Query, "max-used-space", Since(48)),
    Row(Post, "/build/prune", Part::Query, "min-free-space", Since(48)),
    // --- system
    Row(Get, "/info", Reply, "KernelMemory", Until(41)),
    Row(Get, "/info", Reply, "KernelMemoryTCP", Until(51)),
    Row(Get, "/info", Reply, "DefaultAddressPools", Since(41)),
    Row(Get, "/info", Reply, "Runtimes.*.status", Since(44)),
    Row(Get, "/info", Reply, "RegistryConfig.AllowNondistributableArtifactsCIDRs", Until(46)),
    Row(Get, "/info", Reply, "RegistryConfig.AllowNondistributableArtifactsHostnames", Until(46)),
    Row(Get, "/info", Reply, "ContainerdCommit.Expected", Until(48)),
    Row(Get, "/info", Reply, "RuncCommit.Expected", Until(48)),
    Row(Get, "/info", Reply, "InitCommit.Expected", Until(48)),
    Row(Get, "/info", Reply, "FirewallBackend", Since(49)),
    Row(Get, "/info", Reply, "BridgeNfIptables", Until(49)),
    Row(Get, "/info", Reply, "BridgeNfIp6tables", Until(49)),
    Row(Get, "/info", Reply, "SecurityOptions", Below(30, bare_options)),
    Row(Get, "/events", Reply, "status", Until(51)),
    Row(Get, "/events", Reply, "id", Until(51)),
    Row(Get, "/events", Reply, "from", Until(51)),
    Row(Get, "/system/df", Part::Query, "type", Since(42)),
    Row(Get, "/system/df", Part::Query, "verbose", Since(52)),
    Row(Get, "/system/df", Reply, "Images.*.VirtualSize", Until(43)),
    Row(Get, "/system/df", Reply, "Images.*.RepoTags", Below(52, null_if_empty)),
    Row(Get, "/system/df", Reply, "Images.*.RepoDigests", Below(52, null_if_empty)),
    Row(Get, "/system/df", Reply, "LayersSize", Until(52)),
    Row(Get, "/system/df", Reply, "Images", Until(52)),
    Row(Get, "/system/df", Reply, "Containers", Until(52)),
    Row(Get, "/system/df", Reply, "Volumes", Until(52)),
    Row(Get, "/system/df", Reply, "BuildCache", Until(52)),
    Row(Get, "/system/df", Reply, "ImageUsage", Since(52)),
    Row(Get, "/system/df", Reply, "ContainerUsage", Since(52)),
    Row(Get, "/system/df", Reply, "VolumeUsage", Since(52)),
    Row(Get, "/system/df", Reply, "BuildCacheUsage", Since(52)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints;
    use serde_json::json;

    fn check(method: Method, pattern: &str, minor: u16, given: Value, want: &Value) {
        let endpoint = endpoints::find(method, pattern).expect(pattern);
        let mut value = given.clone();
        reply(endpoint, ApiVersion::v1(minor), &mut value);
        assert_eq!(&value, want, "{endpoint} at 1.{minor}");
        let text = reply_text(endpoint, ApiVersion::v1(minor), gojson::to_vec(&given));
        assert_eq!(text, gojson::to_vec(want), "{endpoint} at 1.{minor} as text");
    }

    #[test]
    fn every_row_names_an_endpoint() {
        for Row(method, pattern, ..) in TABLE {
            assert!(endpoints::find(*method, pattern).is_some(), "{method:?} {pattern}");
        }
    }

    #[test]
    fn replies_are_the_versions_own() {
        let image = json!([{"RepoTags":[],"RepoDigests":[],"VirtualSize":3,"Containers":2,"Size":3}]);
        check(
            Get,
            "/images/json",
            55,
            image.clone(),
            &json!([{"RepoTags":[],"RepoDigests":[],"Containers":2,"Size":3}]),
        );
        check(
            Get,
            "/images/json",
            44,
            image.clone(),
            &json!([{"RepoTags":[],"RepoDigests":[],"Containers":-1,"Size":3}]),
        );
        check(
            Get,
            "/images/json",
            42,
            image,
            &json!([{"RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"],"VirtualSize":3,"Containers":-1,"Size":3}]),
        );
        let inspect = json!({"Config":{"OnBuild":null,"MacAddress":"m"},"NetworkSettings":{"Gateway":"g","Networks":{"a":{"Gateway":"g"}}}});
        check(Get, INSPECT, 51, inspect.clone(), &inspect);
        check(
            Get,
            INSPECT,
            52,
            inspect,
            &json!({"Config":{},"NetworkSettings":{"Networks":{"a":{"Gateway":"g"}}}}),
        );
        let list = json!([{"Id":"1","Health":{"Status":"none"}},{"Id":"2"}]);
        check(Get, "/containers/json", 52, list.clone(), &list);
        check(Get, "/containers/json", 51, list, &json!([{"Id":"1"},{"Id":"2"}]));
        let list = json!([{"Id":"1","Command":"Health"}]);
        check(Get, "/containers/json", 51, list.clone(), &list);
        check(
            Get,
            "/info",
            24,
            json!({"SecurityOptions":["name=seccomp,profile=builtin"]}),
            &json!({"SecurityOptions":["seccomp"]}),
        );
        check(
            Get,
            "/info",
            43,
            json!({"Runtimes":{"a":{"path":"p","status":{}}}}),
            &json!({"Runtimes":{"a":{"path":"p"}}}),
        );
        // Its changelog says otherwise, but Docker's daemon tells these to the oldest client too.
        let info = json!({"CgroupVersion":"1","CDISpecDirs":[]});
        check(Get, "/info", 24, info.clone(), &info);
        let version = json!({"Platform":{"Name":""},"Components":[]});
        check(Get, "/version", 24, version.clone(), &version);
        let usage = json!({"Images":[{"RepoTags":["a:1"],"RepoDigests":[]}]});
        let old = json!({"Images":[{"RepoTags":["a:1"],"RepoDigests":null}]});
        check(Get, "/system/df", 51, usage.clone(), &old);
        check(Get, "/system/df", 52, usage.clone(), &usage);
    }

    #[test]
    fn requests_lose_what_their_version_cannot_say() {
        let create = endpoints::find(Post, CREATE).expect("an endpoint");
        let mut value = json!({"hostconfig":{"kernelmemory":5,"Annotations":{}},"MacAddress":"a"});
        body(create, ApiVersion::v1(42), &mut value);
        assert_eq!(value, json!({"hostconfig":{},"MacAddress":"a"}));
        let stop = endpoints::find(Post, "/containers/{id}/stop").expect("an endpoint");
        let given = Query::default().with("signal", "INT").with("t", "3");
        for (minor, kept) in [(41, false), (42, true)] {
            let mut parameters = given.clone();
            query(stop, ApiVersion::v1(minor), &mut parameters);
            assert_eq!((parameters.find("signal").is_some(), parameters.get("t")), (kept, "3"), "1.{minor}");
        }
    }
}
