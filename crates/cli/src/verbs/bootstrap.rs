//! `image bootstrap`: a base image of one's own, from the signed archive of a distribution.
//!
//! `mmdebstrap` resolves, verifies (the distribution's keyring, no exceptions) and unpacks the
//! packages and writes a tar with every time clamped to `SOURCE_DATE_EPOCH`. What differs from one
//! run to the next is removed inside it, before the tar is made ([`NOT_DETERMINISTIC`]), so the same
//! packages give the same image id. Every file, and so the image, has the time of the newest file that
//! came in a package ([`NEWEST`], [`retimed`]), or the caller's `SOURCE_DATE_EPOCH`.

mod retimed;

use std::io::{self, BufRead as _, BufReader};
use std::process::{Command as Process, Stdio};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use self::retimed::Retimed;
use crate::api::Request;
use crate::commands::{Args, Command};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Kind, Order, Parsed, long};
use crate::show::progress::{self, Counted};

/// `image bootstrap`.
pub(crate) static BOOTSTRAP: Command = Command {
    usage: "DISTRIBUTION:SUITE",
    about: "Make a base image from a distribution's signed archive (needs mmdebstrap)",
    aliases: "",
    flags: &[
        long("include", Kind::Strings, "Packages to install besides the variant's"),
        long("keyring", Kind::Text, "Keyring that signs the archive (default is the host's)"),
        long("mirror", Kind::Text, "Archive to fetch from (default is the one that this host uses)"),
        long("suite", Kind::Text, "Suite of the distribution (default is the tag)"),
        long("variant", Kind::Text, "Set of packages (essential, apt, minbase, buildd, standard)")
            .or("minbase"),
    ],
    order: Order::Mixed,
    args: Args::Exactly(1),
    run: bootstrap,
};

/// Removed or emptied inside the new root, because it depends on when, where or how often it ran:
/// the machine's identity, logs, the linker's helper cache (it holds inode numbers), backups of the
/// account files, what the host's resolver was.
///
/// Not `tmp`, `run` and apt's lists: mmdebstrap empties those itself, later, by an apt whose
/// configuration still lies in the root's `tmp`. Without that file it would empty the host's lists.
const NOT_DETERMINISTIC: &str = r#"set -e; cd "$1"
rm -rf var/cache/debconf/*-old var/cache/ldconfig/aux-cache var/lib/dpkg/*-old var/lib/dbus/machine-id
rm -rf etc/resolv.conf etc/hostname etc/.pwd.lock etc/passwd- etc/shadow- etc/group- etc/gshadow- etc/subuid- etc/subgid-
rm -rf var/tmp/* root/.bash_history var/lib/systemd/random-seed
find var/log -type f -delete
find . -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
if [ -e etc/machine-id ]; then : > etc/machine-id; fi
"#;

/// Says on standard error when the newest file of all packages was made, in seconds since 1970, after
/// [`NEWEST_SAID`]. `BEGUN` is to be replaced by when the run began: what is newer was made by it. Below
/// `usr` nothing comes from the host.
const NEWEST: &str = r#"
echo "gantry-newest $(find usr -xdev -type f ! -newermt @BEGUN -printf '%Ts\n' | sort -n | tail -n 1)" >&2
"#;

const NEWEST_SAID: &str = "gantry-newest ";

fn bootstrap(context: &Context, flags: &Parsed) -> Outcome {
    let reference = flags.args[0].as_str();
    let (name, tag) = reference.rsplit_once(':').unwrap_or((reference, ""));
    let suite = match (flags.text("suite"), tag) {
        ("", "") => {
            return Err(Failure::plain(format!(
                "{reference:?} names no suite: use NAME:SUITE, such as debian:bookworm, or --suite"
            )));
        }
        ("", tag) => tag,
        (suite, _) => suite,
    };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+".contains(&b))
    };
    if !word(suite) || !flags.list("include").iter().all(|package| word(package)) {
        return Err(Failure::plain("a suite and packages are named by letters, digits and -._+ only"));
    }
    if Process::new("mmdebstrap")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        return Err(Failure::plain(
            "mmdebstrap is not installed: it resolves and verifies the packages\nInstall it: apt-get install mmdebstrap",
        ));
    }
    let mirror = match flags.text("mirror") {
        "" => host_mirror(name.rsplit('/').next().unwrap_or(name))?,
        mirror => mirror.to_owned(),
    };
    // The daemon is asked before minutes are spent.
    let api = context.api()?;
    api.open(Request::get("/_ping"))?;
    let mut child = mmdebstrap(flags, suite, &mirror).spawn()?;
    let errors = child.stderr.take().ok_or_else(|| Failure::plain("mmdebstrap has no standard error"))?;
    let bar = progress::bytes_bar(&format!("Making {reference}"), None);
    let (tell, newest) = mpsc::channel();
    let watcher = {
        let bar = bar.clone();
        std::thread::spawn(move || {
            let mut last = Vec::new();
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Some(time) = line.strip_prefix(NEWEST_SAID) {
                    // Nobody waits for it where the caller gave a time.
                    let _ = tell.send(time.parse::<u64>());
                    continue;
                }
                bar.set_message(line.chars().take(60).collect::<String>());
                last.push(line);
                if last.len() > 30 {
                    last.remove(0);
                }
            }
            last
        })
    };
    let tar = child.stdout.take().ok_or_else(|| Failure::plain("mmdebstrap has no standard output"))?;
    let tar = Counted { inner: tar, bar: bar.clone() };
    let mut from: Box<dyn io::Read + Send> = if given_epoch() {
        Box::new(tar)
    } else {
        let silent = || io::Error::other("mmdebstrap made no package's file");
        Box::new(Retimed::new(tar, move || newest.recv().map_err(|_| silent())?.map_err(|_| silent())))
    };
    let request = Request::post("/images/create")
        .query("fromSrc", "-")
        .query("repo", if tag.is_empty() { format!("{name}:{suite}") } else { reference.to_owned() })
        .query("message", format!("bootstrapped {suite} ({})", flags.text("variant")))
        .query("changes", "CMD [\"bash\"]");
    // What failed must never become an image: its tar is cut off before its end, which no daemon
    // takes, by an error in place of the last bytes.
    let answer = api.upload_written(request, "application/x-tar", move |out| {
        io::copy(&mut from, out)?;
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("mmdebstrap ended with {status}")))
        }
    });
    let shown = answer.and_then(|answer| progress::show_all(answer, |_| ()));
    bar.finish_and_clear();
    let said = watcher.join().unwrap_or_default();
    shown.map_err(|failure| {
        let reasons: Vec<&str> = said
            .iter()
            .map(String::as_str)
            .filter(|line| line.starts_with("E:") || line.contains("rror"))
            .collect();
        Failure {
            text: format!("{}\n{}", reasons.join("\n"), failure.text).trim_start().to_owned(),
            ..failure
        }
    })
}

fn mmdebstrap(flags: &Parsed, suite: &str, mirror: &str) -> Process {
    let mut command = Process::new("mmdebstrap");
    command.arg("--mode=auto").arg("--format=tar").arg(format!("--variant={}", flags.text("variant")));
    // The man pages and translations stay: an image is a whole system unless asked otherwise.
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    command.arg(format!("--customize-hook={}", hook(begun)));
    if flags.given("include") {
        command.arg(format!("--include={}", flags.list("include").join(",")));
    }
    if let Some(keyring) = flags.given_text("keyring") {
        command.arg(format!("--keyring={keyring}"));
    }
    command.arg(suite).arg("-").arg(mirror);
    if !given_epoch() {
        command.env("SOURCE_DATE_EPOCH", "0");
    }
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The clean-up as the one-argument shell text that a hook of mmdebstrap is (`$1` is the root).
/// `begun` is when the run began, in seconds since 1970.
fn hook(begun: u64) -> String {
    // Files get the time of the last tick of the clock, which may be of the second before.
    let begun = begun.saturating_sub(1).to_string();
    format!("{}{}", NOT_DETERMINISTIC.trim_end(), NEWEST.trim_end().replace("BEGUN", &begun))
        .replace('\n', "; ")
}

/// Whether the caller says which time all files shall have at most.
fn given_epoch() -> bool {
    std::env::var_os("SOURCE_DATE_EPOCH").is_some()
}

/// The archive of a distribution that this host's apt uses: of its package lists, or where those were
/// cleared, of its sources.
fn host_mirror(distribution: &str) -> Outcome<String> {
    let output = Process::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]).output();
    let listed =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut sources = std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for file in std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        if file.path().extension().is_some_and(|end| end == "list" || end == "sources") {
            sources.push_str(&std::fs::read_to_string(file.path()).unwrap_or_default());
            sources.push('\n');
        }
    }
    of_lists(&listed, distribution).or_else(|| of_sources(&sources, distribution)).ok_or_else(|| {
        Failure::plain(format!(
            "this host's apt names no archive of {distribution}: give one, such as --mirror http://deb.debian.org/debian"
        ))
    })
}

/// The first address whose origin (`Debian`) is the distribution.
fn of_lists(lines: &str, distribution: &str) -> Option<String> {
    let of_origin = lines.lines().filter_map(|line| line.split_once(' '));
    let mut matching = of_origin.filter(|(origin, _)| origin.eq_ignore_ascii_case(distribution));
    matching.next().map(|(_, address)| address.to_owned())
}

/// The first address that ends in the distribution's name: `http://deb.debian.org/debian`.
fn of_sources(text: &str, distribution: &str) -> Option<String> {
    let lines = text.lines().filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace).filter(|word| word.contains("://"));
    words.find(|word| word.trim_end_matches('/').ends_with(&format!("/{distribution}"))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clean_up_is_one_line_of_shell() {
        let hook = super::hook(1_700_000_000);
        // mmdebstrap keeps its apt's configuration there; see above.
        assert!(!hook.contains(" tmp/") && !hook.contains("lists"), "{hook}");
        assert!(!hook.contains('\n') && hook.starts_with("set -e; cd \"$1\"; rm -rf "), "{hook}");
        assert!(hook.contains("! -newermt @1699999999 ") && !hook.contains("BEGUN"), "{hook}");
    }

    #[test]
    fn archives_are_found() {
        let lists = "Google http://x/y\nDebian http://m/debian/\n";
        assert_eq!(super::of_lists(lists, "debian").as_deref(), Some("http://m/debian/"));
        let sources = "# http://no/debian\nURIs: http://s/debian-security\nURIs: http://a/debian\ndeb http://b/ubuntu x main\n";
        assert_eq!(super::of_sources(sources, "debian").as_deref(), Some("http://a/debian"));
        assert_eq!(super::of_sources(sources, "ubuntu").as_deref(), Some("http://b/ubuntu"));
        assert_eq!(super::of_sources(sources, "fedora"), None);
    }
}
