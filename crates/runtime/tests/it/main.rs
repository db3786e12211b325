//! Containers for real: needs root and busybox-static; says so and skips otherwise.

mod cgroups;
mod execs;
mod files;
mod identity;
mod isolation;
mod programs;
mod rig;
mod seccomp;
