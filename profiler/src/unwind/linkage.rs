//! The procedure linkage table on aarch64: the stubs through which code calls functions of other files.
//!
//! Linkers for x86-64 describe theirs, those for aarch64 do not. A stub changes neither the stack nor `lr`, and the
//! first one pushes `lr` before it goes to the loader (binutils, `elfNN_aarch64_small_plt0_entry`). Without a rule, a
//! walk takes an address in `lr` that is near for one that the function itself has left there: in a small library
//! that is the caller of the stub.

use offwake_shared::{CfaKind, SavedKind, UnwindRule};

use super::Refused;
use super::eh_frame::Frames;
use super::elf::{Elf, Executable, Source};

/// Its section.
const NAME: &[u8] = b".plt\0";

/// Bytes of the first stub.
const FIRST: u64 = 32;

/// Adds the table, unless an entry describes it.
pub(super) fn add(
    elf: &Elf,
    source: &Source<'_>,
    text: &Executable,
    frames: &mut Frames,
) -> Result<(), Refused> {
    let Some(push) = elf.architecture.facts().linkage_push else { return Ok(()) };
    let Some((range, begin)) = elf.section(source, NAME) else { return Ok(()) };
    let is_loaded = text.segment_at(begin).is_some_and(|segment| {
        segment.offset_of(begin) == Some(range.start) && range.end <= segment.file.end
    });
    let is_described = frames.list.iter().any(|it| (it.begin..it.end).contains(&begin));
    if !is_loaded || is_described {
        return Ok(());
    }
    let end = begin + (range.end - range.start);
    let in_lr = UnwindRule { cfa_kind: CfaKind::Sp as u8, ..UnwindRule::default() };
    let mut first = [0; FIRST as usize];
    let is_read = range.end - range.start >= FIRST && source.read_exact_at(&mut first, range.start);
    let pushes = is_read.then(|| first.chunks(push.len()).position(|it| it == push)).flatten();
    let Some(index) = pushes else { return frames.add(begin, end, in_lr) };
    let pushed = UnwindRule {
        cfa_offset: 16,
        other_kind: SavedKind::AtCfa as u8,
        other_offset: -8,
        ..in_lr
    };
    let behind = begin + ((index + 1) * push.len()) as u64;
    frames.add(begin, behind, in_lr)?;
    frames.add(behind, begin + FIRST, pushed)?;
    frames.add(begin + FIRST, end, in_lr)
}
