//! Drives the real `gantry-shim` as a daemon does, with BusyBox as the container. Needs root; where the
//! machine lacks something a test says so and is counted as skipped.

#![allow(clippy::print_stdout)]

mod attach;
mod exec;
mod harness;
mod life;
mod survival;
