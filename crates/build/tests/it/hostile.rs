//! What strangers may send.

use std::fmt::Write;

use crate::harness::{Entry, Site, base, file, unprivileged};

#[test]
fn links_out_of_the_context_stay_inside() {
    if unprivileged("hostile contexts") {
        return;
    }
    let site = Site::new();
    site.import("busybox", &base());
    let context = [Entry::Link("passwd", "/etc/passwd"), Entry::Link("up", "/etc"), file("ok", "x")];
    for source in ["passwd", "up", "up/passwd", "*/passwd"] {
        let error = site.build(&format!("FROM busybox\nCOPY {source} /x\n"), &context).error();
        assert!(error.starts_with("COPY failed: "), "{source}: {error}");
        assert!(!error.contains("root:"), "{source}: {error}");
    }
    let climbing = [Entry::Link("d/up", "../../../../../../../etc")];
    let error = site.build("FROM busybox\nCOPY . /x\n", &climbing).error();
    assert!(error.starts_with("Error processing tar file: "), "{error}");
    let outside = site.build("FROM busybox\nCOPY ../../etc/passwd /x\n", &context).error();
    assert_eq!(outside, "COPY failed: forbidden path outside the build context: ../../etc/passwd ()");
    let named =
        site.build_tar(crate::harness::tar(&context, 5), "../../../etc/passwd", Default::default(), &[]);
    assert!(named.error().starts_with("Cannot locate specified Dockerfile"), "{}", named.error());
}

#[test]
fn links_of_the_image_do_not_lead_to_the_host() {
    if unprivileged("hostile images") {
        return;
    }
    let site = Site::new();
    let directory = tempfile::tempdir().expect("a directory");
    let outside = directory.path().to_str().expect("a path").to_owned();
    let link: &'static str = Box::leak(outside.clone().into_boxed_str());
    site.import("evil", &crate::harness::tar(&[Entry::Link("d", link), Entry::Link("f", link)], 5));
    let _ = site.build("FROM evil\nCOPY a /d/a\nCOPY a /f\nWORKDIR /d/w\n", &[file("a", "x")]);
    let left = std::fs::read_dir(directory.path()).expect("the directory").count();
    assert_eq!(left, 0, "something was written to {outside}");
}

#[test]
fn huge_dockerfiles_end_with_an_error_in_time() {
    if unprivileged("hostile Dockerfiles") {
        return;
    }
    let site = Site::new();
    site.import("busybox", &base());
    let mut doubling = String::from("FROM busybox\nENV A=0123456789abcdef\n");
    for _ in 0..64 {
        doubling.push_str("ENV A=$A$A\n");
    }
    let error = site.build(&doubling, &[]).error();
    assert!(error.contains("longer than"), "{error}");
    let large = format!("#{}\n", "x".repeat(65_000)).repeat((16 << 20) / 65_000 + 1);
    assert!(site.build(&large, &[]).error().contains("larger than"));
    let mut layers = String::from("FROM busybox\n");
    for number in 0..130 {
        let _ = writeln!(layers, "RUN write /f{number} 1");
    }
    assert_eq!(site.build(&layers, &[]).error(), "max depth exceeded");
}
