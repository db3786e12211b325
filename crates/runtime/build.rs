//! Links `gantry-shim` at a fixed address. A position-independent static program relocates itself when it
//! starts, which turns a quarter of a megabyte of tables into memory of its own: for one process per
//! container that is most of what it would use. What it parses comes from its daemon alone. The other
//! programs stay position-independent.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        for argument in ["-no-pie", "-static"] {
            println!("cargo:rustc-link-arg-bin=gantry-shim={argument}");
        }
    }
}
