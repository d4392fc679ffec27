//! How to unwind the stack of a program in user space: from the `.eh_frame` of its ELF files
//! to flat tables, and a walk by them.
//!
//! The tables are those that the BPF programs search ([`offwake_shared::UnwindRow`]); [`walk`] does
//! in user space what they do in the kernel, for tests and for stacks that were copied. Nothing
//! here knows BPF, or a live process: its words are read by a function of the caller.
//!
//! A file becomes a table in steps, each in a file of its own: `elf` finds the section, `eh_frame`
//! cuts it into entries, `state` runs their instructions with the help of `expression`, `restorer`
//! and `linkage` add what compilers and linkers do not describe, `flatten` puts all in order, and `table` keeps it.
//!
//! Nobody vouches for the files: whatever they claim, they cost bounded time and memory.

use std::fmt;
use std::fs::File;

mod eh_frame;
mod elf;
mod expression;
mod flatten;
mod linkage;
mod restorer;
mod rules;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod walk;

pub use elf::Segment;
pub use table::Table;
pub use walk::{Place, Registers, walk};

use elf::{Elf, Source};

/// Why a file has no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not an ELF file.
    NotElf,
    /// Of another machine than the 64-bit ones that are known ([`crate::arch`]).
    OtherMachine,
    /// It has no call frame information, nor code that returns from signals, nor stubs whose rules are known.
    NoFrames,
    /// What is wrong with it.
    Malformed(&'static str),
    /// What there is too much of.
    TooLarge(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::OtherMachine => f.write_str("of another machine"),
            Self::NoFrames => f.write_str("it has no call frame information"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
            Self::TooLarge(what) => write!(f, "too large: {what}"),
        }
    }
}

impl std::error::Error for Refused {}

/// Builds the table of an ELF file. Where it is open is not moved.
///
/// # Errors
///
/// See [`Refused`]. A file of which only parts are malformed gets a table without these, and
/// [`Table::damaged`].
pub fn build(file: &File) -> Result<Table, Refused> {
    build_from(&Source::File(file))
}

/// Builds the table of the image of an ELF file, such as the vDSO.
///
/// # Errors
///
/// As [`build`].
pub fn build_from_bytes(bytes: &[u8]) -> Result<Table, Refused> {
    build_from(&Source::Bytes(bytes))
}

fn build_from(source: &Source<'_>) -> Result<Table, Refused> {
    let elf = Elf::read(source)?;
    let text = elf.executable();
    let mut frames = match elf.eh_frame(source)? {
        Some(section) => eh_frame::read(elf.architecture, &section, &text)?,
        None => eh_frame::Frames::default(),
    };
    restorer::add(elf.architecture, source, &text, &mut frames)?;
    linkage::add(&elf, source, &text, &mut frames)?;
    if frames.list.is_empty() {
        return Err(if frames.damaged {
            Refused::Malformed("no entry of .eh_frame is sound")
        } else {
            Refused::NoFrames
        });
    }
    flatten::flatten(elf.architecture, frames, source, &text, elf.segments)
}
