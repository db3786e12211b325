//! Volumes: named and anonymous directories that outlive containers.
//!
//! A volume is a row, a directory `volumes/<name>/_data`, and `volumes/<name>/volume.json` with the
//! same record, so that a directory describes itself should the database be lost: volumes are never
//! swept. That a container uses one is a row with a foreign key, which also decides whether it can go.

mod fleeting;
mod populate;
mod prune;
mod recovery;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::failpoint::{Point, reached};
use gantry_model::filter::Filters;
use gantry_model::mount::VolumeDevice;
use gantry_model::{ErrorKind, Timestamp};
use gantry_store::Store;
use parking_lot::Mutex;
use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use crate::database::{Ledger, LedgerError};
use crate::events::Events;

pub(crate) use fleeting::{Mark, mark, users_of_fleeting};
pub(crate) use populate::{is_empty, populate};

/// All volumes. Cheap to clone.
#[derive(Clone)]
pub struct Volumes {
    ledger: Ledger,
    events: Events,
    directory: Arc<PathBuf>,
    /// Whose reserve a removal takes on a full disk.
    store: Arc<Store>,
    /// Held while a volume gets its first files: two containers may want to give them to it.
    pub(crate) populating: Arc<Mutex<()>>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name; 64 hexadecimal digits for an anonymous one.
    pub name: String,
    /// Always `local` yet.
    pub driver: String,
    /// Where its files are: `volumes/<name>/_data`.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Whether it was made for a container without being named.
    pub anonymous: bool,
    /// Whether it goes if what is being done with its container is interrupted; see [`fleeting`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fleeting: bool,
}

impl Volume {
    /// What is mounted in the place of its directory, if its options say so.
    pub(crate) fn device(&self) -> Option<VolumeDevice> {
        let option = |key: &str| self.options.get(key).cloned().unwrap_or_default();
        self.options.contains_key("device").then(|| VolumeDevice {
            kind: option("type"),
            device: option("device"),
            options: option("o"),
        })
    }
}

/// What `volume create` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeRequest {
    /// Empty makes an anonymous one.
    pub name: String,
    /// Empty is `local`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// Bytes of the longest name of a directory.
const LONGEST_NAME: usize = 255;

/// What the directory of a volume that is being removed is called besides its name. No volume's name begins so.
pub(crate) const DOOMED: &str = ".removed-";

/// Docker's label of a volume that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

impl Volumes {
    pub(crate) fn new(ledger: Ledger, events: Events, directory: PathBuf, store: Arc<Store>) -> Self {
        Self { ledger, events, directory: Arc::new(directory), store, populating: Arc::default() }
    }

    /// Makes a volume; one that is there already is given back unchanged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name; [`Error::Conflict`] if it is there with another driver.
    pub async fn create(&self, request: VolumeRequest) -> Result<Arc<Volume>, Error> {
        self.create_now(request, Mark::Lasting).map(|(volume, _)| volume)
    }

    /// As [`Volumes::create`], and says whether it is new. An anonymous one is marked as wanted.
    pub(crate) fn create_now(
        &self,
        request: VolumeRequest,
        mark: Mark,
    ) -> Result<(Arc<Volume>, bool), Error> {
        let anonymous = request.name.is_empty();
        let name = if anonymous { gantry_model::id::to_hex(&crate::random()) } else { request.name };
        if !matches!(request.driver.as_str(), "" | "local") {
            return Err(Error::NoSuchDriver { volume: name, driver: request.driver });
        }
        if name.chars().count() == 1 {
            let text = "volume name is too short, names should be at least two alphanumeric characters";
            return Err(Error::Invalid(format!("create {name}: {text}")));
        }
        if !crate::names::is_allowed(&name) {
            return Err(Error::Invalid(format!(
                "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        if name.len() > LONGEST_NAME {
            let path = self.directory.join(&name);
            return Err(Error::Invalid(format!(
                "create {name}: error while creating volume root path '{}': mkdir {}: file name too long",
                path.display(),
                path.display()
            )));
        }
        check_options(&request.options).map_err(|why| Error::Invalid(format!("create {name}: {why}")))?;
        if let Some(there) = self.find(&name)? {
            return Ok((there, false));
        }
        let mut labels = request.labels;
        if anonymous {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        let volume = Volume {
            mountpoint: data_directory(&self.directory, &name),
            name,
            driver: "local".into(),
            created: crate::events::now(),
            labels,
            options: request.options,
            anonymous,
            fleeting: anonymous && mark == Mark::Fleeting,
        };
        self.make(&volume)?;
        let attributes = [("driver".to_owned(), "local".to_owned())].into();
        self.events.publish("volume", "create", &volume.name, attributes);
        Ok((Arc::new(volume), true))
    }

    /// The record first, then the directory: a row without one is made whole by the next use.
    fn make(&self, volume: &Volume) -> Result<(), Error> {
        let record = serde_json::to_string(volume).map_err(|error| Error::Internal(error.to_string()))?;
        self.ledger.write(|transaction| {
            transaction
                .prepare_cached("INSERT INTO volumes VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute((&volume.name, &record))
                .map_err(LedgerError::from)
        })?;
        if let Err(error) = make_directory(&volume.mountpoint, &record) {
            self.unmake(volume);
            return Err(Error::Internal(format!("error while creating volume root path: {error}")));
        }
        reached(Point::VolumeMade);
        Ok(())
    }

    /// Takes back what [`Self::make`] did before it failed. Never a file of anybody's: one that is there makes the
    /// volume stay.
    fn unmake(&self, volume: &Volume) {
        let directory = self.directory.join(&volume.name);
        if fs::remove_dir(&volume.mountpoint).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            return;
        }
        // What cannot be removed now is made whole by the next use, as the row is.
        let _ = fs::remove_file(directory.join("volume.json"));
        let _ = fs::remove_dir(&directory);
        let delete = || {
            self.ledger.write(|transaction| {
                let mut delete = transaction.prepare_cached("DELETE FROM volumes WHERE name = ?1")?;
                delete.execute([&volume.name]).map_err(LedgerError::from)
            })
        };
        // What kept it from being made is often a full disk, which keeps it from being forgotten too.
        let deleted =
            delete().or_else(|error| if self.store.spend_reserve() { delete() } else { Err(error) });
        if let Err(error) = deleted {
            tracing::warn!("volume {} was half made and is recorded: {error}", volume.name);
        }
    }

    /// All volumes by name. Filters: `name`, `driver`, `label`, `dangling`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Arc<Volume>>, Error> {
        const KNOWN: [&str; 4] = ["name", "driver", "label", "dangling"];
        check_filters(filters, &KNOWN)?;
        let dangling = filters.flag("dangling").map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self
            .all()?
            .into_iter()
            .filter(|(volume, users)| {
                let drivers = filters.get("driver");
                filters.found_in("name", &volume.name)
                    && (drivers.is_empty() || drivers.contains(&volume.driver))
                    && dangling.is_none_or(|wanted| wanted == (*users == 0))
                    && filters.labels_match(&volume.labels)
            })
            .map(|(volume, _)| Arc::new(volume))
            .collect())
    }

    fn all(&self) -> Result<Vec<(Volume, usize)>, LedgerError> {
        self.ledger.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT record, (SELECT count(*) FROM container_volumes WHERE volume = name) FROM volumes ORDER BY name",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            rows.map(|row| {
                let (record, users) = row?;
                Ok((self.parse(&record)?, usize::try_from(users).unwrap_or(0)))
            })
            .collect()
        })
    }

    /// Finds a volume by name.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn inspect(&self, name: &str) -> Result<Arc<Volume>, Error> {
        self.find(name)?.ok_or_else(|| Error::NoSuchVolume(name.into()))
    }

    pub(crate) fn find(&self, name: &str) -> Result<Option<Arc<Volume>>, LedgerError> {
        let record = self.ledger.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT record FROM volumes WHERE name = ?1")?;
            Ok(statement.query_row([name], |row| row.get::<_, String>(0)).optional()?)
        })?;
        Ok(record.map(|record| self.parse(&record)).transpose()?.map(Arc::new))
    }

    /// Reads a record. Where the data lie is not its to say: the data root may have been moved since it was written.
    fn parse(&self, record: &str) -> Result<Volume, LedgerError> {
        let volume: Volume = serde_json::from_str(record)?;
        Ok(Volume { mountpoint: data_directory(&self.directory, &volume.name), ..volume })
    }

    /// Removes a volume; with `force`, one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a container uses it.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let volumes = self.clone();
        let name = name.to_owned();
        crate::blocking(move || match volumes.find(&name)? {
            Some(volume) => volumes.remove_now(&volume),
            None if force => Ok(()),
            None => Err(Error::NoSuchVolume(name)),
        })
        .await
    }

    /// Removes a volume that nobody uses; on a full disk with the blocks kept for that.
    pub(crate) fn remove_now(&self, volume: &Volume) -> Result<(), Error> {
        let directory = self.directory.join(&volume.name);
        let doomed = self.directory.join(doomed(&volume.name));
        let failed = |error| Error::Internal(format!("remove {}: {error}", directory.display()));
        // The row goes, and with it the name on the disk, so that nobody can begin to use what is being deleted.
        // Whether a directory that is found under the other name is to go, the row says: see `sweep`.
        let delete = || {
            let deleted = self.ledger.write(|transaction| -> Result<(), Unremoved> {
                transaction
                    .prepare_cached("DELETE FROM volumes WHERE name = ?1")
                    .and_then(|mut statement| statement.execute([&volume.name]))
                    .map_err(LedgerError::from)?;
                Ok(moved_away(&directory, &doomed)?)
            });
            if matches!(deleted, Err(Unremoved::Row(_))) {
                // As it was, where it was, if it was moved at all.
                let _ = fs::rename(&doomed, &directory);
            }
            deleted
        };
        let deleted = match delete() {
            Err(Unremoved::Row(error)) if !error.is_referred_to() && self.store.spend_reserve() => delete(),
            deleted => deleted,
        };
        match deleted {
            Ok(()) => {
                reached(Point::RemoveVolume);
                remove_tree(&doomed).map_err(failed)?;
            }
            Err(Unremoved::Directory(error)) => return Err(failed(error)),
            Err(Unremoved::Row(error)) if error.is_referred_to() => return Err(self.in_use(&volume.name)),
            Err(Unremoved::Row(error)) => return Err(error.into()),
        }
        let attributes = [("driver".to_owned(), "local".to_owned())].into();
        self.events.publish("volume", "destroy", &volume.name, attributes);
        Ok(())
    }

    fn in_use(&self, name: &str) -> Error {
        let users = self.ledger.read(|transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT container FROM container_volumes WHERE volume = ?1")?;
            let rows = statement.query_map([name], |row| row.get::<_, String>(0))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        let users = users.unwrap_or_default().join(", ");
        Error::Conflict(format!("remove {name}: volume is in use - [{users}]"))
    }

    /// Bytes that a volume's files take, and how many containers refer to it, for `system df`. Slow.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn usage(&self, name: &str) -> Result<(u64, usize), Error> {
        let volumes = self.clone();
        let name = name.to_owned();
        crate::blocking(move || {
            let found = volumes.all()?.into_iter().find(|(volume, _)| volume.name == name);
            let (volume, users) = found.ok_or(Error::NoSuchVolume(name))?;
            Ok((size_of(&volume.mountpoint), users))
        })
        .await
    }
}

/// The name under which a volume's directory is deleted. Of a name that leaves no room for more, a sum and the end.
fn doomed(name: &str) -> String {
    let whole = format!("{DOOMED}{name}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{DOOMED}{hash:016x}-{}", &name[name.len() - 200..])
}

/// Checks the driver's options, in Docker's words: what would be mounted must be named whole.
fn check_options(options: &BTreeMap<String, String>) -> Result<(), String> {
    const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
    const TOGETHER: [(&str, [&str; 2]); 3] =
        [("device", ["type", "type"]), ("type", ["device", "device"]), ("o", ["device", "type"])];
    if let Some(option) = options.keys().find(|option| !KNOWN.contains(&option.as_str())) {
        return Err(format!("invalid option: {option:?}"));
    }
    if options.contains_key("size") {
        return Err("quota size requested but no quota support".into());
    }
    for (option, needed) in TOGETHER {
        let missing = needed.iter().find(|needed| !options.contains_key(**needed));
        if let (true, Some(missing)) = (options.contains_key(option), missing) {
            return Err(format!("missing required option: {missing:?}"));
        }
    }
    Ok(())
}

/// Notes that a container uses a volume.
///
/// # Errors
/// [`LedgerError`]; `is_referred_to` where the volume went away meanwhile.
pub(crate) fn refer(transaction: &Transaction<'_>, container: &str, volume: &str) -> Result<(), LedgerError> {
    transaction
        .prepare_cached("INSERT INTO container_volumes VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute((container, volume))?;
    Ok(())
}

/// Where the data of a volume lie, by the directory of all volumes.
pub(crate) fn data_directory(volumes: &Path, name: &str) -> PathBuf {
    volumes.join(name).join("_data")
}

fn make_directory(data: &Path, record: &str) -> io::Result<()> {
    let parent = data.parent().unwrap_or(data);
    fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
    fs::write(parent.join("volume.json"), record)?;
    reached(Point::VolumeDescribed);
    match fs::DirBuilder::new().mode(0o755).create(data) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// What kept a volume from being removed.
enum Unremoved {
    Row(LedgerError),
    Directory(io::Error),
}

impl From<LedgerError> for Unremoved {
    fn from(error: LedgerError) -> Self {
        Self::Row(error)
    }
}

impl From<gantry_state::Error> for Unremoved {
    fn from(error: gantry_state::Error) -> Self {
        Self::Row(error.into())
    }
}

impl From<io::Error> for Unremoved {
    fn from(error: io::Error) -> Self {
        Self::Directory(error)
    }
}

/// Gives a directory another name. One that is not there needs none.
fn moved_away(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The sizes of all files below, hard links once, and the lengths of symbolic links: as Docker counts. What cannot
/// be read counts nothing.
fn size_of(directory: &Path) -> u64 {
    let (mut bytes, mut seen, mut rest) = (0, HashSet::new(), vec![directory.to_owned()]);
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => rest.push(entry.path()),
                Ok(metadata) if metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino())) => {
                    bytes += metadata.len();
                }
                _ => {}
            }
        }
    }
    bytes
}

fn check_filters(filters: &Filters, known: &[&str]) -> Result<(), Error> {
    match filters.keys().find(|key| !known.contains(key)) {
        Some(key) => Err(Error::Invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Says why an operation on a volume failed, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// No plug-in has this name.
    #[error("create {volume}: error looking up volume plugin {driver}: plugin \"{driver}\" not found")]
    NoSuchDriver {
        /// The volume.
        volume: String,
        /// The driver.
        driver: String,
    },
    /// It is in use.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The host failed.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchVolume(_) | Self::NoSuchDriver { .. } => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_long_can_be_doomed() {
        assert_eq!(doomed("v"), ".removed-v");
        let (one, other) = ("a".repeat(255), format!("b{}", "a".repeat(254)));
        assert!(doomed(&one).len() <= LONGEST_NAME && doomed(&one) != doomed(&other));
    }

    #[test]
    fn files_with_two_names_count_once() {
        let scratch = std::env::temp_dir().join(format!("gantry-volume-size-{}", std::process::id()));
        fs::create_dir_all(scratch.join("d")).expect("made");
        fs::write(scratch.join("d/file"), [0; 1000]).expect("written");
        fs::hard_link(scratch.join("d/file"), scratch.join("again")).expect("linked");
        std::os::unix::fs::symlink("abc", scratch.join("link")).expect("linked");
        assert_eq!(size_of(&scratch), 1003);
        fs::remove_dir_all(&scratch).expect("removed");
    }

    #[test]
    fn options_that_mount_something_come_whole() {
        for (options, want) in [
            (&[][..], ""),
            (&[("type", "tmpfs"), ("device", "tmpfs")], ""),
            (&[("type", "none"), ("device", "/x"), ("o", "bind")], ""),
            (&[("foo", "bar")], "invalid option: \"foo\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "x")], "missing required option: \"type\""),
            (&[("o", "ro")], "missing required option: \"device\""),
            (&[("size", "1m")], "quota size requested but no quota support"),
        ] {
            let options =
                options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(check_options(&options).err().unwrap_or_default(), want, "{options:?}");
        }
    }
}
