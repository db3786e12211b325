//! The kernel, safely. Everything `unsafe` of the whole workspace is in this crate, behind functions
//! that are safe to call with any arguments.
//!
//! It knows system calls, kernel structures and nothing about containers. Functions meant for the time
//! between `clone3` and `execve` say so, and neither allocate nor lock.

#![allow(unsafe_code)]

pub mod bpf;
pub mod caps;
pub mod descriptors;
pub mod fdpass;
pub mod filesystem;
pub mod handle;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod nft;
pub mod ns;
pub mod pidfd;
pub mod process;
pub mod rooted;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod xattr;
pub mod xtables;
