//! Puts the frames of a file in order: a table has one rule for each address.

use super::Refused;
use super::eh_frame::{Frame, Frames};
use super::elf::{Executable, Segment, Source};
use super::rules::NONE;
use super::table::{Builder, Table};
use super::text::{MAX_PADDING, Text};
use crate::arch::Architecture;

/// The table of these frames. Where two overlap, the one that begins later holds, and of two that
/// begin at the same address, the first in the file.
pub(super) fn flatten(
    architecture: Architecture,
    mut frames: Frames,
    source: &Source<'_>,
    executable: &Executable,
    segments: Vec<Segment>,
) -> Result<Table, Refused> {
    // Stable, and fast where they are in order, as linkers mostly leave them.
    frames.list.sort_by_key(|frame| frame.begin);
    frames.list.dedup_by_key(|frame| frame.begin);

    let mut text = Text::new(architecture, source, executable);
    let mut builder = Builder::default();
    let mut list = frames.list.iter().peekable();
    while let Some(frame) = list.next() {
        let next = list.peek().map(|next: &&Frame| next.begin);
        let end = next.map_or(frame.end, |next| next.min(frame.end));
        let first = frame.first_row as usize;
        for row in &frames.rows[first..first + frame.rows as usize] {
            let address = frame.begin + u64::from(row.start);
            if address >= end {
                break;
            }
            builder.push(address, row.rule)?;
        }
        // Padding gets no row of its own: nothing runs there, and there is some behind most
        // functions.
        let is_padding = next.is_some_and(|next| {
            next == end || (next - end <= MAX_PADDING && text.is_padding(end, next))
        });
        if is_padding {
            continue;
        }
        // On x86-64, the C library's `clone` and `clone3` end their call frame information before the system call,
        // because nothing of it holds for the child. For the parent, which creates a thread here, all of
        // it does. (sysdeps/unix/sysv/linux/x86_64/clone.S)
        let behind = end.saturating_add(architecture.facts().syscall.len() as u64);
        let goes_on = next.is_none_or(|next| behind <= next) && text.is_syscall(end);
        builder.push(if goes_on { behind } else { end }, NONE)?;
    }
    Ok(builder.finish(architecture, frames.rules.into_list(), segments, frames.damaged))
}
