//! The sections of a file that hold DWARF.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use gimli::{
    DebugAddr, DebugInfo, DebugLine, DebugRanges, DebugRngLists, DebugStrOffsets, RangeLists,
};
use memmap2::{Mmap, UncheckedAdvice};

use super::Slice;
use crate::symbolize::elf::{Elf, Packing, Section};
use crate::symbolize::unpack::unpack;

/// The most bytes of all compressed sections of a file together, when they are unpacked.
const MAX_UNPACKED: u64 = 160 << 20;

/// After how many units the pages of the file are given back.
const UNITS_PER_RELEASE: u32 = 16;

const NAMES: [&str; 9] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_addr",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
];

/// The content of the sections, in the order of [`NAMES`].
pub(in super::super) struct Sections {
    map: Mmap,
    contents: [Content; NAMES.len()],
    /// How many units were read since pages were given back.
    units: Cell<u32>,
}

enum Content {
    /// A part of the file. Empty for a section that is not there.
    Mapped(Range<usize>),
    Unpacked(Vec<u8>),
}

impl Sections {
    /// `None` for a file without DWARF that can be read.
    pub(in super::super) fn open(file: &File, elf: &Elf<'_>) -> Option<Self> {
        if !elf.is_little_endian() {
            return None;
        }
        let sections = NAMES.map(|name| elf.section(name));
        let info = sections[0].as_ref()?;
        if info.file.is_empty() {
            return None;
        }
        // SAFETY: the mapping is private and only read. A file that is written to meanwhile changes
        // what is read, which is checked like everything that a file claims. (One that is truncated
        // meanwhile ends offwake by SIGBUS, here as where blazesym maps it.)
        let map = unsafe { Mmap::map(file) }.ok()?;
        let mut left = MAX_UNPACKED;
        let mut contents = NAMES.map(|_| Content::Mapped(0..0));
        for (content, section) in contents.iter_mut().zip(sections) {
            if let Some(section) = section {
                *content = load(file, section, &map, &mut left)?;
            }
        }
        Some(Self { map, contents, units: Cell::new(0) })
    }

    /// The section of this number in [`NAMES`].
    fn content(&self, number: usize) -> &[u8] {
        match &self.contents[number] {
            Content::Mapped(range) => &self.map[range.clone()],
            Content::Unpacked(content) => content,
        }
    }

    fn slice(&self, number: usize) -> Slice<'_> {
        Slice::new(self.content(number), gimli::LittleEndian)
    }

    pub(super) fn info(&self) -> DebugInfo<Slice<'_>> {
        DebugInfo::from(self.slice(0))
    }

    pub(super) fn abbreviations(&self) -> &[u8] {
        self.content(1)
    }

    pub(super) fn addresses(&self) -> DebugAddr<Slice<'_>> {
        DebugAddr::from(self.slice(2))
    }

    pub(super) fn line_programs(&self) -> DebugLine<Slice<'_>> {
        DebugLine::from(self.slice(3))
    }

    pub(super) fn line_strings(&self) -> &[u8] {
        self.content(4)
    }

    pub(super) fn ranges(&self) -> RangeLists<Slice<'_>> {
        RangeLists::new(DebugRanges::from(self.slice(5)), DebugRngLists::from(self.slice(6)))
    }

    pub(super) fn strings(&self) -> &[u8] {
        self.content(7)
    }

    pub(super) fn string_offsets(&self) -> DebugStrOffsets<Slice<'_>> {
        DebugStrOffsets::from(self.slice(8))
    }

    /// To be called after each unit. A page of the file that was read counts as memory of ours until
    /// it is given back; it stays in the kernel's cache.
    pub(super) fn release(&self) {
        self.units.set(self.units.get() + 1);
        if self.units.get() >= UNITS_PER_RELEASE {
            self.units.set(0);
            // SAFETY: pages of a private mapping that was never written are read from the file again.
            // When it fails, they stay.
            let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

/// `None` for a section that must not be read: without it the others would be misread.
fn load(file: &File, section: Section, map: &Mmap, left: &mut u64) -> Option<Content> {
    match section.packing {
        None => {
            let range = usize::try_from(section.file.start).ok()?
                ..usize::try_from(section.file.end).ok()?;
            map.get(range.clone())?;
            Some(Content::Mapped(range))
        }
        Some(Packing::Zlib | Packing::Zstd | Packing::Xz) => {
            let content = unpack(file, &section, *left)?;
            *left -= content.len() as u64;
            Some(Content::Unpacked(content))
        }
    }
}
