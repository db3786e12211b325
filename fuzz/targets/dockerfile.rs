//! A Dockerfile, its words, and a `.dockerignore`: read, or refused with a text.

#![no_main]

use gantry_build::dockerfile::words::Expander;
use gantry_build::dockerfile::{lexer, parse};
use gantry_build::dockerignore::DockerIgnore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = lexer::lex(text);
    if let Ok(file) = parse::parse(text) {
        for statement in file.stages.iter().flat_map(|stage| &stage.statements) {
            // What was read once is read again, as the triggers of a base image are.
            let _ = parse::parse_statement(&statement.text, file.escape);
        }
    }
    let lookup = |name: &str| (name.len() % 2 == 0).then(|| name.to_owned());
    for escape in ['\\', '`'] {
        let expander = Expander { escape, lookup: &lookup };
        let _ = (expander.word(text), expander.text(text), expander.words(text));
    }
    if let Ok(ignore) = DockerIgnore::parse(text) {
        for path in ["a", "a/b/c", "", "**", text] {
            let _ = ignore.excludes(path);
        }
    }
});
