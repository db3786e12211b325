//! What a case needs to be there and nobody times: made before the first case that needs it, removed after the last.

use anyhow::Result;
use serde_json::json;

use super::daemons::{self, Side};
use super::http;

/// How many containers a long list has.
pub(crate) const MANY: usize = 1000;
/// How many containers are watched.
pub(crate) const WATCHED: usize = 50;
/// The output that is logged, in bytes.
pub(crate) const LOGGED_BYTES: u64 = 1_000_000_000;
/// On every container that a fixture makes.
pub(crate) const LABEL: &str = "gantry-bench-fixture";
/// The container with the log.
pub(crate) const LOGGED: &str = "bench-logged";

/// What is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixture {
    /// Nothing but what every side has.
    None,
    /// The Debian image.
    Debian,
    /// [`MANY`] containers that were created.
    Many,
    /// [`WATCHED`] containers that run.
    Watched,
    /// One that has written [`LOGGED_BYTES`] in lines of a hundred.
    Logged,
}

impl Fixture {
    /// Makes it on both sides.
    pub(crate) fn make(self, gantry: &Side, peer: &Side) -> Result<()> {
        if self == Self::Debian {
            return daemons::prepare_debian(gantry, peer);
        }
        [gantry, peer].into_iter().try_for_each(|side| self.make_on(side))
    }

    fn make_on(self, side: &Side) -> Result<()> {
        match self {
            Self::None | Self::Debian => Ok(()),
            Self::Many => create_many(side, MANY),
            Self::Watched => (0..WATCHED).try_for_each(|number| {
                let name = format!("bench-watched-{number}");
                let run = ["run", "-d", "--net", "none", "--label", LABEL, "--name", &name, "busybox"];
                side.stock(&[&run[..], &["sleep", "1000000"]].concat()).map(drop)
            }),
            Self::Logged => {
                let script = format!("yes $(printf %099d 0) | head -c {LOGGED_BYTES}");
                side.stock(&[
                    "run", "-d", "--net", "none", "--label", LABEL, "--name", LOGGED, "busybox", "sh", "-c",
                    &script,
                ])?;
                side.stock(&["wait", LOGGED]).map(drop)
            }
        }
    }

    /// Removes what [`Self::make`] made, but for images.
    pub(crate) fn remove(self, gantry: &Side, peer: &Side) -> Result<()> {
        if matches!(self, Self::None | Self::Debian) {
            return Ok(());
        }
        [gantry, peer].into_iter().try_for_each(remove_from)
    }
}

/// Removes what any fixture made on a side.
pub(crate) fn remove_from(side: &Side) -> Result<()> {
    let ids = side.stock(&["ps", "-aq", "--filter", &format!("label={LABEL}")])?;
    let ids: Vec<&str> = ids.lines().collect();
    for some in ids.chunks(100) {
        side.stock(&[&["rm", "-f"], some].concat())?;
    }
    Ok(())
}

/// Creates containers that never run.
pub(crate) fn create_many(side: &Side, count: usize) -> Result<()> {
    let body = json!({"Image": "busybox", "Cmd": ["true"], "Labels": {LABEL: ""}}).to_string();
    (0..count).try_for_each(|number| {
        http::call(&side.socket, "POST", &format!("/containers/create?name=bench-many-{number}"), Some(&body))
            .map(drop)
    })
}

/// Imports so many images that differ: an empty file with a name of its own each.
pub(crate) fn import_many(side: &Side, count: usize) -> Result<()> {
    for number in 0..count {
        // A header of 512 bytes, and two empty blocks at the end.
        let mut archive = vec![0_u8; 1536];
        let name = format!("file-{number}");
        for (at, field) in [(0, name.as_str()), (100, "0000644"), (124, "00000000000"), (136, "00000000000")]
        {
            archive[at..at + field.len()].copy_from_slice(field.as_bytes());
        }
        archive[156] = b'0';
        archive[148..156].fill(b' ');
        let sum: u32 = archive[..512].iter().map(|&byte| u32::from(byte)).sum();
        archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let path = format!("/images/create?fromSrc=-&repo=bench-image&tag={number}");
        http::call(&side.socket, "POST", &path, Some(std::str::from_utf8(&archive)?))?;
    }
    Ok(())
}
