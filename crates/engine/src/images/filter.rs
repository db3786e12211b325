//! Filters of `images` and `image prune`.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::filter::Filters;
use gantry_model::{Reference, Timestamp};
use gantry_store::image::Image;

use super::{Error, Summary};

/// Filters that were checked, with the images that they name looked up.
pub(super) struct Narrowed<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    dangling: Option<bool>,
}

impl<'a> Narrowed<'a> {
    /// Checks filters.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown filter or value, [`Error::NoSuchImage`] for `before` and `since`.
    pub(super) fn new(
        filters: &'a Filters,
        resolve: &dyn Fn(&str) -> Result<Arc<Image>, Error>,
    ) -> Result<Self, Error> {
        const KNOWN: [&str; 8] =
            ["reference", "label", "label!", "dangling", "before", "since", "until", "all"];
        if let Some(key) = filters.keys().find(|key| !KNOWN.contains(key)) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let of_image = |key: &str| -> Result<Option<Timestamp>, Error> {
            filters.get(key).first().map(|name| Ok(created(&*resolve(name)?))).transpose()
        };
        let dangling = match filters.get("dangling").first().map(String::as_str) {
            None => None,
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(_) => {
                let all = filters.get("dangling").join(" ");
                return Err(Error::Invalid(format!("invalid filter 'dangling=[{all}]'")));
            }
        };
        if filters.get("reference").iter().any(|pattern| unclosed(pattern)) {
            return Err(Error::Invalid("syntax error in pattern".into()));
        }
        let until = match filters.get("until").first() {
            None => None,
            Some(text) => Some(moment(text).ok_or_else(|| {
                Error::Invalid(format!("failed to parse value as time or duration: {text:?}"))
            })?),
        };
        Ok(Self { filters, before: of_image("before")?, since: of_image("since")?, until, dangling })
    }

    /// Whether an image is among those wanted.
    pub(super) fn matches(&self, image: &Image) -> bool {
        self.dangling.is_none_or(|wanted| wanted == image.references.is_empty())
            && self.matches_but_dangling(image)
    }

    /// As [`Narrowed::matches`] where `dangling` has another meaning.
    pub(super) fn matches_but_dangling(&self, image: &Image) -> bool {
        let created = created(image);
        let references = self.filters.get("reference");
        self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until)
            && self.filters.labels_match(&image.config.config.labels)
            && (references.is_empty() || image.references.iter().any(|reference| self.named(reference)))
    }

    /// A summary with those names only that were asked for.
    pub(super) fn names(&self, mut summary: Summary) -> Summary {
        if !self.filters.get("reference").is_empty() {
            let keep = |name: &String| Reference::parse_normalized(name).is_ok_and(|name| self.named(&name));
            summary.tags.retain(keep);
            summary.digests.retain(keep);
        }
        summary
    }

    fn named(&self, reference: &Reference) -> bool {
        self.filters.get("reference").iter().any(|pattern| {
            matches_pattern(pattern, &reference.familiar_name())
                || matches_pattern(pattern, &reference.familiar())
        })
    }
}

fn created(image: &Image) -> Timestamp {
    let text = image.config.created.as_deref();
    text.and_then(|text| Timestamp::parse_rfc3339(text).ok()).unwrap_or_default()
}

/// Reads a time, seconds since 1970, or a duration back from now (`24h`, `10m`).
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse() {
        return Some(Timestamp::from_secs(seconds));
    }
    // A day, and a time of a day, are in UTC.
    let whole = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    if let Some(time) = whole.iter().find_map(|text| Timestamp::parse_rfc3339(text).ok()) {
        return Some(time);
    }
    let ago = duration(text)?;
    Some(Timestamp::from_nanos(crate::events::now().nanos() - i64::try_from(ago.as_nanos()).ok()?))
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

/// Whether a class of characters begins in a pattern and does not end.
fn unclosed(pattern: &str) -> bool {
    pattern.rfind('[').is_some_and(|at| !pattern[at..].contains(']'))
}

/// `*` is any text without a slash, `?` any character but a slash.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                go(rest, text)
                    || text.split_first().is_some_and(|(first, after)| *first != b'/' && go(pattern, after))
            }
            (Some((b'?', rest)), Some((first, after))) => *first != b'/' && go(rest, after),
            (Some((wanted, rest)), Some((first, after))) => wanted == first && go(rest, after),
            _ => false,
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_characters_must_end() {
        for (pattern, wrong) in [("[", true), ("a[b", true), ("a[b]c", false), ("a*", false)] {
            assert_eq!(unclosed(pattern), wrong, "{pattern}");
        }
    }

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, good) in [
            ("web", "web", true),
            ("we*", "web:1", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("w?b", "web", true),
            ("web", "web2", false),
            ("*:1", "web:1", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), good, "{pattern} {text}");
        }
    }

    #[test]
    fn moments_are_times_seconds_or_durations() {
        assert_eq!(moment("12"), Some(Timestamp::from_secs(12)));
        assert_eq!(moment("1970-01-01T00:00:12Z"), Some(Timestamp::from_secs(12)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert!(moment("24h").is_some_and(|time| time < crate::events::now()));
        assert!(moment("yesterday").is_none() && moment("").is_none() && moment("1x").is_none());
    }
}
