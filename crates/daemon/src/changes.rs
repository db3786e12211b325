//! `docker import --change`: Dockerfile instructions that change only an image's configuration.

use gantry_build::BuildError;
use gantry_build::dockerfile::lower::{BaseImage, DEFAULT_PATH, Lowering, MetaResolver};
use gantry_build::dockerfile::parse;
use gantry_build::request::BuildOptions;
use gantry_model::image::RunConfig;

use crate::refusal::Refusal;

/// The instructions that Docker takes here.
const TAKEN: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// There are no base images in changes.
struct NoImages;

impl MetaResolver for NoImages {
    fn resolve(&self, name: &str) -> Result<BaseImage, BuildError> {
        Err(BuildError::NotFound(format!("No such image: {name}")))
    }
}

/// Applies the instructions, in order, to an empty configuration.
///
/// # Errors
/// 400 with the classic builder's text.
pub(crate) fn apply(changes: &[String]) -> Result<RunConfig, Refusal> {
    if changes.is_empty() {
        return Ok(RunConfig::default());
    }
    let mut text = String::from("FROM scratch\n");
    for change in changes {
        let verb = change.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
        if !TAKEN.contains(&verb.as_str()) {
            return Err(Refusal::invalid(format!("{verb} is not a valid change command")));
        }
        // One instruction each: a further line would be one that was not checked.
        text.push_str(&change.replace('\n', " "));
        text.push('\n');
    }
    // The line is that of our own text, not of anything the user wrote.
    let file = parse::parse(&text).map_err(|error| {
        let text = error.to_string();
        let reason =
            text.strip_prefix("dockerfile parse error on line ").and_then(|rest| rest.split_once(": "));
        Refusal::invalid(reason.map_or(text.as_str(), |(_, reason)| reason).to_owned())
    })?;
    let options = BuildOptions::default();
    let mut lowering = Lowering::new(&file, &options, &NoImages)?;
    for step in lowering.steps() {
        lowering.step(&step)?;
    }
    let mut config = lowering.stage().map(|stage| stage.config.config.clone()).unwrap_or_default();
    // An image built from nothing gets a search path; an imported one keeps what the changes say.
    config.env.retain(|variable| variable != DEFAULT_PATH);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_make_a_configuration() {
        let changes =
            ["CMD [\"sh\"]".to_owned(), "ENV A=b".to_owned(), "expose 80".to_owned(), "USER u".to_owned()];
        let config = apply(&changes).expect("changes");
        assert_eq!((config.cmd, config.user.as_str()), (Some(vec!["sh".to_owned()]), "u"));
        assert!(config.env == ["A=b"] && config.exposed_ports.contains_key("80/tcp"));
        assert!(apply(&["RUN true".to_owned()]).is_err());
        assert!(apply(&["CMD x\nRUN true".to_owned()]).is_ok_and(|config| config.cmd.is_some()));
    }
}
