//! `docker history`: the steps of a configuration, beside the layers they made and the images they ended in.

use gantry_model::{Digest, Reference, Timestamp};

use super::{HistoryEntry, ImageError, Images};
use crate::layer;

pub(super) fn history(images: &Images, text: &str) -> Result<Vec<HistoryEntry>, ImageError> {
    let image = images.resolve(text)?;
    let sizes = images.store.database.read(|transaction| {
        let sizes =
            image.layers.iter().map(|id| Ok::<_, ImageError>(layer::get(transaction, *id)?.size_bytes));
        sizes.collect::<Result<Vec<_>, _>>()
    })?;
    let mut sizes = sizes.into_iter();
    let mut entries: Vec<HistoryEntry> = image
        .config
        .history
        .iter()
        .map(|step| HistoryEntry {
            id: None,
            created: step.created.as_deref().and_then(|time| Timestamp::parse_rfc3339(time).ok()),
            created_by: step.created_by.clone(),
            comment: step.comment.clone(),
            size_bytes: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            tags: Vec::new(),
        })
        .collect();
    entries.reverse();
    // The image itself, and recorded parents at the steps that they end with. A parent that has no fewer steps than
    // its child (made by hand, or by a commit that hides some) is at none.
    let mut id: Option<Digest> = Some(image.id);
    let mut above = usize::MAX;
    while let Some(found) = id.and_then(|id| images.get(&id).ok()) {
        let steps = found.config.history.len();
        if steps >= above {
            break;
        }
        let place = entries.len().checked_sub(steps);
        if let Some(entry) = place.and_then(|place| entries.get_mut(place)) {
            let tagged = found.references.iter().filter(|name| name.tag().is_some());
            entry.tags = tagged.map(Reference::familiar).collect();
            entry.id = Some(found.id);
        }
        (above, id) = (steps, found.parent);
    }
    Ok(entries)
}
