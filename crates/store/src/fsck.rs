//! What is below the data root, who holds it, and what contradicts the records.
//!
//! It only reads, so it works beside the process that has the store open too: what that is just making or
//! removing may then show up as a contradiction, and is gone when asked again.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gantry_state::Database;
use gantry_state::rusqlite::Transaction;

use crate::Error;
use crate::content::digest_of;
use crate::trash::names;

/// The sort of a thing in an [`Inventory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnedKind {
    /// The database and its log.
    Database,
    /// A blob.
    Blob,
    /// A layer's directory.
    Layer,
    /// A snapshot's directory.
    Snapshot,
    /// A tree on its way out.
    Trash,
    /// Bytes without a digest yet.
    Temporary,
    /// A lease: a row, no file.
    Lease,
}

impl OwnedKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Snapshot => "snapshot",
            Self::Trash => "trash",
            Self::Temporary => "temporary",
            Self::Lease => "lease",
        }
    }
}

/// One thing below the data root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What it is.
    pub kind: OwnedKind,
    /// Where, absolute.
    pub path: PathBuf,
    /// Why it is there, in words: `image sha256:…`, `snapshot …`, `lease …`. None: garbage.
    pub holders: Vec<String>,
}

/// Everything that the store owns.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// What is there and recorded.
    pub owned: Vec<Owned>,
    /// What contradicts the records, each in a sentence that says what to do. While something is being
    /// made or removed, its half may show up here: ask again.
    pub findings: Vec<String>,
}

/// Looks at a data root without opening it as a store: nothing is made, locked, recovered or removed.
///
/// `None` where no store ever was.
///
/// # Errors
/// The database is lost or damaged, or something cannot be read.
pub fn inspect(root: &Path) -> Result<Option<Inventory>, Error> {
    let path = root.join("content.db");
    if !Database::find(&path, &recorded(root)?)? {
        return Ok(None);
    }
    let database = Database::open_to_read(&path)?;
    database.check()?;
    inventory(&database, root).map(Some)
}

/// What would be swept as garbage, had the database no records.
pub(crate) fn recorded(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let directory = root.join("layers");
    // Where no store ever was there is none.
    let layers = if directory.exists() { names(&directory)? } else { Vec::new() };
    let layers = layers.iter().filter(|name| *name != "0").map(|name| root.join("layers").join(name));
    Ok(["snapshots", "content/blobs/sha256"].map(|tree| root.join(tree)).into_iter().chain(layers).collect())
}

/// What is below the data root beside what is recorded.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) stray_blobs: Vec<OsString>,
    /// `layers/<id>` and `snapshots/<id>` without a row.
    pub(crate) stray_trees: Vec<String>,
    pub(crate) stray_trash: Vec<OsString>,
    /// Without a row, and nothing that we make: somebody else's, which no sweep takes.
    pub(crate) strangers: Vec<PathBuf>,
    pub(crate) lost_snapshots: Vec<String>,
    pub(crate) lost_layers: Vec<String>,
    pub(crate) lost_blobs: Vec<String>,
}

/// Up to so many bytes of a blob are read to see whether they are what its name says: those of all configurations,
/// manifests and indexes, and hardly those of a layer.
const READ_BYTES: u64 = 1 << 20;

/// Blobs that are not what they were recorded as, each with what is wrong.
fn damaged_blobs(database: &Database, root: &Path) -> Result<Vec<String>, Error> {
    let sizes = database.read::<_, Error>(|transaction| {
        let mut rows = transaction.prepare("SELECT lower(hex(digest)), size FROM blob ORDER BY digest")?;
        let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    })?;
    let directory = root.join("content/blobs/sha256");
    let damaged = sizes.into_iter().filter_map(|(name, recorded)| {
        let path = directory.join(&name);
        // One that is not there is found elsewhere.
        let found = path.symlink_metadata().ok()?.len();
        if u64::try_from(recorded) != Ok(found) {
            return Some(format!("{name} has {found} bytes instead of {recorded}, and"));
        }
        let other = found <= READ_BYTES && digest_of(&std::fs::read(&path).ok()?).hex() != name;
        other.then(|| format!("{name} has other bytes than it had, and"))
    });
    Ok(damaged.collect())
}

/// What lies beside our things in our directories and is nobody's.
fn strangers(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut strangers = Vec::new();
    let mut look = |directory: PathBuf, is_ours: &dyn Fn(&str) -> bool| -> Result<(), Error> {
        let there = names(&directory)?;
        let foreign = there.iter().filter(|name| !name.to_str().is_some_and(is_ours));
        strangers.extend(foreign.map(|name| directory.join(name)));
        Ok(())
    };
    look(root.join("content"), &|name| name == "blobs")?;
    look(root.join("content/blobs"), &|name| name == "sha256")?;
    for parent in ["layers", "snapshots"] {
        for tree in names(&root.join(parent))? {
            let path = root.join(parent).join(&tree);
            // What is no tree was looked at as a whole.
            if path.is_dir() && tree == "0" {
                look(path, &|name| matches!(name, "fs" | "below") || name.starts_with("mount-points."))?;
            } else if path.is_dir() {
                look(path, &|name| TREE.contains(&name))?;
            }
        }
    }
    Ok(strangers)
}

/// What a layer's or snapshot's directory has, of either driver.
const TREE: [&str; 4] = ["fs", "merged", "prepared", "work"];

/// Whether something without a row is what a crash may leave of a blob, of a layer, of a snapshot, or in the trash.
fn may_be_ours(root: &Path, directory: &str, name: &std::ffi::OsStr) -> bool {
    let is_tree = || {
        let path = root.join(directory).join(name);
        let has = names(&path).unwrap_or_default();
        path.is_dir() && has.iter().all(|name| name.to_str().is_some_and(|name| TREE.contains(&name)))
    };
    let Some(name) = name.to_str() else { return false };
    match directory {
        "content/blobs/sha256" => gantry_model::Digest::from_hex(name).is_ok(),
        "layers" => name.parse::<u64>().is_ok() && is_tree(),
        "snapshots" => name.parse::<gantry_model::SnapshotId>().is_ok() && is_tree(),
        _ => name.parse::<u64>().is_ok(),
    }
}

fn column(transaction: &Transaction<'_>, sql: &str) -> Result<HashSet<String>, Error> {
    let mut rows = transaction.prepare(sql)?;
    let rows = rows.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Compares directories and rows.
pub(crate) fn contents(database: &Database, root: &Path) -> Result<Contents, Error> {
    let (blobs, layers, ready, snapshots, trash, leaving) = database.read(|transaction| {
        Ok::<_, Error>((
            column(transaction, "SELECT lower(hex(digest)) FROM blob")?,
            column(transaction, "SELECT CAST(id AS TEXT) FROM layer")?,
            column(transaction, "SELECT CAST(id AS TEXT) FROM layer WHERE state = 1")?,
            column(transaction, "SELECT id FROM snapshot")?,
            column(transaction, "SELECT CAST(id AS TEXT) FROM trash")?,
            column(transaction, "SELECT source FROM trash")?,
        ))
    })?;
    let list = |directory: &str| names(&root.join(directory));
    let missing = |have: &[OsString], rows: &HashSet<String>| -> Vec<String> {
        let have: HashSet<_> = have.iter().filter_map(|name| name.to_str()).collect();
        rows.iter().filter(|row| !have.contains(row.as_str())).cloned().collect()
    };
    let mut strangers = Vec::new();
    let mut stray = |directory: &str, have: &[OsString], rows: &HashSet<String>| -> Vec<OsString> {
        let unknown = have.iter().filter(|name| !name.to_str().is_some_and(|name| rows.contains(name)));
        let (ours, foreign): (Vec<_>, Vec<_>) =
            unknown.cloned().partition(|name| may_be_ours(root, directory, name));
        strangers.extend(foreign.into_iter().map(|name| root.join(directory).join(name)));
        ours
    };
    let (have_blobs, mut have_layers) = (list("content/blobs/sha256")?, list("layers")?);
    have_layers.retain(|name| name != "0");
    let (have_snapshots, have_trash) = (list("snapshots")?, list("trash")?);
    let mut stray_trees = Vec::new();
    for (directory, have, rows) in
        [("layers", &have_layers, &layers), ("snapshots", &have_snapshots, &snapshots)]
    {
        let trees = stray(directory, have, rows).into_iter().filter_map(|name| name.into_string().ok());
        stray_trees
            .extend(trees.map(|name| format!("{directory}/{name}")).filter(|tree| !leaving.contains(tree)));
    }
    Ok(Contents {
        stray_blobs: stray("content/blobs/sha256", &have_blobs, &blobs),
        stray_trees,
        stray_trash: stray("trash", &have_trash, &trash),
        lost_snapshots: missing(&have_snapshots, &snapshots),
        // A directory without the tree in it is as good as none.
        lost_layers: ready
            .into_iter()
            .filter(|id| !root.join("layers").join(id).join("fs").is_dir())
            .collect(),
        lost_blobs: missing(&have_blobs, &blobs),
        strangers,
    })
}

const HOLDERS: &str = "
    SELECT 'layer', CAST(layer AS TEXT), 'image sha256:' || lower(hex(image)) FROM image_layer
    UNION ALL SELECT 'layer', CAST(layer AS TEXT), 'snapshot ' || snapshot FROM snapshot_layer
    UNION ALL SELECT 'layer', CAST(layer AS TEXT), 'lease ' || purpose FROM lease_layer JOIN lease ON lease.id = lease
    UNION ALL SELECT 'layer', CAST(id AS TEXT), 'being made' FROM layer WHERE state = 0
    UNION ALL SELECT 'trash', CAST(id AS TEXT), 'on its way out: was ' || source FROM trash
    UNION ALL SELECT substr(source, 1, instr(source, '/') - 2), substr(source, instr(source, '/') + 1),
        'on its way out' FROM trash
    UNION ALL SELECT 'blob', lower(hex(id)), 'image' FROM image
    UNION ALL SELECT 'blob', lower(hex(target)), 'reference ' || name FROM reference
    UNION ALL SELECT 'blob', lower(hex(target)), 'image sha256:' || lower(hex(id)) FROM image WHERE target IS NOT NULL
    UNION ALL SELECT 'blob', lower(hex(child)), 'index sha256:' || lower(hex(manifest)) FROM manifest_child
    UNION ALL SELECT 'blob', lower(hex(blob)), 'manifest sha256:' || lower(hex(manifest))
        FROM manifest_content WHERE blob IS NOT NULL
    UNION ALL SELECT 'layer', CAST(layer AS TEXT), 'manifest sha256:' || lower(hex(manifest))
        FROM manifest_content WHERE layer IS NOT NULL
    UNION ALL SELECT 'blob', lower(hex(blob)), 'layer ' || id FROM layer WHERE blob IS NOT NULL
    UNION ALL SELECT 'blob', lower(hex(blob)), 'lease ' || purpose FROM lease_blob JOIN lease ON lease.id = lease";

pub(crate) fn inventory(database: &Database, root: &Path) -> Result<Inventory, Error> {
    let mut holders: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    database.read::<_, Error>(|transaction| {
        let mut rows = transaction.prepare(HOLDERS)?;
        let rows = rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
        for row in rows {
            let (thing, holder) = row?;
            holders.entry(thing).or_default().push(holder);
        }
        Ok(())
    })?;
    let contents = contents(database, root)?;
    let mut inventory = Inventory::default();
    for name in ["content.db", "content.db-wal", "content.db-shm"] {
        let path = root.join(name);
        if path.exists() {
            let holders = vec!["the store".into()];
            inventory.owned.push(Owned { kind: OwnedKind::Database, path, holders });
        }
    }
    let kinds = [
        (OwnedKind::Blob, "content/blobs/sha256", "blob"),
        (OwnedKind::Layer, "layers", "layer"),
        (OwnedKind::Snapshot, "snapshots", "snapshot"),
        (OwnedKind::Trash, "trash", "trash"),
        (OwnedKind::Temporary, "tmp", "tmp"),
    ];
    for (kind, directory, noun) in kinds {
        for name in names(&root.join(directory))? {
            let text = name.to_string_lossy().into_owned();
            let holders = match kind {
                OwnedKind::Layer if text == "0" => vec!["the store".into()],
                OwnedKind::Snapshot => vec!["its record".into()],
                _ => holders.remove(&(noun.to_owned(), text)).unwrap_or_default(),
            };
            let path = root.join(directory).join(name);
            if !contents.strangers.contains(&path) {
                inventory.owned.push(Owned { kind, path, holders });
            }
        }
    }
    let leases = database.read::<_, Error>(|transaction| {
        let mut rows = transaction.prepare("SELECT purpose FROM lease ORDER BY id")?;
        let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    })?;
    inventory.owned.extend(leases.into_iter().map(|purpose| Owned {
        kind: OwnedKind::Lease,
        path: root.join("content.db"),
        holders: vec![purpose],
    }));
    let mut find = |things: Vec<String>, what: &str| {
        inventory.findings.extend(things.into_iter().map(|thing| format!("{thing} {what}")));
    };
    let text = |names: Vec<OsString>| names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    find(text(contents.stray_blobs), "is a blob without a record: the next start removes it");
    find(contents.stray_trees, "is a tree without a record: the next start removes it");
    find(text(contents.stray_trash), "lies in the trash without a record: the next start removes it");
    find(contents.lost_snapshots, "is a snapshot whose files are gone: remove its container");
    find(
        contents.lost_layers,
        "is a layer whose files are gone: remove the images that use it and make them again",
    );
    find(
        damaged_blobs(database, root)?,
        "is a blob that is damaged: remove the images that use it and make them again",
    );
    // What lies in a stranger is the stranger's.
    let mut within = strangers(root)?;
    within.retain(|path| !contents.strangers.iter().any(|stranger| path.starts_with(stranger)));
    let strangers = contents.strangers.into_iter().chain(within);
    find(strangers.map(|path| path.display().to_string()).collect(), "is not ours: move it elsewhere");
    find(
        contents.lost_blobs,
        "is a blob whose bytes are gone: remove the images that use it and make them again",
    );
    Ok(inventory)
}
