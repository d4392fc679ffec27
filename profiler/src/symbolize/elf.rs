//! Reading ELF files: what of them symbolization needs, from files that nobody vouches for.
//!
//! Files are read, not mapped: one that is truncated meanwhile gives an error, not a SIGBUS. What
//! one file can make us read is bounded, whatever sizes it claims.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{FileKind, ReadCache, ReadCacheOps, ReadRef};
use object::{Endian, Endianness, SectionIndex};

/// The most bytes that are read of one file: more than the symbols of any browser.
const SYMBOLS_BUDGET: u64 = 1 << 30;

/// The most bytes that are read for a build id, while a recording waits.
const BUILD_ID_BUDGET: u64 = 4 << 20;

/// The longest symbol name, in bytes. Templates make names of tens of thousands.
const MAX_NAME: usize = 64 << 10;

/// Opens a regular file to read. A target may have chosen the path: a named pipe does not block us.
pub(crate) fn open_regular(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// The GNU build id of an ELF file, where it has one.
pub(crate) fn build_id(file: &File) -> Option<Vec<u8>> {
    Elf::open(Bytes::File(file), BUILD_ID_BUDGET)?.build_id()
}

/// Where the bytes of an ELF file are.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    File(&'a File),
    Memory(&'a [u8]),
}

impl Bytes<'_> {
    fn len(self) -> Option<u64> {
        match self {
            Self::File(file) => file.metadata().ok().map(|metadata| metadata.len()),
            Self::Memory(bytes) => Some(bytes.len() as u64),
        }
    }

    /// Reads up to the length of `buffer`; less at the end of the file.
    pub(super) fn read_at(self, buffer: &mut [u8], offset: u64) -> Option<usize> {
        match self {
            Self::File(file) => loop {
                match file.read_at(buffer, offset) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    result => return result.ok(),
                }
            },
            Self::Memory(bytes) => {
                let rest = bytes.get(usize::try_from(offset).ok()?..)?;
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Some(count)
            }
        }
    }
}

/// A position in [`Bytes`], for `ReadCache`.
struct Cursor<'a> {
    bytes: Bytes<'a>,
    position: u64,
}

impl ReadCacheOps for Cursor<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.bytes.len().ok_or(())
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let count = self.bytes.read_at(buffer, self.position).ok_or(())?;
        self.position += count as u64;
        Ok(count)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), ()> {
        while !buffer.is_empty() {
            let count = self.read(buffer)?;
            if count == 0 {
                return Err(());
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }
}

/// Reads through the cache until the budget is spent.
#[derive(Clone, Copy)]
struct Data<'a, 'f> {
    cache: &'a ReadCache<Cursor<'f>>,
    budget: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Data<'a, '_> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.budget.set(self.budget.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// An ELF file of either class and byte order.
pub(super) struct Elf<'a> {
    bytes: Bytes<'a>,
    cache: ReadCache<Cursor<'a>>,
    budget: Cell<u64>,
    is_64: bool,
}

/// An executable segment: a `PT_LOAD` with `PF_X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it is in the file.
    pub(super) file: Range<u64>,
    /// The address of its first byte, as the file counts.
    pub(super) address: u64,
}

/// One of the two symbol tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// `.symtab`: every function, unless the file was stripped.
    Full,
    /// `.dynsym`: what a library exports.
    Exported,
}

/// A symbol with a size that may be a function.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    /// The addresses that are certainly its own.
    pub(super) range: Range<u64>,
    /// Where the name is: an offset in the file.
    pub(super) name: u64,
    /// 0 for a global symbol, 1 for a weak one, 2 for a local one.
    pub(super) binding: u8,
}

impl<'a> Elf<'a> {
    /// Opens an ELF file for its symbols; `None` for anything else.
    pub(super) fn new(bytes: Bytes<'a>) -> Option<Self> {
        Self::open(bytes, SYMBOLS_BUDGET)
    }

    fn open(bytes: Bytes<'a>, budget: u64) -> Option<Self> {
        let cache = ReadCache::new(Cursor { bytes, position: 0 });
        let is_64 = match FileKind::parse(&cache).ok()? {
            FileKind::Elf32 => false,
            FileKind::Elf64 => true,
            _ => return None,
        };
        Some(Self { bytes, cache, budget: Cell::new(budget), is_64 })
    }

    fn data(&self) -> Data<'_, 'a> {
        Data { cache: &self.cache, budget: &self.budget }
    }

    /// The executable segments. Empty when the program headers cannot be read.
    pub(super) fn executable_segments(&self) -> Vec<Segment> {
        let segments = if self.is_64 {
            segments::<FileHeader64<Endianness>>(self.data())
        } else {
            segments::<FileHeader32<Endianness>>(self.data())
        };
        segments.unwrap_or_default()
    }

    /// The GNU build id.
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        if self.is_64 {
            note_of_build_id::<FileHeader64<Endianness>>(self.data())
        } else {
            note_of_build_id::<FileHeader32<Endianness>>(self.data())
        }
    }

    /// The name and the CRC-32 of the file that `.gnu_debuglink` names.
    pub(super) fn debug_link(&self) -> Option<(Vec<u8>, u32)> {
        if self.is_64 {
            debug_link::<FileHeader64<Endianness>>(self.data())
        } else {
            debug_link::<FileHeader32<Endianness>>(self.data())
        }
    }

    /// Calls `visit` with each symbol of a table that may be a function and has a size. Returns
    /// whether the table is there and not empty.
    ///
    /// Symbols without a size (labels of hand-written assembly) are left out: nothing says where
    /// they end, and the next symbol bounds them only in a table that nothing was stripped from.
    pub(super) fn symbols(&self, table: Table, visit: &mut dyn FnMut(Symbol)) -> bool {
        let result = if self.is_64 {
            symbols::<FileHeader64<Endianness>>(self.data(), table, visit)
        } else {
            symbols::<FileHeader32<Endianness>>(self.data(), table, visit)
        };
        result.unwrap_or(false)
    }

    /// The name at an offset in the file: bytes up to a 0, without the 0.
    pub(super) fn name(&self, offset: u64) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut chunk = [0; 256];
        while name.len() < MAX_NAME {
            let count = self.bytes.read_at(&mut chunk, offset.checked_add(name.len() as u64)?)?;
            if count == 0 {
                return None;
            }
            match chunk[..count].iter().position(|&byte| byte == 0) {
                Some(end) => {
                    name.extend_from_slice(&chunk[..end]);
                    return (!name.is_empty()).then_some(name);
                }
                None => name.extend_from_slice(&chunk[..count]),
            }
        }
        None
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(
    data: Data<'_, '_>,
) -> object::Result<Vec<Segment>> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let executable = header.program_headers(endian, data)?.iter().filter(|segment| {
        segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian) & elf::PF_X != 0
    });
    Ok(executable
        .map(|segment| {
            let (offset, size) = segment.file_range(endian);
            Segment {
                file: offset..offset.saturating_add(size),
                address: segment.p_vaddr(endian).into(),
            }
        })
        .collect())
}

fn note_of_build_id<H: FileHeader<Endian = Endianness>>(data: Data<'_, '_>) -> Option<Vec<u8>> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let wanted = |mut notes: object::read::elf::NoteIterator<'_, H>| {
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
        None
    };
    // The segments first: they are near the header, and there when the sections were stripped.
    // In a separate debug file their offsets lead nowhere, only the sections are good.
    let segments = header.program_headers(endian, data).unwrap_or_default();
    let found = segments
        .iter()
        .find_map(|segment| segment.notes(endian, data).ok().flatten().and_then(wanted));
    found.or_else(|| {
        let sections = header.sections(endian, data).ok()?;
        let notes = |section: &H::SectionHeader| section.notes(endian, data).ok().flatten();
        sections.iter().find_map(|section| notes(section).and_then(wanted))
    })
}

fn debug_link<H: FileHeader<Endian = Endianness>>(data: Data<'_, '_>) -> Option<(Vec<u8>, u32)> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".gnu_debuglink")?;
    // The name, a 0, zeros up to a multiple of 4 bytes, the checksum.
    let content = section.data(endian, data).ok()?;
    let length = content.iter().position(|&byte| byte == 0)?;
    let crc = content.get((length + 1).next_multiple_of(4)..)?.first_chunk::<4>()?;
    let crc =
        if endian.is_little_endian() { u32::from_le_bytes(*crc) } else { u32::from_be_bytes(*crc) };
    Some((content[..length].to_vec(), crc))
}

fn symbols<H: FileHeader<Endian = Endianness>>(
    data: Data<'_, '_>,
    table: Table,
    visit: &mut dyn FnMut(Symbol),
) -> object::Result<bool> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let kind = match table {
        Table::Full => elf::SHT_SYMTAB,
        Table::Exported => elf::SHT_DYNSYM,
    };
    let symbols = sections.symbols(endian, data, kind)?;
    if symbols.is_empty() || symbols.string_section() == SectionIndex(0) {
        return Ok(false);
    }
    let strings = sections.section(symbols.string_section())?;
    let strings_offset: u64 = strings.sh_offset(endian).into();
    for symbol in symbols.iter() {
        let size: u64 = symbol.st_size(endian).into();
        let start: u64 = symbol.st_value(endian).into();
        let function =
            matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE);
        if function && size != 0 && !symbol.is_undefined(endian) {
            visit(Symbol {
                range: start..start.saturating_add(size),
                name: strings_offset.saturating_add(symbol.st_name(endian).into()),
                binding: match symbol.st_bind() {
                    elf::STB_LOCAL => 2,
                    elf::STB_WEAK => 1,
                    _ => 0,
                },
            });
        }
    }
    Ok(true)
}
