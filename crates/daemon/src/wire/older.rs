//! What a create request of an older client means, where a table of fields ([`gantry_api::differences`]) cannot say it:
//! what was the default then, and what it may not ask for.

use gantry_api::ApiVersion;
use gantry_api::container::CreateRequest;
use gantry_api::host_config::Mount;

use crate::refusal::Refusal;

/// Makes a request what it is for the client's version.
///
/// # Errors
/// A 400 in Docker's words.
pub(crate) fn create(wire: &mut CreateRequest, version: ApiVersion) -> Result<(), Refusal> {
    let before = |minor| version < ApiVersion::v1(minor);
    let host = wire.host_config.get_or_insert_default();
    if before(25) {
        // The client removes the container itself.
        host.auto_remove = false;
    }
    if before(40) && host.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host.ipc_mode);
    }
    for mount in host.mounts.iter_mut().flatten() {
        options(mount, version)?;
        let forced = mount.bind_options.as_ref().is_some_and(|options| options.read_only_force_recursive);
        if before(44) && forced {
            return Err(Refusal::invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        }
        if before(45) && mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) {
            return Err(Refusal::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if before(48) && mount.kind == "image" {
            return Err(Refusal::invalid("Mount type \"Image\" needs API v1.48 or newer"));
        }
    }
    let endpoints = wire.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
    if let Some(endpoints) = endpoints.filter(|endpoints| before(44) && endpoints.len() > 1) {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        let names = names.join(", ");
        return Err(Refusal::invalid(format!(
            "Container cannot be created with multiple network endpoints: {names}"
        )));
    }
    Ok(())
}

/// Whether read-only binds leave what is mounted below them writable, where nothing is said of it.
pub(crate) fn binds_are_read_only_at_the_top(version: ApiVersion) -> bool {
    version < ApiVersion::v1(44)
}

/// What a mount's options may say. Those of another kind of mount were ignored before 1.42.
fn options(mount: &mut Mount, version: ApiVersion) -> Result<(), Refusal> {
    let kind = mount.kind.as_str();
    let (is_bind, is_volume, is_tmpfs) = (kind == "bind", kind == "volume", kind == "tmpfs");
    if version >= ApiVersion::v1(42) {
        let foreign = [
            (mount.volume_options.is_some() && !is_volume, "VolumeOptions"),
            (mount.bind_options.is_some() && !is_bind, "BindOptions"),
            (mount.tmpfs_options.is_some() && !is_tmpfs, "TmpfsOptions"),
        ];
        return match foreign.iter().find(|(given, _)| *given) {
            Some((_, name)) => {
                Err(Refusal::invalid(format!("{name} must not be specified on mount type {kind:?}")))
            }
            None => Ok(()),
        };
    }
    mount.bind_options = mount.bind_options.take().filter(|_| is_bind);
    mount.volume_options = mount.volume_options.take().filter(|_| is_volume);
    mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| is_tmpfs);
    if let Some(options) = &mut mount.bind_options {
        options.create_mountpoint = false;
        options.non_recursive &= version >= ApiVersion::v1(40);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(minor: u16, body: &str) -> Result<CreateRequest, String> {
        let tree = gantry_api::gojson::parse(body.as_bytes()).expect("JSON");
        let mut wire = CreateRequest::from_value(tree).expect("a request");
        create(&mut wire, ApiVersion::v1(minor)).map_err(|refusal| refusal.0.message).map(|()| wire)
    }

    #[test]
    fn defaults_are_those_of_the_clients_time() {
        let ipc = |minor, body: &str| made(minor, body).expect("made").host_config.expect("given").ipc_mode;
        assert_eq!(ipc(39, "{}"), "shareable");
        assert_eq!(ipc(39, r#"{"HostConfig":{"IpcMode":"none"}}"#), "none");
        assert_eq!(ipc(40, "{}"), "");
        let removed = |minor| {
            let wire = made(minor, r#"{"HostConfig":{"AutoRemove":true}}"#).expect("made");
            wire.host_config.expect("given").auto_remove
        };
        assert_eq!((removed(24), removed(25)), (false, true));
        assert!(binds_are_read_only_at_the_top(ApiVersion::v1(43)));
        assert!(!binds_are_read_only_at_the_top(ApiVersion::v1(44)));
    }

    #[test]
    fn what_came_later_is_refused_or_ignored_as_docker_does() {
        let mount = |mount: &str| format!(r#"{{"HostConfig":{{"Mounts":[{mount}]}}}}"#);
        let foreign = mount(r#"{"Type":"tmpfs","Target":"/x","VolumeOptions":{}}"#);
        assert_eq!(
            made(42, &foreign),
            Err("VolumeOptions must not be specified on mount type \"tmpfs\"".into())
        );
        let mounts = made(41, &foreign).expect("made").host_config.expect("given").mounts.expect("given");
        assert_eq!(mounts[0].volume_options, None);
        for (minor, body, want) in [
            (
                43,
                mount(r#"{"Type":"bind","BindOptions":{"ReadOnlyForceRecursive":true}}"#),
                "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
            ),
            (
                44,
                mount(r#"{"Type":"volume","VolumeOptions":{"Subpath":"x"}}"#),
                "VolumeOptions.Subpath needs API v1.45 or newer",
            ),
            (47, mount(r#"{"Type":"image"}"#), "Mount type \"Image\" needs API v1.48 or newer"),
            (
                43,
                r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#.to_owned(),
                "Container cannot be created with multiple network endpoints: a, b",
            ),
        ] {
            assert_eq!(made(minor, &body), Err(want.to_owned()));
            assert!(made(minor + 1, &body).is_ok(), "{body}");
        }
    }
}
