//! Files and lines of addresses, from a unit's line program.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gimli::LineProgramHeader;
use hashbrown::HashMap;

use super::unit::Unit;
use super::{Slice, SourceLine, Stop};

/// Longer than any path that can be opened, in bytes.
const MAX_PATH: usize = 4096;

/// A row of the line table, as far as it matters: the number of the file, and the line.
type Row = (u64, u32);

/// The lines of some addresses, and the files of a unit.
pub(super) struct Table<'u, 'a> {
    pub(super) unit: &'u Unit<'a>,
    header: Option<LineProgramHeader<Slice<'a>>>,
    /// For each address.
    rows: Vec<Option<Row>>,
    /// Those that were asked for, by number.
    files: HashMap<u64, Option<Rc<str>>>,
}

impl<'u, 'a> Table<'u, 'a> {
    /// A table without any line, for this many addresses.
    pub(super) fn new(unit: &'u Unit<'a>, addresses: usize) -> Self {
        Self { unit, header: None, rows: vec![None; addresses], files: HashMap::new() }
    }

    /// Reads the lines of the addresses, which are in order.
    pub(super) fn read(&mut self, addresses: &[u64]) -> Result<(), Stop> {
        let Self { unit, header, rows, .. } = self;
        let Some(offset) = unit.root.lines else { return Ok(()) };
        let size = unit.header.encoding().address_size;
        let programs = unit.sections.line_programs();
        // The tables of folders and files are decoded at once: they are part of the section.
        let length = gimli::Section::reader(&programs).len().saturating_sub(offset.0);
        unit.budget.take(length.min(1 << 10))?;
        let program = programs.program(offset, size, None, None)?;
        let program_size = program.header().raw_program_buf().len();
        let tables = program.header().header_length();
        unit.budget.take(program_size / 2 + 8 * tables.min(length))?;
        *header = Some(program.header().clone());

        let mut decoder = program.rows();
        // What came before in the same sequence: where it begins, and the last row.
        let mut before: Option<(u64, u64, Row)> = None;
        while let Some((_, row)) = decoder.next_row()? {
            unit.budget.take(2)?;
            let address = row.address();
            if let Some((start, last, found)) = before
                // What a linker has thrown away is at 0.
                && start != 0
                && last < address
            {
                let first = addresses.partition_point(|&wanted| wanted < last);
                let behind = addresses.partition_point(|&wanted| wanted < address);
                if first < behind {
                    unit.budget.take(behind - first)?;
                    rows[first..behind].fill(Some(found));
                }
            }
            before = if row.end_sequence() {
                None
            } else {
                let line = row.line().and_then(|line| u32::try_from(line.get()).ok()).unwrap_or(0);
                let start = before.map_or(address, |(start, ..)| start);
                Some((start, address, (row.file_index(), line)))
            };
        }
        Ok(())
    }

    /// The line of the address with this index.
    pub(super) fn line_of(&mut self, index: usize) -> Result<Option<SourceLine>, Stop> {
        match self.rows[index] {
            Some((file, line)) => self.source_line(file, line),
            None => Ok(None),
        }
    }

    /// `None` for line 0: code of no line.
    pub(super) fn source_line(&mut self, file: u64, line: u32) -> Result<Option<SourceLine>, Stop> {
        if line == 0 {
            return Ok(None);
        }
        let file = match self.files.get(&file) {
            Some(known) => known.clone(),
            None => {
                let path = self.path(file);
                self.unit.budget.keep(64 + path.as_ref().map_or(0, |path| path.len()))?;
                self.files.entry(file).insert(path).get().clone()
            }
        };
        Ok(file.map(|file| SourceLine { file, line }))
    }

    fn path(&self, file: u64) -> Option<Rc<str>> {
        let header = self.header.as_ref()?;
        let file = header.file(file)?;
        let mut path = PathBuf::new();
        let mut push = |part: &[u8]| path.push(Path::new(OsStr::from_bytes(part)));
        if let Some(folder) = self.unit.root.folder {
            push(folder);
        }
        // Folder 0 is where the compiler ran.
        if file.directory_index() != 0
            && let Some(folder) = file.directory(header)
        {
            push(self.unit.string(folder)?);
        }
        push(self.unit.string(file.path_name())?);
        (path.as_os_str().len() <= MAX_PATH).then(|| path.to_string_lossy().into())
    }
}
