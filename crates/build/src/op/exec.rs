//! `RUN`: a process in a snapshot.

use std::io::Read;

use gantry_model::ContainerId;
use gantry_model::failpoint::{Point, reached};

use super::{StoreWorker, store_failed};
use crate::error::BuildError;
use crate::event::{BuildEvent, VertexNumber};
use crate::executor::{Container, ExecError, Process};
use crate::graph::{ExecOp, MountKind};
use crate::solver::Value;

/// Mount points that the runtime makes in a root file system that lacks them.
const STUBS: [&str; 6] = ["/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

impl StoreWorker<'_> {
    pub(super) fn exec(
        &self,
        number: VertexNumber,
        op: &ExecOp,
        inputs: &[Value],
        events: &mut dyn FnMut(BuildEvent),
    ) -> Result<Value, BuildError> {
        let root = match op.mounts.as_slice() {
            [root] if root.dest == "/" && root.kind == MountKind::Bind => root,
            _ => return Err(BuildError::Unsupported("mounts of a step are not supported yet".into())),
        };
        let base = root.input.map_or(&[][..], |input| inputs[input].layers());
        self.run.check()?;
        let workspace = self.prepare(number, base)?;
        let mount = self
            .store
            .snapshots()
            .mount(workspace.id())
            .map_err(store_failed("describing a step's root failed"))?;
        let id = random_id()?;
        let container = id.to_string();
        events(BuildEvent::Running { vertex: number, container: container.clone() });
        let mut handle =
            self.executor.create(Container { id, root: mount, options: self.run }).map_err(exec_failed)?;
        let process = Process {
            args: op.meta.args.clone(),
            env: op.meta.env.iter().chain(&op.meta.proxy_env).cloned().collect(),
            cwd: op.meta.cwd.clone(),
            user: op.meta.user.clone(),
        };
        let mut output = |stream, data: &[u8]| {
            events(BuildEvent::Log { vertex: number, stream, data: data.to_vec() });
        };
        let status = handle.exec(&process, &mut output, self.cancel);
        drop(handle);
        let status = status.map_err(exec_failed)?;
        reached(Point::BuildRan);
        if status.code != 0 {
            return Err(BuildError::Command { command: op.meta.args.join(" "), code: status.code });
        }
        let value = self.commit(workspace, base, op.epoch_secs, &STUBS)?;
        events(BuildEvent::Removed { vertex: number, container });
        Ok(value)
    }
}

fn exec_failed(error: ExecError) -> BuildError {
    match error {
        ExecError::Cancelled => BuildError::Cancelled,
        ExecError::Start { text, .. } => BuildError::Invalid(text),
        ExecError::Network(error) => {
            BuildError::Invalid(format!("failed to set up container networking: {error}"))
        }
        other => BuildError::internal("running a step failed", other),
    }
}

/// Draws a container id.
fn random_id() -> Result<ContainerId, BuildError> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| BuildError::internal("drawing random bytes failed", error))?;
    Ok(ContainerId::from_random(bytes))
}
