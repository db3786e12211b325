//! The processes of a container, as `top` shows them.

use std::process::Command;

use super::{Containers, Error};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Containers {
    /// Lists processes with the host's `ps` columns; arguments are `ps`'s (empty is `-ef`).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not run.
    pub async fn top(&self, container: &str, arguments: &str) -> Result<Processes, Error> {
        let view = self.core.index.find(container)?.view();
        if !view.state.is_running() {
            return Err(Error::Conflict(format!("container {} is not running", view.record.id)));
        }
        let pids = self.core.host.open_cgroup(&view.record).procs();
        let pids = pids.map_err(|error| Error::Internal(crate::chain(&error)))?;
        let arguments: Vec<String> = match arguments {
            "" => vec!["-ef".into()],
            given => given.split_whitespace().map(str::to_owned).collect(),
        };
        crate::blocking(move || {
            let output = Command::new("ps").args(&arguments).output();
            let output = output.map_err(|error| Error::Internal(format!("error running ps: {error}")))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                // The usage that follows is of no help to somebody who asked over a network.
                let first = text.lines().next().unwrap_or_default().trim();
                return Err(Error::Internal(format!("ps: {first}")));
            }
            table(&String::from_utf8_lossy(&output.stdout), &pids)
        })
        .await
        .inspect(|_| super::publish(&self.core, &view.record, "top", Vec::new()))
    }
}

/// Keeps the rows of these processes. The last column takes the rest of its line.
fn table(output: &str, pids: &[i32]) -> Result<Processes, Error> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::Internal("Couldn't find PID field in ps output".into()))?;
    let rows = lines
        .map(|line| {
            let mut rest = line.trim_start();
            let mut row = Vec::with_capacity(titles.len());
            while row.len() + 1 < titles.len() {
                let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                row.push(word.to_owned());
                rest = after.trim_start();
            }
            row.push(rest.trim_end().to_owned());
            row
        })
        .filter(|row| row[column].parse().is_ok_and(|pid: i32| pids.contains(&pid)))
        .collect();
    Ok(Processes { titles, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_processes_are_left_out() {
        let output = "UID   PID CMD\nroot    1 init\nroot   42 sleep 1 2\n";
        let got = table(output, &[42]).expect("a table");
        assert_eq!(got.titles, ["UID", "PID", "CMD"]);
        assert_eq!(got.rows, [["root", "42", "sleep 1 2"]]);
        assert!(table("A B\n", &[]).is_err());
    }
}
