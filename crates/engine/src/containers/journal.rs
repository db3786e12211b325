//! What a journal record means for a container's state. Pure: the same for a live shim, one that was
//! re-adopted, and the file that a dead one left.

use std::borrow::Cow;

use gantry_model::container::{Desired, Status};
use gantry_runtime::shim::protocol::{Event, Record};

use super::record::State;

/// What a record means beyond the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// An event of Docker's with its extra attributes.
    Event(&'static str, Vec<(&'static str, String)>),
    /// It ended. `Waiter`s for the next exit are told.
    Exited,
    /// It ended and stays so: the sandbox can go.
    Final,
    /// An exec ended.
    ExecExited(String, i32),
    /// An exec runs.
    ExecStarted(String, u32),
    /// The client detached.
    Detached,
    /// For the daemon's log.
    Warning(String),
}

/// Applies a record.
pub(super) fn apply(state: &mut State, record: &Record) -> Vec<Effect> {
    let event = |action| Effect::Event(action, Vec::new());
    match &record.event {
        Event::Started(process) => {
            state.status = Status::Running;
            state.pid = u32::try_from(process.pid).unwrap_or(0);
            state.start_time_ticks = process.start_time_ticks;
            state.generation = record.generation;
            state.started = Some(record.time);
            (state.exit_code, state.oom_killed) = (0, false);
            state.error.clear();
            vec![event("start")]
        }
        Event::StartFailed { text, exit_code } => {
            // A first start that fails leaves the container `created`, as Docker does.
            if state.status != Status::Created {
                state.status = Status::Exited;
                state.finished = Some(record.time);
            }
            state.pid = 0;
            state.exit_code = docker_exit_code(*exit_code);
            state.error = launch_text(text);
            state.desired = Desired::Stopped;
            vec![Effect::Exited, Effect::Final]
        }
        Event::OomKilled => {
            state.oom_killed = true;
            vec![event("oom")]
        }
        Event::Exited { code, oom, restarting } => {
            let lived = state.started.map_or(0, |started| record.time.nanos() - started.nanos());
            state.status = if *restarting { Status::Restarting } else { Status::Exited };
            (state.pid, state.exit_code, state.finished) = (0, *code, Some(record.time));
            state.oom_killed = *oom;
            if !*restarting {
                state.desired = Desired::Stopped;
            }
            let attributes = vec![
                ("execDuration", (lived / 1_000_000_000).max(0).to_string()),
                ("exitCode", code.to_string()),
            ];
            let mut effects = vec![Effect::Event("die", attributes), Effect::Exited];
            effects.extend((!*restarting).then_some(Effect::Final));
            effects
        }
        Event::Restarting { count, .. } => {
            (state.status, state.restart_count) = (Status::Restarting, *count);
            Vec::new()
        }
        Event::RestartCancelled => {
            (state.status, state.desired) = (Status::Exited, Desired::Stopped);
            vec![Effect::Exited, Effect::Final]
        }
        Event::Stopping { signal, .. } => {
            state.desired = Desired::Stopped;
            vec![Effect::Event("kill", vec![("signal", signal.to_string())])]
        }
        Event::Killed { signal } => vec![Effect::Event("kill", vec![("signal", signal.to_string())])],
        Event::Paused => {
            state.status = Status::Paused;
            vec![event("pause")]
        }
        Event::Resumed => {
            state.status = Status::Running;
            vec![event("unpause")]
        }
        Event::ExecStarted { exec_id, process } => {
            vec![Effect::ExecStarted(exec_id.clone(), u32::try_from(process.pid).unwrap_or(0))]
        }
        Event::ExecExited { exec_id, code } => vec![Effect::ExecExited(exec_id.clone(), *code)],
        Event::Detached { exec_id: None } => vec![event("detach"), Effect::Detached],
        Event::LogGap { bytes, reason } => {
            vec![Effect::Warning(format!("{bytes} bytes of output are not in the log: {reason}"))]
        }
        Event::Warning { text } => {
            vec![Effect::Warning(format!("it started with less than it asked for: {text}"))]
        }
        Event::Coalesced(sum) => {
            tracing::info!("a container exited and was started again {} times unseen", sum.exits);
            if sum.exits == 0 {
                return Vec::new();
            }
            // Its present state is what the records say that follow.
            state.exit_code = sum.code;
            let attributes = vec![("exitCode", sum.code.to_string()), ("exits", sum.exits.to_string())];
            let mut effects = vec![Effect::Event("die", attributes)];
            effects.extend((sum.oom_kills > 0).then(|| event("oom")));
            effects
        }
        Event::Created(_) | Event::Detached { .. } | Event::Unknown => Vec::new(),
    }
}

/// Whether a record changes the state, so that it must be committed before it is acknowledged.
pub(super) fn is_kept(event: &Event) -> bool {
    !matches!(
        event,
        Event::Created(_)
            | Event::ExecStarted { .. }
            | Event::ExecExited { .. }
            | Event::Detached { .. }
            | Event::Killed { .. }
            | Event::Warning { .. }
            | Event::LogGap { .. }
            | Event::Unknown
    )
}

/// What inspect shows for a failed start: 126 and 127 as they are, 128 for what Docker's CLI turns into 125.
pub(super) fn docker_exit_code(code: i32) -> i32 {
    if matches!(code, 126 | 127) { code } else { 128 }
}

/// Docker's words around the runtime's.
pub(super) fn launch_text(text: &str) -> String {
    if is_dockers_own(text) {
        return text.into();
    }
    if text.starts_with("sysctl ") {
        return specification_text(text);
    }
    // Docker's daemon finds out before it makes the container's process.
    let cwd = text.strip_prefix("chdir to cwd (\"");
    if let Some(path) =
        cwd.and_then(|rest| rest.strip_suffix("\") set in config.json failed: not a directory"))
    {
        return format!("Cannot mkdir: {path} is not a directory");
    }
    let text = explained(text);
    format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: {text}"
    )
}

/// A text with Docker's explanation of what it ends with, whatever it comes from.
fn explained(text: &str) -> Cow<'_, str> {
    match text.ends_with(": not a directory") {
        true => format!(
            "{text}: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
        )
        .into(),
        false => text.into(),
    }
}

/// Docker's words around those of a runtime that refuses the whole specification, before it makes a process.
pub(super) fn specification_text(text: &str) -> String {
    format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: {text}"
    )
}

/// As [`launch_text`], of an exec.
pub(super) fn exec_text(text: &str) -> String {
    if is_dockers_own(text) {
        return text.into();
    }
    if text.starts_with("Cwd must be") {
        return format!("OCI runtime exec failed: exec failed: {text}");
    }
    let text = explained(text);
    format!("OCI runtime exec failed: exec failed: unable to start container process: {text}")
}

/// Docker resolves users itself, before its runtime is there to say so.
fn is_dockers_own(text: &str) -> bool {
    ["unable to find user", "unable to find group", "uids and gids must be"]
        .iter()
        .any(|beginning| text.starts_with(beginning))
}

/// The code of an exec that could not be started: Docker reads it from the text.
pub(super) fn exec_exit_code(code: i32, text: &str) -> i32 {
    match code {
        126 | 127 => code,
        _ if text.contains("no such file or directory") || text.contains("not a directory") => 127,
        _ if text.contains("permission denied") => 126,
        _ => 128,
    }
}

#[cfg(test)]
mod tests {
    use gantry_model::Timestamp;
    use gantry_runtime::shim::protocol::{Coalesced, ProcessId};

    use super::*;

    #[test]
    fn codes_of_execs_are_read_from_texts() {
        for (code, text, want) in [
            (127, "x", 127),
            (126, "no such file or directory", 126),
            (125, "chdir to cwd (\"/x\") set in config.json failed: no such file or directory", 127),
            (125, "open /x: permission denied", 126),
            (125, "chdir to cwd (\"/x\") set in config.json failed: not a directory", 127),
            (125, "Cwd must be an absolute path", 128),
        ] {
            assert_eq!(exec_exit_code(code, text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_directory_is_explained() {
        let why = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";
        for (text, explained) in [
            ("exec: \"/bin/true/x\": stat /bin/true/x: not a directory", true),
            ("exec: \"/nosuch\": stat /nosuch: no such file or directory", false),
        ] {
            let end = if explained { format!("{text}{why}") } else { text.to_owned() };
            assert!(launch_text(text).ends_with(&end), "{}", launch_text(text));
            assert!(exec_text(text).ends_with(&end), "{}", exec_text(text));
        }
        let cwd = "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory";
        assert_eq!(launch_text(cwd), "Cannot mkdir: /etc/passwd is not a directory");
        assert!(exec_text(cwd).ends_with(&format!("{cwd}{why}")), "{}", exec_text(cwd));
        let both = launch_text(&format!("error mounting: not a directory{why}"));
        assert_eq!(both.matches("vice-versa").count(), 1, "{both}");
    }

    fn at(seconds: i64, event: Event) -> Record {
        Record { boot_id: "b".into(), generation: 1, seq: 1, time: Timestamp::from_secs(seconds), event }
    }

    fn check(events: Vec<Event>, status: Status, desired: Desired, exit_code: i32) -> Vec<Effect> {
        let mut state = State { desired: Desired::Running, ..State::default() };
        let mut effects = Vec::new();
        for (second, event) in (0..).zip(events.clone()) {
            effects = apply(&mut state, &at(second, event));
        }
        assert_eq!(
            (state.status, state.desired, state.exit_code),
            (status, desired, exit_code),
            "{events:?}"
        );
        effects
    }

    #[test]
    fn records_lead_to_states() {
        let started = || Event::Started(ProcessId { pid: 7, start_time_ticks: 1 });
        let exited = |code, restarting| Event::Exited { code, oom: false, restarting };
        check(vec![started()], Status::Running, Desired::Running, 0);
        let effects = check(vec![started(), exited(3, false)], Status::Exited, Desired::Stopped, 3);
        assert_eq!(effects.len(), 3);
        assert_eq!(
            effects[0],
            Effect::Event("die", vec![("execDuration", "1".into()), ("exitCode", "3".into())])
        );
        let again = vec![started(), exited(3, true), Event::Restarting { delay_ms: 100, count: 1 }];
        check(again.clone(), Status::Restarting, Desired::Running, 3);
        let many = Coalesced { exits: 900, code: 4, ..Coalesced::default() };
        let effects = check(vec![started(), Event::Coalesced(many)], Status::Running, Desired::Running, 4);
        let told = vec![("exitCode", "4".into()), ("exits", "900".into())];
        assert_eq!(effects, [Effect::Event("die", told)], "one event for all of them");
        check(
            [vec![Event::Coalesced(many)], again.clone()].concat(),
            Status::Restarting,
            Desired::Running,
            3,
        );
        check([again.clone(), vec![started()]].concat(), Status::Running, Desired::Running, 0);
        check([again, vec![Event::RestartCancelled]].concat(), Status::Exited, Desired::Stopped, 3);
        let failed = Event::StartFailed { text: "x".into(), exit_code: 125 };
        check(vec![failed], Status::Created, Desired::Stopped, 128);
        check(vec![started(), Event::Paused], Status::Paused, Desired::Running, 0);
        check(vec![started(), Event::Paused, Event::Resumed], Status::Running, Desired::Running, 0);
    }
}
