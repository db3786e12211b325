//! Platforms in parameters: each is a JSON object, such as `{"os":"linux","architecture":"arm64"}`.

use gantry_model::Platform;

use crate::refusal::Refusal;

/// Reads a parameter; `None` where it is empty.
///
/// # Errors
/// A 400 in Docker's words.
pub(super) fn one(text: &str) -> Result<Option<Platform>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let wire: Platform = gantry_api::gojson::from_slice(text.as_bytes())
        .map_err(|error| Refusal::invalid(format!("failed to parse platform: {}", error.reason())))?;
    if wire.os.is_empty() || wire.architecture.is_empty() {
        return Err(Refusal::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(wire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_refused_in_dockers_words() {
        let refused = |text| one(text).map_err(|refusal| refusal.0.message).expect_err("no platform");
        assert_eq!(
            refused("x"),
            "failed to parse platform: invalid character 'x' looking for beginning of value"
        );
        assert_eq!(refused(r#"{"os":"linux"}"#), "both OS and Architecture must be provided");
        assert!(one("").is_ok_and(|none| none.is_none()));
        let given = one(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#).ok().flatten();
        assert_eq!(given.expect("a platform").to_string(), "linux/arm/v7");
    }
}
