//! How many descriptors a process may have: as many as it may ask for, where the programs that it starts for others
//! get what it was given itself.
//!
//! A soft limit of 1024 is what shells and units give. It is meant for programs that use `select`, which ours do not
//! and those that run in containers may.

use std::sync::OnceLock;

use crate::process::{Rlimit, rlimit, set_rlimit};

static GIVEN: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to its hard one. What [`crate::spawn`] starts afterwards has the limit that was
/// in force when this was called first.
///
/// # Errors
/// An error number.
pub fn raise_limit() -> Result<(), i32> {
    let given = rlimit(libc::RLIMIT_NOFILE)?;
    let given = *GIVEN.get_or_init(|| given);
    set_rlimit(libc::RLIMIT_NOFILE, Rlimit { soft: given.hard, hard: given.hard })
}

/// The limit before it was raised; `None` where it was not.
#[must_use]
pub fn given_limit() -> Option<Rlimit> {
    GIVEN.get().copied()
}
