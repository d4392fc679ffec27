//! Puts the frames of a file in order: a table has one rule for each address.

use super::Refused;
use super::eh_frame::{Frame, Frames};
use super::elf::{Executable, Segment, Source};
use super::rules::NONE;
use super::table::{Builder, Table};
use super::text::{MAX_PADDING, Text};

/// The table of these frames. Where two overlap, the one that begins later holds, and of two that
/// begin at the same address, the first in the file.
pub(super) fn flatten(
    mut frames: Frames,
    source: &Source<'_>,
    executable: &Executable,
    segments: Vec<Segment>,
) -> Result<Table, Refused> {
    // Stable, and fast where they are in order, as linkers mostly leave them.
    frames.list.sort_by_key(|frame| frame.begin);
    frames.list.dedup_by_key(|frame| frame.begin);

    let mut text = Text::new(source, executable);
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
        if !is_padding {
            builder.push(end, NONE)?;
        }
    }
    Ok(builder.finish(frames.rules.into_list(), segments, frames.damaged))
}
