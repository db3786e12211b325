//! Images as lists, inspect and history show them.

use gantry_api::container::ContainerConfig;
use gantry_api::image::{HistoryItem, ImageConfig, ImageInspect, ImageSummary, Metadata, RootFs};
use gantry_api::inspect::GraphDriver;
use gantry_engine::images::{HistoryEntry, Summary};
use gantry_model::image::RunConfig;

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// One image of a list.
pub(crate) fn summary(image: &Summary) -> ImageSummary {
    let labels = &image.config.config.labels;
    ImageSummary {
        containers: i64::try_from(image.containers).unwrap_or(i64::MAX),
        created: image.created.secs(),
        id: image.id.to_string(),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        parent_id: image.parent.as_ref().map_or(String::new(), ToString::to_string),
        repo_digests: image.digests.clone(),
        repo_tags: image.tags.clone(),
        shared_size: -1,
        size: signed(image.size_bytes),
        virtual_size: signed(image.size_bytes),
    }
}

/// One image of a list, with the bytes that it shares with others.
pub(crate) fn with_shared(image: &Summary, shared_bytes: u64) -> ImageSummary {
    ImageSummary { shared_size: signed(shared_bytes), ..summary(image) }
}

/// All of one image.
pub(crate) fn inspect(image: &Summary, graph_driver: GraphDriver) -> ImageInspect {
    let config = &image.config;
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        parent: image.parent.as_ref().map_or(String::new(), ToString::to_string),
        comment: config.history.last().map_or(String::new(), |last| last.comment.clone()),
        created: image.created.rfc3339_nano(),
        container: String::new(),
        container_config: Some(ContainerConfig::default()),
        docker_version: String::new(),
        author: config.author.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        os_version: String::new(),
        size: signed(image.size_bytes),
        virtual_size: signed(image.size_bytes),
        graph_driver,
        root_fs: RootFs {
            kind: "layers".into(),
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata {
            last_tag_time: image.last_tagged.map_or(String::new(), |time| time.rfc3339_nano()),
        },
        config: run_config(&config.config),
    }
}

fn run_config(config: &RunConfig) -> ImageConfig {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let set = |keys: Vec<&String>| {
        (!keys.is_empty()).then(|| keys.into_iter().map(|key| (key.clone(), gantry_api::Empty {})).collect())
    };
    ImageConfig {
        args_escaped: config.args_escaped,
        cmd: config.cmd.clone(),
        entrypoint: config.entrypoint.clone(),
        env: list(&config.env),
        exposed_ports: set(config.exposed_ports.keys().collect()),
        healthcheck: config.healthcheck.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        on_build: list(&config.on_build),
        shell: list(&config.shell),
        stop_signal: config.stop_signal.clone(),
        user: config.user.clone(),
        volumes: set(config.volumes.keys().collect()),
        working_dir: config.working_dir.clone(),
        ..ImageConfig::default()
    }
}

/// One line of history.
pub(crate) fn history(entry: &HistoryEntry) -> HistoryItem {
    HistoryItem {
        comment: entry.comment.clone(),
        created: entry.created.secs(),
        created_by: entry.created_by.clone(),
        id: entry.id.as_ref().map_or("<missing>".into(), ToString::to_string),
        size: signed(entry.size_bytes),
        tags: (!entry.tags.is_empty()).then(|| entry.tags.clone()),
    }
}
