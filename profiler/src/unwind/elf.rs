//! What of an ELF file its table needs: the segments, and where the call frame information is.
//!
//! The file is read piece by piece, not mapped: it could shrink, and what one can make us read is
//! bounded here, whatever sizes it claims.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian};
use object::LittleEndian as Little;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod::{self, Pod};

use super::Refused;
use crate::arch::Architecture;

/// The most bytes of `.eh_frame`: ten times that of a browser.
const MAX_EH_FRAME: u64 = 256 << 20;

/// The most bytes that are read of the names of the sections.
const MAX_NAMES: u64 = 1 << 20;

/// The most program headers. The kernel starts no program with more (`load_elf_phdrs`, fs/binfmt_elf.c,
/// Linux 6.1).
const MAX_HEADERS: u16 = (65536 / size_of::<ProgramHeader64<Little>>()) as u16;

/// The first address that the number of a page has no bits for.
const ADDRESS_END: u64 = 1 << (u32::BITS + offwake_shared::UNWIND_PAGE_BITS);

/// Segments are mapped by whole pages.
const PAGE: u64 = 4096;

/// Where the bytes of an ELF file come from.
pub(super) enum Source<'a> {
    /// They are read where they are needed.
    File(&'a File),
    /// They are all here.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills the buffer; false where the file has not that many bytes, or does not give them.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset).is_ok(),
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let Some(from) = from.and_then(|from| from.get(..buffer.len())) else {
                    return false;
                };
                buffer.copy_from_slice(from);
                true
            }
        }
    }

    /// `range` has to be inside the file: so its size is no larger than what is there.
    fn read(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let size = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if range.end > self.len() {
            return None;
        }
        let mut bytes = vec![0; size];
        self.read_exact_at(&mut bytes, range.start).then_some(bytes)
    }

    /// `count` headers from this offset on.
    fn read_headers<T: Pod>(&self, offset: u64, count: u16) -> Option<Vec<T>> {
        let size = u64::from(count) * size_of::<T>() as u64;
        let bytes = self.read(offset..offset.checked_add(size)?)?;
        let (headers, _) = pod::slice_from_bytes(&bytes, count.into()).ok()?;
        Some(headers.to_vec())
    }
}

/// A part of the file that is loaded (`PT_LOAD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub file: Range<u64>,
    /// The address of its first byte, as the file counts.
    pub address: u64,
    /// Whether it is code.
    pub executable: bool,
}

impl Segment {
    /// The addresses that the bytes of the file have, as the file counts.
    pub(super) fn addresses(&self) -> Option<Range<u64>> {
        Some(self.address..self.address.checked_add(self.file.end - self.file.start)?)
    }

    /// Where in the file this address is.
    pub(super) fn offset_of(&self, address: u64) -> Option<u64> {
        self.addresses()?.contains(&address).then(|| self.file.start + (address - self.address))
    }

    /// See [`super::Table::bias`].
    pub(super) fn bias(&self, start: u64, file_offset: u64) -> u64 {
        let address = self.address.wrapping_add(file_offset).wrapping_sub(self.file.start);
        start.wrapping_sub(address)
    }

    /// Whether a mapping of it may begin at this offset.
    pub(super) fn is_mapped_from(&self, file_offset: u64) -> bool {
        self.file.start / PAGE * PAGE <= file_offset && file_offset < self.file.end
    }
}

/// The executable segments of a file, in order of address. None overlap.
pub(super) struct Executable(Vec<Segment>);

impl Executable {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The segment that this address is in.
    pub(super) fn segment_at(&self, address: u64) -> Option<&Segment> {
        let after = self.0.partition_point(|segment| segment.address <= address);
        let segment = self.0[..after].last()?;
        segment.addresses()?.contains(&address).then_some(segment)
    }
}

/// The content of `.eh_frame`.
pub(super) struct EhFrame {
    pub(super) bytes: Vec<u8>,
    /// The address of its first byte, as the file counts.
    pub(super) address: u64,
    /// Whether the bytes are all of them and no others: else it ends at its terminator.
    pub(super) is_exact: bool,
}

/// An ELF file of an architecture that is known.
pub(super) struct Elf {
    pub(super) architecture: Architecture,
    pub(super) segments: Vec<Segment>,
    header: FileHeader64<Little>,
    /// The address of `.eh_frame_hdr`.
    eh_frame_hdr: Option<u64>,
}

impl Elf {
    pub(super) fn read(source: &Source<'_>) -> Result<Self, Refused> {
        let mut bytes = [0; size_of::<FileHeader64<Little>>()];
        let is_elf = source.read_exact_at(&mut bytes, 0) && bytes.starts_with(&elf::ELFMAG);
        let (header, _) =
            pod::from_bytes::<FileHeader64<Little>>(&bytes).map_err(|()| Refused::NotElf)?;
        if !is_elf {
            return Err(Refused::NotElf);
        }
        let ident = &header.e_ident;
        let is_64_bit = (ident.class, ident.data) == (elf::ELFCLASS64, elf::ELFDATA2LSB);
        let architecture = Architecture::of_machine(header.e_machine.get(Little))
            .filter(|_| is_64_bit)
            .ok_or(Refused::OtherMachine)?;
        let (offset, count) = (header.e_phoff.get(Little), header.e_phnum.get(Little));
        if count > MAX_HEADERS {
            return Err(Refused::TooLarge("program headers"));
        }
        let headers: Vec<ProgramHeader64<Little>> = source
            .read_headers(offset, count)
            .ok_or(Refused::Malformed("its program headers are not in the file"))?;
        let length = source.len();
        let loads = headers.iter().filter(|header| header.p_type.get(Little) == elf::PT_LOAD);
        let segments = loads
            .map(|header| {
                let start = header.p_offset.get(Little).min(length);
                let end = start.saturating_add(header.p_filesz.get(Little)).min(length);
                Segment {
                    file: start..end,
                    address: header.p_vaddr.get(Little),
                    executable: header.p_flags.get(Little) & elf::PF_X != 0,
                }
            })
            .filter(|segment| !segment.file.is_empty())
            .collect();
        let eh_frame_hdr = headers
            .iter()
            .find(|header| header.p_type.get(Little) == elf::PT_GNU_EH_FRAME)
            .map(|header| header.p_vaddr.get(Little));
        Ok(Self { architecture, segments, header: *header, eh_frame_hdr })
    }

    /// The segments with code, as far as a table reaches.
    pub(super) fn executable(&self) -> Executable {
        let in_reach = |segment: &&Segment| {
            segment.executable && segment.addresses().is_some_and(|range| range.end < ADDRESS_END)
        };
        let mut segments: Vec<Segment> = self.segments.iter().filter(in_reach).cloned().collect();
        segments.sort_by_key(|segment| segment.address);
        segments.dedup_by(|segment, before| {
            before.addresses().is_none_or(|range| segment.address < range.end)
        });
        Executable(segments)
    }

    /// `None` where the file has none.
    pub(super) fn eh_frame(&self, source: &Source<'_>) -> Result<Option<EhFrame>, Refused> {
        let (range, address, is_exact) = match self.section(source, b".eh_frame\0") {
            Some((range, address)) => (range, address, true),
            None => match self.behind_header(source) {
                Some((range, address)) => (range, address, false),
                None => return Ok(None),
            },
        };
        if range.end.saturating_sub(range.start) > MAX_EH_FRAME {
            return Err(Refused::TooLarge(".eh_frame"));
        }
        let bytes = source.read(range).ok_or(Refused::Malformed(".eh_frame is not in the file"))?;
        Ok(Some(EhFrame { bytes, address, is_exact }))
    }

    /// Where the section headers say that the section of this name is, which ends with its zero: in the file, and its
    /// address.
    pub(super) fn section(&self, source: &Source<'_>, name: &[u8]) -> Option<(Range<u64>, u64)> {
        let (offset, count) = (self.header.e_shoff.get(Little), self.header.e_shnum.get(Little));
        if usize::from(self.header.e_shentsize.get(Little)) != size_of::<SectionHeader64<Little>>()
        {
            return None;
        }
        let headers: Vec<SectionHeader64<Little>> = source.read_headers(offset, count)?;
        let names = headers.get(usize::from(self.header.e_shstrndx.get(Little)))?;
        let start = names.sh_offset.get(Little);
        let size = names.sh_size.get(Little).min(MAX_NAMES);
        let names = source.read(start..start.checked_add(size)?)?;
        let is_it = |header: &&SectionHeader64<Little>| {
            let names = names.get(header.sh_name.get(Little) as usize..);
            names.is_some_and(|names| names.starts_with(name))
                // In a separate file of debug information its bytes are elsewhere.
                && header.sh_type.get(Little) != elf::SHT_NOBITS
                && header.sh_size.get(Little) != 0
        };
        let section = headers.iter().find(is_it)?;
        let start = section.sh_offset.get(Little);
        let end = start.checked_add(section.sh_size.get(Little))?;
        Some((start..end, section.sh_addr.get(Little)))
    }

    /// Where `.eh_frame_hdr` says it begins, which stays when sections are stripped: from there to
    /// the end of its segment.
    fn behind_header(&self, source: &Source<'_>) -> Option<(Range<u64>, u64)> {
        let in_file = |address| {
            let mut found = self
                .segments
                .iter()
                .filter_map(|segment| Some(segment.offset_of(address)?..segment.file.end));
            found.next()
        };
        let hdr_address = self.eh_frame_hdr?;
        let hdr = in_file(hdr_address)?;
        // Version, three encodings, a pointer and a count of at most 8 bytes each.
        let bytes = source.read(hdr.start..hdr.end.min(hdr.start.checked_add(20)?))?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(hdr_address);
        let hdr = EhFrameHdr::new(&bytes, LittleEndian).parse(&bases, 8).ok()?;
        let address = hdr.eh_frame_ptr().direct().ok()?;
        let mut range = in_file(address)?;
        // Its size is not known, only that of what else may be behind it.
        range.end = range.end.min(range.start.saturating_add(MAX_EH_FRAME));
        Some((range, address))
    }
}
