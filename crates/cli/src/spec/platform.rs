//! `--platform`, which an image is asked for with.

use gantry_client::api::model::{Platform, platform::InvalidPlatform};

use crate::failure::{Failure, Outcome};
use crate::flags::Parsed;

/// The platform that is asked for, as the images' endpoints take it: a JSON object. Nothing where none is.
///
/// # Errors
/// It is none, in the words of the verbs that put `invalid platform: ` before the reason.
pub(crate) fn of_image(flags: &Parsed) -> Outcome<Option<String>> {
    let invalid = |why: InvalidPlatform| Failure::plain(format!("invalid platform: {why}"));
    flags.given_text("platform").filter(|text| !text.is_empty()).map(json).transpose().map_err(invalid)
}

/// A platform as a JSON object.
///
/// # Errors
/// It is none.
pub(crate) fn json(text: &str) -> Result<String, InvalidPlatform> {
    let Platform { architecture, os, variant } = text.parse()?;
    let mut object = serde_json::json!({"architecture": architecture, "os": os});
    if !variant.is_empty() {
        object["variant"] = variant.into();
    }
    Ok(object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_as_the_images_endpoints_take_them() {
        assert_eq!(json("linux/arm64").as_deref(), Ok(r#"{"architecture":"arm64","os":"linux"}"#));
        assert_eq!(
            json("linux/arm/7").as_deref(),
            Ok(r#"{"architecture":"arm","os":"linux","variant":"v7"}"#)
        );
        let why = json("nonsense").expect_err("no platform").to_string();
        assert_eq!(why, "\"nonsense\": unknown operating system or architecture: invalid argument");
    }
}
