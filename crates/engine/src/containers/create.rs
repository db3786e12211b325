//! Making a container: everything is decided, then one transaction reserves the name and refers to the
//! volumes, then the writable layer and the directory are made.
//!
//! A row whose snapshot does not exist was being made when the daemon died; recovery removes it. The
//! image needs no lease: the snapshot holds its layers, the record holds what else is needed, and an
//! image that is removed in between is an error of `prepare`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::mount::{MountKind, MountPoint};
use gantry_model::platform::InvalidPlatform;
use gantry_model::{ContainerId, Platform, SnapshotId};
use gantry_store::image::Image;
use rustix::fs::{Mode, OFlags};

use super::config::{Config, CreateRequest, EndpointRequest, HostConfig};
use super::core::{self, Core};
use super::limits::Available;
use super::mountpoints::{self, Planned};
use super::record::{Record, State};
use super::task::{Known, Spawned};
use super::{Containers, Created, Error, RemoveOptions, check, endpoints, merge, remove, subpath};
use crate::database::LedgerError;
use crate::volumes::{self, Mark, Volume};

/// Attempts at a made-up name.
const NAME_ATTEMPTS: u32 = 64;

impl Containers {
    /// Makes a container: reserves its name, takes a writable layer and volumes.
    ///
    /// # Errors
    /// [`Error`]; nothing remains.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, Error> {
        let core = Arc::clone(&self.core);
        let runtime = tokio::runtime::Handle::current();
        crate::blocking(move || {
            let (record, warnings) = create(&core, request)?;
            let id = record.id.clone();
            super::publish(&core, &record, "create", Vec::new());
            let network = Arc::new(core.sandboxes.detached(&record));
            let known = Known { record: Arc::new(record), state: State::default(), network, seq: 0 };
            Spawned::new(&core, known).run(&runtime);
            Ok(Created { id, warnings })
        })
        .await
    }
}

/// Docker's text about a name.
pub(super) fn invalid_name(name: &str) -> Error {
    Error::Invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
}

fn create(core: &Core, request: CreateRequest) -> Result<(Record, Vec<String>), Error> {
    let mut host = request.host;
    if host.log.driver.is_empty() {
        // Options may come without a driver: they are the default driver's, over the daemon's own.
        let given = std::mem::replace(&mut host.log, core.host.settings.defaults.log.clone());
        host.log.options.extend(given.options);
    }
    let available = Available::here(core.host.cpus, &host.resources);
    let warnings = check::check(&request.config, &mut host, &available)?;
    let bridge = core.networks.bridge().map(|bridge| bridge.gateway);
    endpoints::check(&request.config, &host, &request.endpoints, bridge)?;
    let mut host_config_json = request.host_config_json;
    echo_discarded(&host, &mut host_config_json);
    pin_others(core, &mut host, &mut host_config_json)?;
    let image = find_image(core, &request.config.image, &request.platform)?;
    let config = merge::merge(request.config, &image.config.config)?;
    let name = request.name.strip_prefix('/').unwrap_or(&request.name).to_owned();
    if !request.name.is_empty() && !crate::names::is_allowed(&name) {
        // A name is told as it was given.
        return Err(invalid_name(&request.name));
    }
    let mut made = Made::new();
    let mut mounts = mounts(core, &config, &host, &mut made).inspect_err(|_| remove_volumes(core, &made))?;
    for one in &mut mounts {
        let bind = one.point.kind == MountKind::Bind && !one.point.writable;
        one.point.read_only_non_recursive |= bind && request.binds_are_read_only_at_the_top;
    }
    let mut record = record(core, name, &image, config, host, mounts);
    record.config_json = request.config_json;
    record.host_config_json = host_config_json;
    record.endpoints = request.endpoints;
    let result = reserve(core, &mut record).and_then(|()| {
        reached(Point::CreateReserved);
        make(core, &record, &image, &made).inspect_err(|_| {
            remove::unmake(core, &record, RemoveOptions::default());
        })
    });
    if let Err(error) = result {
        remove_volumes(core, &made);
        return Err(error);
    }
    Ok((record, warnings))
}

/// Has inspect show that weights which the kernel lacks were dropped.
fn echo_discarded(host: &HostConfig, echoed: &mut serde_json::Value) {
    let resources = &host.resources;
    let dropped = [
        (resources.blkio_weight == 0, "BlkioWeight", serde_json::Value::from(0)),
        (resources.blkio_weights.is_empty(), "BlkioWeightDevice", serde_json::Value::Array(Vec::new())),
    ];
    for (dropped, key, value) in dropped {
        if let (true, Some(kept)) = (dropped, echoed.get_mut(key))
            && !kept.is_null()
        {
            *kept = value;
        }
    }
}

/// Removes the anonymous volumes that were made for a container that will not be.
fn remove_volumes(core: &Core, made: &Made) {
    for Used { volume, .. } in made.iter().filter(|used| used.fresh && used.volume.anonymous) {
        if let Err(error) = core.volumes.remove_now(volume) {
            tracing::warn!("volume {} stays: {error}", volume.name);
        }
    }
}

/// The image, of the platform that was asked for.
fn find_image(core: &Core, name: &str, platform: &str) -> Result<Arc<Image>, Error> {
    let failed = |error| match error {
        gantry_store::image::ImageError::NoSuchImage(name) => Error::NoSuchImage(name),
        other => Error::Invalid(crate::chain(&other)),
    };
    let images = core.store.images();
    let own = images.resolve(name).map_err(failed)?;
    if platform.is_empty() {
        return Ok(own);
    }
    let wanted: Platform =
        platform.parse().map_err(|error: InvalidPlatform| Error::Invalid(error.to_string()))?;
    // Of an index it may be another image than the name means by itself.
    let image = images.resolve_for(name, &wanted).map_err(failed)?;
    let have = Platform { variant: String::new(), ..image.config.platform() };
    if have.os == wanted.os && have.architecture == wanted.architecture {
        return Ok(image);
    }
    Err(Error::NotFound(format!(
        "image with reference {name} was found but its platform ({have}) does not match the specified platform ({wanted})"
    )))
}

/// `container:` is pinned to the other's id, also in what inspect echoes, so that a later rename changes
/// nothing. Another whose network is to be joined may come later: it is looked up again at start, as in Docker.
fn pin_others(core: &Core, host: &mut HostConfig, echoed: &mut serde_json::Value) -> Result<(), Error> {
    let modes = [
        ("NetworkMode", &mut host.network_mode),
        ("PidMode", &mut host.namespaces.pid),
        ("IpcMode", &mut host.namespaces.ipc),
    ];
    for (key, mode) in modes {
        let Some(other) = mode.strip_prefix("container:") else { continue };
        match core.index.find(other) {
            Ok(entry) => *mode = format!("container:{}", entry.id),
            // Who is not named is looked for at start, too.
            Err(_) if key == "NetworkMode" || other.is_empty() => continue,
            Err(error) => return Err(error),
        }
        if let Some(kept) = echoed.get_mut(key) {
            *kept = serde_json::Value::String(mode.clone());
        }
    }
    Ok(())
}

/// A volume that a container uses.
struct Used {
    volume: Arc<Volume>,
    /// It was made for this container.
    fresh: bool,
    /// Where it is mounted.
    destination: PathBuf,
    /// What the image has at its place is copied into it, if nothing is in it.
    copies: bool,
}

type Made = Vec<Used>;

/// Finds or makes the volumes and the sources of binds. Volumes that are made for nothing, also where this fails, are
/// removed by the caller.
fn mounts(core: &Core, config: &Config, host: &HostConfig, made: &mut Made) -> Result<Vec<Planned>, Error> {
    let mut inherited = Vec::new();
    for from in &host.volumes_from {
        if from.is_empty() {
            return Err(Error::Invalid("volumes-from specification cannot be an empty string".into()));
        }
        let (name, mode) = from.split_once(':').unwrap_or((from, ""));
        if name.is_empty() {
            return Err(Error::Invalid("invalid name or ID supplied: \"\"".into()));
        }
        let other = core.index.find(name)?.view();
        inherited.extend(mountpoints::inherit(&other.record.mounts, mode)?);
    }
    let mut planned = mountpoints::plan(config, host, inherited, &core.host.settings.data_root)?;
    for one in &mut planned {
        if let Some(request) = one.volume.take() {
            let (volume, fresh) =
                core.volumes.create_now(request, Mark::Fleeting).map_err(|error| match error {
                    volumes::Error::Invalid(text) => Error::Invalid(text),
                    // Clients take it for a missing image and look for that first, as with Docker.
                    driver @ volumes::Error::NoSuchDriver { .. } => Error::NotFound(driver.to_string()),
                    other => Error::Internal(other.to_string()),
                })?;
            one.point.name.clone_from(&volume.name);
            one.point.source.clone_from(&volume.mountpoint);
            one.point.device = volume.device();
            made.push(Used { volume, fresh, destination: one.point.destination.clone(), copies: one.copies });
        }
        if one.point.kind == MountKind::Bind {
            check_source(one)?;
        }
    }
    Ok(planned)
}

/// `-v` makes a missing source; `--mount` refuses it.
fn check_source(planned: &Planned) -> Result<(), Error> {
    let path = &planned.point.source;
    if path.exists() {
        return Ok(());
    }
    if !planned.creates_source {
        return Err(Error::Invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            planned.said
        )));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| {
        let reason = std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or_default()).to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
        let path = path.display();
        Error::Internal(format!("error while creating mount source path '{path}': mkdir {path}: {reason}"))
    })
}

fn record(
    core: &Core,
    name: String,
    image: &Image,
    config: Config,
    host: HostConfig,
    mounts: Vec<Planned>,
) -> Record {
    let id = ContainerId::from_random(crate::random());
    let mut words = merge::words(&config).into_iter();
    Record {
        directory: core.host.settings.data_root.join("containers").join(id.as_str()),
        id,
        name,
        created: crate::events::now(),
        image: image.id,
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        config,
        host,
        config_json: serde_json::Value::Null,
        host_config_json: serde_json::Value::Null,
        endpoints: Vec::<EndpointRequest>::new(),
        mounts: mounts.into_iter().map(|planned| planned.point).collect(),
        layers: image.layers.clone(),
    }
}

/// The one transaction: the name is taken, or it is not.
fn reserve(core: &Core, record: &mut Record) -> Result<(), Error> {
    let given = !record.name.is_empty();
    for attempt in 0..NAME_ATTEMPTS {
        if !given {
            let [a, b, c, d, e, f, g, h, ..] = crate::random();
            record.name = crate::names::made_up(u64::from_le_bytes([a, b, c, d, e, f, g, h]), attempt);
        }
        let written = core.ledger.write(|transaction| {
            if let Some(owner) = core::owner_of(transaction, &record.name)? {
                return Ok(Some(owner));
            }
            core::insert(transaction, record, &State::default(), &core.host.boot_id)?;
            for point in record.mounts.iter().filter(|point| point.kind == MountKind::Volume) {
                crate::volumes::refer(transaction, record.id.as_str(), &point.name)?;
            }
            Ok::<_, LedgerError>(None)
        });
        match written {
            Ok(None) => return Ok(()),
            Ok(Some(id)) if given => return Err(Error::NameTaken { name: record.name.clone(), id }),
            Ok(Some(_)) => {}
            Err(error) if error.is_referred_to() => {
                return Err(Error::NotFound("a volume of the container was removed meanwhile".into()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Internal("no free container name was found".into()))
}

fn make(core: &Core, record: &Record, image: &Image, volumes: &Made) -> Result<(), Error> {
    let snapshot = SnapshotId::from(&record.id);
    let failed = |error: &dyn std::error::Error| Error::Internal(crate::chain(error));
    core.store.snapshots().prepare(&snapshot, &image.layers).map_err(|error| failed(&error))?;
    reached(Point::CreateSnapshot);
    make_directory(&record.directory)
        .map_err(|error| Error::Internal(format!("cannot make {}: {error}", record.directory.display())))?;
    reached(Point::CreateDirectory);
    let copies = |point: &&MountPoint| {
        let used = volumes.iter().find(|used| used.destination == point.destination);
        // What options mount is there already, or is empty each time.
        point.device.is_none() && used.is_some_and(|used| used.copies)
    };
    populate(core, &snapshot, record.mounts.iter().filter(copies))?;
    // Also one that nothing is copied into (`nocopy`) is the container's from here on.
    if volumes.iter().any(|used| used.fresh && used.volume.anonymous) {
        core.ledger.write(|transaction| crate::volumes::mark(transaction, &record.id, Mark::Lasting))?;
    }
    Ok(())
}

/// Copies what the image has into the volumes that nothing is in.
fn populate<'m>(
    core: &Core,
    snapshot: &SnapshotId,
    points: impl Iterator<Item = &'m MountPoint>,
) -> Result<(), Error> {
    let empty = points.filter_map(|point| {
        let place = place_of(point).ok()?;
        volumes::is_empty(place.as_fd()).is_ok_and(|empty| empty).then_some((point, place))
    });
    let empty: Vec<(&MountPoint, OwnedFd)> = empty.collect();
    if empty.is_empty() {
        return Ok(());
    }
    let root =
        core.store.snapshots().open(snapshot).map_err(|error| Error::Internal(crate::chain(&error)))?;
    let _one = core.volumes.populating.lock();
    for (point, place) in empty {
        volumes::populate(root.as_fd(), &point.destination, place.as_fd()).map_err(|error| {
            Error::Internal(format!("failed to copy the image's files to volume {}: {error}", point.name))
        })?;
    }
    reached(Point::CreatePopulated);
    Ok(())
}

/// The directory of a volume that a mount point mounts.
fn place_of(point: &MountPoint) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if point.subpath.is_empty() {
        return Ok(rustix::fs::open(&point.source, flags, Mode::empty())?);
    }
    let place = subpath::open(&point.source, &point.subpath)?;
    Ok(rustix::fs::openat(&place, ".", flags, Mode::empty())?)
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o710).create(path)?;
    fs::DirBuilder::new().mode(0o700).create(path.join("log"))
}
