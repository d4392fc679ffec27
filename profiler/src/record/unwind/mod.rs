//! The unwind tables of the programs whose stacks are taken, in the maps of the BPF programs.
//!
//! A table belongs to a file, and is built when the first program that maps the file is seen. All
//! programs share it. Room is bounded: when it runs out, programs go that have ended or whose stacks
//! were not taken for a while, and then the tables that no program uses.

mod files;
mod maps;
mod ranges;
mod rules;
mod worker;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hashbrown::HashMap;
use offwake_shared::{
    MAX_UNWIND_MAPPINGS, Program, StackEnd, UNWIND_CHUNK, UnwindMapping, UnwindProgram, UnwindRule,
    UserRegisters,
};

use self::files::Built;
pub(super) use self::files::{Content, Source, Wanted};
pub(super) use self::maps::Maps;
use self::ranges::Ranges;
use self::rules::Rules;
pub(super) use self::worker::{Request, Worker};
use super::Capacity;
use super::memory::read_words;
use super::quiesce::wait_for_running_programs;
use super::session::monotonic_ns;
use crate::arch::Architecture;
use crate::recording::{ImageId, UnwindFigures};
use crate::unwind::{Place, Refused, Registers, Table, walk};

/// A program whose stacks were not taken for so long may go when room runs out.
pub(super) const UNUSED: Duration = Duration::from_secs(1);

/// After an address in no mapping, and no new mapping either: how long not to hear of the next. It
/// doubles each time.
const FIRST_QUIET: Duration = Duration::from_millis(10);
/// See [`FIRST_QUIET`].
const LONGEST_QUIET: Duration = Duration::from_secs(2);

/// Freed ranges are kept until nobody reads them any more, which takes a while to find out: not for
/// each of them.
const MANY_FREED: usize = 256;

/// Executable memory of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    /// `None`: code that was compiled at run time.
    pub(super) source: Option<Source>,
}

/// All tables.
pub(super) struct Unwinder {
    maps: Maps,
    rules: Rules,
    /// Room in `UNWIND_MAPPINGS`; in `UNWIND_PAGES` and `UNWIND_ROWS`, whose values are chunks.
    room: Room,
    /// `None`: it has no table, or there was no room.
    files: HashMap<Source, Option<Loaded>>,
    programs: HashMap<ImageId, Known>,
    generation: u32,
    /// What may still be read.
    freed: Vec<Freed>,
    swept: Instant,
    warnings: Vec<String>,
    build: Duration,
}

struct Room {
    mappings: Ranges,
    pages: Ranges,
    rows: Ranges,
}

/// A range of one of the arrays: first index and length.
#[derive(Clone, Copy)]
enum Freed {
    Mappings(u32, u32),
    Pages(u32, u32),
    Rows(u32, u32),
}

/// A file with a table.
struct Loaded {
    /// Without its rows, which are in the maps.
    table: Table,
    pages: u32,
    rows: u64,
    page_chunks: (u32, u32),
    row_chunks: (u32, u32),
    /// How many programs map it.
    users: u32,
    /// Programs that map it are about to be made known.
    is_new: bool,
}

/// A program that the BPF programs know.
struct Known {
    first: u32,
    mappings: Vec<UnwindMapping>,
    /// Of each mapping.
    sources: Vec<Option<Source>>,
    /// Whether there was room for its mappings.
    complete: bool,
    quiet: Duration,
}

impl Unwinder {
    /// No tables yet.
    pub(super) fn new(maps: Maps, capacity: &Capacity) -> Self {
        let chunks = |rows: u32| rows.div_ceil(UNWIND_CHUNK as u32);
        Self {
            maps,
            rules: Rules::new(),
            room: Room {
                mappings: Ranges::new(capacity.unwind_mappings),
                pages: Ranges::new(chunks(capacity.unwind_pages)),
                rows: Ranges::new(chunks(capacity.unwind_rows)),
            },
            files: HashMap::new(),
            programs: HashMap::new(),
            generation: 0,
            freed: Vec::new(),
            swept: Instant::now(),
            warnings: Vec::new(),
            build: Duration::ZERO,
        }
    }

    /// Whether a source was read, whatever came of it.
    pub(super) fn knows(&self, source: Source) -> bool {
        self.files.contains_key(&source)
    }

    /// Builds the tables of sources that are not known.
    pub(super) fn add_files(
        &mut self,
        wanted: Vec<Wanted>,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<()> {
        let start = Instant::now();
        let built = files::build_all(wanted, progress);
        self.add_built(built, start)
    }

    /// Makes the tables known that were built of sources since `start`.
    fn add_built(&mut self, tables: Vec<(Wanted, Built)>, start: Instant) -> Result<()> {
        for (Wanted { source, name, .. }, built) in tables {
            match built {
                Ok(table) => {
                    if table.damaged {
                        self.warnings.push(format!(
                            "{name}: some of its call frame information cannot be read: frame \
                             pointers have to do there"
                        ));
                    }
                    let loaded = self.load(table)?;
                    if loaded.is_none() {
                        self.warnings.push(format!(
                            "{name}: no room for its unwind tables: frame pointers have to do there"
                        ));
                    }
                    self.files.insert(source, loaded);
                }
                Err(refused) => {
                    if let Refused::Malformed(_) | Refused::TooLarge(_) = refused {
                        self.warnings.push(format!(
                            "{name}: its call frame information cannot be used ({refused}): frame \
                             pointers have to do"
                        ));
                    }
                    self.files.insert(source, None);
                }
            }
        }
        self.build += start.elapsed();
        Ok(())
    }

    /// Makes the code of a program known to the BPF programs, or what has changed of it. The
    /// tables of its sources were added before.
    pub(super) fn set_program(&mut self, id: ImageId, code: &[Code], unmapped: bool) -> Result<()> {
        let code = joined(code);
        let sources: Vec<Option<Source>> = code.iter().map(|code| self.table_of(code)).collect();
        let mappings: Vec<UnwindMapping> =
            code.iter().zip(&sources).map(|(code, &source)| self.mapping(code, source)).collect();
        if let Some(known) = self.programs.get_mut(&id)
            && known.complete
            && known.mappings == mappings
        {
            if unmapped {
                self.be_quiet(id)?;
            }
            return Ok(());
        }
        // Now, so that no table of them goes to make room.
        for &source in sources.iter().flatten() {
            if let Some(Some(file)) = self.files.get_mut(&source) {
                file.users += 1;
            }
        }
        let first = self.room_for(&mappings)?;
        let complete = first.is_some();
        let first = first.unwrap_or_default();
        let mappings = if complete { mappings } else { Vec::new() };
        self.maps.set_mappings(first, &mappings).context("cannot fill the BPF map of mappings")?;
        self.generation = self.generation.wrapping_add(1).max(1);
        let value = UnwindProgram {
            first,
            len: mappings.len() as u32,
            generation: if complete { self.generation } else { 0 },
            used: 1,
            quiet_until: if complete { 0 } else { u64::MAX },
        };
        if self.maps.set_program(program(id), value).is_err() {
            self.make_room()?;
            self.maps
                .set_program(program(id), value)
                .context("no room in the BPF map of programs to unwind")?;
        }
        let known = Known { first, mappings, sources, complete, quiet: FIRST_QUIET };
        if let Some(before) = self.programs.insert(id, known) {
            self.release(before);
        }
        if self.freed.len() > MANY_FREED {
            self.reuse_freed();
        }
        Ok(())
    }

    /// Walks the user stack of a thread that does not run, as the BPF programs walk that of a running
    /// one; by frame pointers if its program is not known.
    pub(super) fn walk(
        &self,
        id: ImageId,
        tid: u32,
        registers: &UserRegisters,
    ) -> (Vec<u64>, StackEnd) {
        match self.mappings(id) {
            Some(mappings) => walk_thread(tid, registers, |address| self.place(mappings, address)),
            None => walk_by_frame_pointers(tid, registers),
        }
    }

    /// The mappings by which stacks of a program are walked; `None` where there are no tables of it.
    pub(super) fn mappings(&self, id: ImageId) -> Option<&[UnwindMapping]> {
        let known = match self.programs.get(&id) {
            Some(known) => known,
            // One that was forked has those of its parent (profiler-ebpf/src/unwind).
            None => {
                let own = self.maps.program(program(id))?;
                let is_parent = |known: &&Known| {
                    known.first == own.first && known.mappings.len() == own.len as usize
                };
                self.programs.values().find(is_parent)?
            }
        };
        known.complete.then_some(&*known.mappings)
    }

    /// What is mapped at an address, with the rule that the BPF programs have for it.
    pub(super) fn place(&self, mappings: &[UnwindMapping], address: u64) -> Option<Place> {
        let behind = mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = mappings[..behind].last().filter(|mapping| address < mapping.end)?;
        let rule = self.maps.rule_at(mapping, address).unwrap_or_default();
        Some(Place { rule, bias: mapping.bias })
    }

    /// All programs that were waiting for new tables have them.
    pub(super) fn settle(&mut self) {
        for file in self.files.values_mut().flatten() {
            file.is_new = false;
        }
    }

    /// What could not be done, one line each, since the last call.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// See [`UnwindFigures`].
    pub(super) fn figures(&self) -> UnwindFigures {
        let loaded = || self.files.values().flatten();
        UnwindFigures {
            programs: self.programs.values().filter(|known| known.complete).count(),
            files: loaded().count(),
            rows: loaded().map(|file| file.rows).sum(),
            rules: self.rules.len(),
            build: self.build,
            bpf_bytes: 0,
        }
    }

    /// Where mappings fit.
    fn room_for(&mut self, mappings: &[UnwindMapping]) -> Result<Option<u32>> {
        let len = u32::try_from(mappings.len()).unwrap_or(u32::MAX);
        if len > MAX_UNWIND_MAPPINGS {
            return Ok(None);
        }
        let first = self.room.mappings.take(len);
        if first.is_some() {
            return Ok(first);
        }
        self.make_room()?;
        Ok(self.room.mappings.take(len))
    }

    /// The source of a piece of code, if it has a table that fits.
    fn table_of(&self, code: &Code) -> Option<Source> {
        let source = code.source?;
        let file = self.files.get(&source)?.as_ref()?;
        file.table.bias(code.start, code.file_offset)?;
        Some(source)
    }

    fn mapping(&self, code: &Code, source: Option<Source>) -> UnwindMapping {
        let none = UnwindMapping { start: code.start, end: code.end, ..UnwindMapping::default() };
        let Some(Some(Some(file))) = source.map(|source| self.files.get(&source)) else {
            return none;
        };
        let Some(bias) = file.table.bias(code.start, code.file_offset) else { return none };
        UnwindMapping {
            bias,
            first_page: file.table.first_page,
            pages: file.pages,
            page_base: file.page_chunks.0 * UNWIND_CHUNK as u32,
            row_base: file.row_chunks.0 * UNWIND_CHUNK as u32,
            ..none
        }
    }

    /// Puts a table into the BPF maps; `None` where there is no room.
    fn load(&mut self, table: Table) -> Result<Option<Loaded>> {
        let chunks = |len: usize| u32::try_from(len.div_ceil(UNWIND_CHUNK)).unwrap_or(u32::MAX);
        let (pages, rows) = (chunks(table.pages.len()), chunks(table.rows.len()));
        let full = "cannot fill the BPF maps of unwind tables";
        let Some(numbers) = self.rules.numbers(&table.rules, &mut self.maps).context(full)? else {
            return Ok(None);
        };
        let mut room = self.room.take_table(pages, rows);
        if room.is_none() {
            self.make_room()?;
            room = self.room.take_table(pages, rows);
        }
        let Some((first_page, first_row)) = room else { return Ok(None) };
        self.maps.set_pages(first_page, &table.pages).context(full)?;
        self.maps.set_rows(first_row, &table.rows, &numbers).context(full)?;
        let mut loaded = Loaded {
            pages: u32::try_from(table.pages.len().saturating_sub(1)).unwrap_or(u32::MAX),
            rows: table.rows.len() as u64,
            table,
            page_chunks: (first_page, pages),
            row_chunks: (first_row, rows),
            users: 0,
            is_new: true,
        };
        loaded.table.forget_rows();
        Ok(Some(loaded))
    }

    /// Nothing was found at an address where a walk led: not to be told of the next one for a while.
    fn be_quiet(&mut self, id: ImageId) -> Result<()> {
        let Some(known) = self.programs.get_mut(&id) else { return Ok(()) };
        let quiet = known.quiet;
        known.quiet = (quiet * 2).min(LONGEST_QUIET);
        if let Some(mut value) = self.maps.program(program(id)) {
            value.quiet_until = monotonic_ns() + quiet.as_nanos() as u64;
            self.maps.set_program(program(id), value).context("cannot change a BPF map")?;
        }
        Ok(())
    }

    /// What a program had is not used by it any more.
    fn release(&mut self, known: Known) {
        self.freed.push(Freed::Mappings(known.first, known.mappings.len() as u32));
        for source in known.sources.into_iter().flatten() {
            if let Some(Some(file)) = self.files.get_mut(&source) {
                file.users = file.users.saturating_sub(1);
            }
        }
    }

    /// Forgets programs that have ended or were not seen for a while, and the tables that only they
    /// used.
    fn make_room(&mut self) -> Result<()> {
        let sweep = self.swept.elapsed() >= UNUSED;
        let mut gone = Vec::new();
        for &id in self.programs.keys() {
            let Some(value) = self.maps.program(program(id)) else {
                gone.push(id);
                continue;
            };
            if sweep && value.used == 0 || !crate::snapshot::process::exists(id.tgid) {
                gone.push(id);
            } else if sweep {
                let value = UnwindProgram { used: 0, ..value };
                self.maps.set_program(program(id), value).context("cannot change a BPF map")?;
            }
        }
        if sweep {
            self.swept = Instant::now();
        }
        let removed = gone.iter().copied().map(program);
        self.maps.remove_all(removed).context("cannot change a BPF map")?;
        for id in gone {
            if let Some(known) = self.programs.remove(&id) {
                self.release(known);
            }
        }
        let unused: Vec<Source> = self
            .files
            .iter()
            .filter(|(_, file)| file.as_ref().is_some_and(|file| file.users == 0 && !file.is_new))
            .map(|(&source, _)| source)
            .collect();
        for source in unused {
            // Not even remembered: it is read again when it is mapped again.
            if let Some(Some(file)) = self.files.remove(&source) {
                self.freed.push(Freed::Pages(file.page_chunks.0, file.page_chunks.1));
                self.freed.push(Freed::Rows(file.row_chunks.0, file.row_chunks.1));
            }
        }
        self.reuse_freed();
        Ok(())
    }

    fn reuse_freed(&mut self) {
        // First those that copy the entry of a program, then those that use the copy.
        wait_for_running_programs();
        let known = &self.programs;
        self.maps.remove_inherited(|Program { tgid, exec_id }| {
            known.contains_key(&ImageId { tgid, exec_id })
        });
        wait_for_running_programs();
        for freed in self.freed.drain(..) {
            match freed {
                Freed::Mappings(first, len) => self.room.mappings.give_back(first, len),
                Freed::Pages(first, len) => self.room.pages.give_back(first, len),
                Freed::Rows(first, len) => self.room.rows.give_back(first, len),
            }
        }
    }
}

impl Room {
    /// Room for a table: where its pages and its rows begin.
    fn take_table(&mut self, pages: u32, rows: u32) -> Option<(u32, u32)> {
        let first_page = self.pages.take(pages)?;
        let Some(first_row) = self.rows.take(rows) else {
            self.pages.give_back(first_page, pages);
            return None;
        };
        Some((first_page, first_row))
    }
}

/// Walks the user stack of a thread that does not run by frame pointers.
pub(super) fn walk_by_frame_pointers(tid: u32, registers: &UserRegisters) -> (Vec<u64>, StackEnd) {
    walk_thread(tid, registers, |_| Some(Place { rule: UnwindRule::default(), bias: 0 }))
}

fn walk_thread(
    tid: u32,
    registers: &UserRegisters,
    place_of: impl FnMut(u64) -> Option<Place>,
) -> (Vec<u64>, StackEnd) {
    let &UserRegisters { ip, sp, fp, other, argument, in_syscall } = registers;
    let registers = Registers { pc: ip, sp, fp, other, di: argument, in_syscall: in_syscall != 0 };
    let read = |address, words: &mut [u64]| read_words(tid, address, words);
    walk(Architecture::OWN, registers, place_of, read)
}

/// A neighbour of code without a table that has none either is one piece with it: a JIT compiler
/// maps thousands.
fn joined(code: &[Code]) -> Vec<Code> {
    let mut joined: Vec<Code> = Vec::with_capacity(code.len());
    for &piece in code {
        match joined.last_mut() {
            Some(last)
                if last.end == piece.start && last.source.is_none() && piece.source.is_none() =>
            {
                last.end = piece.end;
            }
            _ => joined.push(piece),
        }
    }
    joined
}

const fn program(id: ImageId) -> Program {
    Program { tgid: id.tgid, exec_id: id.exec_id }
}
