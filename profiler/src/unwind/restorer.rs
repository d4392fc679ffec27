//! Code that returns from signals, where no call frame information says so.
//!
//! The C library's is described by an FDE with the augmentation `S`; that of musl and of Go is not
//! described at all, and a static program may have both; on aarch64 that of the kernel is not, in the vDSO.
//! So it is known by its bytes: it calls `rt_sigreturn`, which nothing else does.

use memchr::memmem::Finder;
use offwake_shared::CfaKind;

use super::Refused;
use super::eh_frame::Frames;
use super::elf::{Executable, Source};
use super::rules::only;
use super::text::{MAX_TEXT, PIECE};
use crate::arch::Architecture;

/// The most that are taken: a program has one, or two where it has two C libraries.
const MAX_RESTORERS: usize = 64;

/// Finds such code and adds it, unless an entry describes it.
pub(super) fn add(
    architecture: Architecture,
    source: &Source<'_>,
    text: &Executable,
    frames: &mut Frames,
) -> Result<(), Refused> {
    let (mut found, mut budget) = (Vec::new(), MAX_TEXT);
    for segment in text.segments() {
        let (start, end) = (segment.file.start, segment.file.end);
        let Some(rest) = budget.checked_sub(end - start) else { break };
        budget = rest;
        find(architecture, source, start, end, |from, to| {
            let address = |offset| segment.address + (offset - start);
            found.push((address(from), address(to)));
            found.len() < MAX_RESTORERS
        });
    }
    let is_described = |&(begin, _): &(u64, u64)| {
        frames.list.iter().any(|frame| (frame.begin..frame.end).contains(&begin))
    };
    found.dedup();
    found.retain(|range| !is_described(range));
    for (begin, end) in found {
        // The handler returns to its first byte, and return addresses are looked up one byte
        // before. The C library's FDE begins there as well.
        frames.add(begin.saturating_sub(1), end, only(CfaKind::Signal))?;
    }
    Ok(())
}

/// Calls `found` with the range in the file of each, until it returns false.
fn find(
    architecture: Architecture,
    source: &Source<'_>,
    start: u64,
    end: u64,
    mut found: impl FnMut(u64, u64) -> bool,
) {
    let code = &architecture.facts().sigreturn;
    let longest = code.begins.iter().map(|begin| begin.len() + code.end.len()).max().unwrap_or(1);
    let finder = Finder::new(code.end);
    let mut buffer = vec![0; PIECE.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let piece = &mut buffer[..PIECE.min((end - at) as usize)];
        if !source.read_exact_at(piece, at) {
            return;
        }
        for hit in finder.find_iter(piece) {
            let begin = code.begins.iter().find(|begin| piece[..hit].ends_with(begin));
            if let Some(begin) = begin {
                let from = at + (hit - begin.len()) as u64;
                if !found(from, at + (hit + code.end.len()) as u64) {
                    return;
                }
            }
        }
        if at + piece.len() as u64 == end {
            return;
        }
        // The next piece begins so that none is cut; a short one may be in both.
        at += (piece.len() - (longest - 1)) as u64;
    }
}
