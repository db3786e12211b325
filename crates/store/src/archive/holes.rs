//! The bytes of a file out of an archive, without those that are zeros.
//!
//! Most archives write holes out. What of a block is zeros only is not written but left out, so that a sparse file that
//! went through an archive is sparse again, and an archive of nothing fills no disk.

use std::io::{self, BufRead};
use std::os::fd::OwnedFd;

use super::entry::Entries;
use super::error::ArchiveError;

/// What a file system gives room to, at least.
const BLOCK_BYTES: usize = 4096;

/// Writes the next `left` bytes of an entry to a new file, from `at` on. `true` where the last of them were left out:
/// the file is shorter then than it shall be.
pub(super) fn write<R: BufRead>(
    entries: &mut Entries<R>,
    file: &OwnedFd,
    mut at: u64,
    mut left: u64,
    failed: &impl Fn(io::Error) -> ArchiveError,
) -> Result<bool, ArchiveError> {
    let mut ends_in_hole = false;
    while left > 0 {
        let piece = entries.data()?;
        let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let zeros = leading_zeros(piece, at);
        ends_in_hole = zeros > 0;
        let taken = match zeros {
            0 => {
                let data = &piece[..up_to_zeros(piece, at)];
                rustix::io::pwrite(file, data, at).map_err(|error| failed(error.into()))?
            }
            zeros => zeros,
        };
        entries.consume(taken);
        at += taken as u64;
        left -= taken as u64;
    }
    Ok(ends_in_hole)
}

/// The parts of `piece`, which stands at `at` in its file, that are in one block each.
fn blocks(piece: &[u8], at: u64) -> impl Iterator<Item = &[u8]> {
    let within = usize::try_from(at % BLOCK_BYTES as u64).expect("less than a block");
    let (first, rest) = piece.split_at((BLOCK_BYTES - within).min(piece.len()));
    std::iter::once(first).chain(rest.chunks(BLOCK_BYTES))
}

fn is_zero(part: &[u8]) -> bool {
    part.first() == Some(&0) && part == &[0; BLOCK_BYTES][..part.len()]
}

/// How many bytes at the beginning of a piece need not be written.
fn leading_zeros(piece: &[u8], at: u64) -> usize {
    blocks(piece, at).take_while(|part| is_zero(part)).map(<[u8]>::len).sum()
}

/// How many bytes at the beginning of a piece must be written, before others that need not.
fn up_to_zeros(piece: &[u8], at: u64) -> usize {
    blocks(piece, at).take_while(|part| !is_zero(part)).map(<[u8]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of a piece at an offset is left out (`.`) and written (`#`), block by block as far as they go.
    fn plan(piece: &[u8], mut at: u64) -> Vec<(char, usize)> {
        let (mut rest, mut plan) = (piece, Vec::new());
        while !rest.is_empty() {
            let step = match leading_zeros(rest, at) {
                0 => ('#', up_to_zeros(rest, at)),
                zeros => ('.', zeros),
            };
            plan.push(step);
            rest = &rest[step.1..];
            at += step.1 as u64;
        }
        plan
    }

    #[test]
    fn whole_blocks_of_zeros_are_left_out() {
        let (zero, full) = ([0; BLOCK_BYTES], [7; BLOCK_BYTES]);
        let almost = [&zero[1..], &[1]].concat();
        let of = |blocks: &[&[u8]]| blocks.concat();
        for (piece, at, want) in [
            (of(&[&zero, &zero, &full, &zero]), 0, vec![('.', 8192), ('#', 4096), ('.', 4096)]),
            (of(&[&almost, &zero]), 4096, vec![('#', 4096), ('.', 4096)]),
            // Blocks are the file's, not the piece's.
            (of(&[&zero, &zero]), 100, vec![('.', 8192)]),
            (of(&[&zero, &full]), 100, vec![('.', 3996), ('#', 4196)]),
            (vec![0; 100], 4000, vec![('.', 100)]),
            (vec![7; 100], 4000, vec![('#', 100)]),
            (of(&[&full, &full]), 0, vec![('#', 8192)]),
        ] {
            assert_eq!(plan(&piece, at), want);
        }
    }
}
