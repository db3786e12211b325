//! How end-to-end tests start a daemon, drive it, and know what a leak is. Development only.
//!
//! A case is a function of a [`Bench`]: a running daemon and a command line to drive it with. The
//! [`both!`] macro makes two tests of it, one with the stock `docker` CLI and one with `gantry`.
//! With `GANTRY_TEST_DOCKERD=1` the same cases drive the real dockerd at `GANTRY_TEST_SOCKET`
//! instead, so that what they expect is Docker's behaviour and not our opinion of it.
//!
//! What a test needs and the machine lacks is a line that begins with `skipped:` and a return; the
//! runner counts those lines.
//!
//! It knows no crate of ours: only programs, sockets and the kernel's own view.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `GANTRY_BIN_DIR` | where `gantryd`, `gantry` and their like are; else beside the test's own target directory |
//! | `GANTRY_TEST_DOCKERD=1`, `GANTRY_TEST_SOCKET` | drive a real dockerd at this socket |
//! | `GANTRY_TEST_FULL=1` | full sizes: a gigabyte, 100 containers, 200 kills |
//! | `GANTRY_COMPARE_SOCKET` | the dockerd that [`compare`] compares with |
//! | `GANTRY_COMPARE_CASE` | only cases whose name contains this |
//! | `GANTRY_TEST_PYTHON` | the Python whose docker-py takes its tour, instead of Debian's |
//! | `GANTRY_TEST_KILLS` | so many kills of the daemon instead |

#![allow(
    clippy::print_stdout,
    reason = "a skipped test says so on standard output, where the runner counts it"
)]

pub mod bench;
pub mod command;
pub mod compare;
pub mod daemon;
pub mod disk;
pub mod http;
pub mod image;
pub mod leak;
pub mod reference;
mod sweep;
pub mod terminal;

pub use bench::Bench;
pub use command::{Cli, Client, Done};
pub use daemon::Daemon;

/// Whether the long forms were asked for.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("GANTRY_TEST_FULL").is_some_and(|value| value == "1")
}

/// Whether a real dockerd is driven.
#[must_use]
pub fn against_dockerd() -> bool {
    std::env::var_os("GANTRY_TEST_DOCKERD").is_some_and(|value| value == "1")
}

/// Says that a test does not run here, and why.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// Waits until something holds; what is polled has no event of its own.
///
/// # Panics
/// It does not hold after `seconds`.
pub fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < seconds, "not within {seconds} s: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Makes two tests of a case: with the stock CLI, and with ours.
#[macro_export]
macro_rules! both {
    ($($(#[$meta:meta])* fn $name:ident($bench:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every case needs all of its file's names")]
            use super::*;

            fn case($bench: &$crate::Bench) $body

            #[test]
            fn docker() {
                $crate::bench::run($crate::Client::Docker, case);
            }

            #[test]
            fn gantry() {
                $crate::bench::run($crate::Client::Gantry, case);
            }
        }
    )* };
}

/// Makes one test of a case that only our daemon can pass, driven by our CLI.
#[macro_export]
macro_rules! ours {
    ($($(#[$meta:meta])* fn $name:ident($bench:ident) $body:block)*) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            fn case($bench: &$crate::Bench) $body
            if $crate::against_dockerd() {
                $crate::skip("the case is about what only gantryd does");
                return;
            }
            $crate::bench::run($crate::Client::Gantry, case);
        }
    )* };
}
