//! The names of images, and what they point to.

use gantry_model::image::media_type;
use gantry_model::{Digest, Reference, Timestamp};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use super::{ImageError, Images, target};

/// A name as it is recorded: whole, with `latest` where it has neither tag nor digest, and without the
/// tag where it has a digest.
pub(super) fn full_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}/{}@{digest}", reference.domain(), reference.path()),
        None => reference.clone().or_latest().to_string(),
    }
}

pub(super) fn no_such(reference: &Reference) -> ImageError {
    ImageError::NoSuchImage(reference.clone().or_latest().familiar())
}

/// Has a name mean an image, with this target or, where none is given, the one that the image came with.
pub(super) fn set_reference(
    transaction: &Transaction<'_>,
    reference: &Reference,
    image: &Digest,
    target: Option<&Digest>,
) -> Result<(), ImageError> {
    let now = Timestamp::from_system(std::time::SystemTime::now());
    target::list(transaction, image)?;
    let target = match target {
        Some(target) => Some(*target),
        None => target::of_image(transaction, image)?,
    };
    let kept = target.map(|target| Ok::<_, ImageError>((target, target::kind(transaction, &target)?)));
    let (target, media_type) = match kept.transpose()? {
        Some((target, Some(kind))) => (target, kind),
        _ => (*image, media_type::DOCKER_CONFIG.to_owned()),
    };
    let sql = "INSERT OR REPLACE INTO reference (name, image, target, media_type, tagged)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = (full_name(reference), image.as_bytes(), target.as_bytes(), media_type, now.nanos());
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// The manifest or index that a name points to; `None` where it is a configuration, or there is no such name.
pub(super) fn target_of(
    transaction: &Transaction<'_>,
    reference: &Reference,
) -> Result<Option<Digest>, ImageError> {
    let sql = "SELECT target FROM reference WHERE name = ?1 AND target <> image";
    let mut query = transaction.prepare_cached(sql)?;
    let target = query.query_row([full_name(reference)], |row| row.get(0)).optional()?;
    Ok(target.map(Digest::from_sha256))
}

pub(super) fn take_reference(
    transaction: &Transaction<'_>,
    reference: &Reference,
) -> Result<Digest, ImageError> {
    let sql = "DELETE FROM reference WHERE name = ?1 RETURNING image";
    let mut query = transaction.prepare_cached(sql)?;
    let image = query.query_row([full_name(reference)], |row| row.get(0)).optional()?;
    image.map(Digest::from_sha256).ok_or_else(|| no_such(reference))
}

impl Images {
    /// What a name means now; `None` if nothing.
    pub(super) fn named(&self, reference: &Reference) -> Result<Option<Digest>, ImageError> {
        self.store.database.read(|transaction| {
            let sql = "SELECT image FROM reference WHERE name = ?1";
            let mut query = transaction.prepare_cached(sql)?;
            let image = query.query_row([full_name(reference)], |row| row.get(0)).optional()?;
            Ok(image.map(Digest::from_sha256))
        })
    }

    /// The names with tags of a repository, sorted.
    pub(super) fn tags_of(&self, repository: &Reference) -> Result<Vec<Reference>, ImageError> {
        let name = format!("{}/{}", repository.domain(), repository.path());
        self.store.database.read(|transaction| {
            // The colon's successor ends the names that begin so.
            let sql = "SELECT name FROM reference WHERE name > ?1 || ':' AND name < ?1 || ';' ORDER BY name";
            let mut query = transaction.prepare_cached(sql)?;
            let rows = query.query_map([&name], |row| row.get::<_, String>(0))?;
            rows.map(|row| Ok(Reference::parse_normalized(&row?)?)).collect()
        })
    }
}
