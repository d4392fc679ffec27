//! The table of one ELF file.

use offwake_shared::{UNWIND_PAGE_BITS, UnwindRow, UnwindRule};

use super::Refused;
use super::elf::Segment;
use super::rules::NONE;
use crate::arch::Architecture;

/// The most pages between the first and the last row: 4 GiB of code, which is all that jumps reach.
const MAX_PAGES: u64 = 1 << 20;

/// The most rows.
const MAX_ROWS: usize = 16 << 20;

/// The rules of one ELF file, by address as the file counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Whose registers the rules are of.
    pub architecture: Architecture,
    /// The number of the first page: its address without the lower [`UNWIND_PAGE_BITS`].
    pub first_page: u32,
    /// For each page the index in `rows` of its first row, and one number more behind the last.
    /// Empty where there are no rows.
    pub pages: Vec<u32>,
    /// In order of address. The first of each page begins at its first byte.
    pub rows: Vec<UnwindRow>,
    /// The distinct rules. The first is that of addresses without call frame information.
    pub rules: Vec<UnwindRule>,
    /// The parts of the file that are loaded.
    pub segments: Vec<Segment>,
    /// Whether parts of the call frame information were malformed, and left out.
    pub damaged: bool,
}

impl Table {
    /// The rule at this address, as the file counts. Outside the table that without call frame
    /// information.
    pub fn rule_at(&self, address: u64) -> UnwindRule {
        self.row_at(address)
            .and_then(|row| self.rules.get(usize::from(row.rule)))
            .copied()
            .unwrap_or_default()
    }

    fn row_at(&self, address: u64) -> Option<&UnwindRow> {
        let page = (address >> UNWIND_PAGE_BITS).checked_sub(self.first_page.into())?;
        let page = usize::try_from(page).ok()?;
        let (first, end) = (*self.pages.get(page)?, *self.pages.get(page.checked_add(1)?)?);
        let rows = self.rows.get(first as usize..end as usize)?;
        let byte = byte_in_page(address);
        rows[..rows.partition_point(|row| row.start <= byte)].last()
    }

    /// What to subtract from an address of a process to get that as the file counts, in an
    /// executable mapping that begins at `start`, and at this offset of the file. `None` where no
    /// segment holds that offset.
    pub fn bias(&self, start: u64, file_offset: u64) -> Option<u64> {
        // Two segments may share a page of the file, of which each maps both parts: then it is the
        // one with code, and of two the one that begins in that page.
        let candidates = self.segments.iter().filter(|segment| segment.is_mapped_from(file_offset));
        let best = candidates.max_by_key(|segment| (segment.executable, segment.file.start))?;
        Some(best.bias(start, file_offset))
    }

    /// Frees what only [`Self::rule_at`] needs: what is left of a table that was copied is where it belongs.
    pub fn forget_rows(&mut self) {
        self.pages = Vec::new();
        self.rows = Vec::new();
        self.rules = Vec::new();
    }

    /// How much memory it occupies, in bytes.
    pub fn bytes(&self) -> usize {
        self.pages.capacity() * size_of::<u32>()
            + self.rows.capacity() * size_of::<UnwindRow>()
            + self.rules.capacity() * size_of::<UnwindRule>()
            + self.segments.capacity() * size_of::<Segment>()
    }
}

fn byte_in_page(address: u64) -> u16 {
    (address & ((1 << UNWIND_PAGE_BITS) - 1)) as u16
}

/// Makes the rows and pages of a table.
#[derive(Default)]
pub(super) struct Builder {
    first_page: Option<u64>,
    pages: Vec<u32>,
    rows: Vec<UnwindRow>,
    /// The rule that holds from the last row on.
    rule: u16,
    /// Whether there was more than fits.
    clamped: bool,
}

impl Builder {
    /// From this address on this rule holds. Addresses ascend.
    pub(super) fn push(&mut self, address: u64, rule: u16) -> Result<(), Refused> {
        if rule == self.rule || self.clamped {
            return Ok(());
        }
        let page = address >> UNWIND_PAGE_BITS;
        let first_page = *self.first_page.get_or_insert(page);
        let index = page - first_page;
        if index >= MAX_PAGES {
            self.clamped = true;
            return Ok(());
        }
        while (self.pages.len() as u64) <= index {
            self.pages.push(self.rows.len() as u32);
            self.rows.push(UnwindRow { start: 0, rule: self.rule });
        }
        if self.rows.len() >= MAX_ROWS {
            return Err(Refused::TooLarge("rows"));
        }
        let start = byte_in_page(address);
        match self.rows.last_mut() {
            // The one that the page was given.
            Some(last) if last.start == start => last.rule = rule,
            _ => self.rows.push(UnwindRow { start, rule }),
        }
        self.rule = rule;
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        architecture: Architecture,
        rules: Vec<UnwindRule>,
        segments: Vec<Segment>,
        damaged: bool,
    ) -> Table {
        if !self.pages.is_empty() {
            self.pages.push(self.rows.len() as u32);
        }
        self.pages.shrink_to_fit();
        self.rows.shrink_to_fit();
        Table {
            architecture,
            // Segments with code end where the number of a page does.
            first_page: self.first_page.map_or(0, |page| page as u32),
            pages: self.pages,
            rows: self.rows,
            rules,
            segments,
            damaged: damaged || self.clamped,
        }
    }
}

const _: () = assert!(NONE == 0, "a builder begins with that rule");
