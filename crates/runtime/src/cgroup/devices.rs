//! Device rules: as v1's lines, and as a program for v2. Pure.

use gantry_sys::bpf::Instruction;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// What every container may use, whatever else is listed, as runc has it: type, major, minor, access.
const ALWAYS: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 12] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"),
    // Terminals: of each, and what makes them.
    (LinuxDeviceType::C, Some(136), None, "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    // tun: what it makes stays in the container's network.
    (LinuxDeviceType::C, Some(10), Some(200), "rwm"),
];

/// The rules given, and what is always allowed.
pub(crate) fn with_usual(rules: &[LinuxDeviceCgroup]) -> Vec<LinuxDeviceCgroup> {
    let mut all = rules.to_vec();
    let any = |rule: &LinuxDeviceCgroup| {
        let everything = rule.typ().is_none_or(|kind| kind == LinuxDeviceType::A);
        everything && rule.major().is_none_or(|n| n < 0) && rule.minor().is_none_or(|n| n < 0)
    };
    if rules.last().is_some_and(|last| last.allow() && any(last) && access(last) == "rwm") {
        return all;
    }
    for (kind, major, minor, access) in ALWAYS {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true).set_typ(Some(kind)).set_major(major).set_minor(minor);
        rule.set_access(Some(access.into()));
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    // After "nothing at all", what is allowed is listed by number, as runc lists it; else the order may matter.
    if let [first, rest @ ..] = all.as_mut_slice()
        && !first.allow()
        && any(first)
        && rest.iter().all(LinuxDeviceCgroup::allow)
    {
        let block = |rule: &LinuxDeviceCgroup| rule.typ() == Some(LinuxDeviceType::B);
        rest.sort_by_key(|rule| (rule.major().unwrap_or(-1), rule.minor().unwrap_or(-1), !block(rule)));
    }
    all
}

/// The file to write to and the line: `c 1:3 rwm`.
pub(crate) fn v1_line(rule: &LinuxDeviceCgroup) -> (&'static str, String) {
    let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => "a",
        LinuxDeviceType::B => "b",
        LinuxDeviceType::C | LinuxDeviceType::U => "c",
        LinuxDeviceType::P => "a",
    };
    let number = |value: Option<i64>| match value {
        Some(value) if value >= 0 => value.to_string(),
        _ => "*".into(),
    };
    (file, format!("{kind} {}:{} {}", number(rule.major()), number(rule.minor()), access(rule)))
}

fn access(rule: &LinuxDeviceCgroup) -> &str {
    match rule.access().as_deref() {
        None | Some("") => "rwm",
        Some(access) => access,
    }
}

// Registers: r1 the context, r2 type, r3 access, r4 major, r5 minor, r6 scratch.
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// A program that lets the last matching rule decide, and denies what none matches.
///
/// The context is `{ access << 16 | type, major, minor }`, 32 bits each; type 1 is block, 2 character; access
/// bits are 1 mknod, 2 read, 4 write.
pub(crate) fn v2_program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_IMMEDIATE, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    let mut decided = false;
    for rule in rules.iter().rev() {
        let block = rule_block(rule);
        let catch_all = block.len() == 2;
        program.extend(block);
        if catch_all {
            decided = true;
            break;
        }
    }
    if !decided {
        program.extend(verdict(false));
    }
    program
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE_IMMEDIATE, 0, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// Tests and a verdict; each failed test jumps behind it.
fn rule_block(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut tests = Vec::new();
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => Some(1),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(2),
        LinuxDeviceType::A | LinuxDeviceType::P => None,
    };
    if let Some(kind) = kind {
        tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, kind));
    }
    let letters = [('m', 1), ('r', 2), ('w', 4)];
    let bits: i32 =
        letters.iter().filter(|(letter, _)| access(rule).contains(*letter)).map(|(_, bit)| bit).sum();
    if bits != 7 {
        tests.push(instruction(MOVE_REGISTER, 6, 3, 0, 0));
        if rule.allow() {
            // All that is asked for must be allowed.
            tests.push(instruction(AND_IMMEDIATE, 6, 0, 0, !bits & 7));
            tests.push(instruction(JUMP_NOT_EQUAL, 6, 0, 0, 0));
        } else {
            // Any part of it denied is enough.
            tests.push(instruction(AND_IMMEDIATE, 6, 0, 0, bits));
            tests.push(instruction(JUMP_EQUAL, 6, 0, 0, 0));
        }
    }
    for (register, number) in [(4, rule.major()), (5, rule.minor())] {
        if let Some(number) = number.and_then(|number| i32::try_from(number).ok()).filter(|n| *n >= 0) {
            tests.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number));
        }
    }
    tests.extend(verdict(rule.allow()));
    let end = tests.len();
    for (at, test) in tests.iter_mut().enumerate() {
        if test.code == JUMP_NOT_EQUAL || test.code == JUMP_EQUAL {
            test.offset = i16::try_from(end - at - 1).unwrap_or(0);
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> LinuxDeviceCgroup {
        serde_json::from_str(json).expect("a rule")
    }

    /// Runs a program on one access, as the kernel would.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 11];
        let mut at = 0_usize;
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let value = step.immediate.cast_unsigned();
            let jump = usize::try_from(step.offset).expect("forward");
            match step.code {
                LOAD_WORD => registers[to] = context[jump / 4],
                AND_IMMEDIATE => registers[to] &= value,
                SHIFT_RIGHT_IMMEDIATE => registers[to] >>= value,
                MOVE_IMMEDIATE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                JUMP_NOT_EQUAL if registers[to] != value => at += jump,
                JUMP_EQUAL if registers[to] == value => at += jump,
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                EXIT => return registers[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
            at += 1;
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let rules = [
            rule(r#"{"allow":false,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"c","access":"m"}"#),
            rule(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"b","major":8,"access":"r"}"#),
            rule(r#"{"allow":false,"type":"b","major":8,"minor":1,"access":"r"}"#),
        ];
        let program = v2_program(&rules);
        for (kind, access, major, minor, expected) in [
            (2, 6, 1, 3, true),
            (2, 1, 9, 9, true),
            (2, 2, 9, 9, false),
            (2, 3, 9, 9, false),
            (1, 2, 8, 0, true),
            (1, 2, 8, 1, false),
            (1, 6, 8, 0, false),
            (1, 1, 1, 3, false),
        ] {
            assert_eq!(
                run(&program, kind, access, major, minor),
                expected,
                "{kind} {access} {major}:{minor}"
            );
        }
        assert!(run(&v2_program(&[rule(r#"{"allow":true,"access":"rwm"}"#)]), 1, 7, 0, 0));
        assert!(!run(&v2_program(&[]), 1, 7, 0, 0));
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        let rules = [
            rule(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}"#),
            rule(r#"{"allow":false,"type":"b","major":8,"access":"r"}"#),
        ];
        match gantry_sys::bpf::load_device_program(&v2_program(&rules)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: loading eBPF needs more rights");
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_usual_devices_are_always_allowed() {
        let deny = rule(r#"{"allow":false,"access":"rwm"}"#);
        let null = rule(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#);
        let own = rule(r#"{"allow":true,"type":"b","major":7,"minor":0,"access":"r"}"#);
        let all = with_usual(&[deny.clone(), own, null]);
        let lines: Vec<String> = all.iter().map(|rule| v1_line(rule).1).collect();
        assert_eq!(lines[..4], ["a *:* rwm", "b *:* m", "c *:* m", "c 1:3 rwm"]);
        assert_eq!(lines[11..], ["b 7:0 r", "c 10:200 rwm", "c 136:* rwm"]);
        let program = v2_program(&with_usual(&[deny]));
        assert!(run(&program, 2, 6, 1, 7) && run(&program, 1, 1, 8, 0) && !run(&program, 1, 2, 8, 0));
        assert_eq!(with_usual(&[rule(r#"{"allow":true,"access":"rwm"}"#)]).len(), 1);
    }

    #[test]
    fn rules_become_lines() {
        for (json, expected) in [
            (r#"{"allow":false,"access":"rwm"}"#, ("devices.deny", "a *:* rwm")),
            (r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}"#, ("devices.allow", "c 1:3 rw")),
            (r#"{"allow":true,"type":"b","major":8,"minor":-1}"#, ("devices.allow", "b 8:* rwm")),
        ] {
            let (file, line) = v1_line(&rule(json));
            assert_eq!((file, line.as_str()), expected);
        }
    }
}
