//! Columns, aligned as Go's tabwriter aligns them for Docker: at least so wide, three spaces
//! between, the last one as it comes.

/// Lays out rows of cells; every row ends in a newline. A column is as wide as its widest cell in the rows that follow
/// one another and have it. `minimum` is the least width of a column with its space: 10 for lists, 20 for `top`.
pub(crate) fn lay_out(rows: &[Vec<String>], minimum: usize) -> String {
    let wide = |cell: &String| (cell.chars().count() + 3).max(minimum);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![vec![0; columns]; rows.len()];
    for column in 0..columns.saturating_sub(1) {
        let mut start = 0;
        while start < rows.len() {
            // The last cell of a row is in no column.
            let run = rows[start..].iter().take_while(|row| row.len() > column + 1);
            let (length, widest) = run.fold((0, 0), |(n, width), row| (n + 1, wide(&row[column]).max(width)));
            for row in &mut widths[start..start + length] {
                row[column] = widest;
            }
            start += length.max(1);
        }
    }
    let mut out = String::new();
    for (row, widths) in rows.iter().zip(&widths) {
        for (at, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                let gap = widths[at].saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push('\n');
    }
    out
}

/// Shortens to so many letters, the last of which is then `…`.
pub(crate) fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(length.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The twelve digits that users see of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// Go's `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter if letter.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_by_tabwriter() {
        let rows = [["REPOSITORY", "TAG", "SIZE"], ["b", "latest", "1MB"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lay_out(&rows, 10), "REPOSITORY   TAG       SIZE\nb            latest    1MB\n");
        assert_eq!(ellipsis("sh -c 'while :; do sleep 1; done'", 20), "sh -c 'while :; do …");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(quote("a\"b\n"), "\"a\\\"b\\n\"");
    }
}
