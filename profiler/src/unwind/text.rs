//! The code of a file, read in pieces.

use std::ops::Range;

use super::elf::{Executable, Source};
use crate::arch::Architecture;

/// How much is read at once.
pub(super) const PIECE: usize = 1 << 18;

/// The longest gap between two functions that may be padding up to a multiple of 16 bytes.
pub(super) const MAX_PADDING: u64 = 16;

/// The most bytes of code that are read for one purpose: several times that of a browser. Segments may
/// claim the same part of the file over and over.
pub(super) const MAX_TEXT: u64 = 1 << 30;

/// Looks at code in ascending order of address.
pub(super) struct Text<'a> {
    architecture: Architecture,
    source: &'a Source<'a>,
    executable: &'a Executable,
    /// The bytes that were read last, and where they are in the file.
    window: Vec<u8>,
    window_at: u64,
    /// How many bytes may still be read.
    budget: u64,
}

impl<'a> Text<'a> {
    pub(super) fn new(
        architecture: Architecture,
        source: &'a Source<'a>,
        executable: &'a Executable,
    ) -> Self {
        Self {
            architecture,
            source,
            executable,
            window: Vec::new(),
            window_at: 0,
            budget: MAX_TEXT,
        }
    }

    /// Whether there is nothing but padding from `begin` to `end`, at most [`MAX_PADDING`] bytes.
    pub(super) fn is_padding(&mut self, begin: u64, end: u64) -> bool {
        let padding = self.architecture.facts().padding;
        self.bytes(begin, (end - begin) as usize).is_some_and(|bytes| is_padding(padding, bytes))
    }

    /// Whether the instruction there is a system call.
    pub(super) fn is_syscall(&mut self, address: u64) -> bool {
        let syscall = self.architecture.facts().syscall;
        self.bytes(address, syscall.len()).is_some_and(|bytes| bytes == syscall)
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

/// Whether these bytes are nothing but padding, of which `length` knows each piece.
fn is_padding(length: fn(&[u8]) -> Option<usize>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(rest) = length(bytes).and_then(|length| bytes.get(length..)) else { return false };
        bytes = rest;
    }
    true
}
