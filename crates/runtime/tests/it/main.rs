//! Containers for real: needs root and busybox-static; says so and skips otherwise.

mod cgroups;
mod command;
mod execs;
mod files;
mod identity;
mod isolation;
mod programs;
mod rig;
mod seccomp;

/// A child that allocated before `execve` could wait for ever for a lock of another thread: it is aborted here.
#[global_allocator]
static ALLOCATOR: gantry_sys::process::NotInChild = gantry_sys::process::NotInChild;
