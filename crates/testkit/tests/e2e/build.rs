//! `build`: instructions, context, cache, failures, and the same digest each time.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::SystemTime;

use gantry_testkit::bench::{BUSYBOX, write};
use gantry_testkit::{Bench, Client, Daemon, both, http, ours, until};
use serde_json::json;

/// Builds a directory and gives everything that was said.
fn build(bench: &Bench, path: &Path, flags: &[&str]) -> gantry_testkit::Done {
    let mut args = vec!["build"];
    args.extend(flags);
    let path = path.to_str().expect("a plain path");
    args.push(path);
    bench.cli.run(&args)
}

/// Builds with `-q` and gives the image's id.
#[track_caller]
fn id_of(bench: &Bench, path: &Path, flags: &[&str]) -> String {
    let mut all = vec!["-q"];
    all.extend(flags);
    let done = build(bench, path, &all);
    assert_eq!(done.code, 0, "{done:?}");
    let id = done.stdout.trim().to_owned();
    assert!(id.starts_with("sha256:"), "{done:?}");
    id
}

/// How many steps came from the cache.
fn cached(done: &gantry_testkit::Done) -> usize {
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout.matches(" ---> Using cache").count()
}

both! {
    fn a_web_server(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("site/index.html"), "built\n");
        write(
            &path.join("Dockerfile"),
            "FROM busybox\nLABEL role=web\nENV PORT=8080 ROOT=/srv\nCOPY site/ /srv/\nWORKDIR /srv\nEXPOSE 8080\nCMD [\"sh\", \"-c\", \"httpd -f -p $PORT -h $ROOT\"]\n",
        );
        let tag = bench.name("web");
        let done = build(bench, path, &["-t", &tag]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains("Step 1/7 : FROM busybox\n") && done.stdout.contains("Step 7/7 : CMD "), "{done:?}");
        assert!(done.stdout.contains("Successfully built ") && done.stdout.contains(&format!("Successfully tagged {tag}:latest\n")), "{done:?}");
        assert_eq!(bench.inspect(&tag, "/Config/ExposedPorts"), json!({"8080/tcp": {}}));
        assert_eq!(bench.inspect(&tag, "/Config/WorkingDir"), json!("/srv"));
        assert_eq!(bench.inspect(&tag, "/Config/Labels/role"), json!("web"));
        let name = bench.name("server");
        bench.cli.ok(&["run", "-d", "-P", "--name", &name, &tag]);
        let address = bench.address(&name, "8080");
        until("it serves", 10, || http::get(&address, "/").is_some_and(|body| body == "built\n"));
        bench.cli.ok(&["rm", "-f", &name]);
        let history = bench.cli.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", &tag]);
        assert!(history.contains("EXPOSE") && history.contains("COPY"), "{history}");
        bench.cli.ok(&["rmi", &tag]);
    }

    fn what_is_elsewhere_is_fetched(bench) {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("an address");
        let tag = bench.name("fetched");
        let remote = format!("FROM scratch\nADD http://{address}/page /\nLABEL from=afar\n");
        // Four requests: the file twice, the context, and the file that it names.
        let pages = std::thread::spawn(move || {
            for _ in 0..4 {
                let (mut stream, _) = server.accept().expect("a client");
                let mut reader = std::io::BufReader::new(stream.try_clone().expect("a descriptor"));
                let mut first = String::new();
                reader.read_line(&mut first).expect("a request");
                let body = if first.starts_with("GET /context ") { remote.as_str() } else { "a page" };
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).expect("answered");
            }
        });
        let directory = bench.directory();
        write(&directory.path().join("Dockerfile"), &format!("FROM busybox\nADD http://{address}/dir/page /to/\n"));
        let done = build(bench, directory.path(), &["-t", &tag]);
        assert!(done.code == 0 && cached(&done) == 0, "{done:?}");
        assert_eq!(cached(&build(bench, directory.path(), &["-t", &tag])), 1);
        assert_eq!(bench.cli.ok(&["run", "--rm", &tag, "cat", "/to/page"]), "a page");
        let path = format!("/v1.41/build?t={tag}&remote=http://{address}/context");
        let (status, said) = http::send(bench.daemon.socket(), "POST", &path, "").expect("answered");
        assert!(status == 200 && said.contains("Successfully built "), "{said}");
        assert_eq!(bench.inspect(&tag, "/Config/Labels/from"), json!("afar"));
        pages.join().expect("all four were asked for");
        bench.cli.ok(&["rmi", &tag]);
    }

    fn the_cache_is_counted_and_pruned(bench) {
        let mark = bench.name("cached");
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("Dockerfile"), &format!("FROM busybox\nRUN head -c 3000000 /dev/zero > /{mark}\n"));
        bench.cli.ok(&["build", "-q", "-t", &mark, path.to_str().expect("a plain path")]);
        let record = || -> Option<(i64, bool, i64)> {
            let (_, usage) = http::send(bench.daemon.socket(), "GET", "/v1.50/system/df?type=build-cache", "").expect("answered");
            let usage: serde_json::Value = serde_json::from_str(&usage).expect("JSON");
            let records = usage["BuildCache"].as_array().cloned().unwrap_or_default();
            let one = records.iter().find(|one| one["Description"].as_str().is_some_and(|text| text.contains(&mark)))?;
            Some((one["Size"].as_i64()?, one["Shared"].as_bool()?, one["UsageCount"].as_i64()?))
        };
        assert_eq!(record(), Some((3_000_000, true, 0)), "an image has it too");
        bench.cli.ok(&["build", "-q", path.to_str().expect("a plain path")]);
        bench.cli.ok(&["rmi", &mark]);
        bench.cli.ok(&["image", "prune", "-f"]);
        assert_eq!(record(), Some((3_000_000, false, 1)), "the cache alone has it");
        let refused = bench.cli.run(&["builder", "prune", "-f", "--filter", "nosuch=1"]);
        assert!(refused.code == 1 && refused.stderr.contains("invalid filter 'nosuch'"), "{refused:?}");
        bench.cli.ok(&["builder", "prune", "-f", "-a", "--filter", "until=24h"]);
        bench.cli.ok(&["builder", "prune", "-f", "-a", "--keep-storage", "100GB"]);
        assert!(record().is_some(), "it is younger than a day, and there is room");
    }

    fn stages(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(
            &path.join("Dockerfile"),
            "FROM busybox AS compile\nRUN mkdir /out && echo compiled > /out/program && ln -s program /out/link\n\
             FROM busybox AS unused\nRUN exit 1\n\
             FROM scratch AS bare\nCOPY --from=compile /out/program /program\n\
             FROM busybox\nCOPY --from=compile /out /opt\nCOPY --from=0 /out/program /zero\nRUN cat /opt/program /opt/link /zero\n",
        );
        let tag = bench.name("stages");
        let done = build(bench, path, &["-t", &tag, "--target", "compile"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(bench.cli.ok(&["run", "--rm", &tag, "cat", "/out/program"]), "compiled");
        let done = build(bench, path, &["--target", "nosuch"]);
        assert!(done.code == 1 && done.stderr.contains("target stage \"nosuch\" could not be found"), "{done:?}");
        bench.cli.ok(&["rmi", &tag]);
    }

    fn a_failing_step_gives_its_code(bench) {
        let done = bench.cli.with_input(&["build", "-"], b"FROM busybox\nRUN echo before; exit 42\nRUN echo after\n");
        assert_eq!(done.code, 42, "{done:?}");
        assert!(done.stderr.contains("The command '/bin/sh -c echo before; exit 42' returned a non-zero code: 42"), "{done:?}");
        assert!(done.stdout.contains("before\n") && !done.stdout.contains("after\n"), "{done:?}");
        for (text, why) in [
            ("FROM nosuch:\n", "invalid reference format"),
            ("RUN true\n", "no build stage in current context"),
            ("FROM busybox\nNOSUCH x\n", "unknown instruction: NOSUCH"),
            ("FROM busybox\nCOPY nosuch /x\n", "nosuch"),
            ("FROM busybox\nRUN [\"nosuch\"]\n", "nosuch"),
            ("", "Dockerfile"),
        ] {
            let done = bench.cli.with_input(&["build", "-"], text.as_bytes());
            assert!(done.code != 0 && done.stderr.contains(why), "{text:?}: {done:?}");
        }
    }

    fn instructions(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("a.txt"), "a\n");
        write(&path.join("b.txt"), "b\n");
        write(&path.join("dir/deep/c"), "c\n");
        write(&path.join("run.sh"), "#!/bin/sh\necho ran\n");
        fs::set_permissions(path.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all("packed", path.join("dir")).expect("the directory is there");
        fs::write(path.join("x.tar"), tar.into_inner().expect("all was written")).expect("the file can be written");
        write(
            &path.join("Dockerfile"),
            "ARG BASE=busybox\nFROM ${BASE}\nMAINTAINER somebody\nARG WHO=world\nENV GREETING=\"hello $WHO\" EMPTY=\n\
             SHELL [\"/bin/sh\", \"-ec\"]\nCOPY *.txt /texts/\nCOPY --chown=1000:1001 a.txt /owned\nCOPY [\"dir\", \"/copied\"]\n\
             ADD x.tar /added\nCOPY x.tar /plain/\nADD run.sh /usr/bin/\nRUN [\"/bin/echo\", \"exec form\"]\n\
             RUN echo $GREETING > /greeting; \\\n    echo second >> /greeting\nUSER app\nWORKDIR /home\nWORKDIR sub\nVOLUME /data\n\
             STOPSIGNAL SIGUSR1\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"cat /greeting\"]\n",
        );
        let tag = bench.name("instructions");
        let done = build(bench, path, &["-t", &tag, "--build-arg", "WHO=there", "--label", "a=b"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains("exec form\n"), "{done:?}");
        for (pointer, want) in [
            ("/Config/Env", json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hello there", "EMPTY="])),
            ("/Config/User", json!("app")),
            ("/Config/WorkingDir", json!("/home/sub")),
            ("/Config/Volumes", json!({"/data": {}})),
            ("/Config/StopSignal", json!("SIGUSR1")),
            ("/Config/Entrypoint", json!(["sh", "-c"])),
            ("/Config/Cmd", json!(["cat /greeting"])),
            ("/Config/Shell", json!(["/bin/sh", "-ec"])),
            ("/Config/Labels/a", json!("b")),
            ("/Config/Healthcheck/Interval", json!(5_000_000_000_i64)),
            ("/Author", json!("somebody")),
        ] {
            let got = bench.inspect(&tag, pointer);
            let got = match (pointer, got) {
                // BusyBox's image has no PATH; Docker's builder adds none to the configuration.
                ("/Config/Env", serde_json::Value::Array(list)) => {
                    let mut full = vec![json!("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
                    full.extend(list.into_iter().filter(|item| !item.as_str().unwrap_or("").starts_with("PATH=")));
                    json!(full)
                }
                (_, got) => got,
            };
            assert_eq!(got, want, "{pointer}");
        }
        let see = |script: &str| bench.cli.ok(&["run", "--rm", &tag, script]);
        assert_eq!(bench.cli.ok(&["run", "--rm", &tag]), "hello there\nsecond");
        assert_eq!(see("cat /texts/a.txt /texts/b.txt"), "a\nb");
        assert_eq!(see("stat -c '%u:%g %a' /owned"), "1000:1001 644");
        assert_eq!(see("cat /copied/deep/c /added/packed/deep/c; ls /plain"), "c\nc\nx.tar");
        assert_eq!(see("run.sh"), "ran");
        bench.cli.ok(&["rmi", &tag]);
    }

    fn onbuild(bench) {
        let (base, tag) = (bench.name("base"), bench.name("child"));
        let done = bench.cli.with_input(&["build", "-t", &base, "-"], b"FROM busybox\nONBUILD RUN echo triggered > /t\nONBUILD ENV T=1\n");
        assert_eq!(done.code, 0, "{done:?}");
        let text = format!("FROM {base}\nRUN cat /t\n");
        let done = bench.cli.with_input(&["build", "-t", &tag, "-"], text.as_bytes());
        assert!(done.code == 0 && done.stdout.contains("triggered\n"), "{done:?}");
        assert_eq!(bench.inspect(&tag, "/Config/OnBuild").as_array().map_or(0, Vec::len), 0);
        bench.cli.ok(&["rmi", &tag, &base]);
    }

    fn the_context_and_what_it_ignores(bench) {
        let directory = bench.directory();
        let path = directory.path();
        for name in ["keep", "a.log", "sub/b.log", "sub/keep", "node_modules/x", "deep/node_modules/y", "docs/a.md", "docs/README.md"] {
            write(&path.join(name), name);
        }
        symlink("keep", path.join("link")).expect("a link can be made");
        write(&path.join(".dockerignore"), "# comment\n*.log\n**/node_modules\ndocs/*\n!docs/README.md\nOther.dockerfile\n");
        write(&path.join("Other.dockerfile"), "FROM busybox\nCOPY . /c\nRUN cd /c && find . ! -type d | sort\n");
        let file = path.join("Other.dockerfile");
        let done = build(bench, path, &["--no-cache", "-f", file.to_str().expect("a plain path")]);
        assert_eq!(done.code, 0, "{done:?}");
        let listed: Vec<&str> = done.stdout.lines().filter(|line| line.starts_with("./")).collect();
        assert_eq!(listed, ["./.dockerignore", "./deep/keep", "./docs/README.md", "./keep", "./link", "./sub/b.log", "./sub/keep"]
            .into_iter().filter(|name| *name != "./deep/keep").collect::<Vec<_>>());
        let done = build(bench, &path.join("nosuch"), &[]);
        assert!(done.code == 1 && done.stderr.contains("unable to prepare context: path"), "{done:?}");
        fs::remove_file(&file).expect("it is there");
        let done = build(bench, path, &[]);
        assert!(done.code == 1 && done.stderr.contains("Dockerfile: no such file or directory"), "{done:?}");
    }

    /// The client then puts the Dockerfile under a random name into an archive that lacks its last padding.
    fn a_dockerfile_outside_of_the_context(bench) {
        let directory = bench.directory();
        let context = directory.path().join("context");
        write(&context.join("f"), "here\n");
        write(&context.join(".dockerignore"), "*.log\n");
        let text = "FROM busybox\nCOPY . /c\nRUN cat /c/f; ls -A /c\n";
        let file = directory.path().join("outside");
        write(&file, text);
        let flag = file.to_str().expect("a plain path");
        let path = context.to_str().expect("a plain path");
        let outside = build(bench, &context, &["--no-cache", "-f", flag]);
        let piped = bench.cli.with_input(&["build", "--no-cache", "-f", "-", path], text.as_bytes());
        for done in [outside, piped] {
            assert!(done.code == 0 && done.stdout.contains("here\n"), "{done:?}");
            let names = done.stdout.lines().filter(|line| line.starts_with(".dockerfile."));
            assert_eq!(names.count(), 0, "the Dockerfile is not part of the context: {done:?}");
        }
    }

    fn the_cache_is_keyed_by_content(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("f"), "one");
        let mark = bench.name("mark");
        write(&path.join("Dockerfile"), &format!("FROM busybox\nRUN echo {mark}\nCOPY f /f\nRUN true\n"));
        assert_eq!(cached(&build(bench, path, &[])), 0, "nothing is cached at first");
        assert_eq!(cached(&build(bench, path, &[])), 3);
        let file = fs::File::options().append(true).open(path.join("f")).expect("it is there");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("a file has a time");
        drop(file);
        assert_eq!(cached(&build(bench, path, &[])), 3, "another time is no other content");
        write(&path.join("f"), "two");
        assert_eq!(cached(&build(bench, path, &[])), 1, "other content is");
        fs::set_permissions(path.join("f"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        assert_eq!(cached(&build(bench, path, &[])), 1, "another mode is");
        assert_eq!(cached(&build(bench, path, &["--no-cache"])), 0);
    }

    fn build_arguments_and_output(bench) {
        let text = b"FROM busybox\nARG SECRET\nRUN echo [$SECRET]\n";
        let done = bench.cli.with_input(&["build", "--no-cache", "--build-arg", "SECRET=x y", "-"], text);
        assert!(done.code == 0 && done.stdout.contains("[x y]\n"), "{done:?}");
        let done = bench.cli.with_input(&["build", "--build-arg", "UNKNOWN=1", "-"], text);
        let said = done.stdout + &done.stderr;
        assert!(said.contains("[Warning] One or more build-args [UNKNOWN] were not consumed"), "{said}");
        let directory = bench.directory();
        write(&directory.path().join("Dockerfile"), "FROM busybox\nENV A=1\n");
        let file = directory.path().join("id");
        let id = id_of(bench, directory.path(), &["--iidfile", file.to_str().expect("a plain path")]);
        assert_eq!(fs::read_to_string(file).expect("it was written").trim(), id);
        assert_eq!(id_of(bench, directory.path(), &[]), id);
    }
}

ours! {
    /// Docker's classic builder refuses it; BuildKit's reading of it is ours.
    fn chmod(bench) {
        let directory = bench.directory();
        let path = directory.path();
        write(&path.join("f"), "x");
        write(
            &path.join("Dockerfile"),
            "FROM busybox\nCOPY --chmod=640 f /f\nADD --chmod=4711 f /g\nRUN stat -c '%a' /f /g | tr '\\n' ' '\n",
        );
        let done = build(bench, path, &[]);
        assert!(done.code == 0 && done.stdout.contains("640 4711"), "{done:?}");
    }

    fn buildkit_is_refused_with_a_way_out(bench) {
        let headers = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
        let (status, body) = http::ask(bench.daemon.socket(), "POST", "/grpc", headers).expect("an answer");
        assert!(status >= 400 && body.contains("DOCKER_BUILDKIT=0"), "{status} {body}");
    }
}

/// The same sources give the same digest: another data root, file times, order of files and umask.
#[test]
fn two_builds_give_the_same_digest() {
    if gantry_testkit::against_dockerd() {
        return gantry_testkit::skip("the case is about what only gantryd does");
    }
    let mut ids = Vec::new();
    for round in 0..2 {
        let Some(daemon) = Daemon::start(&[]) else { return };
        let Some(bench) = Bench::new(daemon, Client::Gantry) else { return };
        let directory = bench.directory();
        let path = directory.path();
        let mut names = ["z", "a", "m/n", "m/b"];
        if round == 1 {
            names.reverse();
        }
        for name in names {
            write(&path.join(name), name);
            let file = fs::File::options().append(true).open(path.join(name)).expect("it is there");
            file.set_modified(
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + round * 1000),
            )
            .expect("a file has a time");
        }
        write(
            &path.join("Dockerfile"),
            "FROM busybox\nCOPY . /c\nRUN date > /dev/null; mkdir /new; echo x > /new/f; ln -s f /new/l; touch /c/z\nENV A=1\n",
        );
        ids.push(id_of(&bench, path, &[]));
        let base = bench.inspect(BUSYBOX, "/Id");
        assert!(base.as_str().is_some_and(|id| id.starts_with("sha256:")));
    }
    assert_eq!(ids[0], ids[1]);
}
