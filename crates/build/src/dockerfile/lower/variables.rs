//! `ARG` and what variables mean where.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::{Platform, Timestamp};

use crate::dockerfile::words::Expander;
use crate::error::BuildError;

/// Arguments that need no `ARG`, are seen by `RUN`, and are in no key and no history.
pub(super) const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The argument that fixes all times; it needs no `ARG` either.
pub(super) const EPOCH_ARG: &str = "SOURCE_DATE_EPOCH";

/// The build arguments of one build.
pub(super) struct Arguments<'a> {
    given: &'a BTreeMap<String, Option<String>>,
    /// The platform that is built for; `None` is the host's.
    target: Option<&'a Platform>,
    meta: BTreeMap<String, Option<String>>,
    declared: BTreeSet<String>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(given: &'a BTreeMap<String, Option<String>>, target: Option<&'a Platform>) -> Self {
        Self { given, target, meta: BTreeMap::new(), declared: BTreeSet::new() }
    }

    fn given(&self, name: &str) -> Option<String> {
        self.given.get(name).cloned().flatten()
    }

    /// `SOURCE_DATE_EPOCH`, if it was given.
    pub(super) fn epoch(&self) -> Result<Option<Timestamp>, BuildError> {
        self.given(EPOCH_ARG)
            .filter(|text| !text.is_empty())
            .map(|text| match text.parse::<i64>() {
                Ok(secs) if (0..=253_402_300_799).contains(&secs) => Ok(Timestamp::from_secs(secs)),
                _ => Err(BuildError::Invalid(format!(
                    "invalid {EPOCH_ARG} {text:?}: expected whole seconds since 1970"
                ))),
            })
            .transpose()
    }

    /// `ARG` before `FROM`.
    pub(super) fn declare_meta(
        &mut self,
        args: &[(String, Option<String>)],
        escape: char,
    ) -> Result<(), String> {
        for (name, default) in args {
            let lookup = |name: &str| self.meta(name);
            let default =
                default.as_deref().map(|text| Expander { escape, lookup: &lookup }.word(text)).transpose()?;
            let value = self.given(name).or(default);
            self.declared.insert(name.clone());
            self.meta.insert(name.clone(), value);
        }
        Ok(())
    }

    /// A variable's value in `FROM`.
    pub(super) fn meta(&self, name: &str) -> Option<String> {
        self.meta.get(name).cloned().flatten().or_else(|| self.platform_arg(name))
    }

    /// The value of an `ARG` in a stage, whose default is expanded already.
    pub(super) fn declare(&mut self, name: &str, default: Option<String>) -> Option<String> {
        self.declared.insert(name.to_owned());
        self.given(name)
            .or(default)
            .or_else(|| self.meta.get(name).cloned().flatten())
            .or_else(|| self.platform_arg(name))
    }

    /// The proxies given that the stage did not declare.
    pub(super) fn proxies(&self, declared: &BTreeMap<String, Option<String>>) -> Vec<String> {
        PROXY_ARGS
            .iter()
            .filter(|name| !declared.contains_key(**name))
            .filter_map(|name| self.given(name).map(|value| format!("{name}={value}")))
            .collect()
    }

    /// BuildKit's arguments about the platform, for those that declare them.
    fn platform_arg(&self, name: &str) -> Option<String> {
        let host = Platform::host();
        let target = self.target.unwrap_or(&host);
        match name {
            "TARGETPLATFORM" => Some(target.to_string()),
            "TARGETOS" => Some(target.os.clone()),
            "TARGETARCH" => Some(target.architecture.clone()),
            "TARGETVARIANT" => Some(target.variant.clone()),
            "BUILDPLATFORM" => Some(host.to_string()),
            "BUILDOS" => Some(host.os),
            "BUILDARCH" => Some(host.architecture),
            "BUILDVARIANT" => Some(host.variant),
            _ => None,
        }
    }

    pub(super) fn unconsumed(&self) -> BTreeSet<&str> {
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !self.declared.contains(*name) && !PROXY_ARGS.contains(name) && *name != EPOCH_ARG)
            .collect()
    }
}

/// The value of a variable in a stage: the environment's, or a declared argument's.
pub(super) fn lookup(env: &[String], args: &BTreeMap<String, Option<String>>, name: &str) -> Option<String> {
    let variable = env.iter().find_map(|variable| {
        variable.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    });
    variable.or_else(|| args.get(name).cloned().flatten())
}

/// Sets a variable in place, or at the end.
pub(super) fn set(env: &mut Vec<String>, key: &str, value: &str) {
    let text = format!("{key}={value}");
    let same = |variable: &&mut String| variable.split_once('=').is_some_and(|(name, _)| name == key);
    match env.iter_mut().find(same) {
        Some(variable) => *variable = text,
        None => env.push(text),
    }
}
