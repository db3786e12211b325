//! `docker import --change` and `docker commit --change`: Dockerfile instructions that change only an image's configuration.

use gantry_build::BuildError;
use gantry_build::dockerfile::Instruction;
use gantry_build::dockerfile::lower::{BaseImage, DEFAULT_PATH, Lowering, MetaResolver};
use gantry_build::dockerfile::parse;
use gantry_build::request::BuildOptions;
use gantry_model::image::{ImageConfig, RunConfig};

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

/// The one base image in changes: what they are applied to.
struct Start(ImageConfig);

impl MetaResolver for Start {
    fn resolve(&self, _: &str) -> Result<BaseImage, BuildError> {
        // Nothing is built on it, so nobody asks for what its id names.
        Ok(BaseImage { id: gantry_store::content::digest_of(b""), config: self.0.clone() })
    }
}

/// Applies the instructions, in order, to an empty configuration.
///
/// # Errors
/// 400 with the classic builder's text.
pub(crate) fn apply(changes: &[String]) -> Result<RunConfig, Refusal> {
    apply_to(RunConfig::default(), changes)
}

/// Applies the instructions, in order.
///
/// # Errors
/// 400 with the classic builder's text.
pub(crate) fn apply_to(mut config: RunConfig, changes: &[String]) -> Result<RunConfig, Refusal> {
    if changes.is_empty() {
        return Ok(config);
    }
    let had_path = config.env.iter().any(|variable| variable.starts_with("PATH="));
    // They are kept, not run.
    let triggers = std::mem::take(&mut config.on_build);
    let start = Start(ImageConfig { config, ..ImageConfig::default() });
    let mut text = String::from("FROM start\n");
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
    let mut lowering = Lowering::new(&file, &options, &start)?;
    for step in lowering.steps() {
        lowering.step(&step)?;
    }
    let mut config = lowering.stage().map(|stage| stage.config.config.clone()).unwrap_or_default();
    // What is built gets a search path; this keeps what the changes say.
    let says_path = file.stages.iter().flat_map(|stage| &stage.statements).any(|statement| {
        matches!(&statement.instruction, Instruction::Env(pairs) if pairs.iter().any(|(key, _)| key == "PATH"))
    });
    if !had_path && !says_path {
        config.env.retain(|variable| variable != DEFAULT_PATH);
    }
    config.on_build.splice(0..0, triggers);
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
        let path = ["ENV PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        assert_eq!(apply(&path).expect("changes").env.len(), 1, "the default, but said");
        let base = RunConfig {
            env: vec!["PATH=/p".into(), "A=1".into()],
            cmd: Some(vec!["x".into()]),
            on_build: vec!["RUN true".into()],
            ..RunConfig::default()
        };
        let config = apply_to(base, &["ENV A=2 C=3".to_owned()]).expect("changes");
        assert_eq!(config.env, ["PATH=/p", "A=2", "C=3"]);
        assert_eq!((config.cmd, config.on_build), (Some(vec!["x".to_owned()]), vec!["RUN true".to_owned()]));
        assert!(apply(&["CMD x\nRUN true".to_owned()]).is_ok_and(|config| config.cmd.is_some()));
    }
}
