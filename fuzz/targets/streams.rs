//! What comes in pieces: the frames of an attached session, and the lines of a log file.

#![no_main]

use gantry_api::frame::Decoder;
use gantry_logs::{Details, Entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The same frames come out however the bytes arrive.
    let whole = frames(bytes.chunks(bytes.len().max(1)));
    let pieces = frames(bytes.chunks(3));
    assert_eq!(whole, pieces);
    for line in bytes.split(|byte| *byte == b'\n') {
        for details in [Details::Omitted, Details::Read] {
            let _ = Entry::decode(line, details);
        }
    }
});

/// The bytes of each stream, and whether the frames were sound.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some((stream, bytes))) => bytes.iter().for_each(|byte| out.extend([stream as u8, *byte])),
                Ok(None) => break,
                Err(_) => return (out, false),
            }
        }
    }
    (out, true)
}
