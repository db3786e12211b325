//! A tour of the daemon by bollard, which Rust programs (Testcontainers among them) use. Its types are made from the
//! API's own description, so a reply that it reads has each field with the type that is said there.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerUpdateBody, HostConfig, VolumeCreateRequest};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker, body_full};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use gantry_testkit::bench::{self, BUSYBOX};
use gantry_testkit::{Bench, Client};
use tokio::io::AsyncWriteExt;

struct Tour<'b> {
    docker: Docker,
    bench: &'b Bench,
}

/// The library's error for this status; gives the daemon's words.
#[track_caller]
fn refused<T: Debug>(status: u16, result: Result<T, Error>) -> String {
    match result {
        Err(Error::DockerResponseServerError { status_code, message }) if status_code == status => message,
        other => panic!("{other:?} where {status} was due"),
    }
}

async fn whole(stream: impl Stream<Item = Result<Bytes, Error>>) -> Vec<u8> {
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("a stream to its end");
    chunks.concat()
}

/// Standard output and standard error; a terminal's is in the first.
async fn split(stream: impl Stream<Item = Result<LogOutput, Error>>) -> (String, String) {
    let all: Vec<LogOutput> = stream.try_collect().await.expect("a stream to its end");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            LogOutput::StdErr { message } => err.extend(message),
            other => out.extend(other.into_bytes()),
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

fn tar_of(files: &[(&str, &str)]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).expect("a file");
    }
    archive.into_inner().expect("a tar").into()
}

fn texts(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

fn filters(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    [(key.to_owned(), vec![value.to_owned()])].into()
}

impl Tour<'_> {
    fn name(&self, name: &str) -> String {
        self.bench.name(name)
    }

    fn body(words: &[&str]) -> ContainerCreateBody {
        ContainerCreateBody { image: Some(BUSYBOX.into()), cmd: texts(words), ..Default::default() }
    }

    async fn create(&self, name: &str, body: ContainerCreateBody) -> String {
        let options = query::CreateContainerOptionsBuilder::new().name(&self.name(name)).build();
        self.docker.create_container(Some(options), body).await.expect("created").id
    }

    async fn run(&self, name: &str, words: &[&str]) -> String {
        let id = self.create(name, Self::body(words)).await;
        self.docker.start_container(&id, None).await.expect("started");
        id
    }

    /// Waits for the end, which the library calls an error unless the code is 0.
    async fn wait(&self, id: &str) -> i64 {
        match self.docker.wait_container(id, None).next().await.expect("an answer") {
            Ok(end) => end.status_code,
            Err(Error::DockerContainerWaitError { code, .. }) => code,
            Err(error) => panic!("{error}"),
        }
    }

    async fn remove(&self, id: &str) {
        let options = query::RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.docker.remove_container(id, Some(options)).await.expect("removed");
    }

    async fn logs(&self, id: &str) -> (String, String) {
        let options = query::LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        split(self.docker.logs(id, Some(options))).await
    }

    async fn system(&self) {
        assert_eq!(self.docker.ping().await.expect("a ping"), "OK");
        let version = self.docker.version().await.expect("a version");
        assert_eq!(version.min_api_version.as_deref(), Some("1.24"));
        let info = self.docker.info().await.expect("info");
        assert!(info.images.is_some_and(|images| images > 0), "{info:?}");
        self.docker.df(None).await.expect("a disk usage");
    }

    async fn build(&self, image: &str) {
        let dockerfile =
            format!("FROM {BUSYBOX}\nCOPY greeting /\nRUN echo made > /made\nCMD cat /greeting /made\n");
        let context = tar_of(&[("Dockerfile", &dockerfile), ("greeting", "hello\n")]);
        let options =
            query::BuildImageOptionsBuilder::new().dockerfile("Dockerfile").t(image).rm(true).build();
        let lines = self.docker.build_image(options, None, Some(body_full(context)));
        let lines: Vec<_> = lines.try_collect().await.expect("a build");
        let said: String = lines.into_iter().filter_map(|line| line.stream).collect();
        assert!(said.contains("Step 3/4 : RUN") && said.contains("Successfully tagged"), "{said}");
        let context = tar_of(&[("Dockerfile", &format!("FROM {BUSYBOX}\nRUN exit 7\n"))]);
        let options = query::BuildImageOptionsBuilder::new().dockerfile("Dockerfile").rm(true).build();
        let lines = self.docker.build_image(options, None, Some(body_full(context)));
        match lines.try_collect::<Vec<_>>().await {
            Err(Error::DockerStreamError { error }) => assert!(error.contains("non-zero code: 7"), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    async fn images(&self, image: &str) {
        let id = self.docker.inspect_image(image).await.expect("there").id.expect("an id");
        let other = self.name("other");
        let options = query::TagImageOptionsBuilder::new().repo(&other).tag("v1").build();
        self.docker.tag_image(image, Some(options)).await.expect("tagged");
        let other = format!("{other}:v1");
        let options = query::ListImagesOptionsBuilder::new().filters(&filters("reference", &other)).build();
        let found = self.docker.list_images(Some(options)).await.expect("a list");
        assert_eq!(found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
        let history = self.docker.image_history(image).await.expect("a history");
        assert!(history.iter().any(|step| step.created_by.contains("echo made")), "{history:?}");
        let archive = whole(self.docker.export_image(image)).await;
        for name in [image, &other] {
            self.docker.remove_image(name, None::<query::RemoveImageOptions>, None).await.expect("removed");
        }
        refused(404, self.docker.inspect_image(image).await);
        let options = query::ImportImageOptionsBuilder::new().build();
        let lines = self.docker.import_image(options, body_full(archive.into()), None);
        lines.try_collect::<Vec<_>>().await.expect("loaded");
        assert_eq!(self.docker.inspect_image(image).await.expect("there again").id, Some(id));
        let bad = query::TagImageOptionsBuilder::new().repo("Not A Name").build();
        refused(400, self.docker.tag_image(image, Some(bad)).await);
    }

    async fn lifecycle(&self) {
        let id = self.run("life", &["sleep", "1000"]).await;
        let status = async || {
            let state =
                self.docker.inspect_container(&id, None).await.expect("there").state.expect("a state");
            state.status.expect("a status").to_string()
        };
        assert_eq!(status().await, "running");
        self.docker.pause_container(&id).await.expect("paused");
        assert_eq!(status().await, "paused");
        refused(409, self.docker.pause_container(&id).await);
        self.docker.unpause_container(&id).await.expect("thawed");
        let renamed = self.name("renamed");
        let options = query::RenameContainerOptionsBuilder::new().name(&renamed).build();
        self.docker.rename_container(&id, options).await.expect("renamed");
        let options = query::CreateContainerOptionsBuilder::new().name(&renamed).build();
        refused(409, self.docker.create_container(Some(options), Self::body(&["true"])).await);
        refused(409, self.docker.remove_container(&id, None).await);
        let body = ContainerUpdateBody {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            ..ContainerUpdateBody::default()
        };
        self.docker.update_container(&id, body).await.expect("updated");
        let options = query::StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let stats = self.docker.stats(&id, Some(options)).next().await.expect("one").expect("of them");
        assert_eq!(stats.memory_stats.and_then(|memory| memory.limit), Some(64 << 20));
        let top = self.docker.top_processes(&id, None).await.expect("processes");
        assert!(top.processes.iter().flatten().any(|row| row.iter().any(|cell| cell.contains("sleep"))));
        let options = query::KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        self.docker.kill_container(&id, Some(options)).await.expect("killed");
        assert_eq!(self.wait(&id).await, 137);
        refused(409, self.docker.kill_container(&id, None).await);
        let mut begin = filters("id", &id);
        begin.extend(filters("status", "exited"));
        let options = query::ListContainersOptionsBuilder::new().all(true).filters(&begin).build();
        assert_eq!(self.docker.list_containers(Some(options)).await.expect("a list").len(), 1);
        let options = query::RestartContainerOptionsBuilder::new().t(1).build();
        self.docker.restart_container(&id, Some(options)).await.expect("restarted");
        let options = query::StopContainerOptionsBuilder::new().t(1).build();
        self.docker.stop_container(&id, Some(options)).await.expect("stopped");
        self.remove(&id).await;
        refused(404, self.docker.inspect_container(&id, None).await);
    }

    async fn streams(&self) {
        for tty in [false, true] {
            let script = "read line; echo got $line; echo err >&2; exit 3";
            let body = ContainerCreateBody {
                open_stdin: Some(true),
                tty: Some(tty),
                ..Self::body(&["sh", "-c", script])
            };
            let id = self.create("streams", body).await;
            let options = query::AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true);
            let options = options.stream(true).build();
            let mut attached = self.docker.attach_container(&id, Some(options)).await.expect("attached");
            self.docker.start_container(&id, None).await.expect("started");
            attached.input.write_all(b"a line\n").await.expect("written");
            let got = split(attached.output).await;
            let want = match tty {
                true => ("a line\r\ngot a line\r\nerr\r\n".to_owned(), String::new()),
                false => ("got a line\n".to_owned(), "err\n".to_owned()),
            };
            assert_eq!(got, want);
            assert_eq!(self.wait(&id).await, 3);
            assert_eq!(self.logs(&id).await, want);
            self.remove(&id).await;
        }
    }

    async fn execs(&self) {
        let id = self.run("execs", &["sleep", "1000"]).await;
        let options = |words: &[&'static str], tty| CreateExecOptions {
            cmd: Some(words.to_vec()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            env: Some(vec!["A=1"]),
            ..CreateExecOptions::default()
        };
        for (words, tty, want) in [
            (&["sh", "-c", "echo $A; cat; echo err >&2; exit 5"][..], false, ("1\ntyped\n", "err\n")),
            (&["sh", "-c", "test -t 1 && echo terminal; exit 5"], true, ("terminal\r\n", "")),
        ] {
            let exec = self.docker.create_exec(&id, options(words, tty)).await.expect("made").id;
            let start = StartExecOptions { tty, ..StartExecOptions::default() };
            let Ok(StartExecResults::Attached { output, mut input }) =
                self.docker.start_exec(&exec, Some(start)).await
            else {
                panic!("not attached");
            };
            if !tty {
                input.write_all(b"typed\n").await.expect("written");
                input.shutdown().await.expect("half-closed");
            }
            let (out, err) = split(output).await;
            assert_eq!((out.as_str(), err.as_str()), want);
            let end = self.docker.inspect_exec(&exec).await.expect("there");
            assert_eq!((end.running, end.exit_code), (Some(false), Some(5)));
        }
        refused(404, self.docker.inspect_exec("nosuch").await);
        refused(
            404,
            self.docker.create_exec(&self.name("nosuch"), options(&["true"], false)).await.map(drop),
        );
        self.remove(&id).await;
    }

    async fn files(&self) {
        let id = self.run("files", &["sleep", "1000"]).await;
        let to = query::UploadToContainerOptionsBuilder::new().path("/tmp").build();
        let archive = tar_of(&[("one", "1"), ("two", "two")]);
        self.docker.upload_to_container(&id, Some(to), body_full(archive)).await.expect("put");
        let from = query::DownloadFromContainerOptionsBuilder::new().path("/tmp/two").build();
        let archive = whole(self.docker.download_from_container(&id, Some(from))).await;
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entry = archive.entries().expect("a tar").next().expect("an entry").expect("whole");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("a file");
        assert_eq!(text, "two");
        let changes = self.docker.container_changes(&id).await.expect("changes").expect("some");
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["/tmp", "/tmp/one", "/tmp/two"]);
        assert!(!whole(self.docker.export_container(&id)).await.is_empty());
        let committed = self.name("committed");
        let options = query::CommitContainerOptionsBuilder::new().container(&id).repo(&committed).tag("v1");
        let options = options.comment("a tour").changes("CMD [\"cat\", \"/tmp/two\"]").build();
        self.docker
            .commit_container(options, bollard::models::ContainerConfig::default())
            .await
            .expect("made");
        let body = ContainerCreateBody { image: Some(format!("{committed}:v1")), ..Default::default() };
        let copy = self.create("copy", body).await;
        self.docker.start_container(&copy, None).await.expect("started");
        assert_eq!((self.wait(&copy).await, self.logs(&copy).await.0.as_str()), (0, "two"));
        self.remove(&copy).await;
        self.remove(&id).await;
        let committed = format!("{committed}:v1");
        let removed = self.docker.remove_image(&committed, None::<query::RemoveImageOptions>, None);
        removed.await.expect("removed");
    }

    async fn volumes(&self) {
        let name = self.name("volume");
        let label = HashMap::from([("tour".to_owned(), name.clone())]);
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(label.clone()),
            ..Default::default()
        };
        let made = self.docker.create_volume(request).await.expect("made");
        assert_eq!((made.driver.as_str(), made.labels), ("local", label));
        let host = HostConfig { binds: texts(&[&format!("{name}:/data")]), ..HostConfig::default() };
        let body = ContainerCreateBody { host_config: Some(host), ..Self::body(&["touch", "/data/file"]) };
        let id = self.create("volume-user", body).await;
        self.docker.start_container(&id, None).await.expect("started");
        assert_eq!(self.wait(&id).await, 0);
        refused(409, self.docker.remove_volume(&name, None::<query::RemoveVolumeOptions>).await);
        self.remove(&id).await;
        let chosen = filters("label", &format!("tour={name}"));
        let options = query::ListVolumesOptionsBuilder::new().filters(&chosen).build();
        let found =
            self.docker.list_volumes(Some(options)).await.expect("a list").volumes.unwrap_or_default();
        assert_eq!(found.len(), 1);
        let mut chosen = chosen;
        chosen.extend(filters("all", "true"));
        let options = query::PruneVolumesOptionsBuilder::new().filters(&chosen).build();
        let pruned = self.docker.prune_volumes(Some(options)).await.expect("pruned");
        assert_eq!(pruned.volumes_deleted, Some(vec![name.clone()]));
        refused(404, self.docker.inspect_volume(&name).await);
    }

    async fn events(&self) {
        let label = format!("tour={}", self.name("events"));
        let mut chosen = filters("label", &label);
        chosen.extend(filters("type", "container"));
        let options = query::EventsOptionsBuilder::new().filters(&chosen).build();
        let mut events = self.docker.events(Some(options));
        let watch = async {
            let mut seen = Vec::new();
            while let Some(event) = events.next().await {
                let action = event.expect("an event").action.expect("an action");
                if ["create", "start", "die"].contains(&action.as_str()) {
                    seen.push(action);
                } else if action == "destroy" {
                    break;
                }
            }
            seen
        };
        let act = async {
            let labels = HashMap::from([("tour".to_owned(), self.name("events"))]);
            let body = ContainerCreateBody { labels: Some(labels), ..Self::body(&["true"]) };
            let id = self.create("events", body).await;
            self.docker.start_container(&id, None).await.expect("started");
            self.wait(&id).await;
            let options =
                query::PruneContainersOptionsBuilder::new().filters(&filters("label", &label)).build();
            let pruned = self.docker.prune_containers(Some(options)).await.expect("pruned");
            assert_eq!(pruned.containers_deleted, Some(vec![id]));
        };
        // Polled in this order: the request for events is on its way before anything happens.
        let (seen, ()) = tokio::join!(watch, act);
        assert_eq!(seen, ["create", "start", "die"]);
    }

    async fn refusals(&self) {
        let body = ContainerCreateBody { image: Some(self.name("nosuch")), ..Default::default() };
        let said = refused(404, self.docker.create_container(None, body).await);
        assert!(said.contains("No such image"), "{said}");
        let options = query::CreateContainerOptionsBuilder::new().name("a b").build();
        refused(400, self.docker.create_container(Some(options), Self::body(&["true"])).await);
        refused(404, self.docker.start_container(&self.name("nosuch"), None).await);
        let id = self.create("refusals", Self::body(&["nosuch"])).await;
        let said = refused(400, self.docker.start_container(&id, None).await);
        assert!(said.contains("executable file not found"), "{said}");
        self.remove(&id).await;
    }
}

async fn walk(bench: &Bench) {
    let socket = bench.daemon.socket().to_str().expect("a path in text");
    let docker = Docker::connect_with_unix(socket, 60, API_DEFAULT_VERSION).expect("the socket is there");
    let docker = docker.negotiate_version().await.expect("a version in common");
    let tour = Tour { docker, bench };
    let image = bench.name("built");
    tour.system().await;
    tour.build(&image).await;
    tour.images(&image).await;
    tour.lifecycle().await;
    tour.streams().await;
    tour.execs().await;
    tour.files().await;
    tour.volumes().await;
    tour.events().await;
    tour.refusals().await;
    let removed = tour.docker.remove_image(&image, None::<query::RemoveImageOptions>, None);
    removed.await.expect("removed");
}

fn tour(bench: &Bench) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let walked =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), walk(bench)).await });
    walked.expect("two minutes are enough for a tour");
}

#[test]
fn bollard_takes_a_tour() {
    bench::run(Client::Docker, tour);
}
