//! Any bytes as an archive: unpacked or refused, and nothing outside of the directory is touched.

#![no_main]

#[path = "../support/yard.rs"]
mod yard;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    yard::unpack(bytes);
});
