//! What Docker's classic builder (28.5) was seen to do in corners, and does here.

use crate::harness::{Entry, file, site, tar};
use gantry_build::BuildOptions;

#[test]
fn steps_without_files_are_cached_too() {
    let Some(site) = site() else { return };
    let dockerfile = "FROM busybox\nENV A=b\nWORKDIR /w\nCMD x\n";
    let count = |text: &str, what: &str| text.matches(what).count();
    let first = site.build(dockerfile, &[]).text;
    assert_eq!(count(&first, " ---> Using cache\n"), 0, "{first}");
    assert_eq!(count(&first, " ---> Running in "), 3, "{first}");
    assert_eq!(count(&first, " ---> Removed intermediate container "), 3, "{first}");
    let second = site.build(dockerfile, &[]).text;
    assert_eq!(count(&second, " ---> Using cache\n"), 3, "{second}");
    assert_eq!(count(&second, " ---> Running in "), 0, "{second}");
    let options = BuildOptions { no_cache: true, ..BuildOptions::default() };
    let third = site.build_with(dockerfile, &[], options).text;
    assert_eq!(count(&third, " ---> Using cache\n"), 0, "{third}");
}

#[test]
fn triggers_end_in_one_image() {
    let Some(site) = site() else { return };
    site.build("FROM busybox\nONBUILD ENV A=b\nONBUILD RUN write /t 1\nONBUILD USER app\n", &[]);
    let text = site.build("FROM web\n", &[]).text;
    let told = text.split("# Executing 3 build triggers\n").nth(1).expect("triggers");
    assert_eq!(told.matches(" ---> Running in ").count(), 3, "{told}");
    let ids = told.lines().filter(|line| line.starts_with(" ---> ") && line.len() == " ---> ".len() + 12);
    assert_eq!(ids.count(), 1, "{told}");
}

#[test]
fn configurations_are_merged_as_docker_merges_them() {
    let Some(site) = site() else { return };
    let image = |dockerfile: &str| {
        let outcome = site.build(dockerfile, &[]);
        let id = outcome.image();
        (outcome.text, site.config(&id).config)
    };
    let (text, config) =
        image("FROM busybox\nHEALTHCHECK --interval=5s --retries=2 CMD a\nHEALTHCHECK --timeout=1s CMD b\n");
    assert!(text.contains("Note: overriding previous HEALTHCHECK: [CMD-SHELL a]\n"), "{text}");
    let check = config.healthcheck.expect("a check");
    assert_eq!((check.interval_ns, check.timeout_ns, check.retries), (5_000_000_000, 1_000_000_000, 2));
    let (_, config) = image("FROM busybox\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\nENTRYPOINT []\n");
    assert_eq!((config.entrypoint, config.cmd), (None, Some(vec!["c".into()])));
    let (_, config) = image("FROM busybox\nCMD\n");
    assert_eq!(config.cmd, Some(vec!["/bin/sh".into(), "-c".into()]));
}

#[test]
fn copies_to_other_owners_lose_their_privileges() {
    let Some(site) = site() else { return };
    let context = [Entry::File("x", 0o6755, b"x".to_vec()), Entry::File("y", 0o2644, b"y".to_vec())];
    let top = |dockerfile: &str| site.top_layer(&site.build(dockerfile, &context).image());
    assert_eq!(top("FROM busybox\nCOPY x /x\n"), ["x 755 0:0 1 1000000"]);
    assert_eq!(top("FROM busybox\nCOPY y /y\n"), ["y 2644 0:0 1 1000000"]);
    assert_eq!(top("FROM busybox\nCOPY --chmod=4755 x /x\n"), ["x 4755 0:0 1 1000000"]);
    assert_eq!(
        top("FROM busybox AS a\nCOPY --chmod=4755 x /x\nFROM busybox\nCOPY --from=a /x /z\n"),
        ["z 4755 0:0 1 1000000"]
    );
}

#[test]
fn links_without_target_are_followed() {
    let Some(site) = site() else { return };
    let root = tar(&[Entry::Link("dead", "/nosuch")], 7);
    site.import("dead", &root);
    let context = [file("a", "a"), file("d/b", "b")];
    let top = |instruction: &str| {
        site.top_layer(&site.build(&format!("FROM dead\n{instruction}\n"), &context).image())
    };
    let made = "nosuch/ 755 0:0 0 1000000";
    assert_eq!(top("COPY a /dead/"), [made, "nosuch/a 644 0:0 1 1000000"]);
    assert_eq!(top("COPY d /dead"), [made, "nosuch/b 644 0:0 1 1000000"]);
    assert_eq!(top("COPY a /dead"), ["nosuch 644 0:0 1 1000000"]);
    assert_eq!(top("WORKDIR /dead/w"), [made, "nosuch/w/ 755 0:0 0 1000000"]);
}

#[test]
fn what_is_compressed_and_no_archive_is_copied() {
    let Some(site) = site() else { return };
    // An empty gzip stream, and bytes that only begin like one.
    let empty: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for bytes in [empty, &[0x1f, 0x8b, 8, 1]] {
        let context = [Entry::File("x.gz", 0o644, bytes.to_vec())];
        let outcome = site.build("FROM busybox\nADD x.gz /to/\n", &context);
        let expected = format!("to/x.gz 644 0:0 {} 1000000", bytes.len());
        assert_eq!(site.top_layer(&outcome.image()), ["to/ 755 0:0 0 1000000".to_owned(), expected]);
    }
}

#[test]
fn refusals_have_dockers_words() {
    let Some(site) = site() else { return };
    let context = [file("a", "a"), file("d/b", "b")];
    let check = |instructions: &str, expected: &str| {
        let outcome = site.build(&format!("FROM busybox\n{instructions}\n"), &context);
        assert_eq!(outcome.result.expect_err(instructions).to_string(), expected, "{instructions}");
    };
    check("RUN []", "no command specified");
    check(
        "RUN --mount=type=cache,target=/x write /a 1",
        "the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled",
    );
    check("RUN --security=insecure x", "dockerfile parse error on line 2: unknown flag: --security");
    check("RUN --network=foo x", "dockerfile parse error on line 2: invalid network mode \"foo\"");
    check(
        "COPY",
        "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
    );
    check("COPY [a /x", "COPY failed: no source files were specified");
    check("COPY http://h/x /x", "COPY failed: source can't be a URL for COPY");
    check("COPY a /etc/passwd/x", "failed to copy files: lstat /etc/passwd/x: not a directory");
    check(
        "COPY d /etc/passwd",
        "failed to copy files: failed to copy directory: mkdir /etc/passwd: not a directory",
    );
    check("WORKDIR $nosuch", "cannot normalize nothing");
    check("WORKDIR /etc/passwd", "Cannot mkdir: /etc/passwd is not a directory");
    check("STOPSIGNAL 0", "invalid signal: 0");
    check("ENV A=${}", "failed to process \"${}\": syntax error: bad substitution");
    check("FROM scratch:x", "'scratch' is a reserved name");
    check("FROM scratch AS e\nFROM busybox\nCOPY --from=e /x /x", "COPY failed: stat x: file does not exist");
    check("FROM busybox AS x\nFROM busybox AS x", "x stage name already used");
    let below_dead = tar(&[Entry::Link("l", "nosuch"), file("l/f", "f")], 9);
    let outcome = site.build("FROM busybox\nADD a.tar /to/\n", &[file("a.tar", &below_dead)]);
    assert_eq!(
        outcome.error(),
        "ADD failed: a.tar: cannot unpack \"l/f\": l is a link whose target does not exist"
    );
    let limited = |memory_bytes, memory_swap_bytes| {
        let run = gantry_build::RunOptions { memory_bytes, memory_swap_bytes, ..Default::default() };
        let options = BuildOptions { run, ..BuildOptions::default() };
        let outcome = site.build_with("FROM busybox\nRUN write /a 1\n", &[], options);
        outcome.result.expect_err("a limit").to_string()
    };
    assert_eq!(limited(1 << 20, 0), "Minimum memory limit allowed is 6MB");
    assert_eq!(
        limited(64 << 20, 1 << 20),
        "Minimum memoryswap limit should be larger than memory limit, see usage"
    );
}
