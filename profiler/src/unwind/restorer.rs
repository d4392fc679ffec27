//! Code that returns from signals, where no call frame information says so.
//!
//! The C library's is described by an FDE with the augmentation `S`; that of musl and of Go is not
//! described at all, and a static program may have both. So it is known by its bytes: `mov $15, %rax` or `mov $15, %eax`, then `syscall`,
//! where 15 is `rt_sigreturn`, which nothing else calls.

use memchr::memmem::Finder;
use offwake_shared::CfaKind;

use super::Refused;
use super::eh_frame::Frames;
use super::elf::{Executable, Source};
use super::rules::only;
use super::text::{MAX_TEXT, PIECE};

/// What both forms end with: the constant, and `syscall`.
const END: [u8; 6] = [0x0f, 0, 0, 0, 0x0f, 0x05];

/// What they begin with.
const BEGINS: [&[u8]; 2] = [&[0x48, 0xc7, 0xc0], &[0xb8]];

/// The most bytes of either.
const LONGEST: usize = 3 + END.len();

/// The most that are taken: a program has one, or two where it has two C libraries.
const MAX_RESTORERS: usize = 64;

/// Finds such code and adds it, unless an entry describes it.
pub(super) fn add(
    source: &Source<'_>,
    text: &Executable,
    frames: &mut Frames,
) -> Result<(), Refused> {
    let (mut found, mut budget) = (Vec::new(), MAX_TEXT);
    for segment in text.segments() {
        let (start, end) = (segment.file.start, segment.file.end);
        let Some(rest) = budget.checked_sub(end - start) else { break };
        budget = rest;
        find(source, start, end, |from, to| {
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
fn find(source: &Source<'_>, start: u64, end: u64, mut found: impl FnMut(u64, u64) -> bool) {
    let finder = Finder::new(&END);
    let mut buffer = vec![0; PIECE.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let piece = &mut buffer[..PIECE.min((end - at) as usize)];
        if !source.read_exact_at(piece, at) {
            return;
        }
        for hit in finder.find_iter(piece) {
            let begin = BEGINS.iter().find(|begin| piece[..hit].ends_with(begin));
            if let Some(begin) = begin {
                let from = at + (hit - begin.len()) as u64;
                if !found(from, at + (hit + END.len()) as u64) {
                    return;
                }
            }
        }
        if at + piece.len() as u64 == end {
            return;
        }
        // The next piece begins so that none is cut; a short one may be in both.
        at += (piece.len() - (LONGEST - 1)) as u64;
    }
}
