//! The classic text stream: events become the JSON lines that `docker build` without BuildKit reads.
//!
//! ```text
//! {"stream":"Step 1/2 : FROM busybox"}  {"stream":"\n"}  {"stream":" ---\u003e 0a1b2c3d4e5f\n"} …
//! {"aux":{"ID":"sha256:…"}}
//! {"stream":"Successfully built 0a1b2c3d4e5f\n"}  {"stream":"Successfully tagged web:latest\n"}
//! {"errorDetail":{"code":1,"message":"…"},"error":"…"}
//! ```
//! Each line ends with CR LF, as dockerd's do.

use crate::error::BuildError;
use crate::event::BuildEvent;

/// Renders one build. With `q` only the image's id and errors are told.
#[derive(Debug, Clone)]
pub struct Classic {
    quiet: bool,
}

impl Classic {
    /// Makes the renderer of one build; `quiet` is `q=1`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// The lines of one event: none, one or several, each complete with its line end. The caller writes
    /// them to the reply as they are (content type `application/json`).
    pub fn event(&mut self, event: &BuildEvent) -> Vec<u8> {
        let _ = (event, self.quiet);
        Vec::new()
    }

    /// The lines that end the stream after a failure. A cancelled build has none.
    pub fn failure(&mut self, error: &BuildError) -> Vec<u8> {
        let _ = error;
        Vec::new()
    }
}
