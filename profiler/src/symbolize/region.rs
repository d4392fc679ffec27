//! A part of a file as a stream.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Reads a part of a file from its start to its end, wherever the file's own position is.
pub(super) struct Region<'a> {
    file: &'a File,
    rest: Range<u64>,
}

impl<'a> Region<'a> {
    pub(super) fn new(file: &'a File, part: Range<u64>) -> Self {
        Self { file, rest: part }
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.rest.end.saturating_sub(self.rest.start);
        let size = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..size], self.rest.start)?;
        self.rest.start += count as u64;
        Ok(count)
    }
}
