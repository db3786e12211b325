//! Platforms in parameters: each is a JSON object, such as `{"os":"linux","architecture":"arm64"}`.

use gantry_model::Platform;
use serde::Deserialize;

use crate::refusal::Refusal;

/// A platform as it is sent: what is left out is empty.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    os: String,
    architecture: String,
    variant: String,
}

/// Reads a parameter; `None` where it is empty.
///
/// # Errors
/// A 400 in Docker's words.
pub(super) fn one(text: &str) -> Result<Option<Platform>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let Wire { os, architecture, variant } = gantry_api::gojson::from_slice(text.as_bytes())
        .map_err(|error| Refusal::invalid(format!("failed to parse platform: {}", error.reason())))?;
    if os.is_empty() || architecture.is_empty() {
        return Err(Refusal::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(Platform { architecture, os, variant }))
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
