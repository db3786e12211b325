//! The tables of `content.db`.
//!
//! Digests are blobs of 32 bytes, times nanoseconds since 1970. A layer's `boot` is the boot in which it
//! was made, and null once it is known to be on the disk. `state` is 0 while it is being made.

use gantry_state::{Migration, Schema, Synchronous};

/// What the store knows.
pub(crate) const SCHEMA: Schema = Schema {
    migrations: &[
        Migration { sql: FIRST, reader: 1 },
        Migration { sql: TAR_SIZES, reader: 1 },
        Migration { sql: RECORDED, reader: 3 },
        Migration { sql: TARGETS, reader: 4 },
    ],
    // Blobs and images must not be lost; trees use `write_relaxed`.
    synchronous: Synchronous::Full,
};

const FIRST: &str = "
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blob (digest BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE layer (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL,
    boot TEXT,
    diff_id BLOB,
    size INTEGER NOT NULL DEFAULT 0,
    entries INTEGER NOT NULL DEFAULT 0,
    newest INTEGER NOT NULL DEFAULT 0,
    root_entry INTEGER NOT NULL DEFAULT 0,
    root_opaque INTEGER NOT NULL DEFAULT 0,
    blob BLOB REFERENCES blob (digest)
);
CREATE INDEX layer_by_diff_id ON layer (diff_id);
CREATE INDEX layer_by_blob ON layer (blob);
CREATE TABLE snapshot (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE snapshot_layer (
    snapshot TEXT NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer INTEGER NOT NULL REFERENCES layer (id),
    PRIMARY KEY (snapshot, position)
) WITHOUT ROWID;
CREATE INDEX snapshot_layer_by_layer ON snapshot_layer (layer);
CREATE TABLE image (
    id BLOB PRIMARY KEY REFERENCES blob (digest),
    parent BLOB,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX image_by_parent ON image (parent);
CREATE TABLE image_layer (
    image BLOB NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer INTEGER NOT NULL REFERENCES layer (id),
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layer_by_layer ON image_layer (layer);
CREATE TABLE reference (
    name TEXT PRIMARY KEY,
    image BLOB NOT NULL REFERENCES image (id),
    target BLOB NOT NULL REFERENCES blob (digest),
    media_type TEXT NOT NULL,
    tagged INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX reference_by_image ON reference (image);
CREATE INDEX reference_by_target ON reference (target);
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, purpose TEXT NOT NULL);
CREATE TABLE lease_layer (
    lease INTEGER NOT NULL REFERENCES lease (id) ON DELETE CASCADE,
    layer INTEGER NOT NULL REFERENCES layer (id),
    PRIMARY KEY (lease, layer)
) WITHOUT ROWID;
CREATE INDEX lease_layer_by_layer ON lease_layer (layer);
CREATE TABLE lease_blob (
    lease INTEGER NOT NULL REFERENCES lease (id) ON DELETE CASCADE,
    blob BLOB NOT NULL REFERENCES blob (digest),
    PRIMARY KEY (lease, blob)
) WITHOUT ROWID;
CREATE INDEX lease_blob_by_blob ON lease_blob (blob);
-- Trees on their way out: from `source` (relative to the data root) to trash/<id> to nothing.
CREATE TABLE trash (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL);
";

/// The bytes of each layer's plain tar, so that an archive of images can be written without measuring first;
/// null where they were never counted.
const TAR_SIZES: &str = "ALTER TABLE layer ADD COLUMN tar_size INTEGER;";

/// When an image came here: which of two that say they were made at the same time is newer.
const RECORDED: &str = "ALTER TABLE image ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;";

/// Manifests and indexes as they came, and what they list that is here: `image::target` tells how they hang together.
/// An image that is not `listed` is there as a platform of an index alone, and goes with it. `target` is what an image
/// came with; null where it is its configuration. A manifest's `image` is the one that a look-up finds; null for what
/// is kept and never run. What is listed is `blob`, or else the plain tar of `layer`.
const TARGETS: &str = "
ALTER TABLE image ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
CREATE TABLE manifest (
    digest BLOB PRIMARY KEY REFERENCES blob (digest),
    media_type TEXT NOT NULL,
    image BLOB REFERENCES image (id)
) WITHOUT ROWID;
CREATE INDEX manifest_by_image ON manifest (image);
ALTER TABLE image ADD COLUMN target BLOB REFERENCES manifest (digest);
CREATE INDEX image_by_target ON image (target);
CREATE TABLE manifest_child (
    manifest BLOB NOT NULL REFERENCES manifest (digest) ON DELETE CASCADE,
    child BLOB NOT NULL REFERENCES manifest (digest),
    PRIMARY KEY (manifest, child)
) WITHOUT ROWID;
CREATE INDEX manifest_child_by_child ON manifest_child (child);
CREATE TABLE manifest_content (
    manifest BLOB NOT NULL REFERENCES manifest (digest) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    blob BLOB REFERENCES blob (digest),
    layer INTEGER REFERENCES layer (id),
    PRIMARY KEY (manifest, digest),
    CHECK ((blob IS NULL) <> (layer IS NULL))
) WITHOUT ROWID;
CREATE INDEX manifest_content_by_blob ON manifest_content (blob);
CREATE INDEX manifest_content_by_layer ON manifest_content (layer);
";

#[cfg(test)]
mod tests {
    use gantry_state::{Database, Schema};

    use super::SCHEMA;

    #[test]
    fn images_of_before_manifests_were_kept_are_listed_and_stay() {
        let directory = std::env::temp_dir().join(format!("gantry-store-schema-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        let path = directory.join("content.db");
        let before = Schema { migrations: &SCHEMA.migrations[..3], synchronous: SCHEMA.synchronous };
        let old = Database::open(&path, &before).expect("a database");
        old.write::<_, crate::Error>(|transaction| {
            transaction.execute_batch(
                "INSERT INTO blob VALUES (x'01', 1);
                INSERT INTO image (id, created, recorded) VALUES (x'01', 2, 3);
                INSERT INTO reference VALUES ('docker.io/library/old:1', x'01', x'01', 'a kind', 4);",
            )?;
            Ok(())
        })
        .expect("written");
        drop(old);
        let new = Database::open(&path, &SCHEMA).expect("it is migrated");
        let kept = new.write::<_, crate::Error>(|transaction| {
            crate::gc::forget_garbage(transaction)?;
            let sql = "SELECT count(*) FROM image JOIN reference ON image = id JOIN blob ON digest = reference.target
                WHERE listed AND image.target IS NULL AND name = 'docker.io/library/old:1'";
            Ok(transaction.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(kept.expect("read"), 1);
        drop(new);
        assert!(
            Database::open(&path, &before).is_err(),
            "a program of before would list platforms as images"
        );
        std::fs::remove_dir_all(&directory).expect("it goes");
    }
}
