//! Names in the code of one mapped file: blazesym finds them in symbol tables, here is decided what
//! is certain. Inlined functions and lines come from DWARF, where there is any.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use blazesym::symbolize::{Input, Sym, Symbolizer, source};

use super::alias;
use super::demangle::demangle;
use super::dwarf::{self, Budget, Found, Inlined, Sections, SourceLine};
use super::elf::{self, Elf, Packing, Section};
use super::unpack::unpack;
use crate::recording::MappedFile;

/// The most that is copied of one file, in bytes: more than any library has.
const MAX_COPY: u64 = 1 << 30;

/// The most that the symbols in `.gnu_debugdata` are unpacked to, in bytes: a hundred times those of
/// a large library.
const MAX_MINIDEBUGINFO: u64 = 64 << 20;

/// What is known of a place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The function, demangled, where it is certain.
    pub(super) name: Option<String>,
    /// The address, as the file counts; where no segment has it, the offset in the file.
    pub(super) address: u64,
    /// Where it is in the source.
    pub(super) line: Option<SourceLine>,
    /// What is inlined there, innermost first.
    pub(super) inlined: Vec<Inlined>,
}

impl Place {
    /// A place of which nothing is known but the address.
    pub(super) fn unnamed(address: u64) -> Self {
        Self { address, ..Self::default() }
    }
}

/// What is to be read of DWARF.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) lines: bool,
    pub(super) budget: &'a Budget,
}

/// Places of which nothing is known.
pub(super) fn unnamed(offsets: &[u64]) -> Vec<Place> {
    offsets.iter().copied().map(Place::unnamed).collect()
}

/// The file itself: as it was opened while the process lived, or else by its path, when what is
/// there now is the same file.
pub(crate) fn open(file: &MappedFile) -> Option<Arc<File>> {
    if let Some(handle) = &file.handle {
        return Some(Arc::clone(handle));
    }
    let opened = elf::open_regular(&file.path)?;
    let same = match &file.build_id {
        Some(build_id) => elf::build_id(&opened).as_ref() == Some(build_id),
        // The device in /proc/PID/maps is not the one of stat(2) on some file systems.
        None => opened.metadata().is_ok_and(|metadata| metadata.ino() == file.inode),
    };
    same.then(|| Arc::new(opened))
}

/// The places at some offsets of a file, in the same order. What its own symbols do not name, its
/// `.gnu_debugdata` may, and then those of its separate `debug_file`; DWARF is in either file.
pub(super) fn places(
    file: &File,
    offsets: &[u64],
    wanted: &Wanted<'_>,
    debug_file: impl FnOnce(&Elf<'_>) -> Option<File>,
) -> Vec<Place> {
    let Some(elf) = Elf::new(file) else {
        return unnamed(offsets);
    };
    let (mut places, mut nameless) = located(&elf, offsets);
    let in_code = nameless.clone();
    add_names(file, &elf, &mut places, &mut nameless);
    if !nameless.is_empty()
        && let Some(symbols) = minidebuginfo(file, &elf)
        && let Some(elf) = Elf::new(&symbols)
    {
        add_names(&symbols, &elf, &mut places, &mut nameless);
    }
    let mut sections = Sections::open(file, &elf);
    if (!nameless.is_empty() || sections.is_none())
        && let Some(debug_file) = debug_file(&elf)
        && let Some(elf) = Elf::new(&debug_file)
    {
        if !nameless.is_empty() {
            add_names(&debug_file, &elf, &mut places, &mut nameless);
        }
        sections = sections.or_else(|| Sections::open(&debug_file, &elf));
    }
    if let Some(sections) = sections {
        add_inlined_and_lines(&sections, &mut places, &in_code, wanted);
    }
    places
}

/// Adds to places, whose addresses are as the file counts, what the file tells: the names of those that
/// have none, inlined functions and lines.
pub(super) fn complete(file: &File, mut places: Vec<Place>, wanted: &Wanted<'_>) -> Vec<Place> {
    if let Some(elf) = Elf::new(file) {
        let mut nameless =
            (0..places.len()).filter(|&index| places[index].name.is_none()).collect();
        add_names(file, &elf, &mut places, &mut nameless);
        if let Some(sections) = Sections::open(file, &elf) {
            let all: Vec<usize> = (0..places.len()).collect();
            add_inlined_and_lines(&sections, &mut places, &all, wanted);
        }
    }
    places
}

/// Adds to some of the places what DWARF knows of them.
fn add_inlined_and_lines(
    sections: &Sections,
    places: &mut [Place],
    in_code: &[usize],
    wanted: &Wanted<'_>,
) {
    let addresses: Vec<u64> = in_code.iter().map(|&index| places[index].address).collect();
    let found = dwarf::find(sections, &addresses, wanted.lines, wanted.budget);
    for (&index, found) in in_code.iter().zip(found) {
        let Found { function, line, inlined } = found;
        let place = &mut places[index];
        if place.name.is_none() {
            place.name = function.map(|name| name.to_string());
        }
        (place.line, place.inlined) = (line, inlined);
    }
}

/// The file with more symbols that `.gnu_debugdata` holds, compressed by xz: "minidebuginfo".
fn minidebuginfo(file: &File, elf: &Elf<'_>) -> Option<File> {
    let section = elf.section(".gnu_debugdata")?;
    let section = Section { packing: Some(Packing::Xz), ..section };
    let content = unpack(file, &section, MAX_MINIDEBUGINFO)?;
    let mut unpacked = tempfile::tempfile().ok()?;
    unpacked.write_all(&content).ok()?;
    Some(unpacked)
}

/// The places without their names, and which of them a name may be found for: those that are in an
/// executable segment.
fn located(elf: &Elf<'_>, offsets: &[u64]) -> (Vec<Place>, Vec<usize>) {
    let segments = elf.executable_segments();
    let mut places = unnamed(offsets);
    let mut nameless = Vec::with_capacity(offsets.len());
    for (index, place) in places.iter_mut().enumerate() {
        let offset = place.address;
        if let Some(segment) = segments.iter().find(|segment| segment.file.contains(&offset))
            && let Some(address) = segment.address.checked_add(offset - segment.file.start)
        {
            place.address = address;
            nameless.push(index);
        }
    }
    (places, nameless)
}

/// Names those of the places that are in `nameless`, by the symbols of one file, as far as it has
/// any for them, and leaves the others there.
fn add_names(file: &File, elf: &Elf<'_>, places: &mut [Place], nameless: &mut Vec<usize>) {
    if !elf.is_sound() {
        return;
    }
    let copy;
    let file = match elf.compressed_symbols() {
        None => file,
        Some(header) => match copy_without_section(file, header) {
            Some(complete) => {
                copy = complete;
                &copy
            }
            None => return,
        },
    };
    // Through the descriptor: the path may by now lead to another file, or nowhere.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut source = source::Elf::new(&path);
    // It is built without its reader of DWARF (see `dwarf`).
    source.debug_syms = false;
    let symbolizer = Symbolizer::builder()
        .enable_code_info(false)
        .enable_inlined_fns(false)
        // Its own is without a bound (see `demangle`).
        .enable_demangling(false)
        .build();
    let addresses: Vec<u64> = nameless.iter().map(|&index| places[index].address).collect();
    let Ok(symbols) = symbolizer.symbolize(&source.into(), Input::VirtOffset(&addresses)) else {
        return;
    };
    let certain: Vec<Option<&Sym<'_>>> =
        symbols.iter().map(|symbol| symbol.as_sym().filter(|symbol| contains(symbol))).collect();
    let public = alias::public_names(&path, certain.iter().copied().flatten());
    let mut certain = certain.into_iter();
    nameless.retain(|&index| {
        let symbol = certain.next().flatten();
        places[index].name = symbol.map(|symbol| match public.get(&symbol.addr) {
            Some(name) => name.clone(),
            None => demangle(&symbol.name),
        });
        symbol.is_none()
    });
}

/// A copy of an ELF file, in which the section with a header at this offset has no name.
///
/// blazesym refuses all names of a file with symbols compressed by xz, or else unpacks them, without
/// a bound: of a few megabytes a target can make gigabytes. They are unpacked here.
fn copy_without_section(mut file: &File, header: u64) -> Option<File> {
    let mut copy = tempfile::tempfile().ok()?;
    file.rewind().ok()?;
    std::io::copy(&mut file.take(MAX_COPY), &mut copy).ok()?;
    // The first member of a section header is the name.
    copy.write_all_at(&[0; 4], header).ok()?;
    Some(copy)
}

/// Whether the symbol certainly contains the address that it was found for. blazesym also gives the
/// nearest symbol before an address, when that has no size: labels of hand-written assembly. Nothing
/// says where they end, and in a stripped file the next symbol is far away.
fn contains(symbol: &Sym<'_>) -> bool {
    symbol.size.is_some_and(|size| symbol.offset < size)
}
