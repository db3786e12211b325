//! How Go, in which Docker is written, reads what a user says.

/// A boolean as `strconv.ParseBool` takes it.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_of_gos() {
        for (text, want) in
            [("1", Some(true)), ("True", Some(true)), ("f", Some(false)), ("FALSE", Some(false))]
        {
            assert_eq!(parse_bool(text), want, "{text}");
        }
        for text in ["", "yes", "tRUE", "2", " 1"] {
            assert_eq!(parse_bool(text), None, "{text:?}");
        }
    }
}
