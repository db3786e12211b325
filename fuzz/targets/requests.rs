//! Bodies and queries of the API: read as Go would, or refused with the text that Docker has.

#![no_main]

use gantry_api::build::BuildOptions;
use gantry_api::container::CreateRequest;
use gantry_api::{Query, exec, filters, gojson};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = gojson::parse(bytes) {
        // What was read is written as what can be read. (Not as the same: a fraction may lose its last bit.)
        let written = tree.to_string();
        assert!(gojson::parse(written.as_bytes()).is_ok(), "{written}");
    }
    let _ = CreateRequest::parse(bytes);
    let _ = gojson::from_slice::<exec::CreateRequest>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = filters::parse(text);
    if let Ok(query) = Query::parse(text) {
        let _ = BuildOptions::parse(&query);
        assert_eq!(Query::parse(&query.encode()).ok(), Some(query), "{text:?}");
    }
});
