//! "did you mean": the nearest known word, if it is near enough.

/// The text to append to an error about an unknown word: ` (did you mean X?)`, or nothing. The nearest
/// option less than three edits away wins, the first of equals; it is in lower case where the word is.
pub(super) fn suggestion(word: &str, options: &[&str]) -> String {
    let mut best: Option<(&str, usize)> = None;
    if word.len() > 64 {
        return String::new();
    }
    for option in options {
        let edits = distance(&word.to_ascii_lowercase(), &option.to_ascii_lowercase());
        if edits < best.map_or(3, |(_, least)| least) {
            best = Some((option, edits));
        }
    }
    let lower = word == word.to_ascii_lowercase();
    best.map_or_else(String::new, |(option, _)| {
        let option = if lower { option.to_ascii_lowercase() } else { option.to_owned() };
        format!(" (did you mean {option}?)")
    })
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        assert_eq!(suggestion("FOO", &["ADD", "FROM", "RUN"]), " (did you mean FROM?)");
        assert_eq!(suggestion("b", &["ADD", "RUN"]), "");
        assert_eq!(suggestion("foo", &["from", "chown"]), " (did you mean from?)");
        assert_eq!(suggestion("labl", &["ENV", "LABEL"]), " (did you mean label?)");
    }
}
