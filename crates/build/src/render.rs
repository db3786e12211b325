//! The classic text stream: events become the JSON lines that `docker build` without BuildKit reads.
//!
//! ```text
//! {"stream":"Step 1/2 : FROM busybox"}  {"stream":"\n"}  {"stream":" ---\u003e 0a1b2c3d4e5f\n"} …
//! {"aux":{"ID":"sha256:…"}}
//! {"stream":"Successfully built 0a1b2c3d4e5f\n"}  {"stream":"Successfully tagged web:latest\n"}
//! {"errorDetail":{"code":1,"message":"…"},"error":"…"}
//! ```
//! Each line ends with CR LF, as dockerd's do.

use serde_json::{Value, json};

use gantry_model::Digest;

use crate::error::BuildError;
use crate::event::{BuildEvent, LogStream, Outcome};

/// What the client asked to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// `q`: only the image's id and failures.
    pub quiet: bool,
    /// `rm`: that containers of steps that succeeded are gone. They are always, but not always told of.
    pub remove: bool,
    /// `forcerm`: the same of a step that failed.
    pub force_remove: bool,
}

/// Renders one build. With `q` only the image's id and failures are told; then the text of the steps so far
/// goes before the failure, as in Docker.
#[derive(Debug, Clone)]
pub struct Classic {
    asked: Asked,
    held_back: String,
    /// The container that was told to run, until it is gone.
    running: Option<String>,
}

/// How much of a quiet build's text is kept for its failure.
const MAX_HELD_BACK_BYTES: usize = 1 << 20;

impl Classic {
    /// Makes the renderer of one build.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        Self { asked, held_back: String::new(), running: None }
    }

    /// The lines of one event: none, one or several, each complete with its line end. The caller writes
    /// them to the reply as they are (content type `application/json`).
    pub fn event(&mut self, event: &BuildEvent) -> Vec<u8> {
        let mut out = Vec::new();
        match event {
            BuildEvent::StepStarted { number, total, text } => {
                self.stream(&mut out, &format!("Step {number}/{total} : {text}"));
                self.stream(&mut out, "\n");
            }
            BuildEvent::Note(text) => self.stream(&mut out, &format!("{text}\n")),
            BuildEvent::Warning(text) => self.stream(&mut out, &red(&format!("{text}\n"))),
            BuildEvent::Fetched { size_bytes } => {
                if !self.asked.quiet {
                    let detail = json!({ "current": size_bytes, "total": size_bytes });
                    line(&mut out, &json!({ "status": "Downloading", "progressDetail": detail }));
                }
                self.stream(&mut out, "\n");
            }
            BuildEvent::Running { container, .. } => self.running(&mut out, container),
            BuildEvent::Removed { .. } => {
                if let Some(container) = self.running.take()
                    && self.asked.remove
                {
                    self.removed(&mut out, &container);
                }
            }
            BuildEvent::Log { stream, data, .. } => {
                let text = String::from_utf8_lossy(data);
                match stream {
                    LogStream::Stdout => self.stream(&mut out, &text),
                    LogStream::Stderr => self.stream(&mut out, &red(&text)),
                }
            }
            BuildEvent::TriggerFinished { outcome, image } => {
                self.outcome(&mut out, *outcome, image.as_ref());
            }
            BuildEvent::StepFinished { outcome, image } => {
                self.outcome(&mut out, *outcome, image.as_ref());
                let hex = image.as_ref().map(|image| image.hex()[..12].to_owned()).unwrap_or_default();
                self.stream(&mut out, &format!(" ---> {hex}\n"));
            }
            BuildEvent::StageFinished { image } => self.identified(&mut out, image),
            BuildEvent::Built { image } => {
                if self.asked.quiet {
                    line(&mut out, &json!({ "stream": format!("{image}\n") }));
                } else {
                    self.identified(&mut out, image);
                    self.stream(&mut out, &format!("Successfully built {}\n", &image.hex()[..12]));
                }
            }
            BuildEvent::Tagged { reference } => {
                self.stream(&mut out, &format!("Successfully tagged {}\n", reference.familiar()));
            }
            BuildEvent::VertexStarted { .. } | BuildEvent::VertexFinished { .. } => {}
        }
        out
    }

    /// The lines that end the stream after a failure. A cancelled build has none.
    pub fn failure(&mut self, error: &BuildError) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(error, BuildError::Cancelled) {
            return out;
        }
        let held_back = std::mem::take(&mut self.held_back);
        if !held_back.is_empty() {
            line(&mut out, &json!({ "stream": held_back }));
        }
        if matches!(error, BuildError::Command { .. })
            && self.asked.force_remove
            && let Some(container) = self.running.take()
        {
            self.removed(&mut out, &container);
        }
        let text = error.full_text();
        let detail = match error.exit_code() {
            Some(code) => json!({ "code": code, "message": text }),
            None => json!({ "message": text }),
        };
        line(&mut out, &json!({ "errorDetail": detail, "error": text }));
        out
    }

    /// How a step came to its result. For one that only changes the configuration the classic builder makes a
    /// container, and says so; here there is none, and the end of the image's id stands for its name.
    fn outcome(&mut self, out: &mut Vec<u8>, outcome: Outcome, image: Option<&Digest>) {
        match (outcome, image) {
            (Outcome::Cached, _) => self.stream(out, " ---> Using cache\n"),
            (Outcome::Metadata, Some(image)) => {
                let container = &image.hex()[52..];
                self.running(out, container);
                self.running = None;
                if self.asked.remove {
                    self.removed(out, container);
                }
            }
            (Outcome::Metadata | Outcome::Done | Outcome::Base, _) => {}
        }
    }

    fn running(&mut self, out: &mut Vec<u8>, container: &str) {
        self.running = Some(container.to_owned());
        self.stream(out, &format!(" ---> Running in {}\n", short(container)));
    }

    fn removed(&mut self, out: &mut Vec<u8>, container: &str) {
        self.stream(out, &format!(" ---> Removed intermediate container {}\n", short(container)));
    }

    /// Tells programs which image there is now.
    fn identified(&self, out: &mut Vec<u8>, image: &Digest) {
        if !self.asked.quiet {
            line(out, &json!({ "aux": { "ID": image.to_string() } }));
        }
    }

    fn stream(&mut self, out: &mut Vec<u8>, text: &str) {
        if !self.asked.quiet {
            line(out, &json!({ "stream": text }));
        } else if self.held_back.len() + text.len() <= MAX_HELD_BACK_BYTES {
            self.held_back.push_str(text);
        }
    }
}

/// The classic builder paints standard error and warnings red.
fn red(text: &str) -> String {
    format!("\u{1b}[91m{text}\u{1b}[0m")
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

fn line(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::VertexNumber;
    use gantry_model::Reference;

    const ALL: Asked = Asked { quiet: false, remove: true, force_remove: false };
    const QUIET: Asked = Asked { quiet: true, ..ALL };

    fn check(asked: Asked, events: &[BuildEvent], failure: Option<&BuildError>, expected: &[&str]) {
        let mut classic = Classic::new(asked);
        let mut bytes: Vec<u8> = events.iter().flat_map(|event| classic.event(event)).collect();
        bytes.extend(failure.iter().flat_map(|error| classic.failure(error)));
        let text = String::from_utf8(bytes).expect("JSON");
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn events_become_the_classic_lines() {
        let image = Digest::from_sha256([0xab; 32]);
        let vertex = VertexNumber(0);
        let container = "c".repeat(64);
        let events = [
            BuildEvent::StepStarted { number: 1, total: 2, text: "RUN a".into() },
            BuildEvent::Running { vertex, container: container.clone() },
            BuildEvent::Log { vertex, stream: LogStream::Stdout, data: b"hi\n".to_vec() },
            BuildEvent::Log { vertex, stream: LogStream::Stderr, data: b"no".to_vec() },
            BuildEvent::Removed { vertex, container },
            BuildEvent::StepFinished { outcome: Outcome::Done, image: Some(image) },
            BuildEvent::StepFinished { outcome: Outcome::Cached, image: Some(image) },
            BuildEvent::StageFinished { image },
            BuildEvent::Built { image },
            BuildEvent::Tagged { reference: Reference::parse_normalized("web:1").expect("a name") },
        ];
        let id = format!(r#"{{"aux":{{"ID":"{image}"}}}}"#);
        check(
            ALL,
            &events,
            None,
            &[
                r#"{"stream":"Step 1/2 : RUN a"}"#,
                r#"{"stream":"\n"}"#,
                r#"{"stream":" ---> Running in cccccccccccc\n"}"#,
                r#"{"stream":"hi\n"}"#,
                r#"{"stream":"\u001b[91mno\u001b[0m"}"#,
                r#"{"stream":" ---> Removed intermediate container cccccccccccc\n"}"#,
                r#"{"stream":" ---> abababababab\n"}"#,
                r#"{"stream":" ---> Using cache\n"}"#,
                r#"{"stream":" ---> abababababab\n"}"#,
                &id,
                &id,
                r#"{"stream":"Successfully built abababababab\n"}"#,
                r#"{"stream":"Successfully tagged web:1\n"}"#,
            ],
        );
        check(QUIET, &events, None, &[&format!(r#"{{"stream":"{image}\n"}}"#)]);
    }

    #[test]
    fn failures_end_the_stream() {
        let error = BuildError::Command { command: "/bin/sh -c false".into(), code: 3 };
        let text = "The command '/bin/sh -c false' returned a non-zero code: 3";
        let expected = format!(r#"{{"errorDetail":{{"code":3,"message":"{text}"}},"error":"{text}"}}"#);
        check(ALL, &[], Some(&error), &[&expected]);
        check(QUIET, &[BuildEvent::Note("x".into())], Some(&error), &[r#"{"stream":"x\n"}"#, &expected]);
        check(ALL, &[], Some(&BuildError::Cancelled), &[]);
        let running = [BuildEvent::Running { vertex: VertexNumber(0), container: "c".repeat(64) }];
        let run = r#"{"stream":" ---> Running in cccccccccccc\n"}"#;
        let removed = r#"{"stream":" ---> Removed intermediate container cccccccccccc\n"}"#;
        check(ALL, &running, Some(&error), &[run, &expected]);
        check(Asked { force_remove: true, ..ALL }, &running, Some(&error), &[run, removed, &expected]);
    }

    #[test]
    fn steps_without_a_container_are_told_as_if_they_had_one() {
        let image = Some(Digest::from_sha256([0xab; 32]));
        let events = [
            BuildEvent::Warning("careful".into()),
            BuildEvent::StepFinished { outcome: Outcome::Base, image },
            BuildEvent::TriggerFinished { outcome: Outcome::Cached, image },
            BuildEvent::TriggerFinished { outcome: Outcome::Metadata, image },
            BuildEvent::StepFinished { outcome: Outcome::Metadata, image },
        ];
        let id = r#"{"stream":" ---> abababababab\n"}"#;
        let run = r#"{"stream":" ---> Running in abababababab\n"}"#;
        let removed = r#"{"stream":" ---> Removed intermediate container abababababab\n"}"#;
        let (red, cached) =
            (r#"{"stream":"\u001b[91mcareful\n\u001b[0m"}"#, r#"{"stream":" ---> Using cache\n"}"#);
        check(ALL, &events, None, &[red, id, cached, run, removed, run, removed, id]);
        check(Asked { remove: false, ..ALL }, &events, None, &[red, id, cached, run, run, id]);
    }
}
