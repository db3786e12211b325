//! A daemon of our own for one test, that can be killed and started again; or the dockerd that
//! the environment names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// `None` for a dockerd that is not ours.
    own: Option<Own>,
    socket: PathBuf,
}

#[derive(Debug)]
struct Own {
    root: TempDir,
    cgroup_parent: String,
    flags: Vec<String>,
    /// What starts it, such as `nsenter`: the program and its arguments.
    within: Vec<String>,
    /// Variables that each start of it gets, and each other program of ours that looks at it.
    environment: Mutex<Vec<(String, String)>>,
    child: Mutex<Option<Child>>,
}

/// One of our programs: in `GANTRY_BIN_DIR`, else where Cargo put it beside this test.
#[must_use]
pub fn binary(name: &str) -> Option<PathBuf> {
    let dir = match std::env::var_os("GANTRY_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        // target/<triple>/debug/deps/e2e-… → target/<triple>/debug
        None => std::env::current_exe().ok()?.parent()?.parent()?.to_owned(),
    };
    Some(dir.join(name)).filter(|path| path.is_file())
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    /// Starts a daemon with additional flags; says why not and gives `None` where this machine
    /// cannot.
    ///
    /// # Panics
    /// It starts and then ends, or does not answer.
    #[must_use]
    pub fn start(flags: &[&str]) -> Option<Self> {
        Self::start_within(&[], flags)
    }

    /// The same, started by another program that becomes it, such as `nsenter`.
    ///
    /// # Panics
    /// It starts and then ends, or does not answer.
    #[must_use]
    pub fn start_within(within: &[&str], flags: &[&str]) -> Option<Self> {
        if crate::against_dockerd() {
            let socket = std::env::var_os("GANTRY_TEST_SOCKET")?;
            return Some(Self { own: None, socket: socket.into() });
        }
        if !rustix::process::geteuid().is_root() {
            crate::skip("not root: a daemon makes namespaces, mounts and control groups");
            return None;
        }
        if binary("gantryd").is_none() {
            crate::skip("gantryd was not built: cargo xtask e2e builds it, or set GANTRY_BIN_DIR");
            return None;
        }
        crate::sweep::after_killed_runs();
        let root = crate::sweep::directory("");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = Own {
            cgroup_parent: crate::sweep::group(number),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            within: within.iter().map(|&word| word.to_owned()).collect(),
            environment: Mutex::default(),
            child: Mutex::new(None),
            root,
        };
        let socket = own.root.path().join("gantry.sock");
        let daemon = Self { own: Some(own), socket };
        daemon.start_again();
        Some(daemon)
    }

    /// The address for `-H` and `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The directory of its own that everything of it lies under.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.root.path())
    }

    /// Where its containers' control groups are.
    #[must_use]
    pub fn cgroup_parent(&self) -> Option<&str> {
        self.own.as_ref().map(|own| own.cgroup_parent.as_str())
    }

    /// What it wrote to its own log.
    #[must_use]
    pub fn log(&self) -> String {
        self.root().and_then(|root| fs::read_to_string(root.join("daemon.log")).ok()).unwrap_or_default()
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("cases that kill the daemon run on one of their own only")
    }

    /// The daemon's process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.own().child.lock().ok()?.as_ref().map(Child::id)
    }

    /// Starts it (again) and waits until it answers.
    ///
    /// # Panics
    /// It ends, or does not answer within 30 seconds.
    pub fn start_again(&self) {
        self.start_with(&[]);
    }

    /// Sets a variable for all starts to come, and for `gantryd fsck`.
    ///
    /// # Panics
    /// Never: nobody panics while holding the list.
    pub fn set(&self, variable: &str, value: &str) {
        let mut environment = self.own().environment.lock().expect("no test panics while it holds this");
        environment.retain(|(name, _)| name != variable);
        environment.push((variable.to_owned(), value.to_owned()));
    }

    /// A command of `gantryd`'s own that looks at this daemon's places.
    ///
    /// # Panics
    /// The daemon was not started from a build of ours.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary("gantryd").expect("the daemon was started from it"));
        command.arg(name).args(self.places());
        let environment = self.own().environment.lock().expect("no test panics while it holds this");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same with additional variables in its environment.
    ///
    /// # Panics
    /// It ends, or does not answer within 30 seconds.
    pub fn start_with(&self, environment: &[(&str, &str)]) {
        if let Err(status) = self.try_start(environment) {
            panic!("gantryd ended with {status}:\n{}", self.log());
        }
    }

    /// As [`Self::start_with`]; how it ended, where it did so before it answered.
    ///
    /// # Errors
    /// It ended.
    ///
    /// # Panics
    /// It does not answer within 30 seconds.
    pub fn try_start(&self, environment: &[(&str, &str)]) -> Result<(), ExitStatus> {
        let mut child = self.spawn(environment);
        let begun = Instant::now();
        while !crate::http::pings(&self.socket) {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                return Err(status);
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "gantryd does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        *self.own().child.lock().expect("no test panics while it holds this") = Some(child);
        Ok(())
    }

    /// Starts it and kills it after a moment, wherever it has come to.
    pub fn start_in_vain(&self, moment: Duration) {
        let mut child = self.spawn(&[]);
        std::thread::sleep(moment);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The arguments of a command of `gantryd`'s that looks at this daemon's places.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let own = self.own();
        let path = |name: &str| own.root.path().join(name).display().to_string();
        ["--data-root", &path("data"), "--exec-root", &path("run"), "--cgroup-parent", &own.cgroup_parent]
            .map(str::to_owned)
            .into()
    }

    /// Waits until it has ended by itself; whether it has.
    pub fn has_ended_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut child = self.own().child.lock().expect("no test panics while it holds this");
        while begun.elapsed() < patience {
            if child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                *child = None;
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn spawn(&self, environment: &[(&str, &str)]) -> Child {
        let own = self.own();
        let root = own.root.path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(root.join("daemon.log"))
            .expect("the root can be written");
        let gantryd = binary("gantryd").expect("looked for before");
        let mut command = match own.within.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(gantryd);
                command
            }
            None => Command::new(gantryd),
        };
        command.args(self.places()).arg("-p").arg(root.join("pid")).arg("-H").arg(self.host());
        command.args(&own.flags);
        let lasting = own.environment.lock().expect("no test panics while it holds this");
        command.envs(lasting.iter().map(|(name, value)| (name, value))).envs(environment.iter().copied());
        drop(lasting);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        command.spawn().expect("gantryd can be started")
    }

    /// Kills it as no program can prevent.
    pub fn kill(&self) {
        if let Some(mut child) = self.own().child.lock().expect("no test panics while it holds this").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end and waits.
    pub fn stop(&self) {
        let Some(own) = &self.own else { return };
        let Some(mut child) = own.child.lock().ok().and_then(|mut child| child.take()) else { return };
        if let Ok(pid) = i32::try_from(child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        if self.own.is_some() {
            crate::sweep::after(self);
        }
    }
}
