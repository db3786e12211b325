//! What `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes come to. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_model::mount::{MountKind, MountPoint};

use super::config::{Config, HostConfig, MountRequest};
use super::merge::clean_path;
use super::{Error, subpath};
use crate::volumes::VolumeRequest;

/// A mount point whose volume, if it is one, is still to be found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// The mount point; name and source of a volume are filled in later.
    pub(super) point: MountPoint,
    /// The volume to find or make.
    pub(super) volume: Option<VolumeRequest>,
    /// Whether a volume in which nothing is gets what the image has there.
    pub(super) copies: bool,
    /// Whether a missing source is made.
    pub(super) creates_source: bool,
    /// The source as the user wrote it, for what is said of it.
    pub(super) said: String,
}

impl Planned {
    fn new(point: MountPoint) -> Self {
        Self { point, volume: None, copies: false, creates_source: false, said: String::new() }
    }
}

/// Whether a bind shows what is in the daemon's data root.
pub(super) fn shows_data_root(source: &Path, data_root: &Path) -> bool {
    source.starts_with(data_root) || data_root.starts_with(source)
}

/// A container that has a private copy of the daemon's mounts keeps them: without another word it follows the host's.
fn follow_data_root(point: &mut MountPoint, data_root: &Path) -> Result<(), Error> {
    if point.kind != MountKind::Bind || !shows_data_root(&point.source, data_root) {
        return Ok(());
    }
    match point.propagation.as_str() {
        "" => "rslave".clone_into(&mut point.propagation),
        "rslave" | "rshared" => {}
        other => {
            return Err(Error::Invalid(format!(
                "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {data_root:?}, bind mount source: {:?}, propagation: {other:?}",
                point.source
            )));
        }
    }
    Ok(())
}

/// Plans all mount points, in the order of their destinations. `inherited` are those of `--volumes-from`.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn plan(
    config: &Config,
    host: &HostConfig,
    inherited: Vec<MountPoint>,
    data_root: &Path,
) -> Result<Vec<Planned>, Error> {
    let mut planned: BTreeMap<PathBuf, Planned> = BTreeMap::new();
    for point in inherited {
        planned.insert(point.destination.clone(), Planned::new(point));
    }
    let mut own: BTreeMap<PathBuf, Planned> = BTreeMap::new();
    let add = |own: &mut BTreeMap<PathBuf, Planned>, one: Planned| match own
        .insert(one.point.destination.clone(), one)
    {
        None => Ok(()),
        Some(before) => {
            Err(Error::Invalid(format!("Duplicate mount point: {}", before.point.destination.display())))
        }
    };
    for bind in &host.binds {
        let mut one = of_bind(bind)?;
        if let Some(request) = &mut one.volume {
            request.driver.clone_from(&host.volume_driver);
        }
        add(&mut own, one)?;
    }
    for request in &host.mounts {
        add(&mut own, of_mount(request)?)?;
    }
    for (destination, options) in &host.tmpfs {
        let mut point = point(MountKind::Tmpfs, &absolute(destination).map_err(Error::Invalid)?);
        point.tmpfs_options.clone_from(options);
        // `--tmpfs` goes before `--mount` at its place, and clashes with `-v`.
        if host.mounts.iter().any(|request| request.is_at(&point.destination)) {
            own.insert(point.destination.clone(), Planned::new(point));
            continue;
        }
        add(&mut own, Planned::new(point))?;
    }
    own.values_mut().try_for_each(|one| follow_data_root(&mut one.point, data_root))?;
    planned.append(&mut own);
    for path in &config.volumes {
        // An image may have `VOLUME data`: it is meant from the root.
        let text = Path::new("/").join(path).to_string_lossy().into_owned();
        let destination = destination_of(&text, &text, MountKind::Volume)?;
        let point = point(MountKind::Volume, &destination);
        let request = VolumeRequest { driver: host.volume_driver.clone(), ..VolumeRequest::default() };
        planned.entry(destination.into()).or_insert(Planned {
            volume: Some(request),
            copies: true,
            ..Planned::new(point)
        });
    }
    Ok(planned.into_values().collect())
}

/// Checks what `--mount` asks for, before anything is looked up.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words.
pub(super) fn check(requests: &[MountRequest]) -> Result<(), Error> {
    requests.iter().try_for_each(|request| of_mount(request).map(drop))
}

/// The mount points of another container as `--volumes-from` gives them on: no tmpfs.
pub(super) fn inherit(points: &[MountPoint], mode: &str) -> Result<Vec<MountPoint>, Error> {
    let words = || mode.split(',');
    if !(mode.is_empty() || is_mode(mode)) || words().any(|word| word == "nocopy" || is_propagation(word)) {
        return Err(Error::Invalid(format!("invalid mode: {mode}")));
    }
    let read_only = words().any(|word| word == "ro");
    let kept = points.iter().filter(|point| point.kind != MountKind::Tmpfs).cloned();
    Ok(kept
        .map(|mut point| {
            point.writable &= !read_only;
            // What was written of the other's mount is not said of this one.
            point.mode.clear();
            point
        })
        .collect())
}

/// A writable mount with nothing said of it but its place.
pub(super) fn point(kind: MountKind, destination: &str) -> MountPoint {
    MountPoint {
        kind,
        name: String::new(),
        source: PathBuf::new(),
        destination: destination.into(),
        writable: true,
        mode: String::new(),
        propagation: String::new(),
        tmpfs_options: String::new(),
        non_recursive: false,
        read_only_non_recursive: false,
        subpath: String::new(),
        device: None,
    }
}

/// A destination of `-v`; `whole` is all of what the user wrote.
fn destination_of(path: &str, whole: &str, kind: MountKind) -> Result<String, Error> {
    absolute(path).map_err(|why| {
        let kind = name_of(kind);
        Error::Invalid(format!(
            "invalid volume specification: '{whole}': invalid mount config for type \"{kind}\": {why}"
        ))
    })
}

/// Cleans a path in the container, or says in Docker's words what is wrong with it.
fn absolute(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    match clean_path(path) {
        root if root == "/" => Err("invalid specification: destination can't be '/'".into()),
        clean => Ok(clean),
    }
}

fn name_of(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    }
}

/// `[source:]destination[:mode]`.
fn of_bind(text: &str) -> Result<Planned, Error> {
    let invalid = || Error::Invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match *parts.as_slice() {
        [destination] => ("", destination, ""),
        // A volume without a source has no mode.
        [_, mode] if is_mode(mode) => return Err(invalid()),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if parts.iter().any(|part| part.is_empty()) || (!mode.is_empty() && !is_mode(mode)) {
        return Err(if mode.is_empty() {
            invalid()
        } else {
            Error::Invalid(format!("invalid mode: {mode}"))
        });
    }
    let is_path = source.starts_with('/');
    let kind = if is_path { MountKind::Bind } else { MountKind::Volume };
    let destination = destination_of(destination, text, kind)?;
    check_foreign(text, mode, kind)?;
    let mut point = point(kind, &destination);
    point.mode = mode.into();
    let words = || mode.split(',');
    point.writable = !words().any(|word| word == "ro");
    point.propagation = words().find(|word| is_propagation(word)).unwrap_or_default().into();
    if is_path {
        point.source = clean_path(source).into();
        return Ok(Planned { creates_source: true, said: source.into(), ..Planned::new(point) });
    }
    let volume = VolumeRequest { name: source.into(), ..VolumeRequest::default() };
    let copies = !words().any(|word| word == "nocopy");
    Ok(Planned { volume: Some(volume), copies, ..Planned::new(point) })
}

/// Words of a mode that the other kind of mount has.
fn check_foreign(text: &str, mode: &str, kind: MountKind) -> Result<(), Error> {
    let foreign = match kind {
        MountKind::Bind if mode.split(',').any(|word| word == "nocopy") => "VolumeOptions",
        MountKind::Volume if mode.split(',').any(is_propagation) => "BindOptions",
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!(
        "invalid volume specification: '{text}': invalid mount config for type \"{}\": field {foreign} must not be specified",
        name_of(kind)
    )))
}

fn is_propagation(word: &str) -> bool {
    matches!(word, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")
}

/// At most one word of each sort, as Docker has it.
fn is_mode(mode: &str) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    mode.split(',').all(|word| {
        let sort = match word {
            "ro" | "rw" => "access",
            "z" | "Z" => "label",
            "nocopy" => "copy",
            "consistent" | "cached" | "delegated" => "consistency",
            _ if is_propagation(word) => "propagation",
            _ => return false,
        };
        seen.insert(sort)
    })
}

fn of_mount(request: &MountRequest) -> Result<Planned, Error> {
    let kind = name_of(request.kind);
    let invalid = |why: &str| Error::Invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    if request.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let destination = absolute(&request.target).map_err(|why| invalid(&why))?;
    let mut point = point(request.kind, &destination);
    point.writable = !request.read_only;
    let mut planned = Planned {
        creates_source: request.create_source,
        said: request.source.clone(),
        ..Planned::new(point)
    };
    match request.kind {
        MountKind::Bind => {
            if request.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !request.propagation.is_empty() && !is_propagation(&request.propagation) {
                return Err(invalid(&format!("invalid propagation mode: {}", request.propagation)));
            }
            if !Path::new(&request.source).is_absolute() {
                let source = &request.source;
                return Err(invalid(&format!("invalid mount path: '{source}' mount path must be absolute")));
            }
            planned.point.source = clean_path(&request.source).into();
            planned.point.propagation.clone_from(&request.propagation);
            planned.point.non_recursive = request.non_recursive;
            planned.point.read_only_non_recursive = request.read_only_non_recursive;
        }
        MountKind::Volume => {
            let anonymous = request.source.is_empty();
            if !request.subpath.is_empty() {
                if anonymous {
                    return Err(invalid("must not set Subpath when using anonymous volumes"));
                }
                if !subpath::is_local(&request.subpath) {
                    return Err(invalid("subpath must be a relative path within the volume"));
                }
            }
            if anonymous && request.read_only {
                return Err(invalid("must not set ReadOnly mode when using anonymous volumes"));
            }
            planned.point.subpath.clone_from(&request.subpath);
            planned.copies = !request.no_copy;
            planned.volume = Some(VolumeRequest {
                name: request.source.clone(),
                driver: request.driver.clone(),
                labels: request.labels.clone(),
                options: request.driver_options.clone(),
            });
        }
        MountKind::Tmpfs => {
            if !request.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let mut options = Vec::new();
            if request.read_only {
                options.push("ro".to_owned());
            }
            if request.tmpfs_mode != 0 {
                options.push(format!("mode={:o}", request.tmpfs_mode));
            }
            if request.tmpfs_size_bytes != 0 {
                options.push(format!("size={}", request.tmpfs_size_bytes));
            }
            planned.point.tmpfs_options = options.join(",");
        }
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bind: &str, want: Result<(&str, &str, &str, bool), ()>) {
        let got = of_bind(bind);
        let short = got.as_ref().map_err(|_| ()).map(|planned| {
            let volume = planned.volume.as_ref().map_or("", |volume| volume.name.as_str());
            let point = &planned.point;
            (
                volume,
                point.source.to_str().expect("text"),
                point.destination.to_str().expect("text"),
                point.writable,
            )
        });
        assert_eq!(short, want, "{bind}: {got:?}");
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        check("/a:/b", Ok(("", "/a", "/b", true)));
        check("/a/../c:/b/:ro", Ok(("", "/c", "/b", false)));
        check("name:/b:ro,z", Ok(("name", "", "/b", false)));
        check("/b", Ok(("", "", "/b", true)));
        check("/a:/b:rshared", Ok(("", "/a", "/b", true)));
        check("/a:/b:ro,rw", Err(()));
        check("/a:/b:nocopy", Err(()));
        check("name:/b:rshared", Err(()));
        check("name:/b:nocopy", Ok(("name", "", "/b", true)));
        check("/a:/b:fast", Err(()));
        check("/a:b", Err(()));
        check("/a:/b:ro,rw", Err(()));
        check("/a:/b:ro,z,rslave,cached", Ok(("", "/a", "/b", false)));
        check("/a:/", Err(()));
        check("a:b:c:d", Err(()));
        check("/a::ro", Err(()));
        check("/a:ro", Err(()));
        check("", Err(()));
    }

    /// A mount at `/t`.
    fn request(kind: MountKind, source: &str) -> MountRequest {
        MountRequest {
            kind,
            source: source.into(),
            target: "/t".into(),
            read_only: false,
            propagation: String::new(),
            non_recursive: false,
            read_only_non_recursive: false,
            create_source: false,
            no_copy: false,
            labels: BTreeMap::new(),
            driver: String::new(),
            driver_options: BTreeMap::new(),
            subpath: String::new(),
            tmpfs_size_bytes: 0,
            tmpfs_mode: 0,
        }
    }

    #[test]
    fn a_tmpfs_goes_before_a_mount_at_its_place_and_clashes_with_a_bind() {
        let tmpfs = || BTreeMap::from([("/t".to_owned(), "size=1m".to_owned())]);
        let kinds = |host: HostConfig| {
            let planned = plan(&Config::default(), &host, Vec::new(), Path::new("/data"))
                .map_err(|error| error.to_string());
            planned.map(|all| all.into_iter().map(|one| one.point.kind).collect::<Vec<_>>())
        };
        for kind in [MountKind::Volume, MountKind::Tmpfs] {
            let mut mount = request(kind, "");
            mount.target = "/x/../t/".into();
            let host = HostConfig { mounts: vec![mount], tmpfs: tmpfs(), ..HostConfig::default() };
            assert_eq!(kinds(host), Ok(vec![MountKind::Tmpfs]));
        }
        let host = HostConfig { binds: vec!["/a:/t".into()], tmpfs: tmpfs(), ..HostConfig::default() };
        assert_eq!(kinds(host), Err("Duplicate mount point: /t".into()));
        let twice = vec![request(MountKind::Volume, "a"), request(MountKind::Volume, "b")];
        let host = HostConfig { mounts: twice, ..HostConfig::default() };
        assert_eq!(kinds(host), Err("Duplicate mount point: /t".into()));
    }

    #[test]
    fn what_is_wrong_with_a_mount_is_told_in_dockers_words() {
        let bind = |text: &str| of_bind(text).err().map_or(String::new(), |error| error.to_string());
        assert_eq!(
            bind("/a:b"),
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute"
        );
        assert_eq!(
            bind("/a:/"),
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"
        );
        let mount = |request: MountRequest| {
            super::check(&[request]).err().map_or(String::new(), |error| error.to_string())
        };
        assert_eq!(
            mount(request(MountKind::Bind, "")),
            "invalid mount config for type \"bind\": field Source must not be empty"
        );
        assert_eq!(
            mount(request(MountKind::Tmpfs, "x")),
            "invalid mount config for type \"tmpfs\": field Source must not be specified"
        );
        assert_eq!(
            mount(MountRequest { propagation: "x".into(), ..request(MountKind::Bind, "/a") }),
            "invalid mount config for type \"bind\": invalid propagation mode: x"
        );
        assert_eq!(mount(request(MountKind::Bind, "/a")), "");
        let volume = |source: &str, subpath: &str, read_only: bool| {
            mount(MountRequest { subpath: subpath.into(), read_only, ..request(MountKind::Volume, source) })
        };
        assert_eq!(volume("v", "sub/../x", true), "");
        for (source, subpath, read_only, want) in [
            ("v", "../x", false, "subpath must be a relative path within the volume"),
            ("v", "/x", false, "subpath must be a relative path within the volume"),
            ("", "x", false, "must not set Subpath when using anonymous volumes"),
            ("", "", true, "must not set ReadOnly mode when using anonymous volumes"),
        ] {
            let want = format!("invalid mount config for type \"volume\": {want}");
            assert_eq!(volume(source, subpath, read_only), want);
        }
    }

    #[test]
    fn mounts_of_others_are_taken_with_a_mode() {
        let point = MountPoint { mode: "ro,z".into(), ..point(MountKind::Bind, "/b") };
        let check = |mode: &str| {
            let taken = inherit(std::slice::from_ref(&point), mode).map_err(|error| error.to_string())?;
            Ok::<_, String>((taken[0].writable, taken[0].mode.clone()))
        };
        for (mode, writable) in [("", true), ("rw", true), ("z", true), ("ro", false), ("ro,z", false)] {
            assert_eq!(check(mode), Ok((writable, String::new())), "{mode}");
        }
        for bad in ["x", "ro,rw", "nocopy", "rslave", "ro:rw"] {
            assert_eq!(check(bad), Err(format!("invalid mode: {bad}")));
        }
    }

    #[test]
    fn destinations_are_unique_and_images_volumes_come_last() {
        let host = |binds: &[&str]| HostConfig {
            binds: binds.iter().map(|bind| (*bind).to_owned()).collect(),
            ..HostConfig::default()
        };
        let config = Config { volumes: vec!["/v".into(), "/b".into()], ..Config::default() };
        let planned = plan(&config, &host(&["/a:/b"]), Vec::new(), Path::new("/data")).expect("a plan");
        let kinds: Vec<_> = planned.iter().map(|planned| planned.point.kind).collect();
        assert_eq!(kinds, [MountKind::Bind, MountKind::Volume]);
        assert!(plan(&config, &host(&["/a:/b", "/c:/b"]), Vec::new(), Path::new("/data")).is_err());
    }

    #[test]
    fn a_bind_of_the_data_root_follows_the_host() {
        let propagation = |bind: &str| {
            let host = HostConfig { binds: vec![bind.into()], ..HostConfig::default() };
            let planned = plan(&Config::default(), &host, Vec::new(), Path::new("/var/lib/gantry"));
            planned.map(|planned| planned[0].point.propagation.clone()).map_err(|error| error.to_string())
        };
        for bind in ["/:/host", "/var:/v", "/var/lib/gantry:/x", "/var/lib/gantry/volumes:/x:ro"] {
            assert_eq!(propagation(bind), Ok("rslave".into()), "{bind}");
        }
        assert_eq!(propagation("/var/lib/gantry-more:/x"), Ok(String::new()));
        assert_eq!(propagation("/:/host:rshared"), Ok("rshared".into()));
        assert_eq!(
            propagation("/var:/v:private"),
            Err("invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: \"/var/lib/gantry\", bind mount source: \"/var\", propagation: \"private\"".into())
        );
    }
}
