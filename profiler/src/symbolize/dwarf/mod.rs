//! Inlined functions, and files and lines, from DWARF of versions 2 to 5.
//!
//! gimli decodes it; what is read of it, and how much, is decided here. Of a file only the units
//! are read that have code at an address that is asked for, once each, and nothing is kept that is
//! not part of an answer. (blazesym also reads DWARF, as fast. But it recurses as deep as inlined
//! functions nest: version 0.2.7 overflows its stack, which ends the process, on a file of 300 KB. It
//! keeps all functions and lines of a unit, and what a small file can make it read has no bound.)
//!
//! Nobody vouches for these files. Every entry, attribute, range and line that is read is paid for
//! from a [`Budget`], and when that is spent, or where the data makes no sense, what was found until
//! then is the answer. Nothing recurses.
//!
//! Not read are the units that split DWARF keeps in other files (`.dwo`, `.dwp`): lines are known
//! then, inlined functions are not. What `dwz` moved to a supplementary file (`.gnu_debugaltlink`) has
//! no name, and a function without a name is left out.

mod abbreviations;
mod lines;
mod names;
mod sections;
mod unit;
mod units;
mod walk;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use self::lines::Table;
use self::names::Names;
pub(super) use self::sections::Sections;
use self::unit::Unit;
use self::walk::Scopes;
use crate::profile::Frame;

/// gimli's view of a section.
type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;

/// How much may still be read.
#[derive(Debug)]
pub(super) struct Budget {
    /// In steps of some nanoseconds.
    steps: Cell<u64>,
    /// What answers may take in memory.
    bytes: Cell<u64>,
    is_spent: Cell<bool>,
}

/// The most memory that all answers together may take, in bytes.
const MAX_KEPT: u64 = 200 << 20;

impl Budget {
    pub(super) fn new(steps: u64) -> Self {
        Self { steps: Cell::new(steps), bytes: Cell::new(MAX_KEPT), is_spent: Cell::new(false) }
    }

    /// Pays for work.
    fn take(&self, steps: usize) -> Result<(), Stop> {
        self.pay(&self.steps, steps)
    }

    /// Pays for memory.
    fn keep(&self, bytes: usize) -> Result<(), Stop> {
        self.pay(&self.bytes, bytes)
    }

    fn pay(&self, from: &Cell<u64>, price: usize) -> Result<(), Stop> {
        match from.get().checked_sub(price as u64) {
            Some(rest) => {
                from.set(rest);
                Ok(())
            }
            None => {
                self.is_spent.set(true);
                Err(Stop::Spent)
            }
        }
    }

    /// Whether there was not enough.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }
}

/// Why reading does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The budget is spent.
    Spent,
    /// The data makes no sense.
    Malformed,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Self {
        Self::Malformed
    }
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceLine {
    /// The path as the compiler was given it, made absolute where the compiler said where it ran.
    pub(super) file: Rc<str>,
    /// From 1.
    pub(super) line: u32,
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The function whose code it is in, demangled.
    pub(super) function: Option<Rc<str>>,
    /// Where in it: the address itself, or the outermost inlined call.
    pub(super) line: Option<SourceLine>,
    /// The functions that are inlined there, innermost first.
    pub(super) inlined: Vec<Inlined>,
}

/// A function that was inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inlined {
    /// Its name, demangled.
    pub(super) name: Rc<str>,
    /// Where in it: the address itself, or the next inlined call.
    pub(super) line: Option<SourceLine>,
}

/// What is known of some addresses, as the file counts them, in the same order; files and `lines`
/// only where they are asked for.
pub(super) fn find(
    sections: &Sections,
    addresses: &[u64],
    lines: bool,
    budget: &Budget,
) -> Vec<Found> {
    // gimli does not panic as far as anybody knows. If it does nevertheless, that is no reason to
    // lose a recording.
    catch_unwind(AssertUnwindSafe(|| find_unguarded(sections, addresses, lines, budget)))
        .unwrap_or_else(|_| vec![Found::default(); addresses.len()])
}

pub(super) fn find_unguarded(
    sections: &Sections,
    addresses: &[u64],
    lines: bool,
    budget: &Budget,
) -> Vec<Found> {
    let mut wanted = addresses.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = vec![Found::default(); wanted.len()];
    // Whatever ended it.
    let _ = find_sorted(sections, &wanted, lines, budget, &mut found);
    let at = |address: &u64| wanted.binary_search(address).map(|index| found[index].clone());
    addresses.iter().map(|address| at(address).unwrap_or_default()).collect()
}

/// `wanted` is in order, and `found` has a place for each of them.
fn find_sorted(
    sections: &Sections,
    wanted: &[u64],
    lines: bool,
    budget: &Budget,
    found: &mut [Found],
) -> Result<(), Stop> {
    let units = units::list(sections, budget)?;
    let mut names = Names::new(sections, &units, budget);
    for (index, here) in units::with_code_at(sections, &units, wanted, budget)? {
        let here: Vec<usize> =
            here.into_iter().filter(|&index| found[index].function.is_none()).collect();
        if here.is_empty() {
            continue;
        }
        let result = Unit::open(sections, &units[index], budget)
            .and_then(|unit| read_unit(&unit, wanted, &here, lines, &mut names, found));
        sections.release();
        if result == Err(Stop::Spent) {
            return result;
        }
    }
    Ok(())
}

/// Reads what one unit says of the addresses with the indexes `here`.
fn read_unit<'a>(
    unit: &Unit<'a>,
    wanted: &[u64],
    here: &[usize],
    lines: bool,
    names: &mut Names<'a>,
    found: &mut [Found],
) -> Result<(), Stop> {
    let addresses: Vec<u64> = here.iter().map(|&index| wanted[index]).collect();
    let mut scopes = vec![Scopes::default(); addresses.len()];
    // What was read before it made no sense is good.
    let walked = walk::walk(unit, &addresses, &mut scopes);
    let mut table = Table::new(unit, addresses.len());
    if lines && walked != Err(Stop::Spent) {
        // Likewise.
        let _ = table.read(&addresses);
    }
    for (place, (scopes, &index)) in scopes.iter().zip(here).enumerate() {
        let answer = answer(scopes, place, &mut table, names)?;
        // Another unit may have known the line only.
        if answer.function.is_some() || found[index] == Found::default() {
            found[index] = answer;
        }
    }
    walked
}

/// Each inlined function is where its own code is, or where it calls the next one inwards.
fn answer<'a>(
    scopes: &Scopes<'a>,
    place: usize,
    table: &mut Table<'_, 'a>,
    names: &mut Names<'a>,
) -> Result<Found, Stop> {
    let mut found = Found { line: table.line_of(place)?, ..Found::default() };
    for call in scopes.inlined.iter().rev() {
        let call_line = match call.line {
            Some((file, line)) => table.source_line(file, line)?,
            None => None,
        };
        let line = std::mem::replace(&mut found.line, call_line);
        if let Some(name) = names.of(&call.name)? {
            // The frame that is made of it has copies of both.
            let file = line.as_ref().map_or(0, |line| line.file.len());
            table
                .unit
                .budget
                .keep(size_of::<Inlined>() + size_of::<Frame>() + name.len() + file)?;
            found.inlined.push(Inlined { name, line });
        }
    }
    if let Some(function) = &scopes.function {
        found.function = names.of(&function.name)?;
    }
    Ok(found)
}
