//! The entries of `.eh_frame`: for each function (FDE) what its instructions come to.

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CommonInformationEntry,
    EhFrameOffset, EndianSlice, FrameDescriptionEntry, LittleEndian, UnwindSection, Vendor,
};
use hashbrown::HashMap;
use offwake_shared::{CfaKind, UnwindRule};

use super::Refused;
use super::elf::{EhFrame, Executable, Segment};
use super::rules::{Rules, only};
use super::state::{Machine, Malformed, State};
use crate::arch::Architecture;

/// The most functions, and the most rows of all of them: ten times those of a browser.
const MAX_FRAMES: usize = 4 << 20;
const MAX_ROWS: usize = 16 << 20;

/// The most CIEs that are remembered. Linkers merge equal ones: files have a handful.
const MAX_CIES: usize = 1 << 12;

/// The most bytes of CIEs that are read. A file that names a large one from each of its FDEs could
/// have us read it again and again, in turn with others.
const MAX_CIE_BYTES: u64 = 64 << 20;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The rules of one function, or of other code that belongs together.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The first address, as the file counts.
    pub(super) begin: u64,
    /// The first address behind it.
    pub(super) end: u64,
    /// Index of its first row.
    pub(super) first_row: u32,
    /// How many it has, at least 1.
    pub(super) rows: u32,
}

/// From which byte of its frame on a rule holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameRow {
    pub(super) start: u32,
    pub(super) rule: u16,
}

/// All frames of a file, in any order.
#[derive(Default)]
pub(super) struct Frames {
    pub(super) list: Vec<Frame>,
    pub(super) rows: Vec<FrameRow>,
    pub(super) rules: Rules,
    /// Whether some could not be read.
    pub(super) damaged: bool,
}

impl Frames {
    /// Adds a frame in which one rule holds.
    pub(super) fn add(&mut self, begin: u64, end: u64, rule: UnwindRule) -> Result<(), Refused> {
        let first_row = self.rows.len();
        self.add_row(first_row, 0, rule)?;
        self.add_frame(begin, end, first_row)
    }

    /// Adds a row to the frame whose first row is or will be `first_row`.
    fn add_row(&mut self, first_row: usize, start: u32, rule: UnwindRule) -> Result<(), Refused> {
        if self.rows.len() == MAX_ROWS {
            return Err(Refused::TooLarge("rows"));
        }
        let rule = self.rules.number(rule)?;
        if self.rows[first_row..].last().is_none_or(|last| last.rule != rule) {
            self.rows.push(FrameRow { start, rule });
        }
        Ok(())
    }

    /// Makes the rows from `first_row` on a frame.
    fn add_frame(&mut self, begin: u64, end: u64, first_row: usize) -> Result<(), Refused> {
        if self.list.len() == MAX_FRAMES {
            return Err(Refused::TooLarge("functions"));
        }
        let rows = (self.rows.len() - first_row) as u32;
        self.list.push(Frame { begin, end, first_row: first_row as u32, rows });
        Ok(())
    }
}

/// Reads all entries. Those that are malformed are left out; from where the next one cannot be
/// found on, all.
pub(super) fn read(
    architecture: Architecture,
    section: &EhFrame,
    text: &Executable,
) -> Result<Frames, Refused> {
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let mut reader = Reader {
        architecture,
        section: gimli::EhFrame::new(&section.bytes, LittleEndian),
        bases: &bases,
        text,
        cies: HashMap::new(),
        cie_bytes: 0,
        remembered: Vec::new(),
        frames: Frames::default(),
    };
    reader.section.set_address_size(8);
    if architecture == Architecture::Aarch64 {
        reader.section.set_vendor(Vendor::AArch64);
    }
    let mut at = 0;
    loop {
        match entry_at(&section.bytes, at) {
            Some(Entry::Terminator) if section.is_exact => at += 4,
            Some(Entry::Terminator | Entry::End) => break,
            // It is read when an FDE names it.
            Some(Entry::Cie { end }) => at = end,
            Some(Entry::Fde { end }) => {
                match reader.read_fde(at) {
                    Ok(()) => {}
                    Err(Stop::Malformed) => reader.frames.damaged = true,
                    Err(Stop::Refused(refused)) => return Err(refused),
                }
                at = end;
            }
            None => {
                reader.frames.damaged = true;
                break;
            }
        }
    }
    Ok(reader.frames)
}

/// What there is at a byte of the section.
enum Entry {
    /// The section ends.
    End,
    /// A length of 0. Linkers that put sections together leave some in between.
    Terminator,
    /// What FDEs have in common.
    Cie { end: usize },
    /// What there is to know of a function.
    Fde { end: usize },
}

/// `None` where the end of the entry is not in the section.
fn entry_at(bytes: &[u8], at: usize) -> Option<Entry> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    if at == bytes.len() {
        return Some(Entry::End);
    }
    let (start, length) = match word(at)? {
        0 => return Some(Entry::Terminator),
        u32::MAX => (at + 12, u64::from_le_bytes(*bytes.get(at + 4..)?.first_chunk()?)),
        length => (at + 4, u64::from(length)),
    };
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    if end > bytes.len() || length < 4 {
        return None;
    }
    Some(if word(start)? == 0 { Entry::Cie { end } } else { Entry::Fde { end } })
}

/// Why an entry was not read to its end.
enum Stop {
    /// It is malformed.
    Malformed,
    /// The whole file is.
    Refused(Refused),
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Self {
        Self::Malformed
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A CIE, and what its instructions come to.
#[derive(Clone)]
struct Cie<'a> {
    entry: CommonInformationEntry<Bytes<'a>>,
    initial: State,
}

struct Reader<'a> {
    architecture: Architecture,
    section: gimli::EhFrame<Bytes<'a>>,
    bases: &'a BaseAddresses,
    text: &'a Executable,
    /// By offset; `None` for those that are malformed.
    cies: HashMap<usize, Option<Cie<'a>>>,
    cie_bytes: u64,
    remembered: Vec<State>,
    frames: Frames,
}

impl<'a> Reader<'a> {
    fn read_fde(&mut self, at: usize) -> Result<(), Stop> {
        let partial = self.section.partial_fde_from_offset(self.bases, EhFrameOffset(at))?;
        let cie_at = partial.cie_offset().0;
        if !self.cies.contains_key(&cie_at) {
            if self.cies.len() == MAX_CIES {
                self.cies.clear();
            }
            let cie = self.read_cie(cie_at)?;
            self.cies.insert(cie_at, cie);
        }
        let cie = self.cies[&cie_at].as_ref().ok_or(Stop::Malformed)?;
        let fde = partial.parse(|_, _, _| Ok(cie.entry.clone()))?;
        let begin = fde.initial_address();
        // Functions that the linker discarded keep an FDE, at 0 or where nothing is.
        let segment = self.text.segment_at(begin).filter(|_| fde.len() > 0);
        let Some(range) = segment.and_then(Segment::addresses) else { return Ok(()) };
        let end = begin.checked_add(fde.len()).ok_or(Stop::Malformed)?.min(range.end);
        if fde.is_signal_trampoline() {
            return Ok(self.frames.add(begin, end, only(CfaKind::Signal))?);
        }
        let size = u32::try_from(end - begin).map_err(|_| Stop::Malformed)?;
        let first_row = self.frames.rows.len();
        let mut machine = Machine::new(
            self.architecture,
            &self.section,
            &cie.entry,
            Some(cie.initial),
            &mut self.remembered,
        );
        let result = run(
            &mut machine,
            fde.instructions(&self.section, self.bases),
            &fde,
            size,
            |start, rule| self.frames.add_row(first_row, start, rule),
        );
        if result.is_err() {
            self.frames.rows.truncate(first_row);
        }
        result?;
        Ok(self.frames.add_frame(begin, end, first_row)?)
    }

    fn read_cie(&mut self, at: usize) -> Result<Option<Cie<'a>>, Stop> {
        let Ok(entry) = self.section.cie_from_offset(self.bases, EhFrameOffset(at)) else {
            return Ok(None);
        };
        self.cie_bytes += entry.entry_len() as u64;
        if self.cie_bytes > MAX_CIE_BYTES {
            return Err(Refused::TooLarge("entries that functions have in common").into());
        }
        let mut machine =
            Machine::new(self.architecture, &self.section, &entry, None, &mut self.remembered);
        let mut instructions = entry.instructions(&self.section, self.bases);
        let mut is_sound = true;
        while is_sound {
            match instructions.next() {
                Ok(Some(instruction)) => is_sound = machine.run(instruction).is_ok(),
                Ok(None) => break,
                Err(_) => is_sound = false,
            }
        }
        let initial = machine.state;
        Ok(is_sound.then_some(Cie { entry, initial }))
    }
}

/// Runs the instructions of a function of `size` bytes, and calls `row` with each state and from
/// which byte on it holds.
fn run<'a>(
    machine: &mut Machine<'_, 'a>,
    mut instructions: CallFrameInstructionIter<'_, Bytes<'a>>,
    fde: &FrameDescriptionEntry<Bytes<'a>>,
    size: u32,
    mut row: impl FnMut(u32, UnwindRule) -> Result<(), Refused>,
) -> Result<(), Stop> {
    let mut at = 0_u32;
    while let Some(instruction) = instructions.next()? {
        let next = match instruction {
            CallFrameInstruction::AdvanceLoc { delta } => {
                let bytes = u64::from(delta).checked_mul(fde.cie().code_alignment_factor());
                bytes.and_then(|bytes| bytes.checked_add(at.into())).ok_or(Stop::Malformed)?
            }
            CallFrameInstruction::SetLoc { address } => {
                let next = address.checked_sub(fde.initial_address()).ok_or(Stop::Malformed)?;
                if next < at.into() {
                    return Err(Stop::Malformed);
                }
                next
            }
            instruction => {
                machine.run(instruction)?;
                continue;
            }
        };
        if next > at.into() {
            row(at, machine.rule())?;
        }
        match u32::try_from(next) {
            Ok(next) if next < size => at = next,
            // The rest is of no address.
            _ => return Ok(()),
        }
    }
    Ok(row(at, machine.rule())?)
}
