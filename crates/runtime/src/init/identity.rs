//! Who the process is: user, groups, home, limits and capabilities.

use std::os::fd::{AsFd, BorrowedFd};

use gantry_sys::{caps, process, rooted};
use rustix::fs::{FileType, Gid, OFlags, Stat, Uid};

use crate::Reason;
use crate::init::plan::{CapsPlan, ProgramPlan};
use crate::init::report::{Report, Step};
use crate::user::{self, FILE_LIMIT, Files, GROUP_LIMIT, User, Wanted};

/// Room for what is read and found in the child; made before the clone.
#[derive(Debug)]
pub(crate) struct Room {
    passwd: Vec<u8>,
    group: Vec<u8>,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// `HOME=…` and a zero byte, if it is to be set.
    pub(crate) home: Vec<u8>,
}

/// The longest `HOME` that is set, in bytes.
const HOME_LIMIT: usize = 4096;

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            // Untouched pages of these cost nothing.
            passwd: vec![0; FILE_LIMIT],
            group: vec![0; FILE_LIMIT],
            groups: Vec::with_capacity(GROUP_LIMIT),
            home: Vec::with_capacity(HOME_LIMIT),
        }
    }
}

/// User and group of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Finds out who the process is to be, by the container's files; fills `room.groups` and `room.home`.
pub(crate) fn resolve(
    root: BorrowedFd<'_>,
    plan: &ProgramPlan,
    room: &mut Room,
    report: Report<'_>,
) -> Step<Identity> {
    let wanted = &plan.user;
    let read = |error, name: &str| report.failed(error, format_args!("reading /etc/{name} of the container"));
    let by_name = wanted.name.is_some();
    let mut files = Files::default();
    if by_name || !plan.has_home {
        files.passwd =
            user::read_file(root, c"etc/passwd", &mut room.passwd).map_err(|e| read(e, "passwd"))?;
    }
    if by_name || !wanted.more_groups.is_empty() {
        files.group = user::read_file(root, c"etc/group", &mut room.group).map_err(|e| read(e, "group"))?;
    }
    let groups = &mut room.groups;
    groups.clear();
    let found = match &wanted.name {
        Some(name) => by_files(files, name, groups, report)?,
        None => by_numbers(files, wanted, groups, report)?,
    };
    // Docker has the primary group among the others as soon as there are others.
    if !wanted.more_groups.is_empty() && !groups.contains(&found.gid) && groups.len() < groups.capacity() {
        groups.insert(0, found.gid);
    }
    for name in &wanted.more_groups {
        let gid = user::resolve_group(files.group, name)
            .map_err(|error| report.refused(Reason::User, 0, format_args!("{error}")))?;
        // The primary group may be given once more.
        if groups.len() < groups.capacity() && !groups[1..].contains(&gid) {
            groups.push(gid);
        }
    }
    if !plan.has_home && found.home.len() + 6 <= HOME_LIMIT {
        room.home.clear();
        for part in [b"HOME=".as_slice(), found.home, b"\0"] {
            room.home.extend_from_slice(part);
        }
    }
    Ok(Identity { uid: found.uid, gid: found.gid })
}

fn by_files<'a>(files: Files<'a>, name: &str, groups: &mut Vec<u32>, report: Report<'_>) -> Step<User<'a>> {
    // The primary group comes first, as Docker has it; its place is kept.
    groups.push(0);
    let user = user::resolve(files, name, groups)
        .map_err(|error| report.refused(Reason::User, 0, format_args!("{error}")))?;
    groups[0] = user.gid;
    let mut first = true;
    groups.retain(|gid| *gid != user.gid || std::mem::take(&mut first));
    Ok(user)
}

fn by_numbers<'a>(
    files: Files<'a>,
    wanted: &Wanted,
    groups: &mut Vec<u32>,
    report: Report<'_>,
) -> Step<User<'a>> {
    for gid in &wanted.groups {
        if groups.len() == groups.capacity() {
            return Err(report.refused(Reason::Invalid, 0, format_args!("more than {GROUP_LIMIT} groups")));
        }
        groups.push(*gid);
    }
    // Only the home directory is asked of the file; a user that it does not know is fine.
    let mut number = [0; 10];
    let text = decimal(wanted.uid, &mut number);
    let home = user::resolve(files, text, &mut Vec::new()).map_or(&b"/"[..], |user| user.home);
    Ok(User { uid: wanted.uid, gid: wanted.gid, home })
}

fn decimal(mut value: u32, buffer: &mut [u8; 10]) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return std::str::from_utf8(&buffer[at..]).unwrap_or("0");
        }
    }
}

/// Gives the standard streams to the user, so that `/dev/stdout` can be opened again. Failures do not
/// matter: a stream may be somebody else's, or of a kind that has no owner. A null device of the host's
/// becomes the container's own.
pub(crate) fn own_streams(root: BorrowedFd<'_>, identity: Identity) {
    for (number, stream) in (0..).zip(process::standard_streams()) {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        if is_null(&stat) {
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            let Ok(own) = rooted::open_no_links(root, c"dev/null", flags) else { continue };
            if rustix::fs::fstat(&own).is_ok_and(|stat| is_null(&stat)) {
                let _ = process::place_fd(own.as_fd(), number);
            }
        } else if stat.st_uid != identity.uid {
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(identity.uid)), None::<Gid>);
        }
    }
}

fn is_null(stat: &Stat) -> bool {
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    character && stat.st_rdev == rustix::fs::makedev(1, 3)
}

/// Sets the limits. One that may not be raised so far is refused, as runc refuses it.
pub(crate) fn limit(plan: &ProgramPlan, report: Report<'_>) -> Step {
    for (resource, limit) in &plan.rlimits {
        process::set_rlimit(*resource, *limit).map_err(|error| {
            let text = "error setting rlimits for ready process: error setting rlimit type";
            report.failed(error, format_args!("{text} {resource}"))
        })?;
    }
    Ok(())
}

/// Becomes the user, with the capabilities planned.
pub(crate) fn assume(plan: &ProgramPlan, identity: Identity, room: &Room, report: Report<'_>) -> Step {
    let fail = |step: &'static str| move |error: i32| report.failed(error, format_args!("{step}"));
    if let Some(plan) = plan.caps {
        caps::limit_bounding(plan.bounding).map_err(fail("unable to apply bounding set"))?;
    }
    process::set_keep_caps(true).map_err(fail("unable to set keep caps"))?;
    process::set_groups(&room.groups).map_err(fail("setgroups"))?;
    process::set_gid(identity.gid).map_err(fail("setgid"))?;
    process::set_uid(identity.uid).map_err(fail("setuid"))?;
    process::set_keep_caps(false).map_err(fail("unable to clear keep caps"))?;
    if let Some(plan) = plan.caps {
        apply(plan, report)?;
    }
    Ok(())
}

/// What the caller itself lacks cannot be given: it is left out with a warning, as runc does.
fn apply(plan: CapsPlan, report: Report<'_>) -> Step {
    let present = caps::get().map_err(|error| report.failed(error, format_args!("capget")))?;
    let missing = plan.sets.permitted & !present.permitted;
    let mut sets = plan.sets;
    if missing != 0 {
        for (number, name) in caps::NAMES.iter().enumerate() {
            if missing & 1 << number != 0 {
                report.warning(0, format_args!("{name} cannot be given: the runtime itself lacks it"));
            }
        }
        sets.permitted &= present.permitted;
        sets.effective &= present.permitted;
        sets.inheritable &= present.permitted | present.inheritable;
    }
    caps::set(sets).map_err(|error| report.failed(error, format_args!("unable to apply caps")))?;
    let ambient = plan.ambient & sets.permitted & sets.inheritable;
    caps::set_ambient(ambient)
        .map_err(|error| report.failed(error, format_args!("unable to apply ambient caps")))
}
