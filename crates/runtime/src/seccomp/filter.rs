//! The compiler: rules per system call to classic BPF. Pure.
//!
//! ```text
//! load architecture ── x86_64 ──> load number ── binary search over ranges of numbers ──> action
//!                   └─ i386   ──> load number ── …                                        or argument tests
//!                   └─ else   ──> kill
//! ```
//!
//! The search makes every system call cost about seven comparisons, however long the profile is.

use gantry_sys::seccomp::Instruction;

/// What happens to a system call: a `SECCOMP_RET_*` value.
pub(crate) type Action = u32;

/// `SECCOMP_RET_ALLOW`.
pub(crate) const ALLOW: Action = 0x7fff_0000;
/// `SECCOMP_RET_KILL_PROCESS`.
pub(crate) const KILL: Action = 0x8000_0000;

/// `SECCOMP_RET_ERRNO` with this number.
pub(crate) const fn errno(number: u32) -> Action {
    0x0005_0000 | number & 0xffff
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessEqual(u64),
    Greater(u64),
    GreaterEqual(u64),
    /// The bits of the first are the second.
    Masked(u64, u64),
}

/// A test of one argument (0 to 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) argument: u32,
    pub(crate) compare: Compare,
}

/// If all tests hold, the action is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) tests: Vec<Test>,
    pub(crate) action: Action,
}

/// The rules of one architecture.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    /// `AUDIT_ARCH_*`.
    pub(crate) architecture: u32,
    /// System calls with their rules, the first that holds deciding; in any order, none twice.
    pub(crate) calls: Vec<(u32, Vec<Rule>)>,
    /// For numbers without rules, or where none holds.
    pub(crate) default: Action,
    /// For numbers beyond the largest that has rules.
    pub(crate) beyond: Action,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Compiles the sections; other architectures are killed.
pub(crate) fn compile(sections: &[Section]) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for section in sections {
        let mut body = vec![plain(LOAD, NUMBER)];
        body.extend(search(&leaves(section), section.default));
        program.push(branch(IF_EQUAL, section.architecture, 1, 0));
        program.push(plain(JUMP, length(&body)));
        program.extend(body);
    }
    program.push(plain(RETURN, KILL));
    program
}

fn length(program: &[Instruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

/// A range of numbers, from `start` to the next one's start.
#[derive(Debug, Clone, Copy)]
struct Leaf<'a> {
    start: u32,
    rules: &'a [Rule],
    /// If no rule holds.
    otherwise: Action,
}

impl Leaf<'_> {
    /// What happens in any case, if no test is needed.
    fn constant(&self) -> Option<Action> {
        match self.rules.first() {
            None => Some(self.otherwise),
            Some(rule) if rule.tests.is_empty() => Some(rule.action),
            Some(_) => None,
        }
    }
}

fn leaves(section: &Section) -> Vec<Leaf<'_>> {
    let mut calls: Vec<(u32, &[Rule])> =
        section.calls.iter().map(|(number, rules)| (*number, rules.as_slice())).collect();
    calls.sort_by_key(|(number, _)| *number);
    let mut leaves: Vec<Leaf<'_>> = Vec::new();
    let mut push = |start: u32, rules, otherwise| {
        let leaf = Leaf { start, rules, otherwise };
        let same = leaves
            .last()
            .is_some_and(|last: &Leaf<'_>| last.constant().is_some() && last.constant() == leaf.constant());
        if !same {
            leaves.push(leaf);
        }
    };
    let mut next = 0;
    for (number, rules) in calls {
        if number > next {
            push(next, &[][..], section.default);
        }
        push(number, rules, section.default);
        next = number + 1;
    }
    push(next, &[][..], section.beyond);
    leaves
}

fn search(leaves: &[Leaf<'_>], default: Action) -> Vec<Instruction> {
    match leaves {
        [] => vec![plain(RETURN, default)],
        [leaf] => leaf_code(leaf),
        _ => {
            let (low, high) = leaves.split_at(leaves.len() / 2);
            let (left, right) = (search(low, default), search(high, default));
            let start = high[0].start;
            let mut code = match u8::try_from(left.len()) {
                Ok(skip) => vec![branch(IF_AT_LEAST, start, skip, 0)],
                // Too far for a conditional jump.
                Err(_) => vec![branch(IF_AT_LEAST, start, 0, 1), plain(JUMP, length(&left))],
            };
            code.extend(left);
            code.extend(right);
            code
        }
    }
}

fn leaf_code(leaf: &Leaf<'_>) -> Vec<Instruction> {
    if let Some(action) = leaf.constant() {
        return vec![plain(RETURN, action)];
    }
    let mut code = Vec::new();
    for rule in leaf.rules {
        code.extend(rule_code(rule));
        if rule.tests.is_empty() {
            return code;
        }
    }
    code.push(plain(RETURN, leaf.otherwise));
    code
}

/// Where a jump inside a rule leads until all is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Next,
    /// Behind this test: it holds.
    Holds,
    /// Behind the rule: it does not apply.
    Fails,
}

fn rule_code(rule: &Rule) -> Vec<Instruction> {
    let mut code: Vec<Instruction> = Vec::new();
    let mut open: Vec<(usize, Target, Target, usize)> = Vec::new();
    for test in &rule.tests {
        let steps = test_code(*test);
        let end = code.len() + steps.len();
        for (instruction, yes, no) in steps {
            if yes != Target::Next || no != Target::Next {
                open.push((code.len(), yes, no, end));
            }
            code.push(instruction);
        }
    }
    code.push(plain(RETURN, rule.action));
    let rule_end = code.len();
    for (at, yes, no, test_end) in open {
        let skip = |target| {
            let to = match target {
                Target::Next => at + 1,
                Target::Holds => test_end,
                Target::Fails => rule_end,
            };
            u8::try_from(to - at - 1).expect("six tests of five instructions fit")
        };
        (code[at].jt, code[at].jf) = (skip(yes), skip(no));
    }
    code
}

fn test_code(test: Test) -> Vec<(Instruction, Target, Target)> {
    use Target::{Fails, Holds, Next};
    let at = 16 + 8 * test.argument;
    let load_high = (plain(LOAD, at + 4), Next, Next);
    let load_low = (plain(LOAD, at), Next, Next);
    let halves = |value: u64| {
        let low = u32::try_from(value & 0xffff_ffff).expect("32 bits");
        (u32::try_from(value >> 32).expect("32 bits"), low)
    };
    let check = |code, k, yes, no| (plain(code, k), yes, no);
    match test.compare {
        Compare::Equal(value) => {
            let (high, low) = halves(value);
            vec![load_high, check(IF_EQUAL, high, Next, Fails), load_low, check(IF_EQUAL, low, Next, Fails)]
        }
        Compare::NotEqual(value) => {
            let (high, low) = halves(value);
            vec![load_high, check(IF_EQUAL, high, Next, Holds), load_low, check(IF_EQUAL, low, Fails, Next)]
        }
        Compare::Greater(value) | Compare::GreaterEqual(value) => {
            let (high, low) = halves(value);
            let code = if matches!(test.compare, Compare::Greater(_)) { IF_GREATER } else { IF_AT_LEAST };
            vec![
                load_high,
                check(IF_GREATER, high, Holds, Next),
                check(IF_EQUAL, high, Next, Fails),
                load_low,
                check(code, low, Next, Fails),
            ]
        }
        Compare::Less(value) | Compare::LessEqual(value) => {
            let (high, low) = halves(value);
            let code = if matches!(test.compare, Compare::Less(_)) { IF_AT_LEAST } else { IF_GREATER };
            vec![
                load_high,
                check(IF_GREATER, high, Fails, Next),
                check(IF_EQUAL, high, Next, Holds),
                load_low,
                check(code, low, Fails, Next),
            ]
        }
        Compare::Masked(mask, value) => {
            let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
            vec![
                load_high,
                (plain(AND, mask_high), Next, Next),
                check(IF_EQUAL, high, Next, Fails),
                load_low,
                (plain(AND, mask_low), Next, Next),
                check(IF_EQUAL, low, Next, Fails),
            ]
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs a filter on one call, as the kernel would.
    pub(crate) fn run(
        program: &[Instruction],
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    ) -> Action {
        let mut data = vec![number, architecture, 0, 0];
        for argument in arguments {
            data.push(u32::try_from(argument & 0xffff_ffff).expect("low"));
            data.push(u32::try_from(argument >> 32).expect("high"));
        }
        let (mut at, mut value) = (0_usize, 0_u32);
        loop {
            let step = program[at];
            at += 1;
            let holds = match step.code {
                LOAD => {
                    value = data[usize::try_from(step.k).expect("offset") / 4];
                    continue;
                }
                AND => {
                    value &= step.k;
                    continue;
                }
                JUMP => {
                    at += usize::try_from(step.k).expect("offset");
                    continue;
                }
                RETURN => return step.k,
                IF_EQUAL => value == step.k,
                IF_GREATER => value > step.k,
                IF_AT_LEAST => value >= step.k,
                code => panic!("instruction {code:#x}"),
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    fn always(action: Action) -> Vec<Rule> {
        vec![Rule { tests: Vec::new(), action }]
    }

    #[test]
    fn every_number_gets_its_action() {
        let mut calls: Vec<(u32, Vec<Rule>)> =
            (0..400).filter(|n| n % 3 != 0).map(|n| (n, always(ALLOW))).collect();
        // Many different actions make jumps long.
        calls.extend((1000..1400).map(|n| (n, always(errno(n)))));
        let section = Section { architecture: 7, calls, default: errno(1), beyond: errno(38) };
        let program = compile(&[section.clone(), Section { architecture: 8, ..Section::default() }]);
        for number in 0..1500 {
            let expected = match number {
                0..400 if number % 3 != 0 => ALLOW,
                1000..1400 => errno(number),
                1400.. => errno(38),
                _ => errno(1),
            };
            assert_eq!(run(&program, 7, number, [0; 6]), expected, "{number}");
        }
        assert_eq!(run(&program, 7, u32::MAX, [0; 6]), errno(38));
        assert_eq!(run(&program, 8, 3, [0; 6]), 0);
        assert_eq!(run(&program, 9, 3, [0; 6]), KILL);
    }

    #[test]
    fn arguments_are_compared_with_all_64_bits() {
        let big = 0x1_0000_0005;
        let cases: [(Compare, &[u64], &[u64]); 7] = [
            (Compare::Equal(big), &[big], &[5, big + 1, 0x2_0000_0005]),
            (Compare::NotEqual(big), &[5, 0, 0x2_0000_0005], &[big]),
            (Compare::Less(big), &[0, 5, big - 1, 0xffff_ffff], &[big, big + 1, 0x2_0000_0000]),
            (Compare::LessEqual(big), &[0, big], &[big + 1, u64::MAX]),
            (Compare::Greater(big), &[big + 1, 0x2_0000_0000], &[big, 6, 0xffff_ffff]),
            (Compare::GreaterEqual(big), &[big, u64::MAX], &[big - 1, 6]),
            (Compare::Masked(0x1_0000_00f0, 0x20), &[0x20, 0x2f, 0x2_0000_0120], &[0x30, 0x1_0000_0020]),
        ];
        for (compare, holds, fails) in cases {
            let rule = Rule { tests: vec![Test { argument: 5, compare }], action: ALLOW };
            let section = Section { calls: vec![(1, vec![rule])], default: errno(1), ..Section::default() };
            let program = compile(&[section]);
            for (values, expected) in [(holds, ALLOW), (fails, errno(1))] {
                for value in values {
                    let arguments = [0, 0, 0, 0, 0, *value];
                    assert_eq!(run(&program, 0, 1, arguments), expected, "{compare:?} {value:#x}");
                }
            }
        }
    }
}
