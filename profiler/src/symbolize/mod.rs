//! From addresses to names: the only code that opens ELF files or kallsyms.
//!
//! The names in files and in the kernel are blazesym's, from symbol tables; inlined functions, files
//! and lines are from DWARF, where there is any (`dwarf`). Of what blazesym answers, a name is given only where it is certain: where a symbol with a size contains
//! the address. The nearest symbol before an address is no evidence, in a stripped binary it is
//! nearly always another function. Everything else is `[module+0xoffset]`.
//!
//! - In a program, the first frame of a stack is where the thread stood, and looked up as it is: a
//!   thread may well sleep at the first byte of a function, waiting for its page. The others are
//!   return addresses: looked up, and shown, one byte before, which is part of the call; the byte
//!   at the return address may belong to the next line or the next function.
//! - In the kernel every frame is a return address, also the first: that of the function that
//!   called into BPF.
//! - What a walk by frame pointers finds outside of a program's code is no caller: there the stack
//!   ends ([`Symbols::broken`]).

mod alias;
mod binary;
mod debug_file;
mod demangle;
mod dwarf;
mod elf;
pub mod functions;
pub mod interrupts;
pub mod kallsyms;
mod kernel;
mod late;
mod perf_map;
mod region;
#[cfg(test)]
mod tests;
mod unpack;
mod vdso;

use std::cell::OnceCell;
use std::fs::File;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use offwake_shared::{StackContext, StackEnd};

use self::binary::{Place, Wanted};
use self::dwarf::{Budget, Inlined, SourceLine};
use self::elf::Elf;
use crate::profile::{Frame, FrameId};
use crate::recording::{
    ImageId, MappedFile, Mapping, MappingContent, RawStack, Recording, StackId,
};

pub(crate) use self::binary::open as open_mapped;
pub(crate) use self::elf::{build_id, open_regular};
pub use self::late::name_later;
pub(crate) use self::vdso::{image as vdso_image, is_ours as is_own_vdso};

/// How to symbolize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Folders with separate debug files, laid out like `/usr/lib/debug`, which comes last.
    pub debug_dirs: Vec<PathBuf>,
    /// Read files and lines, too: costs more where there is much debug information.
    pub lines: bool,
}

/// How much DWARF is read of all files together, in steps of some nanoseconds.
const DWARF_STEPS: u64 = 100_000_000;

/// The same when lines are asked for.
const DWARF_STEPS_WITH_LINES: u64 = 600_000_000;

/// The frames of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Every distinct frame, once.
    pub frames: Vec<Frame>,
    /// The frames of each stack of the recording, innermost first.
    pub stacks: HashMap<StackId, Vec<FrameId>>,
    /// The user stacks whose walk ended before it came to where a thread or a program starts, and how.
    /// Code compiled without frame pointers uses their register for anything. What is found outside
    /// of the program's code then is no return address: it is left out, with all that is outside of
    /// it.
    pub broken: HashMap<StackId, StackEnd>,
    /// What could not be done, one line each, and what to do about it.
    pub warnings: Vec<String>,
}

/// Names the frames of all stacks. What cannot be read stays without a name; nothing fails.
///
/// Calls `progress` with how many of all distinct addresses are done, each time a file is.
pub fn symbolize(
    recording: &Recording,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Symbols {
    let files = Files::new(recording);
    let mut locations = HashSet::new();
    for stack in recording.stacks.values() {
        locations.extend(locate(recording, &files, stack));
    }
    // Sorted, so that equal recordings give equal frames, and each file is one run.
    let mut locations: Vec<Location> = locations.into_iter().collect();
    locations.sort_unstable();

    let mut interner = Interner::default();
    let mut ids = HashMap::with_capacity(locations.len());
    let mut warnings = Vec::new();
    let budget = Budget::new(if options.lines { DWARF_STEPS_WITH_LINES } else { DWARF_STEPS });
    let wanted = Wanted { lines: options.lines, budget: &budget };
    progress(0, locations.len() as u64);
    for group in locations.chunk_by(Location::same_source) {
        let frames = match group[0] {
            Location::Kernel(_) => singly(kernel::frames(&positions(group), &mut warnings)),
            Location::File { file, .. } => {
                file_frames(recording, &files, options, &wanted, file, group)
            }
            Location::Vdso(_) => vdso_frames(&wanted, group),
            Location::Code { image, .. } => singly(code_frames(recording, image, group)),
        };
        let frames = frames.into_iter().map(|frames| interner.ids(frames));
        ids.extend(group.iter().copied().zip(frames));
        progress(ids.len() as u64, locations.len() as u64);
    }
    if budget.is_spent() {
        let more = if options.lines { "" } else { " (--lines allows more time)" };
        warnings.push(format!(
            "there is more debug information than was read: inlined functions and lines are not shown \
             everywhere{more}"
        ));
    }
    let frames = interner.frames;
    let (mut stacks, mut broken) = (HashMap::new(), HashMap::new());
    for (&id, stack) in &recording.stacks {
        let named: Vec<FrameId> = locate(recording, &files, stack)
            .flat_map(|location| &ids[&location])
            .copied()
            .collect();
        let end = match stack.end {
            StackEnd::Complete if in_code(recording, stack).len() < stack.frames.len() => {
                StackEnd::Astray
            }
            end => end,
        };
        if end == StackEnd::Truncated
            || end != StackEnd::Complete && !ends_at_a_start(&frames, &named)
        {
            broken.insert(id, end);
        }
        stacks.insert(id, named);
    }
    Symbols { stacks, broken, frames, warnings }
}

/// Whether the outermost frame is where the C library starts a thread or a program. A walk by frame
/// pointers leads astray there, since C libraries are compiled without them; but nothing is missing
/// that would tell anything.
fn ends_at_a_start(frames: &[Frame], stack: &[FrameId]) -> bool {
    const STARTS: [&str; 6] = [
        "_start",
        "__libc_start_main",
        "__libc_start_call_main",
        "start_thread",
        "clone",
        "clone3",
    ];
    let in_c_library = |frame: &Frame| {
        let is_c_library = |module: &String| {
            ["libc.so", "libc-", "libpthread", "ld-musl"].iter().any(|it| module.starts_with(it))
        };
        frame.module.as_ref().is_some_and(is_c_library)
    };
    let mut stack = stack.iter().rev().map(|&id| &frames[id as usize]);
    let Some(outermost) = stack.next() else { return false };
    if outermost.name.as_deref().is_some_and(|name| STARTS.contains(&name)) {
        return true;
    }
    // Most C libraries come without the names of their inner functions.
    in_c_library(outermost) && stack.any(|frame| frame.module.is_some() && !in_c_library(frame))
}

/// Where an address leads; what has the same location has the same frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Location {
    /// A return address in the kernel.
    Kernel(u64),
    /// In an ELF file, by index.
    File { file: usize, offset: u64 },
    /// In the vDSO, by offset.
    Vdso(u64),
    /// In anything else that a process has, or where nothing is mapped.
    Code { image: Option<ImageId>, address: u64 },
}

impl Location {
    /// Whether both are symbolized from the same source.
    fn same_source(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kernel(_), Self::Kernel(_)) | (Self::Vdso(_), Self::Vdso(_)) => true,
            (Self::File { file, .. }, Self::File { file: other, .. }) => file == other,
            (Self::Code { image, .. }, Self::Code { image: other, .. }) => image == other,
            _ => false,
        }
    }

    /// The offset or address.
    const fn position(&self) -> u64 {
        match *self {
            Self::Kernel(position)
            | Self::Vdso(position)
            | Self::File { offset: position, .. }
            | Self::Code { address: position, .. } => position,
        }
    }
}

/// The locations of the frames of a stack.
fn locate<'a>(
    recording: &'a Recording,
    files: &'a Files<'a>,
    stack: &'a RawStack,
) -> impl Iterator<Item = Location> + 'a {
    in_code(recording, stack).iter().enumerate().map(move |(index, &address)| {
        if stack.context != StackContext::User {
            return Location::Kernel(address);
        }
        let address = if index == 0 { address } else { call(address) };
        let mapping = mapping(recording, stack.image, address);
        match mapping.map(|mapping| (mapping, &mapping.content)) {
            Some((mapping, &MappingContent::File(file))) if files.is_elf(file) => {
                Location::File { file, offset: file_offset(mapping, address) }
            }
            Some((mapping, MappingContent::Vdso)) if vdso::is_ours(mapping.start) => {
                Location::Vdso(address - mapping.start)
            }
            _ => Location::Code { image: stack.image, address },
        }
    })
}

/// The frames of a stack before the first return address that is in no code of its program. All of
/// them when the program's mappings are not known.
fn in_code<'a>(recording: &Recording, stack: &'a RawStack) -> &'a [u64] {
    let image = stack.image.and_then(|image| recording.images.get(&image));
    if image.is_none_or(|image| image.mappings.is_empty()) {
        return &stack.frames;
    }
    let is_code = |&address: &u64| mapping(recording, stack.image, call(address)).is_some();
    let callers = stack.frames.iter().skip(1).take_while(|address| is_code(address)).count();
    &stack.frames[..stack.frames.len().min(1 + callers)]
}

/// An address in the call that returns to `return_address`.
const fn call(return_address: u64) -> u64 {
    return_address.saturating_sub(1)
}

fn mapping(recording: &Recording, image: Option<ImageId>, address: u64) -> Option<&Mapping> {
    let mappings = &recording.images.get(&image?)?.mappings;
    let behind = mappings.partition_point(|mapping| mapping.start <= address);
    mappings[..behind].last().filter(|mapping| address < mapping.end)
}

const fn file_offset(mapping: &Mapping, address: u64) -> u64 {
    (address - mapping.start).wrapping_add(mapping.file_offset)
}

/// The files of a recording, opened on first use.
struct Files<'a> {
    recording: &'a Recording,
    opened: Vec<OnceCell<Option<Arc<File>>>>,
}

impl<'a> Files<'a> {
    fn new(recording: &'a Recording) -> Self {
        Self { recording, opened: vec![OnceCell::new(); recording.files.len()] }
    }

    /// An ELF file; `None` for anything else, and for what cannot be opened.
    fn elf(&self, file: usize) -> Option<&Arc<File>> {
        let open = || {
            let opened = binary::open(self.recording.files.get(file)?)?;
            Elf::new(&opened)?;
            Some(opened)
        };
        self.opened.get(file)?.get_or_init(open).as_ref()
    }

    fn is_elf(&self, file: usize) -> bool {
        self.elf(file).is_some()
    }
}

/// The frames at each address, innermost first.
fn file_frames(
    recording: &Recording,
    files: &Files<'_>,
    options: &Options,
    wanted: &Wanted<'_>,
    file: usize,
    group: &[Location],
) -> Vec<Vec<Frame>> {
    let offsets = positions(group);
    let debug_file =
        |elf: &Elf<'_>| debug_file::find(elf, &recording.files[file], &options.debug_dirs);
    let places = match files.elf(file) {
        Some(opened) => binary::places(opened, &offsets, wanted, debug_file),
        None => binary::unnamed(&offsets),
    };
    let module = file_name(recording, file);
    places.into_iter().map(|place| frames_at(place, &module)).collect()
}

fn vdso_frames(wanted: &Wanted<'_>, group: &[Location]) -> Vec<Vec<Frame>> {
    let offsets = positions(group);
    let places = match vdso::file() {
        Some(file) => binary::places(&file, &offsets, wanted, |_| None),
        None => binary::unnamed(&offsets),
    };
    places.into_iter().map(|place| frames_at(place, "vdso")).collect()
}

/// The functions that are inlined at a place, and the one that they are inlined into.
fn frames_at(mut place: Place, module: &str) -> Vec<Frame> {
    let inlined = std::mem::take(&mut place.inlined);
    let function = user_frame(place, Some(module.into()));
    let inlined = inlined.into_iter().map(|Inlined { name, line }| {
        let (file, line) = file_and_line(line);
        Frame { name: Some(name.to_string()), file, line, inlined: true, ..function.clone() }
    });
    inlined.chain([function.clone()]).collect()
}

fn singly(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    frames.into_iter().map(|frame| vec![frame]).collect()
}

/// Frames in code that is in no ELF file: from the process's perf map, where it has one.
fn code_frames(recording: &Recording, image: Option<ImageId>, group: &[Location]) -> Vec<Frame> {
    let addresses = positions(group);
    let process = image.and_then(|image| recording.images.get(&image));
    let perf_map = process.and_then(|process| process.perf_map.as_deref());
    let mut names = perf_map.map(|map| perf_map::names(map, &addresses)).unwrap_or_default();
    let code_frame = |address: u64| {
        if let Some(name) = names.remove(&address) {
            let pid = process.map_or(0, |process| process.namespace_pid);
            let place = Place { name: Some(name), ..Place::unnamed(address) };
            return user_frame(place, Some(format!("perf-{pid}.map")));
        }
        match mapping(recording, image, address) {
            Some(mapping) => match mapping.content {
                MappingContent::File(file) => {
                    let module = file_name(recording, file);
                    user_frame(Place::unnamed(file_offset(mapping, address)), Some(module))
                }
                MappingContent::Vdso => {
                    user_frame(Place::unnamed(address - mapping.start), Some("vdso".into()))
                }
                MappingContent::Anonymous => {
                    user_frame(Place::unnamed(address), Some("anon".into()))
                }
            },
            None => user_frame(Place::unnamed(address), None),
        }
    };
    addresses.into_iter().map(code_frame).collect()
}

fn positions(group: &[Location]) -> Vec<u64> {
    group.iter().map(Location::position).collect()
}

fn file_name(recording: &Recording, file: usize) -> String {
    recording.files.get(file).map_or_else(|| "?".into(), MappedFile::name)
}

fn user_frame(place: Place, module: Option<String>) -> Frame {
    let Place { name, address, line, inlined: _ } = place;
    let (file, line) = file_and_line(line);
    Frame { name, module, offset: address, kernel: false, file, line, inlined: false }
}

fn file_and_line(line: Option<SourceLine>) -> (Option<String>, Option<u32>) {
    line.map(|SourceLine { file, line }| (file.to_string(), line)).unzip()
}

/// Gives each distinct frame one id.
#[derive(Default)]
struct Interner {
    frames: Vec<Frame>,
    /// By the content of the frames, which are not held twice: names are long.
    ids: HashTable<FrameId>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    fn ids(&mut self, frames: Vec<Frame>) -> Box<[FrameId]> {
        frames.into_iter().map(|frame| self.id(frame)).collect()
    }

    fn id(&mut self, frame: Frame) -> FrameId {
        let Self { frames, ids, hasher } = self;
        let entry = ids.entry(
            hasher.hash_one(&frame),
            |&id| frames[id as usize] == frame,
            |&id| hasher.hash_one(&frames[id as usize]),
        );
        match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let id =
                    FrameId::try_from(frames.len()).expect("fewer than 2^32 frames fit in memory");
                place.insert(id);
                frames.push(frame);
                id
            }
        }
    }
}
