//! `docker import --change` and `docker commit --change`: Dockerfile instructions that change only an image's configuration.

use gantry_build::BuildError;
use gantry_build::dockerfile::Instruction;
use gantry_build::dockerfile::lower::{BaseImage, DEFAULT_PATH, Lowering, MetaResolver};
use gantry_build::dockerfile::{lexer, parse};
use gantry_build::request::BuildOptions;
use gantry_model::Platform;
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
    fn resolve(&self, _: &str, _: Option<&Platform>) -> Result<BaseImage, BuildError> {
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
    let text = changes.join("\n");
    let lexed = lexer::lex(&text).map_err(|error| refused(&error))?;
    if lexed.lines.is_empty() {
        return Err(Refusal::invalid("file with no instructions"));
    }
    for line in &lexed.lines {
        let verb = line.text.split_whitespace().next().unwrap_or("");
        if !TAKEN.contains(&verb.to_ascii_uppercase().as_str()) {
            return Err(Refusal::invalid(format!("{verb} is not a valid change command")));
        }
    }
    let file = parse::parse(&format!("FROM start\n{text}\n")).map_err(|error| refused(&error))?;
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

/// The error's reason alone: the line is that of our own text, not of anything the user wrote.
fn refused(error: &parse::ParseError) -> Refusal {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to parse Dockerfile: ").or_else(|| {
        let rest = text.strip_prefix("dockerfile parse error on line ")?;
        Some(rest.split_once(": ")?.1)
    });
    Refusal::invalid(reason.unwrap_or(&text).to_owned())
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
        let two = apply(&["CMD x\nENV A=1".to_owned()]).expect("two in one");
        assert!(two.cmd.is_some() && two.env == ["A=1"]);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (change, reason) in [
            ("", "file with no instructions"),
            ("# nothing", "file with no instructions"),
            ("RUN true", "RUN is not a valid change command"),
            ("CMD x\nnosuch y", "nosuch is not a valid change command"),
            ("ENV A", "ENV must have two arguments"),
        ] {
            let refusal = apply(&[change.to_owned()]).expect_err(change);
            assert_eq!(refusal.0.message, reason, "{change}");
        }
    }
}
