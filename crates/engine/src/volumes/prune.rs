//! Prune: volumes that no container refers to.

use gantry_model::failpoint::{Point, reached};
use gantry_model::filter::Filters;
use gantry_model::go;

use super::{Error, Volumes, check_filters, size_of};

impl Volumes {
    /// Removes unused anonymous volumes (all unused with filter `all=true`); returns names and bytes. Volumes with
    /// driver options stay, as in Docker: what they mount is not here.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<String>, u64), Error> {
        check_filters(filters, &["all", "label", "label!"])?;
        let every = every(filters)?;
        let (volumes, filters) = (self.clone(), filters.clone());
        crate::blocking(move || {
            let (mut names, mut bytes) = (Vec::new(), 0);
            for (volume, users) in volumes.all()? {
                let wanted = (every || volume.anonymous) && volume.options.is_empty();
                if users > 0 || !wanted || !filters.labels_match(&volume.labels) {
                    continue;
                }
                let size = size_of(&volume.mountpoint);
                match volumes.remove_now(&volume) {
                    Ok(()) => {
                        reached(Point::PruneVolume);
                        names.push(volume.name);
                        bytes += size;
                    }
                    Err(error) => tracing::warn!("volume {} was not pruned: {error}", volume.name),
                }
            }
            Ok((names, bytes))
        })
        .await
    }
}

/// Whether `prune` is to take named volumes too: its filter `all`.
fn every(filters: &Filters) -> Result<bool, Error> {
    match filters.get("all") {
        [] => Ok(false),
        [text] => go::parse_bool(text).ok_or_else(|| {
            let why = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
            Error::Invalid(format!("invalid filter 'all': {why}"))
        }),
        several => {
            let values = several.join(" ");
            Err(Error::Invalid(format!("invalid filter 'all=[{values}]': only one value is expected")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_of_all_is_asked_for_once() {
        let ask = |values: &[&str]| {
            let mut filters = Filters::default();
            values.iter().for_each(|value| filters.add("all", *value));
            every(&filters).map_err(|error| error.to_string())
        };
        assert_eq!(ask(&[]), Ok(false));
        assert_eq!(ask(&["1"]), Ok(true));
        assert_eq!(
            ask(&["x"]),
            Err("invalid filter 'all': strconv.ParseBool: parsing \"x\": invalid syntax".into())
        );
        let twice = "invalid filter 'all=[true false]': only one value is expected";
        assert_eq!(ask(&["true", "false"]), Err(twice.into()));
    }
}
