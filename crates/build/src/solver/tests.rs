use std::collections::BTreeMap;

use super::*;
use crate::graph::{FileAction, FileOp, SourceOp};
use cache::CacheDatabase;

/// Counts what it is asked to do; each vertex adds a layer of its own name.
#[derive(Default)]
struct Fake {
    ran: Vec<String>,
    looked: usize,
    context: String,
    dead: bool,
}

fn layer(name: &str) -> LayerRef {
    let hash = *blake3::hash(name.as_bytes()).as_bytes();
    LayerRef { id: LayerId(u64::from(hash[0])), diff_id: Digest::from_sha256(hash) }
}

impl Worker for Fake {
    fn content(&mut self, _op: &Op, inputs: &[Value]) -> Result<Option<Content>, BuildError> {
        self.looked += 1;
        Ok(inputs.contains(&Value::Context).then(|| {
            let mut maker = KeyMaker::new("test");
            maker.field(self.context.as_bytes());
            let reads = inputs.iter().position(|input| *input == Value::Context);
            Content {
                reads: reads.into_iter().collect(),
                key: maker.finish(),
                note: format!("file:{}", self.context),
            }
        }))
    }

    fn run(
        &mut self,
        _number: VertexNumber,
        vertex: &Vertex,
        inputs: &[Value],
        _events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Made, BuildError> {
        self.ran.push(vertex.name.clone());
        if vertex.name == "fail" {
            return Err(BuildError::Command { command: "false".into(), code: 1 });
        }
        if vertex.name == "context" {
            return Ok(Made { outputs: vec![Value::Context] });
        }
        let mut layers = inputs.first().map(|input| input.layers().to_vec()).unwrap_or_default();
        let content = if inputs.contains(&Value::Context) { self.context.as_str() } else { "" };
        layers.push(layer(&format!("{}{content}", vertex.name)));
        Ok(Made { outputs: vec![Value::Tree(layers.into())] })
    }

    fn revive(&mut self, _layers: &[LayerRef]) -> Result<bool, BuildError> {
        Ok(!self.dead)
    }
}

fn source(graph: &mut Graph, name: &str) -> Edge {
    let op = Op::Source(SourceOp { identifier: name.into(), attrs: BTreeMap::new() });
    Edge { vertex: graph.add(Vertex { op, inputs: vec![], name: name.into() }), output: 0 }
}

fn file(graph: &mut Graph, name: &str, inputs: &[Edge]) -> Edge {
    let actions = vec![FileAction::Rm { path: name.into() }];
    let op = Op::File(FileOp { actions, epoch_secs: 0 });
    Edge { vertex: graph.add(Vertex { op, inputs: inputs.to_vec(), name: name.into() }), output: 0 }
}

fn solve(fake: &mut Fake, database: &CacheDatabase, cache_use: CacheUse, names: &[&str]) -> Vec<Outcome> {
    let mut graph = Graph::default();
    let context = source(&mut graph, "context");
    let mut edge = source(&mut graph, "image");
    let mut edges = Vec::new();
    for name in names {
        let inputs = if name.starts_with("copy") { vec![edge, context] } else { vec![edge] };
        edge = file(&mut graph, name, &inputs);
        edges.push(edge);
    }
    let cancel = Cancel::new().expect("an eventfd");
    fake.ran.clear();
    let mut cache = database;
    let mut solver = Solver::new(&mut cache, fake, cache_use, &cancel);
    edges
        .into_iter()
        .map(|edge| solver.solve(&graph, edge, &mut |_| {}).map_or(Outcome::Metadata, |s| s.outcome))
        .collect()
}

#[test]
fn work_is_done_once_and_again_only_where_something_changed() {
    use Outcome::{Cached, Done};
    let directory = tempfile::tempdir().expect("a directory");
    let database = CacheDatabase::open(directory.path()).expect("a database");
    let mut fake = Fake { context: "1".into(), ..Fake::default() };
    let steps = ["a", "copy", "b"];
    let both = CacheUse::ReadAndWrite;
    assert_eq!(solve(&mut fake, &database, both, &steps), [Done, Done, Done]);
    assert_eq!(solve(&mut fake, &database, both, &steps), [Cached, Cached, Cached]);
    assert_eq!(fake.ran, ["image", "context"], "only sources are asked again");
    fake.context = "2".into();
    assert_eq!(solve(&mut fake, &database, both, &steps), [Cached, Done, Done]);
    fake.context = "1".into();
    assert_eq!(solve(&mut fake, &database, both, &steps), [Cached, Cached, Cached]);
    assert_eq!(solve(&mut fake, &database, both, &["a", "copy", "c"]), [Cached, Cached, Done]);
    assert_eq!(solve(&mut fake, &database, CacheUse::WriteOnly, &steps), [Done, Done, Done]);
    let chain = |names: &[&str]| names.iter().map(|name| layer(name).diff_id).collect::<Vec<_>>();
    let images = [chain(&["image", "a", "other"]), chain(&["image", "a1"])];
    let within =
        |images| solve(&mut Fake { context: "1".into(), ..Fake::default() }, &database, images, &steps);
    assert_eq!(within(CacheUse::Within(&images)), [Cached, Done, Done], "what lies in an image is taken");
    assert_eq!(within(CacheUse::Within(&[])), [Done, Done, Done], "no image, nothing is taken");
    fake.dead = true;
    assert_eq!(solve(&mut fake, &database, both, &["a"]), [Done], "layers that are gone are made again");
}

#[test]
fn a_failed_vertex_is_not_cached_and_what_came_before_is() {
    use Outcome::{Cached, Done, Metadata};
    let directory = tempfile::tempdir().expect("a directory");
    let database = CacheDatabase::open(directory.path()).expect("a database");
    let mut fake = Fake::default();
    assert_eq!(solve(&mut fake, &database, CacheUse::ReadAndWrite, &["a", "fail"]), [Done, Metadata]);
    assert_eq!(solve(&mut fake, &database, CacheUse::ReadAndWrite, &["a", "fail"]), [Cached, Metadata]);
    assert_eq!(fake.ran, ["image", "fail"]);
}

#[test]
fn nothing_is_begun_after_a_cancel() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = CacheDatabase::open(directory.path()).expect("a database");
    let mut graph = Graph::default();
    let edge = source(&mut graph, "image");
    let cancel = Cancel::new().expect("an eventfd");
    cancel.cancel();
    let mut fake = Fake::default();
    let mut cache = &database;
    let mut solver = Solver::new(&mut cache, &mut fake, CacheUse::ReadAndWrite, &cancel);
    assert!(matches!(solver.solve(&graph, edge, &mut |_| {}), Err(BuildError::Cancelled)));
    assert!(fake.ran.is_empty());
}
