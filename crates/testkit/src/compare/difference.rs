//! What differs, line by line, and the reviewed list of what stays different.
//!
//! An entry of the list:
//!
//! ```text
//! case NAME
//! $ ARGS
//! part stderr
//! - the peer's line
//! + our line
//! why The reason, in a sentence.
//! ```
//!
//! Lines that begin with `-`, `+` are those that differ, in turn, whole and masked; `peer 28.` before
//! `case` restricts the entries from there on to peers whose version begins so.

/// One difference of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The case's name.
    pub case: String,
    /// The call as the case has it.
    pub call: String,
    /// `code`, `stdout` or `stderr`.
    pub part: &'static str,
    /// The lines that differ, with `- ` the peer's, with `+ ` ours.
    pub lines: Vec<String>,
}

/// An entry of the reviewed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the peer's version begins with.
    pub peer: String,
    /// What differs.
    pub difference: Difference,
    /// Why it may.
    pub why: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "case {}\n$ {}\npart {}", self.case, self.call, self.part)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The lines of two texts that differ: those of the first with `- `, those of the second with `+ `.
/// A last line without its end is one with `\` behind it.
#[must_use]
pub fn lines(peer: &str, ours: &str) -> Vec<String> {
    if peer == ours {
        return Vec::new();
    }
    let split = |text: &str| -> Vec<String> {
        text.split_inclusive('\n')
            .map(|line| match line.strip_suffix('\n') {
                Some(line) => line.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"),
                None => format!("{line}\\"),
            })
            .collect()
    };
    let (peer, ours) = (split(peer), split(ours));
    let (rows, columns) = (peer.len(), ours.len());
    // common[i][j]: the longest common subsequence of what follows line i and line j.
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            common[i][j] = if peer[i] == ours[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < rows || j < columns {
        if i < rows && j < columns && peer[i] == ours[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == columns || (i < rows && common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("- {}", peer[i]));
            i += 1;
        } else {
            out.push(format!("+ {}", ours[j]));
            j += 1;
        }
    }
    out
}

/// Reads the reviewed list.
///
/// # Errors
/// A line that is not as described, or an entry without a reason.
pub fn parse(text: &str) -> Result<Vec<Known>, String> {
    let mut all: Vec<Known> = Vec::new();
    let mut peer = String::new();
    let mut case = String::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "peer" => rest.clone_into(&mut peer),
            "case" => {
                if all.last().is_some_and(|known| known.why.is_empty()) {
                    return Err(wrong("the entry before has no reason"));
                }
                rest.clone_into(&mut case);
            }
            "$" => all.push(Known {
                peer: peer.clone(),
                difference: Difference {
                    case: case.clone(),
                    call: rest.to_owned(),
                    part: "stdout",
                    lines: Vec::new(),
                },
                why: String::new(),
            }),
            _ => {
                let known = all.last_mut().ok_or_else(|| wrong("no entry begins before this line"))?;
                match word {
                    "part" => {
                        known.difference.part = ["code", "stdout", "stderr"]
                            .into_iter()
                            .find(|part| *part == rest)
                            .ok_or_else(|| wrong("code, stdout or stderr"))?;
                    }
                    "-" | "+" => known.difference.lines.push(format!("{word} {rest}")),
                    "why" => rest.clone_into(&mut known.why),
                    _ => return Err(wrong("not a line of an entry")),
                }
            }
        }
    }
    match all.last() {
        Some(last) if last.why.is_empty() => Err("the last entry has no reason".to_owned()),
        _ => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ() {
        for (peer, ours, want) in [
            ("a\nb\n", "a\nb\n", &[][..]),
            ("a\nb\nc\n", "a\nx\nc\n", &["- b", "+ x"]),
            ("a\n", "a", &["- a", "+ a\\"]),
            ("a\r\n", "a\n", &["- a\\r", "+ a"]),
            ("", "a\n", &["+ a"]),
            ("say \"x\"\n", "", &["- say \"x\""]),
        ] {
            assert_eq!(lines(peer, ours), want, "{peer:?} {ours:?}");
        }
    }

    #[test]
    fn the_list_is_read_back_as_it_is_printed() {
        let difference = Difference {
            case: "a".into(),
            call: "ps -a".into(),
            part: "stderr",
            lines: vec!["- x".into(), "+ y".into(), "+ ".into()],
        };
        let text = format!("peer 28.\n{difference}why Because.\n");
        let known = parse(&text).expect("well-formed");
        assert_eq!(
            known,
            [Known { peer: "28.".into(), difference: difference.clone(), why: "Because.".into() }]
        );
        assert!(parse(&difference.to_string()).is_err(), "a reason is asked for");
    }
}
