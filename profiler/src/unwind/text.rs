//! The code of a file, read in pieces.

use std::ops::Range;

use super::elf::{Executable, Source};

/// How much is read at once.
pub(super) const PIECE: usize = 1 << 18;

/// The longest gap between two functions that may be padding up to a multiple of 16 bytes.
pub(super) const MAX_PADDING: u64 = 16;

/// The most bytes of code that are read for one purpose: several times that of a browser. Segments may
/// claim the same part of the file over and over.
pub(super) const MAX_TEXT: u64 = 1 << 30;

/// Looks at code in ascending order of address.
pub(super) struct Text<'a> {
    source: &'a Source<'a>,
    executable: &'a Executable,
    /// The bytes that were read last, and where they are in the file.
    window: Vec<u8>,
    window_at: u64,
    /// How many bytes may still be read.
    budget: u64,
}

impl<'a> Text<'a> {
    pub(super) fn new(source: &'a Source<'a>, executable: &'a Executable) -> Self {
        Self { source, executable, window: Vec::new(), window_at: 0, budget: MAX_TEXT }
    }

    /// Whether there is nothing but padding from `begin` to `end`, at most [`MAX_PADDING`] bytes.
    pub(super) fn is_padding(&mut self, begin: u64, end: u64) -> bool {
        self.bytes(begin, (end - begin) as usize).is_some_and(is_padding)
    }

    fn bytes(&mut self, address: u64, size: usize) -> Option<&[u8]> {
        let segment = self.executable.segment_at(address)?;
        let offset = segment.offset_of(address)?;
        if self.in_window(offset, size).is_none() {
            let piece = (segment.file.end - offset).min(PIECE as u64);
            self.budget = self.budget.checked_sub(piece)?;
            self.window.resize(piece as usize, 0);
            self.window_at = offset;
            if !self.source.read_exact_at(&mut self.window, offset) {
                self.window.clear();
            }
        }
        let range = self.in_window(offset, size)?;
        self.window.get(range)
    }

    /// Where in the window these bytes of the file are.
    fn in_window(&self, offset: u64, size: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.window_at)?).ok()?;
        let end = start.checked_add(size)?;
        (end <= self.window.len()).then_some(start..end)
    }
}

/// Whether these bytes are nothing but zeros, breakpoints, and instructions that do nothing.
fn is_padding(mut bytes: &[u8]) -> bool {
    loop {
        bytes = match bytes {
            [] => return true,
            [0x00 | 0xcc, rest @ ..] => rest,
            _ => match nop(bytes).and_then(|length| bytes.get(length..)) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
}

/// The length of the instruction, if it is a `nop`: `90` or `0f 1f /0`, with prefixes (Intel, SDM 2B,
/// NOP).
fn nop(bytes: &[u8]) -> Option<usize> {
    let prefixes = bytes.iter().take_while(|byte| matches!(byte, 0x66 | 0x2e)).count();
    match bytes[prefixes..] {
        [0x90, ..] => Some(prefixes + 1),
        [0x0f, 0x1f, modrm, ..] => {
            let index = usize::from(modrm & 7 == 4);
            let displacement = match modrm >> 6 {
                0 => 0,
                1 => 1,
                2 => 4,
                _ => return None,
            };
            Some(prefixes + 3 + index + displacement)
        }
        _ => None,
    }
}
