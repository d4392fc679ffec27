//! The BPF maps of the tables.

use aya::maps::{Array, HashMap, MapData, MapError};
use offwake_shared::{
    Program, UNWIND_CHUNK, UNWIND_PAGE_BITS, UnwindMapping, UnwindProgram, UnwindRow, UnwindRule,
};

use crate::record::pod::Pod;

/// The maps, taken from the loaded object (profiler-ebpf/src/maps.rs).
pub(in crate::record) struct Maps {
    pub(in crate::record) programs: HashMap<MapData, Pod<Program>, Pod<UnwindProgram>>,
    /// How often one of them was replaced or removed.
    pub(in crate::record) changes: Array<MapData, u32>,
    pub(in crate::record) mappings: Array<MapData, Pod<UnwindMapping>>,
    pub(in crate::record) pages: Array<MapData, Pod<[u32; UNWIND_CHUNK]>>,
    pub(in crate::record) rows: Array<MapData, Pod<[UnwindRow; UNWIND_CHUNK]>>,
    pub(in crate::record) rules: Array<MapData, Pod<UnwindRule>>,
    /// What the programs remember of whom they have announced.
    pub(in crate::record) seen: HashMap<MapData, Pod<Program>, u64>,
}

impl Maps {
    /// Makes a program known, or replaces what is known of it.
    pub(super) fn set_program(
        &mut self,
        program: Program,
        value: UnwindProgram,
    ) -> Result<(), MapError> {
        let before = self.program(program);
        self.programs.insert(Pod(program), Pod(value), 0)?;
        // Nothing is remembered of a program without tables.
        if before.is_some_and(|before| before.generation != value.generation) {
            self.tables_changed()?;
        }
        Ok(())
    }

    /// What is remembered of stacks counts no more.
    fn tables_changed(&mut self) -> Result<(), MapError> {
        let changes = self.changes.get(&0, 0)?;
        self.changes.set(0, changes.wrapping_add(1), 0)
    }

    /// What the programs have noted of a program.
    pub(super) fn program(&self, program: Program) -> Option<UnwindProgram> {
        self.programs.get(&Pod(program), 0).ok().map(|Pod(value)| value)
    }

    /// Removes the programs that the BPF programs have put in, when a process was forked. User space
    /// was not told of them: no stack of theirs was taken yet.
    pub(super) fn remove_inherited(&mut self, are_known: impl Fn(Program) -> bool) {
        let keys: Vec<Program> =
            self.programs.keys().filter_map(|key| key.ok()).map(|Pod(program)| program).collect();
        for program in keys.into_iter().filter(|&program| !are_known(program)) {
            let _ = self.programs.remove(&Pod(program));
        }
    }

    /// Forgets programs. When the next stack of one is seen, user space is told of it again.
    pub(super) fn remove_all(
        &mut self,
        programs: impl IntoIterator<Item = Program>,
    ) -> Result<(), MapError> {
        for program in programs {
            // Neither may be there.
            let _ = self.programs.remove(&Pod(program));
            let _ = self.seen.remove(&Pod(program));
        }
        self.tables_changed()
    }

    pub(super) fn set_mappings(
        &mut self,
        first: u32,
        mappings: &[UnwindMapping],
    ) -> Result<(), MapError> {
        for (index, &mapping) in (first..).zip(mappings) {
            self.mappings.set(index, Pod(mapping), 0)?;
        }
        Ok(())
    }

    /// Writes the first rows of pages, from this chunk on.
    pub(super) fn set_pages(&mut self, first: u32, pages: &[u32]) -> Result<(), MapError> {
        for (index, chunk) in (first..).zip(pages.chunks(UNWIND_CHUNK)) {
            let mut value = [0; UNWIND_CHUNK];
            value[..chunk.len()].copy_from_slice(chunk);
            self.pages.set(index, Pod(value), 0)?;
        }
        Ok(())
    }

    /// Writes rows, from this chunk on. `number`: of a rule in the file's own table.
    pub(super) fn set_rows(
        &mut self,
        first: u32,
        rows: &[UnwindRow],
        number: &[u16],
    ) -> Result<(), MapError> {
        for (index, chunk) in (first..).zip(rows.chunks(UNWIND_CHUNK)) {
            let mut value = [UnwindRow::default(); UNWIND_CHUNK];
            for (place, &UnwindRow { start, rule }) in value.iter_mut().zip(chunk) {
                *place = UnwindRow { start, rule: number[usize::from(rule)] };
            }
            self.rows.set(index, Pod(value), 0)?;
        }
        Ok(())
    }

    /// The rule at an address in a mapping, as the BPF programs find it; that without call frame information outside of
    /// its table.
    pub(super) fn rule_at(
        &self,
        mapping: &UnwindMapping,
        address: u64,
    ) -> Result<UnwindRule, MapError> {
        const CHUNK: u32 = UNWIND_CHUNK as u32;
        let in_file = address.wrapping_sub(mapping.bias);
        let page = (in_file >> UNWIND_PAGE_BITS).wrapping_sub(mapping.first_page.into());
        if page >= mapping.pages.into() {
            return Ok(UnwindRule::default());
        }
        let page = mapping.page_base + page as u32;
        let (chunk, at) = (page / CHUNK, (page % CHUNK) as usize);
        let Pod(pages) = self.pages.get(&chunk, 0)?;
        let next = match pages.get(at + 1) {
            Some(&row) => row,
            None => self.pages.get(&(chunk + 1), 0).map(|Pod(pages)| pages[0])?,
        };
        let (first, behind) = (mapping.row_base + pages[at], mapping.row_base + next);
        let byte = (in_file % (1 << UNWIND_PAGE_BITS)) as u16;
        // The last row that begins at the byte or before it. The first one of a page begins at its first byte.
        for chunk in (first / CHUNK..behind.div_ceil(CHUNK)).rev() {
            let Pod(rows) = self.rows.get(&chunk, 0)?;
            let begin = first.saturating_sub(chunk * CHUNK) as usize;
            let end = (behind - chunk * CHUNK).min(CHUNK) as usize;
            let rows = rows.get(begin..end).unwrap_or_default();
            if let Some(row) = rows[..rows.partition_point(|row| row.start <= byte)].last() {
                return self.rules.get(&row.rule.into(), 0).map(|Pod(rule)| rule);
            }
        }
        Ok(UnwindRule::default())
    }

    pub(super) fn set_rule(&mut self, number: u16, rule: UnwindRule) -> Result<(), MapError> {
        self.rules.set(u32::from(number), Pod(rule), 0)
    }
}
