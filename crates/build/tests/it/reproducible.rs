//! The same digest, whatever differs that must not matter.

use crate::harness::{Entry, Site, base, file, tar, unprivileged};
use gantry_build::BuildOptions;

const DOCKERFILE: &str =
    "FROM busybox\nENV A=1\nCOPY d /d\nWORKDIR /w\nRUN write /w/out text\nRUN true\nCMD [\"x\"]\n";

fn build(umask: u32, mtime: u64, reverse: bool) -> (gantry_model::Digest, Vec<u8>) {
    let mut site = Site::new();
    site.import("busybox", &base());
    let mut entries =
        vec![file("Dockerfile", DOCKERFILE), file("d/a", "1"), file("d/b", "2"), Entry::Link("d/l", "a")];
    if reverse {
        entries.reverse();
    }
    let context = tar(&entries, mtime);
    let outcome = site.with_umask(umask, |site| site.build_tar(context, "", BuildOptions::default(), &[]));
    let image = outcome.image();
    let bytes = site.store.images().get(&image).expect("an image").config_bytes.clone();
    (image, bytes)
}

#[test]
fn builds_have_the_same_digest_with_another_root_umask_time_and_order() {
    if unprivileged("reproducible builds") {
        return;
    }
    let (first, bytes) = build(0o022, 5, false);
    for (umask, mtime, reverse) in
        [(0o022, 5, false), (0o077, 5, false), (0o022, 999_999_999, false), (0, 5, true)]
    {
        let (image, other) = build(umask, mtime, reverse);
        assert_eq!(
            image,
            first,
            "umask {umask:o}, times {mtime}, reversed {reverse}:\n{}\n{}",
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&other)
        );
    }
}

#[test]
fn the_epoch_is_the_arguments_else_the_bases() {
    if unprivileged("epochs") {
        return;
    }
    let site = Site::new();
    site.import("busybox", &base());
    let dockerfile = "FROM busybox\nCOPY a /a\n";
    let created = |options: BuildOptions| {
        let image = site.build_with(dockerfile, &[file("a", "")], options).image();
        (site.config(&image).created.expect("a time"), site.top_layer(&image))
    };
    assert_eq!(
        created(BuildOptions::default()),
        ("1970-01-12T13:46:40Z".to_owned(), vec!["a 644 0:0 0 1000000".to_owned()])
    );
    let args = [("SOURCE_DATE_EPOCH".to_owned(), Some("86400".to_owned()))].into();
    assert_eq!(
        created(BuildOptions { args, ..Default::default() }),
        ("1970-01-02T00:00:00Z".to_owned(), vec!["a 644 0:0 0 86400".to_owned()])
    );
    let args = [("SOURCE_DATE_EPOCH".to_owned(), Some("now".to_owned()))].into();
    let outcome = site.build_with(dockerfile, &[], BuildOptions { args, ..Default::default() });
    assert!(outcome.error().starts_with("invalid SOURCE_DATE_EPOCH"));
    let scratch = site.build("FROM scratch\nCOPY a /a\n", &[file("a", "")]).image();
    assert_eq!(site.config(&scratch).created.as_deref(), Some("1970-01-01T00:00:00Z"));
}
