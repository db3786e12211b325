//! Users and groups by the container's own `/etc/passwd` and `/etc/group`.
//!
//! The files are parsed by us: nothing of the host's name service is asked, and a file that lies hurts
//! only its own container. Malformed lines are skipped. [`resolve`] neither allocates nor locks, so that
//! the container's own child can use it inside the mounted root.

use std::collections::HashMap;
use std::fmt;

use gantry_sys::rooted;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The largest file that is read, in bytes.
pub const FILE_LIMIT: usize = 1 << 20;

/// How many supplementary groups a process can have here.
pub const GROUP_LIMIT: usize = 1024;

/// A user found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory; `/` where the file names none.
    pub home: &'a [u8],
}

/// The contents of the two files; empty where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// `/etc/passwd`.
    pub passwd: &'a [u8],
    /// `/etc/group`.
    pub group: &'a [u8],
}

/// Why a user or group could not be resolved; the texts are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserError<'a> {
    /// No line of `/etc/passwd` has this name.
    NoUser(&'a str),
    /// No line of `/etc/group` has this name.
    NoGroup(&'a str),
    /// A number beyond 2147483647.
    OutOfRange,
}

impl fmt::Display for UserError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(f, "unable to find user {name}: no matching entries in passwd file"),
            Self::NoGroup(name) => {
                write!(f, "unable to find group {name}: no matching entries in group file")
            }
            Self::OutOfRange => f.write_str("uids and gids must be in range 0-2147483647"),
        }
    }
}

impl std::error::Error for UserError<'_> {}

/// Resolves `user[:group]`, each a name or a number, as Docker does; empty means user 0.
///
/// Without a group, the user's supplementary groups are appended to `groups`, as far as its capacity
/// reaches; with one, none.
///
/// # Errors
/// [`UserError`].
pub fn resolve<'a, 's>(
    files: Files<'a>,
    spec: &'s str,
    groups: &mut Vec<u32>,
) -> Result<User<'a>, UserError<'s>> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let number = parse_id(user);
    let wanted = if user.is_empty() { Some(0) } else { number };
    let entry = entries(files.passwd).find(|entry| {
        (!user.is_empty() && entry.name == user.as_bytes()) || wanted.is_some_and(|uid| entry.id == uid)
    });
    let (mut found, name) = match (entry, number) {
        (Some(entry), _) => {
            let mut rest = entry.rest.split(|byte| *byte == b':');
            let gid = rest.next().and_then(parse_id_bytes).unwrap_or(0);
            let home = rest.nth(1).filter(|home| !home.is_empty()).unwrap_or(b"/");
            (User { uid: entry.id, gid, home }, Some(entry.name))
        }
        (None, Some(uid)) => (User { uid: in_range(uid)?, gid: 0, home: b"/" }, None),
        (None, None) if user.is_empty() => (User { uid: 0, gid: 0, home: b"/" }, None),
        (None, None) => return Err(UserError::NoUser(user)),
    };
    if !group.is_empty() {
        found.gid = resolve_group(files.group, group)?;
    } else if let Some(name) = name {
        for entry in entries(files.group) {
            let member = entry.rest.split(|byte| *byte == b',').any(|member| member == name);
            if member && groups.len() < groups.capacity() {
                groups.push(entry.id);
            }
        }
    }
    Ok(found)
}

/// Resolves a group's name or number.
///
/// # Errors
/// [`UserError`].
pub fn resolve_group<'s>(file: &[u8], group: &'s str) -> Result<u32, UserError<'s>> {
    let number = parse_id(group);
    let entry = entries(file).find(|entry| entry.name == group.as_bytes() || Some(entry.id) == number);
    match (entry, number) {
        (Some(entry), _) => Ok(entry.id),
        (None, Some(gid)) => in_range(gid),
        (None, None) => Err(UserError::NoGroup(group)),
    }
}

/// Reads a file of the root into `buffer`, as far as it has room; empty if there is no regular file.
///
/// # Errors
/// `FBIG` if the file is larger than the buffer, and the kernel's own.
pub fn read_file<'b>(
    root: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    let fd = match rooted::open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(&[]),
        Err(error) => return Err(error),
    };
    let mode = rustix::fs::fstat(fd.as_fd())?.st_mode;
    if !rustix::fs::FileType::from_raw_mode(mode).is_file() {
        return Ok(&[]);
    }
    let mut len = 0;
    loop {
        if len == buffer.len() {
            return Err(Errno::FBIG);
        }
        match rustix::io::read(fd.as_fd(), &mut buffer[len..]) {
            Ok(0) => return Ok(&buffer[..len]),
            Ok(count) => len += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Who a process is to be, as the specification and its annotations say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Numbers, used if there is no name.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// `gantry.user`.
    pub(crate) name: Option<String>,
    /// `gantry.groups`.
    pub(crate) more_groups: Vec<String>,
}

impl Wanted {
    pub(crate) fn new(user: &oci_spec::runtime::User, annotations: &HashMap<String, String>) -> Self {
        let more = annotations.get("gantry.groups").map_or("", String::as_str);
        Self {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            name: annotations.get("gantry.user").cloned(),
            more_groups: more.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect(),
        }
    }
}

/// One line: `name:password:id:rest`.
struct Entry<'a> {
    name: &'a [u8],
    id: u32,
    rest: &'a [u8],
}

fn entries(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.trim_ascii().splitn(4, |byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(b"#"))?;
        let _password = fields.next()?;
        let id = fields.next().and_then(parse_id_bytes)?;
        Some(Entry { name, id, rest: fields.next().unwrap_or_default() })
    })
}

/// What a user wrote; a negative number is one all the same, just out of range.
fn parse_id(text: &str) -> Option<u32> {
    match text.strip_prefix('-') {
        Some(digits) => parse_id_bytes(digits.as_bytes()).map(|id| if id == 0 { 0 } else { u32::MAX }),
        None => parse_id_bytes(text.as_bytes()),
    }
}

fn parse_id_bytes(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More digits than fit are a number all the same, just out of range.
    Some(
        text.iter()
            .fold(0_u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0'))),
    )
}

fn in_range<'s>(id: u32) -> Result<u32, UserError<'s>> {
    if i32::try_from(id).is_ok() { Ok(id) } else { Err(UserError::OutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n#c:x:9:9::/:\nbroken:x:no:1::/:\n\
        www:x:33:34:www:/var/www:/bin/false\n1000:x:77:78::/odd:\nshort:x:5\nnohome:x:6:6:::\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:www,other\naudio:x:29:www\nwwwdata:x:34:\nbad:x:x:www\n";

    #[test]
    fn users_are_found_as_docker_finds_them() {
        type Expected<'a> = Result<(u32, u32, &'a str, &'a [u32]), UserError<'a>>;
        let cases: [(&str, Expected<'_>); 17] = [
            ("", Ok((0, 0, "/root", &[]))),
            ("root", Ok((0, 0, "/root", &[]))),
            ("www", Ok((33, 34, "/var/www", &[4, 29]))),
            ("33", Ok((33, 34, "/var/www", &[4, 29]))),
            ("www:audio", Ok((33, 29, "/var/www", &[]))),
            ("www:12", Ok((33, 12, "/var/www", &[]))),
            (":audio", Ok((0, 29, "/root", &[]))),
            ("4711", Ok((4711, 0, "/", &[]))),
            ("4711:4712", Ok((4711, 4712, "/", &[]))),
            ("1000", Ok((77, 78, "/odd", &[]))),
            ("nohome", Ok((6, 6, "/", &[]))),
            ("nosuch", Err(UserError::NoUser("nosuch"))),
            ("broken", Err(UserError::NoUser("broken"))),
            ("www:nosuch", Err(UserError::NoGroup("nosuch"))),
            ("4294967296", Err(UserError::OutOfRange)),
            ("-1", Err(UserError::OutOfRange)),
            ("www:-1", Err(UserError::OutOfRange)),
        ];
        for (spec, expected) in cases {
            let mut groups = Vec::with_capacity(GROUP_LIMIT);
            let found = resolve(Files { passwd: PASSWD, group: GROUP }, spec, &mut groups);
            let found = found.map(|user| {
                (user.uid, user.gid, std::str::from_utf8(user.home).expect("text"), groups.as_slice())
            });
            assert_eq!(found, expected, "{spec:?}");
        }
    }

    #[test]
    fn without_files_only_numbers_are_known() {
        let mut groups = Vec::new();
        assert_eq!(resolve(Files::default(), "", &mut groups), Ok(User { uid: 0, gid: 0, home: b"/" }));
        assert_eq!(resolve(Files::default(), "a", &mut groups), Err(UserError::NoUser("a")));
    }
}
