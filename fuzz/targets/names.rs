//! Names that people and registries give: images, digests, platforms, times, paths in a URL.

#![no_main]

use gantry_api::query::decode_path;
use gantry_model::{Digest, Platform, Reference, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = Reference::parse_normalized(text) {
        let familiar = name.familiar();
        assert_eq!(Reference::parse_normalized(&familiar).ok(), Some(name), "{text:?} is {familiar:?}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert!(platform.serves(&platform), "{text:?}");
    }
    let _ = (Timestamp::parse_rfc3339(text), decode_path(text));
});
