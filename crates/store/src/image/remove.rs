//! `docker rmi`, with Docker's rules, order and texts, in one transaction.
//!
//! A name is taken away; when it was the last, so is the image, unless something needs it. An id takes
//! away all names if they are of one repository. Untagged parents that nobody else needs go too.

use std::sync::Arc;

use gantry_model::{Digest, Reference};
use gantry_state::rusqlite::{OptionalExtension, Transaction};

use super::names::{take_reference, target_of};
use super::record::exists;
use super::resolve::{Meaning, find, load_anyhow};
use super::{Image, ImageError, InUse, Removals, RemoveOptions, Removed, children, target};
use crate::gc::{self, Garbage};
use crate::layer::chain_ids;
use crate::store::Inner;

pub(super) fn remove(
    store: &Arc<Inner>,
    text: &str,
    options: RemoveOptions,
    in_use: &dyn InUse,
) -> Result<Removals, ImageError> {
    let meaning = Meaning::of(text)?;
    let _blobs = store.blobs.lock();
    let remove = || remove_rows(store, &meaning, text, options, in_use);
    let (removed, garbage) = match remove() {
        // The disk may be full; another image is refused again for its own reason.
        Err(ImageError::Store(_)) if store.spend_reserve() => remove(),
        result => result,
    }?;
    store.images.clear();
    gc::finish(store, &garbage);
    Ok(Removals { done: removed, layer_bytes: garbage.collected.layer_bytes })
}

fn remove_rows(
    store: &Arc<Inner>,
    meaning: &Meaning,
    text: &str,
    options: RemoveOptions,
    in_use: &dyn InUse,
) -> Result<(Vec<Removed>, Garbage), ImageError> {
    store.database.write(|transaction| {
        let mut removal =
            Removal { store, transaction, options, in_use, removed: Vec::new(), left_target: false };
        let id = find(transaction, meaning, text)?.ok_or_else(|| meaning.not_found())?;
        removal.by_text(&id, meaning, text)?;
        let gone = removal.removed.iter().any(|removed| matches!(removed, Removed::Image(_)));
        let garbage =
            if gone || removal.left_target { gc::forget_garbage(transaction)? } else { Garbage::default() };
        Ok((removal.removed, garbage))
    })
}

/// Which reasons against a removal count.
#[derive(Clone, Copy)]
struct Reasons {
    /// Names left, and stopped containers.
    references: bool,
    stopped: bool,
}

struct Conflict {
    error: ImageError,
    /// A container is the reason, or the index that lists it.
    used: bool,
}

/// What becomes of an image that something needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnConflict {
    /// The user is told.
    Report,
    /// It stays: only its name was to go, or it was to go with its child.
    Leave,
}

struct Removal<'a> {
    store: &'a Arc<Inner>,
    transaction: &'a Transaction<'a>,
    options: RemoveOptions,
    in_use: &'a dyn InUse,
    removed: Vec<Removed>,
    /// A name was taken from a manifest or an index that perhaps nothing else points to.
    left_target: bool,
}

impl Removal<'_> {
    fn by_text(&mut self, id: &Digest, meaning: &Meaning, text: &str) -> Result<(), ImageError> {
        let force = self.options.force;
        let image = load_anyhow(self.store, self.transaction, id)?;
        let by_id = id.to_string().starts_with(text) || id.hex().starts_with(text);
        let (false, Meaning::Name(reference)) = (by_id, meaning) else {
            if is_single(&image.references) {
                let reasons = Reasons { references: false, stopped: !force };
                if let Some(conflict) = self.conflict(&image, reasons)? {
                    return Err(conflict.error);
                }
                for reference in &image.references {
                    self.untag(reference, id)?;
                }
            }
            return self.image(id, force, !self.options.no_prune, OnConflict::Report);
        };
        if !force
            && is_single(&image.references)
            && let Some(container) = self.running(id)?.or(self.stopped(id)?)
        {
            return Err(ImageError::ReferenceInUse {
                reference: text.into(),
                container: short(&container),
                image: short(&id.hex()),
            });
        }
        self.untag(reference, id)?;
        let mut left: Vec<Reference> = load_anyhow(self.store, self.transaction, id)?.references;
        // Digests of a repository go with its last tag.
        let same =
            |other: &Reference| (other.domain(), other.path()) == (reference.domain(), reference.path());
        if reference.digest().is_none() && !left.iter().any(|other| other.digest().is_none() && same(other)) {
            for other in left.extract_if(.., |other| same(other)) {
                self.untag(&other, id)?;
            }
        }
        if !left.is_empty() {
            return Ok(());
        }
        self.image(id, force, !self.options.no_prune, OnConflict::Leave)
    }

    fn untag(&mut self, reference: &Reference, id: &Digest) -> Result<(), ImageError> {
        self.left_target |= target_of(self.transaction, reference)?.is_some();
        take_reference(self.transaction, reference)?;
        let reference = reference.clone().or_latest().familiar();
        self.removed.push(Removed::Untagged { reference, image: *id });
        Ok(())
    }

    /// Removes an image with the names it has left, then its parents as far as nobody needs them.
    fn image(
        &mut self,
        id: &Digest,
        mut force: bool,
        prune: bool,
        mut on_conflict: OnConflict,
    ) -> Result<(), ImageError> {
        let mut next = Some(*id);
        while let Some(id) = next.take() {
            if !exists(self.transaction, &id)? {
                return Ok(());
            }
            let image = load_anyhow(self.store, self.transaction, &id)?;
            let reasons = Reasons { references: !force, stopped: !force };
            if let Some(conflict) = self.conflict(&image, reasons)? {
                let dangling = image.references.is_empty() && children(self.transaction, &id)?.is_empty();
                if on_conflict == OnConflict::Leave && (!dangling || conflict.used) {
                    return Ok(());
                }
                return Err(conflict.error);
            }
            for reference in &image.references {
                self.untag(reference, &id)?;
            }
            self.delete(&image)?;
            if prune {
                next = image.parent;
            }
            // Parents go only of themselves, and quietly stay otherwise.
            (force, on_conflict) = (false, OnConflict::Leave);
        }
        Ok(())
    }

    fn delete(&mut self, image: &Image) -> Result<(), ImageError> {
        // What it came with goes with it, unless something else leads there.
        let sql = "UPDATE image SET listed = 0, target = NULL WHERE id = ?1";
        self.transaction.prepare_cached(sql)?.execute([image.id.as_bytes()])?;
        gc::forget_manifests(self.transaction)?;
        if exists(self.transaction, &image.id)? {
            // From now on it is but a platform of an index.
            return Ok(());
        }
        self.removed.push(Removed::Image(image.id));
        // Another layer of the same content may be another image's: to users they are one.
        let sql = "SELECT 1 FROM snapshot_layer WHERE layer = ?1
            UNION ALL SELECT 1 FROM layer AS this JOIN layer AS same ON same.diff_id = this.diff_id
                JOIN image_layer ON image_layer.layer = same.id WHERE this.id = ?1 LIMIT 1";
        let mut query = self.transaction.prepare_cached(sql)?;
        let chain = chain_ids(&image.config.rootfs.diff_ids);
        for (layer, chain_id) in image.layers.iter().zip(chain).rev() {
            let used: Option<i64> = query.query_row([layer.0.cast_signed()], |row| row.get(0)).optional()?;
            if used.is_some() {
                break;
            }
            self.removed.push(Removed::Layer(chain_id));
        }
        Ok(())
    }

    /// A running container of the image, or of a platform that would go with it.
    fn running(&self, image: &Digest) -> Result<Option<String>, ImageError> {
        let platforms = target::platforms(self.transaction, image)?;
        Ok(std::iter::once(image).chain(&platforms).find_map(|id| self.in_use.running(id)))
    }

    /// As [`Self::running`], a container that does not run.
    fn stopped(&self, image: &Digest) -> Result<Option<String>, ImageError> {
        let platforms = target::platforms(self.transaction, image)?;
        Ok(std::iter::once(image).chain(&platforms).find_map(|id| self.in_use.stopped(id)))
    }

    /// Who needs an image that is not there for itself.
    fn platform_of(&self, image: &Image) -> Result<Option<String>, ImageError> {
        let sql = "SELECT 1 FROM image WHERE id = ?1 AND listed";
        let listed = self.transaction.prepare_cached(sql)?.exists([image.id.as_bytes()])?;
        if listed { Ok(None) } else { target::user(self.transaction, &image.id) }
    }

    /// The first reason against a removal, in Docker's order.
    fn conflict(&self, image: &Image, reasons: Reasons) -> Result<Option<Conflict>, ImageError> {
        let because = |hard, used, reason: String| {
            let image = short(&image.id.hex());
            Ok(Some(Conflict { error: ImageError::Conflict { image, hard, reason }, used }))
        };
        if !children(self.transaction, &image.id)?.is_empty() {
            return because(true, false, "image has dependent child images".into());
        }
        if let Some(user) = self.platform_of(image)? {
            return because(true, true, format!("image is a platform of {user}"));
        }
        if let Some(container) = self.running(&image.id)? {
            let text = format!("image is being used by running container {}", short(&container));
            return because(true, true, text);
        }
        if reasons.references && !image.references.is_empty() {
            return because(false, false, "image is referenced in multiple repositories".into());
        }
        if reasons.stopped
            && let Some(container) = self.stopped(&image.id)?
        {
            let text = format!("image is being used by stopped container {}", short(&container));
            return because(false, true, text);
        }
        Ok(None)
    }
}

/// Whether all names are one tag and digests of its repository.
fn is_single(references: &[Reference]) -> bool {
    let repository = |reference: &Reference| (reference.domain().to_owned(), reference.path().to_owned());
    let tags: Vec<_> = references.iter().filter(|reference| reference.digest().is_none()).collect();
    let mut digests: Vec<_> =
        references.iter().filter(|reference| reference.digest().is_some()).map(repository).collect();
    digests.dedup();
    match (references.len(), &tags[..]) {
        (0 | 1, _) => true,
        (_, []) => digests.len() == 1,
        (_, [tag]) => digests == [repository(tag)],
        _ => false,
    }
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
