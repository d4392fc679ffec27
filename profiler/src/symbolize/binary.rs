//! Names in the code of one mapped file.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashMap;

use super::alias::preference;
use super::debug_file;
use super::demangle::demangle;
use super::elf::{self, Bytes, Elf, Segment, Symbol, Table};
use super::pending::Pending;
use crate::recording::MappedFile;

/// What is known of a place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The function, demangled, where it is certain.
    pub(super) name: Option<String>,
    /// The address, as the file counts; where no segment has it, the offset in the file.
    pub(super) address: u64,
}

/// Places of which nothing is known.
pub(super) fn unnamed(offsets: &[u64]) -> Vec<Place> {
    offsets.iter().map(|&address| Place { name: None, address }).collect()
}

/// The file itself: as it was opened while the process lived, or else by its path, when what is
/// there now is the same file.
pub(super) fn open(file: &MappedFile) -> Option<Arc<File>> {
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

/// The places at some offsets of a file, in the same order.
pub(super) fn places(
    file: &MappedFile,
    opened: &File,
    offsets: &[u64],
    debug_dirs: &[PathBuf],
) -> Vec<Place> {
    let Some(elf) = Elf::new(Bytes::File(opened)) else {
        return unnamed(offsets);
    };
    named(&elf, offsets, |pending, names| {
        // Where a file was not stripped, its own table is complete. A separate file repeats it.
        if !take_symbols(&elf, Table::Full, pending, names)
            && let Some(debug) =
                debug_file::find(&elf, file.build_id.as_deref(), &file.path, debug_dirs)
            && let Some(debug) = Elf::new(Bytes::File(&debug))
        {
            take_symbols(&debug, Table::Full, pending, names);
        }
    })
}

/// The places at some offsets of an image in memory, in the same order.
pub(super) fn places_in_memory(image: Bytes<'_>, offsets: &[u64]) -> Vec<Place> {
    match Elf::new(image) {
        Some(elf) => named(&elf, offsets, |_, _| {}),
        None => unnamed(offsets),
    }
}

/// Names by `full`, and what is left by the exported symbols.
fn named(
    elf: &Elf<'_>,
    offsets: &[u64],
    full: impl FnOnce(&mut Pending, &mut HashMap<u64, String>),
) -> Vec<Place> {
    let segments = elf.executable_segments();
    let addresses: Vec<Option<u64>> =
        offsets.iter().map(|&offset| address(&segments, offset)).collect();
    let mut pending = Pending::new(addresses.iter().copied().flatten());
    let mut names = HashMap::new();
    full(&mut pending, &mut names);
    take_symbols(elf, Table::Exported, &mut pending, &mut names);
    offsets
        .iter()
        .zip(addresses)
        .map(|(&offset, address)| Place {
            name: address.and_then(|address| names.get(&address).cloned()),
            address: address.unwrap_or(offset),
        })
        .collect()
}

/// The address of what is at an offset in the file.
fn address(segments: &[Segment], offset: u64) -> Option<u64> {
    let segment = segments.iter().find(|segment| segment.file.contains(&offset))?;
    segment.address.checked_add(offset - segment.file.start)
}

/// Gives names to the pending addresses that a symbol certainly contains: the innermost one, where
/// they nest. Returns whether the file has such a table.
fn take_symbols(
    elf: &Elf<'_>,
    table: Table,
    pending: &mut Pending,
    names: &mut HashMap<u64, String>,
) -> bool {
    if pending.is_empty() {
        return true;
    }
    let mut found: Vec<Symbol> = Vec::new();
    let present = elf.symbols(table, &mut |symbol| {
        if pending.touches(&symbol.range) {
            found.push(symbol);
        }
    });
    let order = |symbol: &Symbol| (std::cmp::Reverse(symbol.range.start), symbol.range.end);
    found.sort_by_key(order);
    for aliases in found.chunk_by(|a, b| a.range == b.range) {
        let taken = pending.take(&aliases[0].range);
        if taken.is_empty() {
            continue;
        }
        let name = aliases
            .iter()
            .filter_map(|symbol| Some((elf.name(symbol.name)?, symbol.binding)))
            .min_by(|(a, a_binding), (b, b_binding)| {
                preference(a, *a_binding).cmp(&preference(b, *b_binding))
            });
        if let Some((name, _)) = name {
            let name = demangle(&name);
            names.extend(taken.into_iter().map(|address| (address, name.clone())));
        }
    }
    present
}
