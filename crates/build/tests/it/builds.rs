//! Builds in a real store, with scripted steps.

use std::collections::BTreeMap;

use crate::harness::{Entry, Outcome, Site, file, site, tar};
use gantry_build::{BuildOptions, ContextSource};
use gantry_model::Platform;

#[test]
fn every_instruction_ends_up_in_the_image() {
    let Some(site) = site() else { return };
    let dockerfile = "ARG V=latest\nFROM busybox:$V AS base\nMAINTAINER me\nENV A=b C=\"d e\"\nLABEL x=y\nARG FOO=1\nRUN write /f $FOO\nEXPOSE 80 90/udp\nCOPY a.txt /x/\nADD d /d\nWORKDIR w\nWORKDIR v\nUSER app\nVOLUME /v\nHEALTHCHECK --interval=5s CMD true\nSHELL [\"/bin/sh\",\"-ec\"]\nSTOPSIGNAL 9\nONBUILD RUN write /trig 1\nCMD echo hi\nENTRYPOINT [\"x\"]\n";
    let context = [file("a.txt", "a"), file("d/b", "b")];
    let options = BuildOptions { labels: BTreeMap::from([("k".into(), "v".into())]), ..Default::default() };
    let outcome = site.build_with(dockerfile, &context, options);
    let image = outcome.image();
    let config = site.config(&image);
    let run = &config.config;
    assert_eq!(
        run.env,
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b", "C=d e"]
    );
    assert_eq!(run.cmd.as_deref(), Some(&["/bin/sh".to_owned(), "-ec".into(), "echo hi".into()][..]));
    assert_eq!(run.entrypoint.as_deref(), Some(&["x".to_owned()][..]));
    assert_eq!((run.user.as_str(), run.working_dir.as_str(), run.stop_signal.as_str()), ("app", "/w/v", "9"));
    assert_eq!(run.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "90/udp"]);
    assert_eq!(run.labels, BTreeMap::from([("k".into(), "v".into()), ("x".into(), "y".into())]));
    assert_eq!(config.author, "me");
    assert_eq!(config.created.as_deref(), Some("1970-01-12T13:46:40Z"));
    let history: Vec<&str> = config.history.iter().map(|entry| entry.created_by.as_str()).collect();
    let copied = history.iter().find(|text| text.contains("COPY")).expect("COPY");
    assert!(copied.starts_with("/bin/sh -c #(nop) COPY file:") && copied.ends_with(" in /x/ "), "{copied}");
    for wanted in [
        "/bin/sh -ec #(nop)  ENTRYPOINT [\"x\"]",
        "/bin/sh -ec #(nop)  CMD [\"/bin/sh\" \"-ec\" \"echo hi\"]",
        "/bin/sh -ec #(nop)  ONBUILD RUN write /trig 1",
        "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]",
        "/bin/sh -c #(nop)  HEALTHCHECK &{[CMD-SHELL true] 5s 0s 0s 0s 0}",
        "/bin/sh -c #(nop)  VOLUME [/v]",
        "/bin/sh -c #(nop) WORKDIR /w/v",
        "/bin/sh -c #(nop)  EXPOSE 80 90/udp",
        "|1 FOO=1 /bin/sh -c write /f $FOO",
        "/bin/sh -c #(nop)  ENV A=b C=d e",
        "/bin/sh -c #(nop)  MAINTAINER me",
    ] {
        assert!(history.contains(&wanted), "{wanted} is not in {history:#?}");
    }
    assert!(
        outcome.text.starts_with("Step 1/21 : ARG V=latest\nStep 2/21 : FROM busybox:$V AS base\n ---> ")
    );
    assert!(
        outcome.text.ends_with(&format!(
            "Successfully built {}\nSuccessfully tagged web:latest\n",
            &image.hex()[..12]
        ))
    );
    let process = site.ran.lock().expect("no panic")[0].clone();
    assert_eq!(process.env[1..], ["A=b", "C=d e", "FOO=1", "SOURCE_DATE_EPOCH=1000000"]);

    let outcome = site.build("FROM web\nRUN write /after 1\n", &[]);
    assert!(outcome.text.contains("Step 1/2 : FROM web\n# Executing 1 build trigger\n ---> Running in "));
    assert!(site.config(&outcome.image()).config.on_build.is_empty());
}

#[test]
fn copies_have_the_owner_mode_and_time_that_they_should() {
    let Some(site) = site() else { return };
    let context = [
        Entry::File("run.sh", 0o755, b"x".to_vec()),
        Entry::Directory("d", 0o750),
        Entry::File("d/secret", 0o600, b"s".to_vec()),
        Entry::Link("d/link", "../run.sh"),
    ];
    let check = |instruction: &str, expected: &[&str]| {
        let outcome = site.build(&format!("FROM busybox\n{instruction}\n"), &context);
        assert_eq!(site.top_layer(&outcome.image()), expected, "{instruction}");
    };
    check("COPY run.sh /r", &["r 755 0:0 1 1000000"]);
    check(
        "COPY run.sh /a/b/",
        &["a/ 755 0:0 0 1000000", "a/b/ 755 0:0 0 1000000", "a/b/run.sh 755 0:0 1 1000000"],
    );
    check("COPY --chown=app:staff --chmod=640 run.sh /r", &["r 640 1000:50 1 1000000"]);
    check(
        "COPY d /q/",
        &["q/ 755 0:0 0 1000000", "q/link 777 0:0 0 1000000 -> ../run.sh", "q/secret 600 0:0 1 1000000"],
    );
    check("COPY run.sh /var/r", &["etc/ 755 1234:1234 0 1000000", "etc/r 755 0:0 1 1000000"]);
    check("COPY ru?.sh r", &["r 755 0:0 1 1000000"]);
    check(
        "COPY <<one <<two /h/\n1 $PATH\none\n2\ntwo",
        &["h/ 755 0:0 0 1000000", "h/one 644 0:0 63 1000000", "h/two 644 0:0 2 1000000"],
    );
    check("WORKDIR /w/x", &["w/ 755 0:0 0 1000000", "w/x/ 755 0:0 0 1000000"]);
}

#[test]
fn archives_are_unpacked_by_add_and_copied_by_copy() {
    let Some(site) = site() else { return };
    let inner = tar(&[Entry::File("in/side", 0o644, b"x".to_vec())], 9);
    let context = [file("a.tar", &inner)];
    let added = site.build("FROM busybox\nADD a.tar /to/\n", &context);
    let top = site.top_layer(&added.image());
    assert!(top.contains(&"to/in/side 644 1234:1234 1 9".to_owned()), "{top:?}");
    let copied = site.build("FROM busybox\nCOPY a.tar /to/\n", &context);
    assert!(site.top_layer(&copied.image())[1].starts_with("to/a.tar "));
}

#[test]
fn files_from_elsewhere_are_added() {
    let Some(site) = site() else { return };
    let check = |instruction: &str, expected: &[&str]| {
        let outcome = site.build(&format!("FROM busybox\n{instruction}\n"), &[file("here", "x")]);
        assert_eq!(site.top_layer(&outcome.image()), expected, "{instruction}");
        let again = site.build(&format!("FROM busybox\n{instruction}\n"), &[file("here", "x")]);
        assert_eq!((again.image(), again.cached()), (outcome.image(), 1), "{instruction}");
    };
    check("ADD http://pages/a /f", &["f 600 0:0 11 1000000"]);
    check("ADD http://pages/a?b /etc", &["etc/ 755 1234:1234 0 1000000", "etc/a 600 0:0 13 1000000"]);
    check("ADD --chown=5:6 --chmod=644 http://pages/d/ /f", &["f 644 5:6 12 1000000"]);
    check(
        "ADD http://pages/a here http://pages/b /d/",
        &[
            "d/ 755 0:0 0 1000000",
            "d/a 600 0:0 11 1000000",
            "d/b 600 0:0 11 1000000",
            "d/here 644 0:0 1 1000000",
        ],
    );
    let first = site.build("FROM busybox\nADD http://pages/a /g\n", &[]);
    let history = site.config(&first.image()).history;
    let created_by = &history.last().expect("a step").created_by;
    assert!(
        created_by.starts_with("/bin/sh -c #(nop) ADD ") && !created_by.contains("file:"),
        "{created_by}"
    );
    let refused = |instruction: &str, text: &str| {
        let outcome = site.build(&format!("FROM busybox\n{instruction}\n"), &[]);
        assert_eq!(outcome.result.expect_err(instruction).to_string(), text);
    };
    refused("ADD http://pages/d/ /to/", "ADD failed: cannot determine filename for source http://pages/d/");
    refused("COPY http://pages/a /f", "COPY failed: source can't be a URL for COPY");
    refused(
        "ADD http://pages/nosuch /f",
        "ADD failed: failed to GET http://pages/nosuch with status 404 Not Found: no page",
    );
}

#[test]
fn what_is_to_be_pulled_is_not_taken_from_here() {
    let Some(site) = site() else { return };
    let build = |dockerfile: &str| {
        site.build_with(dockerfile, &[file("x", "")], BuildOptions { pull: true, ..Default::default() })
            .result
    };
    let error = build("FROM busybox\n").expect_err("there is no registry").to_string();
    assert!(error.starts_with("cannot pull busybox: registries are not supported yet"), "{error}");
    assert!(build("FROM scratch\nCOPY x /\n").is_ok(), "nothing is pulled");
}

#[test]
fn contexts_are_fetched() {
    let Some(site) = site() else { return };
    let build = |address: &str| {
        site.build_from(ContextSource::Remote(address.into()), "", BuildOptions::default(), &[])
    };
    let outcome = build("http://pages/remote");
    assert_eq!(site.top_layer(&outcome.image()), ["a 600 0:0 11 0"]);
    for (address, text) in [
        ("nosuch", "remoteURL (nosuch) could not be recognized as URL"),
        ("ftp://a/b", "remoteURL (ftp://a/b) could not be recognized as URL"),
        (
            "http://pages/nosuch",
            "error downloading remote context http://pages/nosuch: failed to GET http://pages/nosuch with status 404 Not Found: no page",
        ),
        (
            "https://host/x.git",
            "building from the repository https://host/x.git is not supported yet: clone it, and build from the directory",
        ),
        ("http://pages/text", "dockerfile parse error on line 1: unknown instruction: the"),
    ] {
        let error = build(address).result.expect_err(address).to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn stages_are_copied_between() {
    let Some(site) = site() else { return };
    let dockerfile = "FROM busybox AS build\nRUN write /out/x 1\nFROM scratch\nCOPY --from=build /out /\nCOPY --from=0 /etc/passwd /p\nCOPY --from=busybox /etc/group /g\n";
    let outcome = site.build(dockerfile, &[]);
    let config = site.config(&outcome.image());
    assert_eq!(config.rootfs.diff_ids.len(), 3);
    let again = site.build(dockerfile, &[]);
    assert_eq!((again.image(), again.cached()), (outcome.image(), 4));
    let target =
        site.build_with(dockerfile, &[], BuildOptions { target: "BUILD".into(), ..Default::default() });
    assert!(target.text.contains("Step 1/2 : ") && target.cached() == 1, "{}", target.text);
}

/// Builds twice, with something changed between; says whether the second used the cache for COPY.
fn hit(site: &Site, first: Vec<u8>, second: Vec<u8>) -> bool {
    site.builder.prune(&gantry_build::usage::Prune { all: true, ..Default::default() }).expect("pruned");
    let build = |context: Vec<u8>| -> Outcome { site.build_tar(context, "", BuildOptions::default(), &[]) };
    assert_eq!(build(first).cached(), 0);
    build(second).cached() == 1
}

#[test]
fn the_cache_is_keyed_by_content() {
    let Some(site) = site() else { return };
    let dockerfile = file("Dockerfile", "FROM busybox\nCOPY d /d\n");
    let context = |entries: &[Entry], mtime: u64| {
        tar(&[&[dockerfile.clone(), Entry::Directory("d", 0o755)], entries].concat(), mtime)
    };
    let before = [file("d/a", "1"), Entry::Link("d/l", "a")];
    let first = context(&before, 5);
    assert!(hit(&site, first.clone(), first.clone()), "nothing changed");
    assert!(hit(&site, first.clone(), context(&before, 99)), "times changed");
    let swapped = [before[1].clone(), before[0].clone()];
    assert!(hit(&site, first.clone(), context(&swapped, 5)), "the order changed");
    let others = [before.to_vec(), vec![file("other", "x")]].concat();
    assert!(hit(&site, first.clone(), context(&others, 5)), "another file came");
    for (what, entries) in [
        ("content", vec![file("d/a", "2"), before[1].clone()]),
        ("mode", vec![Entry::File("d/a", 0o600, b"1".to_vec()), before[1].clone()]),
        ("link target", vec![before[0].clone(), Entry::Link("d/l", "b")]),
        ("name", vec![file("d/b", "1"), before[1].clone()]),
        ("a file more", vec![before[0].clone(), before[1].clone(), file("d/z", "")]),
    ] {
        assert!(!hit(&site, first.clone(), context(&entries, 5)), "{what} changed, and the cache was used");
    }
}

#[test]
fn the_cache_is_asked_first_and_told_always() {
    let Some(site) = site() else { return };
    let dockerfile = "FROM busybox\nRUN write /a 1\nENV A=1\nRUN write /b 2\nRUN true\n";
    let first = site.build(dockerfile, &[]);
    assert_eq!(first.cached(), 0);
    let runs = site.ran.lock().expect("no panic").len();
    let second = site.build(dockerfile, &[]);
    assert_eq!((second.cached(), second.image()), (4, first.image()));
    assert_eq!(site.ran.lock().expect("no panic").len(), runs, "something ran");
    let no_cache = BuildOptions { no_cache: true, ..Default::default() };
    let third = site.build_with(dockerfile, &[], no_cache);
    assert_eq!((third.cached(), third.image()), (0, first.image()));
    // Of an image that ends sooner, only what it has is taken; of one that is not there, nothing.
    let short = site.build("FROM busybox\nRUN write /a 1\nENV A=1\n", &[]);
    assert_eq!(short.cached(), 2);
    let (short, whole) = (short.image().to_string(), first.image().to_string());
    for (names, cached) in
        [(vec![&*short], 2), (vec!["nosuch", &*whole], 4), (vec!["nosuch", "Not A Name"], 0)]
    {
        let cache_from = names.iter().map(|&name| name.to_owned()).collect();
        let from = BuildOptions { cache_from, ..Default::default() };
        assert_eq!(site.build_with(dockerfile, &[], from).cached(), cached, "{names:?}");
    }
    let changed = site.build(&dockerfile.replace("A=1", "A=2"), &[]);
    assert_eq!(changed.cached(), 1);
    let args = |value: &str| BuildOptions {
        args: BTreeMap::from([("X".to_owned(), Some(value.to_owned()))]),
        ..Default::default()
    };
    let with_arg = "FROM busybox\nARG X\nRUN write /x 1\n";
    assert_eq!(site.build_with(with_arg, &[], args("1")).cached(), 0);
    assert_eq!(site.build_with(with_arg, &[], args("1")).cached(), 2);
    assert_eq!(site.build_with(with_arg, &[], args("2")).cached(), 1, "ARG itself");
    let proxy = BuildOptions {
        args: BTreeMap::from([("HTTP_PROXY".to_owned(), Some("http://p".to_owned()))]),
        ..Default::default()
    };
    assert_eq!(site.build_with(dockerfile, &[], proxy).cached(), 4, "a proxy is in no key");
}

#[test]
fn failures_say_what_docker_says() {
    let Some(site) = site() else { return };
    let check = |dockerfile: &str, expected: &str| {
        let outcome = site.build(dockerfile, &[file("a.txt", ""), file("b.txt", "")]);
        assert_eq!(outcome.error(), expected, "{dockerfile}");
    };
    check(
        "FROM busybox\nFOO\n",
        "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)",
    );
    check("FROM busybox\nRUN fail 3\n", "The command '/bin/sh -c fail 3' returned a non-zero code: 3");
    check(
        "FROM busybox\nCOPY nosuch /x\n",
        "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist",
    );
    check("FROM busybox AS a\nFROM a\nCOPY --from=a /no /x\n", "COPY failed: stat no: file does not exist");
    check("FROM busybox\nCOPY nosuch* /x\n", "COPY failed: no source files were specified");
    check(
        "FROM busybox\nCOPY *.txt /x\n",
        "When using COPY with more than one source file, the destination must be a directory and end with a /",
    );
    check("FROM busybox\nCOPY --from=0 /a /x\n", "invalid from flag value 0: refers to current build stage");
    check("FROM busybox\nEXPOSE abc\n", "Invalid containerPort: abc");
    check("FROM busybox\nSTOPSIGNAL FOO\n", "invalid signal: FOO");
    check("FROM scratch\n", "No image was generated. Is your Dockerfile empty?");
    check("FROM ${x}\n", "base name (${x}) should not be blank");
    let nosuch = site.build("FROM nosuch\n", &[]).error();
    assert!(nosuch.starts_with("No such image: nosuch:latest"), "{nosuch}");
    let target = BuildOptions { target: "nosuch".into(), ..Default::default() };
    let outcome = site.build_with("FROM busybox\n", &[], target);
    assert_eq!(outcome.error(), "target stage \"nosuch\" could not be found");
    assert_eq!(outcome.text, "", "an error before the first step belongs to the reply's status");
}

#[test]
fn the_dockerfile_may_lie_elsewhere_and_be_left_out() {
    let Some(site) = site() else { return };
    // What the CLI sends for `-f` outside of the context.
    let context = tar(
        &[
            file(".dockerfile.0123", "FROM busybox\nCOPY . /c/\n"),
            file(".dockerignore", ".dockerignore\n.dockerfile.0123\n"),
            file("a", ""),
        ],
        5,
    );
    let outcome = site.build_tar(context, ".dockerfile.0123", BuildOptions::default(), &[]);
    assert_eq!(site.top_layer(&outcome.image()), ["c/ 755 0:0 0 1000000", "c/a 644 0:0 0 1000000"]);
    let outcome = site.build_tar(tar(&[file("x", "")], 5), "", BuildOptions::default(), &[]);
    assert_eq!(outcome.error(), "Cannot locate specified Dockerfile: Dockerfile");
    let outcome = site.build_tar(tar(&[file("Dockerfile", "")], 5), "", BuildOptions::default(), &[]);
    assert_eq!(outcome.error(), "the Dockerfile (Dockerfile) cannot be empty");
}

#[test]
fn nothing_is_left_of_a_build() {
    let Some(site) = site() else { return };
    site.build("FROM busybox\nCOPY a /a\nRUN fail 1\n", &[file("a", "")]).error();
    site.build("FROM busybox\nCOPY a /a\nRUN true\n", &[file("a", "")]).image();
    assert_eq!(site.store.snapshots().list().expect("snapshots"), []);
    let builds = site.directory.path().join("data/builds");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let names: Vec<String> = std::fs::read_dir(&builds)
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with("cache.db"))
            .collect();
        if names.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{names:?} is left");
        std::thread::yield_now();
    }
}

#[test]
fn an_image_is_put_together_for_another_machine() {
    let Some(site) = site() else { return };
    let foreign = if Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    let wanted: Platform = format!("linux/{foreign}").parse().expect("a platform");
    let for_it = || BuildOptions { platform: Some(wanted.clone()), ..Default::default() };
    let dockerfile =
        "FROM scratch\nARG TARGETARCH\nARG BUILDARCH\nLABEL for=$TARGETARCH on=$BUILDARCH\nCOPY f /f\n";
    let config = site.config(&site.build_with(dockerfile, &[file("f", "x")], for_it()).image());
    assert_eq!(config.platform(), wanted);
    let labels = &config.config.labels;
    assert_eq!(
        (labels["for"].as_str(), labels["on"].as_str()),
        (foreign, &Platform::host().architecture[..])
    );
    let dockerfile = format!("FROM --platform=linux/{foreign} scratch\nCOPY f /f\n");
    assert_eq!(site.config(&site.build(&dockerfile, &[file("f", "x")]).image()).platform(), wanted);
    // A base image of this machine's is not taken for one of the other's.
    let refused = site.build_with("FROM busybox\nLABEL a=b\n", &[], for_it()).error();
    assert!(refused.contains(&format!("does not match the specified platform ({wanted})")), "{refused}");
    let refused = site.build("FROM --platform=windows/amd64 scratch\nLABEL a=b\n", &[]).error();
    assert!(refused.contains("cannot build for platform windows/amd64"), "{refused}");
}
