//! Reading ELF files: what of them blazesym does not tell, and whether it may read them.
//!
//! Nobody vouches for these files. They are read here, not mapped, and what one can make us read is
//! bounded, whatever sizes it claims.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{
    CompressionHeader, FileHeader, NoteIterator, ProgramHeader, SectionHeader,
};
use object::read::{FileKind, ReadCache, ReadRef};
use object::{Endian, Endianness};

/// The most bytes that are read here of one file: headers and notes.
const BUDGET: u64 = 4 << 20;

/// The most bytes of one symbol table: five times that of a browser. blazesym indexes it in memory.
const MAX_SYMBOLS: u64 = 512 << 20;

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
    Elf::new(file)?.build_id()
}

/// Reads through the cache until the budget is spent.
#[derive(Clone, Copy)]
struct Data<'a, 'f> {
    cache: &'a ReadCache<&'f File>,
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
    cache: ReadCache<&'a File>,
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

/// Where the content of a section is, and how it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Where it is in the file, without the header of a compressed one. Inside the file.
    pub(super) file: Range<u64>,
    /// How it is compressed.
    pub(super) packing: Option<Packing>,
}

/// The compression of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Zlib,
    Zstd,
    /// Nothing in an ELF file is marked so: the whole content of `.gnu_debugdata` is.
    Xz,
}

/// Calls a function that is generic over the class with the class of the file.
macro_rules! by_class {
    ($function:ident, $elf:expr $(, $argument:expr)?) => {{
        let data = Data { cache: &$elf.cache, budget: &$elf.budget };
        if $elf.is_64 {
            $function::<FileHeader64<Endianness>>(data $(, $argument)?)
        } else {
            $function::<FileHeader32<Endianness>>(data $(, $argument)?)
        }
    }};
}

impl<'a> Elf<'a> {
    /// `None` for anything but an ELF file.
    pub(super) fn new(file: &'a File) -> Option<Self> {
        let cache = ReadCache::new(file);
        let is_64 = match FileKind::parse(&cache).ok()? {
            FileKind::Elf32 => false,
            FileKind::Elf64 => true,
            _ => return None,
        };
        Some(Self { cache, budget: Cell::new(BUDGET), is_64 })
    }

    /// The executable segments. Empty when the program headers cannot be read.
    pub(super) fn executable_segments(&self) -> Vec<Segment> {
        by_class!(segments, self).unwrap_or_default()
    }

    /// The GNU build id.
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        by_class!(note_of_build_id, self)
    }

    /// The name and the CRC-32 of the file that `.gnu_debuglink` names.
    pub(super) fn debug_link(&self) -> Option<(Vec<u8>, u32)> {
        by_class!(debug_link, self)
    }

    /// Where in the file the header of the section `.gnu_debugdata` is: symbols compressed by xz.
    pub(super) fn compressed_symbols(&self) -> Option<u64> {
        by_class!(compressed_symbols, self)
    }

    /// The content of the section with this name. `None` where there is none, and for content that
    /// is not in the file, or compressed in a way that is not known.
    pub(super) fn section(&self, name: &str) -> Option<Section> {
        by_class!(section, self, name)
    }

    /// Whether numbers in it have the order of bytes of x86.
    pub(super) fn is_little_endian(&self) -> bool {
        by_class!(is_little_endian, self).unwrap_or(false)
    }

    /// Whether blazesym may read it. It maps the file, and trusts it more than we do: every section
    /// has to be inside the file, and the symbol tables within reason.
    pub(super) fn is_sound(&self) -> bool {
        by_class!(is_sound, self).unwrap_or(false)
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
    let wanted = |mut notes: NoteIterator<'_, H>| {
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

fn compressed_symbols<H: FileHeader<Endian = Endianness>>(data: Data<'_, '_>) -> Option<u64> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (index, _) = sections.section_by_name(endian, b".gnu_debugdata")?;
    let before = index.0 as u64 * u64::from(header.e_shentsize(endian));
    header.e_shoff(endian).into().checked_add(before)
}

fn section<H: FileHeader<Endian = Endianness>>(data: Data<'_, '_>, name: &str) -> Option<Section> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
    let (offset, size, packing) = match section.compression(endian, data).ok()? {
        None => {
            let (offset, size) = section.file_range(endian)?;
            (offset, size, None)
        }
        Some((header, offset, size)) => {
            let packing = match header.ch_type(endian) {
                elf::ELFCOMPRESS_ZLIB => Packing::Zlib,
                elf::ELFCOMPRESS_ZSTD => Packing::Zstd,
                _ => return None,
            };
            (offset, size, Some(packing))
        }
    };
    let end = offset.checked_add(size).filter(|&end| end <= data.len().unwrap_or(0))?;
    Some(Section { file: offset..end, packing })
}

fn is_little_endian<H: FileHeader<Endian = Endianness>>(
    data: Data<'_, '_>,
) -> object::Result<bool> {
    Ok(H::parse(data)?.endian()?.is_little_endian())
}

fn is_sound<H: FileHeader<Endian = Endianness>>(data: Data<'_, '_>) -> object::Result<bool> {
    let length = data.len().unwrap_or(0);
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    Ok(sections.iter().all(|section| {
        let Some((offset, size)) = section.file_range(endian) else { return true };
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= length);
        // By name, as blazesym finds them.
        let name = sections.section_name(endian, section);
        is_inside && (size <= MAX_SYMBOLS || !matches!(name, Ok(b".symtab" | b".dynsym")))
    }))
}
