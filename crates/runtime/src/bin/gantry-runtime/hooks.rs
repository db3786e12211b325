//! Programs that the specification wants called at points of a container's life.
//!
//! `prestart` and `createRuntime` are called when everything is set up and the process waits: its namespaces
//! can be reached by its pid. `createContainer` and `startContainer`, which run inside, are refused.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Spec};
use serde_json::Value;

use crate::output::Failure;
use crate::state::Container;

/// Refuses hooks that we cannot call.
pub(crate) fn check(spec: &Spec) -> Result<(), Failure> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    for (name, list) in
        [("createContainer", hooks.create_container()), ("startContainer", hooks.start_container())]
    {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(format!("hooks.{name} is not supported yet").into());
        }
    }
    Ok(())
}

/// `prestart`, then `createRuntime`.
pub(crate) fn before_start(spec: &Spec, container: &Container) -> Result<(), Failure> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let document = container.document("creating");
    for hook in hooks.prestart().iter().flatten().chain(hooks.create_runtime().iter().flatten()) {
        call(hook, &document)?;
    }
    Ok(())
}

/// `poststart`.
pub(crate) fn after_start(spec: &Spec, container: &Container) -> Result<(), Failure> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    hooks.into_iter().flatten().try_for_each(|hook| call(hook, &container.document("running")))
}

/// `poststop`.
pub(crate) fn after_stop(spec: &Spec, document: &Value) -> Result<(), Failure> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    hooks.into_iter().flatten().try_for_each(|hook| call(hook, document))
}

fn call(hook: &Hook, document: &Value) -> Result<(), Failure> {
    let path = hook.path();
    let failed = |error: &dyn std::fmt::Display| {
        Failure::from(format!("error running hook {}: {error}", path.display()))
    };
    let mut command = Command::new(path);
    if let Some((name, rest)) = hook.args().as_deref().unwrap_or_default().split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(rest);
    }
    command.env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|entry| entry.split_once('=')));
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is free not to.
        let _ = stdin.write_all(document.to_string().as_bytes());
    }
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let started = Instant::now();
    let status = loop {
        let status = match limit {
            None => Some(child.wait()?),
            Some(_) => child.try_wait()?,
        };
        match status {
            Some(status) => break status,
            None if limit.is_some_and(|limit| started.elapsed() > limit) => {
                child.kill()?;
                child.wait()?;
                return Err(failed(&"timed out"));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.success() { Ok(()) } else { Err(failed(&status)) }
}
