//! Seccomp: Docker's default profile, and OCI profiles, compiled to BPF by our own compiler.
//!
//! Both follow what runc makes of a profile: a name that the architecture does not have is left out, and a
//! number beyond the last one that the profile names answers `ENOSYS`, so that programs newer than the
//! profile fall back instead of believing that they are forbidden.

mod docker;
mod filter;

use std::collections::HashMap;
use std::sync::OnceLock;

use gantry_sys::caps;
use gantry_sys::seccomp::{Flags, Instruction};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use crate::seccomp::filter::{Action, Compare, Rule, Section, Test, errno};

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most 4096 instructions.
    pub instructions: Vec<Instruction>,
    /// How to load it.
    pub flags: Flags,
}

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// It asks for something that we do not do.
    #[error("seccomp: {0} is not supported")]
    Unsupported(&'static str),
    /// An argument's number is beyond 5.
    #[error("seccomp: system calls have no argument {0}")]
    Argument(usize),
    /// It compiles to more than the kernel takes.
    #[error("seccomp: the profile is too large: {0} instructions, at most 4096")]
    TooLarge(usize),
}

/// Docker's default profile for a process with this bounding set.
#[must_use]
pub fn default_filter(bounding: caps::Set) -> Filter {
    let rules = docker::rules(bounding);
    let sections: Vec<Section> = ARCHITECTURES
        .iter()
        .map(|architecture| {
            let mut calls: Vec<(u32, Vec<Rule>)> = Vec::with_capacity(rules.len());
            let table = architecture.table();
            for (name, rules) in &rules {
                let Some(number) = table.get(name) else { continue };
                calls.push((*number, rules.clone()));
            }
            calls.sort_by_key(|(number, _)| *number);
            calls.dedup_by_key(|(number, _)| *number);
            Section {
                architecture: architecture.audit,
                calls,
                default: docker::DENIED,
                beyond: docker::UNKNOWN,
            }
        })
        .collect();
    Filter { instructions: filter::compile(&sections), flags: Flags::SPEC_ALLOW }
}

/// The same profile in OCI's form, for another runtime.
#[must_use]
pub fn default_profile(bounding: caps::Set) -> LinuxSeccomp {
    let mut calls = Vec::new();
    for (name, rules) in docker::rules(bounding) {
        calls.extend(rules.iter().map(|rule| oci_call(name, rule)));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(1))
        .set_architectures(Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]))
        .set_syscalls(Some(calls));
    profile
}

fn oci_call(name: &str, rule: &Rule) -> LinuxSyscall {
    use LinuxSeccompOperator as O;
    let argument = |test: &Test| {
        let (operator, value, second) = match test.compare {
            Compare::Equal(value) => (O::ScmpCmpEq, value, None),
            Compare::NotEqual(value) => (O::ScmpCmpNe, value, None),
            Compare::Less(value) => (O::ScmpCmpLt, value, None),
            Compare::LessEqual(value) => (O::ScmpCmpLe, value, None),
            Compare::Greater(value) => (O::ScmpCmpGt, value, None),
            Compare::GreaterEqual(value) => (O::ScmpCmpGe, value, None),
            Compare::Masked(mask, value) => (O::ScmpCmpMaskedEq, mask, Some(value)),
        };
        let index = usize::try_from(test.argument).unwrap_or(0);
        let argument = LinuxSeccompArgBuilder::default().index(index).value(value).op(operator);
        let argument = second.into_iter().fold(argument, LinuxSeccompArgBuilder::value_two);
        argument.build().unwrap_or_default()
    };
    let mut call = LinuxSyscall::default();
    call.set_names(vec![name.to_owned()]);
    if rule.action == filter::ALLOW {
        call.set_action(LinuxSeccompAction::ScmpActAllow);
    } else {
        call.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(rule.action & 0xffff));
    }
    let arguments: Vec<LinuxSeccompArg> = rule.tests.iter().map(argument).collect();
    call.set_args((!arguments.is_empty()).then_some(arguments));
    call
}

/// Compiles the `seccomp` section of a specification.
///
/// # Errors
/// [`SeccompError`].
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    if profile.listener_path().is_some() {
        return Err(SeccompError::Unsupported("listenerPath"));
    }
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let wanted = profile.architectures().as_deref().unwrap_or_default();
    let mut sections = Vec::new();
    for architecture in ARCHITECTURES {
        // The native one is always there.
        let native = architecture.audit == AUDIT_X86_64;
        if native || wanted.contains(&architecture.name) {
            sections.push(section(profile, architecture, default)?);
        }
    }
    let instructions = filter::compile(&sections);
    if instructions.len() > 4096 {
        return Err(SeccompError::TooLarge(instructions.len()));
    }
    Ok(Filter { instructions, flags: flags(profile) })
}

fn flags(profile: &LinuxSeccomp) -> Flags {
    use LinuxSeccompFilterFlag as F;
    let Some(flags) = profile.flags() else { return Flags::SPEC_ALLOW };
    let bits = flags.iter().map(|flag| match flag {
        F::SeccompFilterFlagLog => Flags::LOG.0,
        // One thread: there is nothing to synchronize.
        F::SeccompFilterFlagTsync => 0,
        F::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW.0,
        F::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE_RECV.0,
    });
    Flags(bits.fold(0, |all, bit| all | bit))
}

fn section(
    profile: &LinuxSeccomp,
    architecture: &'static Architecture,
    default: Action,
) -> Result<Section, SeccompError> {
    let table = architecture.table();
    let mut calls: HashMap<u32, Vec<Rule>> = HashMap::new();
    let mut last = 0;
    for entry in profile.syscalls().iter().flatten() {
        let action = action(entry.action(), entry.errno_ret())?;
        let rules = rules(entry.args().as_deref().unwrap_or_default(), action)?;
        for number in entry.names().iter().filter_map(|name| table.get(name.as_str())) {
            last = last.max(*number);
            // What the default does anyway needs no rule, as runc has it.
            if action != default {
                calls.entry(*number).or_default().extend(rules.iter().cloned());
            }
        }
    }
    for rules in calls.values_mut() {
        // A rule without conditions makes the others moot if it does the same.
        if let Some(at) = rules.iter().position(|rule| rule.tests.is_empty()) {
            let action = rules[at].action;
            rules.retain(|rule| rule.tests.is_empty() || rule.action != action);
        }
    }
    let permissive = matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let beyond = if permissive { default } else { docker::UNKNOWN };
    let mut calls: Vec<(u32, Vec<Rule>)> = calls.into_iter().collect();
    if !calls.iter().any(|(number, _)| *number == last) && last > 0 {
        // Its rule was the default: named all the same.
        calls.push((last, vec![Rule { tests: Vec::new(), action: default }]));
    }
    Ok(Section { architecture: architecture.audit, calls, default, beyond })
}

/// One rule of all conditions; or, where two ask about one argument, a rule for each, as runc has it.
fn rules(arguments: &[LinuxSeccompArg], action: Action) -> Result<Vec<Rule>, SeccompError> {
    let mut tests = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let index = argument.index();
        let number = u32::try_from(index).ok().filter(|number| *number < 6);
        let argument_number = number.ok_or(SeccompError::Argument(index))?;
        tests.push(Test { argument: argument_number, compare: compare(argument) });
    }
    let repeated = (0..6).any(|n| tests.iter().filter(|test| test.argument == n).count() > 1);
    Ok(if repeated {
        tests.into_iter().map(|test| Rule { tests: vec![test], action }).collect()
    } else {
        vec![Rule { tests, action }]
    })
}

fn compare(argument: &LinuxSeccompArg) -> Compare {
    use LinuxSeccompOperator as O;
    let value = argument.value();
    match argument.op() {
        O::ScmpCmpNe => Compare::NotEqual(value),
        O::ScmpCmpLt => Compare::Less(value),
        O::ScmpCmpLe => Compare::LessEqual(value),
        O::ScmpCmpEq => Compare::Equal(value),
        O::ScmpCmpGe => Compare::GreaterEqual(value),
        O::ScmpCmpGt => Compare::Greater(value),
        O::ScmpCmpMaskedEq => Compare::Masked(value, argument.value_two().unwrap_or(0)),
    }
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<Action, SeccompError> {
    use LinuxSeccompAction as A;
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => 0,
        A::ScmpActKillProcess => filter::KILL,
        A::ScmpActTrap => 0x0003_0000,
        A::ScmpActErrno => errno(number.unwrap_or(1)),
        A::ScmpActTrace => 0x7ff0_0000 | number.unwrap_or(1) & 0xffff,
        A::ScmpActLog => 0x7ffc_0000,
        A::ScmpActAllow => filter::ALLOW,
        A::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY")),
    })
}

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;

/// An architecture whose system calls the native kernel serves. (x32, the third of x86, is answered with
/// `ENOSYS`: its numbers are beyond all others.)
#[derive(Debug)]
struct Architecture {
    name: Arch,
    audit: u32,
    list: &'static str,
}

static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: Arch::ScmpArchX86_64,
        audit: AUDIT_X86_64,
        list: include_str!("syscalls-x86_64.txt"),
    },
    Architecture { name: Arch::ScmpArchX86, audit: AUDIT_I386, list: include_str!("syscalls-i386.txt") },
];

type Table = HashMap<&'static str, u32>;

impl Architecture {
    /// Names to numbers, parsed once.
    fn table(&self) -> &'static Table {
        static X86_64: OnceLock<Table> = OnceLock::new();
        static I386: OnceLock<Table> = OnceLock::new();
        let slot = if self.audit == AUDIT_X86_64 { &X86_64 } else { &I386 };
        slot.get_or_init(|| {
            let pair = |line: &'static str| {
                let (name, number) = line.split_once(' ')?;
                Some((name, number.parse().ok()?))
            };
            self.list.lines().filter_map(pair).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::filter::{ALLOW, tests::run};
    use super::*;

    fn number(name: &str) -> u32 {
        ARCHITECTURES[0].table()[name]
    }

    #[test]
    fn dockers_profile_depends_on_capabilities() {
        let admin = caps::bit("CAP_SYS_ADMIN").expect("known");
        let (few, many) = (default_filter(0), default_filter(admin));
        let denied = docker::DENIED;
        let cases: [(&str, u64, Action, Action); 12] = [
            ("read", 0, ALLOW, ALLOW),
            ("ptrace", 0, ALLOW, ALLOW),
            ("mount", 0, denied, ALLOW),
            ("clone", 0x11, ALLOW, ALLOW),
            ("clone", 0x1000_0011, denied, ALLOW),
            ("clone3", 0, docker::UNKNOWN, ALLOW),
            ("socket", 2, ALLOW, ALLOW),
            ("socket", 40, denied, denied),
            ("personality", 8, ALLOW, ALLOW),
            ("personality", 1, denied, denied),
            ("keyctl", 0, denied, denied),
            ("io_uring_setup", 0, denied, denied),
        ];
        for (name, argument, without, with) in cases {
            let arguments = [argument, 0, 0, 0, 0, 0];
            assert_eq!(run(&few.instructions, AUDIT_X86_64, number(name), arguments), without, "{name}");
            assert_eq!(run(&many.instructions, AUDIT_X86_64, number(name), arguments), with, "{name}");
        }
        assert_eq!(run(&few.instructions, AUDIT_X86_64, 9999, [0; 6]), docker::UNKNOWN);
        assert_eq!(run(&few.instructions, AUDIT_X86_64, 0x4000_0000, [0; 6]), docker::UNKNOWN);
        assert_eq!(run(&few.instructions, AUDIT_I386, 3, [0; 6]), ALLOW);
        assert!(few.instructions.len() < 1000, "{}", few.instructions.len());
    }

    #[test]
    fn an_oci_profile_is_compiled_as_runc_does() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["read","nosuchcall"],"action":"SCMP_ACT_ALLOW"},
            {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},
            {"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
            {"names":["close"],"action":"SCMP_ACT_ERRNO","errnoRet":5}]}"#,
        )
        .expect("a profile");
        let filter = compile(&profile).expect("compiles").instructions;
        let calls: [(u32, u64, Action); 7] = [
            (0, 0, ALLOW),
            (1, 1, ALLOW),
            (1, 2, ALLOW),
            (1, 3, errno(13)),
            (2, 0, errno(13)),
            (3, 0, errno(5)),
            (4, 0, errno(38)),
        ];
        for (number, argument, expected) in calls {
            let got = run(&filter, AUDIT_X86_64, number, [argument, 0, 0, 0, 0, 0]);
            assert_eq!(got, expected, "call {number} with {argument}");
        }
        assert_eq!(run(&filter, AUDIT_I386, 3, [0; 6]), filter::KILL);
    }
}
