//! Filters of `images` and `image prune`.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::filter::Filters;
use gantry_model::{Reference, Timestamp};
use gantry_store::image::Image;

use super::pattern::Pattern;
use super::{Error, Summary};

/// The filters of a list.
const OF_LISTS: [&str; 6] = ["reference", "label", "dangling", "before", "since", "until"];
/// The filters of `prune`.
const OF_PRUNES: [&str; 4] = ["dangling", "label", "label!", "until"];

/// Filters of a list that were checked, with the images that they name looked up.
pub(super) struct Narrowed<'a> {
    filters: &'a Filters,
    patterns: Vec<Pattern>,
    /// Places in the list between which the images are: after the oldest of `before`, before the newest of `since`.
    after: Option<usize>,
    until_place: Option<usize>,
    until: Option<Timestamp>,
    dangling: Option<bool>,
}

impl<'a> Narrowed<'a> {
    /// Checks filters for a list of these images, newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or value, [`Error::NoSuchImage`] for `before` and `since`.
    pub(super) fn new(
        filters: &'a Filters,
        images: &[Arc<Image>],
        resolve: &dyn Fn(&str) -> Result<Arc<Image>, Error>,
    ) -> Result<Self, Error> {
        known(filters, &OF_LISTS)?;
        let dangling = flag(filters)?;
        let places = |key: &str| -> Result<Vec<usize>, Error> {
            let names = filters.get(key).iter();
            let ids = names.map(|name| Ok(resolve(name)?.id)).collect::<Result<Vec<_>, Error>>()?;
            // One that has come meanwhile is newer than all of the list.
            Ok(ids.iter().map(|id| images.iter().position(|image| image.id == *id).unwrap_or(0)).collect())
        };
        let patterns = filters.get("reference").iter().map(|text| Pattern::parse(text));
        let patterns = patterns
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Invalid("syntax error in pattern".into()))?;
        Ok(Self {
            filters,
            patterns,
            after: places("before")?.into_iter().max(),
            until_place: places("since")?.into_iter().min(),
            until: moments(filters)?.into_iter().min(),
            dangling,
        })
    }

    /// Whether the image at a place of the list is among those wanted.
    pub(super) fn matches(&self, place: usize, image: &Image) -> bool {
        self.dangling.is_none_or(|wanted| wanted == image.references.is_empty())
            && self.after.is_none_or(|after| place > after)
            && self.until_place.is_none_or(|until| place < until)
            && self.until.is_none_or(|until| created(image) < until)
            && self.filters.labels_match(&image.config.config.labels)
            && (self.patterns.is_empty() || image.references.iter().any(|reference| self.named(reference)))
    }

    /// A summary with those names only that were asked for.
    pub(super) fn names(&self, mut summary: Summary) -> Summary {
        if !self.patterns.is_empty() {
            let keep = |name: &String| Reference::parse_normalized(name).is_ok_and(|name| self.named(&name));
            summary.tags.retain(keep);
            summary.digests.retain(keep);
        }
        summary
    }

    fn named(&self, reference: &Reference) -> bool {
        let (name, whole) = (reference.familiar_name(), reference.familiar());
        self.patterns.iter().any(|pattern| pattern.matches(&name) || pattern.matches(&whole))
    }
}

/// Filters of `prune` that were checked.
pub(super) struct Unwanted<'a> {
    filters: &'a Filters,
    until: Option<Timestamp>,
    /// Images with names, too, if no container uses them.
    pub(super) named: bool,
}

impl<'a> Unwanted<'a> {
    /// Checks filters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or value.
    pub(super) fn new(filters: &'a Filters) -> Result<Self, Error> {
        known(filters, &OF_PRUNES)?;
        let named = flag(filters)? == Some(false);
        Ok(Self { filters, until: until(filters).map_err(Error::Invalid)?, named })
    }

    /// Whether an image may go, as far as these filters say.
    pub(super) fn matches(&self, image: &Image) -> bool {
        (self.named || image.references.iter().all(|name| name.tag().is_none()))
            && self.until.is_none_or(|until| created(image) <= until)
            && self.filters.labels_match(&image.config.config.labels)
    }
}

fn known(filters: &Filters, known: &[&str]) -> Result<(), Error> {
    match filters.keys().find(|key| !known.contains(key)) {
        Some("") => Err(Error::Invalid("invalid filter".into())),
        Some(key) => Err(Error::Invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

fn flag(filters: &Filters) -> Result<Option<bool>, Error> {
    filters.flag("dangling").map_err(|error| Error::Invalid(error.to_string()))
}

/// The one time that a `prune` may be given.
///
/// # Errors
/// Docker's text.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>, String> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => read(text).map(Some),
        _ => Err("more than one until filter specified".into()),
    }
}

fn moments(filters: &Filters) -> Result<Vec<Timestamp>, Error> {
    filters.get("until").iter().map(|text| read(text).map_err(Error::Invalid)).collect()
}

fn read(text: &str) -> Result<Timestamp, String> {
    moment(text).ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))
}

fn created(image: &Image) -> Timestamp {
    let text = image.config.created.as_deref();
    text.and_then(|text| Timestamp::parse_rfc3339(text).ok()).unwrap_or_default()
}

/// Reads a time, seconds since 1970, or a duration back from now (`24h`, `10m`). Of a time everything behind the day
/// may be left out; without an offset it is in UTC.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse() {
        return Some(Timestamp::from_secs(seconds));
    }
    if let Some(time) = time(text) {
        return Some(time);
    }
    if let Some((seconds, fraction)) = text.split_once('.')
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && let (Ok(seconds), Ok(nanos)) = (seconds.parse::<i64>(), format!("{fraction:0<9.9}").parse::<i64>())
    {
        return Some(Timestamp::from_nanos(Timestamp::from_secs(seconds).nanos().checked_add(nanos)?));
    }
    let ago = i64::try_from(duration(text)?.as_nanos()).ok()?;
    // In whole seconds, as Docker counts back.
    Some(Timestamp::from_secs(Timestamp::from_nanos(crate::events::now().nanos() - ago).secs()))
}

fn time(text: &str) -> Option<Timestamp> {
    const DAY: usize = "2006-01-02".len();
    if !text.is_ascii() || text.len() < DAY {
        return None;
    }
    // What follows the time of day begins with a sign or is `Z`.
    let zone = text[DAY..].find(['Z', 'z', '+', '-']).map_or(text.len(), |at| DAY + at);
    let (given, zone) = text.split_at(zone);
    let whole = match given.len() {
        10 => format!("{given}T00:00:00"),
        13 => format!("{given}:00:00"),
        16 => format!("{given}:00"),
        _ => given.to_owned(),
    };
    Timestamp::parse_rfc3339(&format!("{whole}{}", if zone.is_empty() { "Z" } else { zone })).ok()
}

/// Reads Go's durations: `1h30m`, `10s`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        seconds += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && seconds < 1e11).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_seconds_or_durations() {
        assert_eq!(moment("12"), Some(Timestamp::from_secs(12)));
        assert_eq!(moment("1970-01-01T00:00:12Z"), Some(Timestamp::from_secs(12)));
        for (text, whole) in [
            ("2001-02-03", "2001-02-03T00:00:00Z"),
            ("2001-02-03T04", "2001-02-03T04:00:00Z"),
            ("2001-02-03T04:05", "2001-02-03T04:05:00Z"),
            ("2001-02-03T04:05:06", "2001-02-03T04:05:06Z"),
            ("2001-02-03T04:05:06.5", "2001-02-03T04:05:06.5Z"),
            ("2001-02-03T04:05+02:00", "2001-02-03T02:05:00Z"),
            ("2001-02-03Z", "2001-02-03T00:00:00Z"),
        ] {
            assert_eq!(moment(text), Timestamp::parse_rfc3339(whole).ok(), "{text}");
        }
        assert_eq!(moment("12.5"), Some(Timestamp::from_nanos(12_500_000_000)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert!(moment("24h").is_some_and(|time| time < crate::events::now()));
        assert!(moment("yesterday").is_none() && moment("").is_none() && moment("1x").is_none());
    }
}
