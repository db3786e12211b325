//! An OCI runtime as a library: it makes a container's namespaces, root file system, cgroup and
//! process, and enters running ones.
//!
//! It knows the kernel (through `gantry-sys`) and the OCI runtime specification. It knows no image,
//! no network beyond a namespace's descriptor, no Docker API, no daemon and no async. Whoever calls
//! it – the shim, the `gantry-runtime` command line, or, for [`sandbox`] alone, the daemon – owns
//! records, logs and policy.
//!
//! Three rules hold everywhere below:
//!
//! - *Plan first, act later.* Whatever can be computed or allocated is, before the clone. Between
//!   `clone3` and `execve` the child executes a plan: no allocation, no lock (another thread of the
//!   caller may hold it for ever in the child), errors reported as bytes through a socket.
//! - *No path of a root file system is ever resolved by the host's rules*: always `openat2` with
//!   `RESOLVE_IN_ROOT`, then work on the descriptor.
//! - *Nothing is mounted in the caller's mount namespace.*
//!
//! Reading order: [`process`], [`error`], [`sandbox`], [`launch`], [`exec`], [`cgroup`],
//! [`seccomp`], [`user`], [`defaults`].
//!
//! # Annotations that the runtime understands
//! | key | meaning |
//! | --- | --- |
//! | `gantry.user` | `user[:group]` by name or number, resolved by the container's own files; replaces `process.user`'s uid, gid |
//! | `gantry.groups` | comma-separated further groups by name or number |
//! | `gantry.seccomp` | `default`: Docker's default profile for the process's capabilities; replaces `linux.seccomp` |
//!
//! A bind mount may have the option `gantry.below=PATH`: what is mounted is PATH below its source, resolved beneath
//! it each time, so that no link there leads out ([`BIND_BELOW`]).

pub mod cgroup;
pub mod defaults;
pub mod error;
pub mod exec;
mod init;
pub mod launch;
pub mod process;
pub mod sandbox;
pub mod seccomp;
pub mod shim;
pub mod user;

pub use error::{LaunchError, Reason};
pub use init::mount_plan::BIND_BELOW;
pub use process::Process;
