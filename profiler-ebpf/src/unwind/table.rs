//! From an address to the rule that holds there.

use offwake_shared::{UNWIND_CHUNK, UNWIND_PAGE_BITS, UnwindRow, UnwindRule};

use super::Walk;
use crate::maps::{UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES};

/// How many looked-up addresses each CPU remembers: stacks have the same few thousand callers over
/// and over. A power of two.
pub const CACHED_RULES: usize = 1024;

/// The number of the rule without call frame information.
const NO_RULE: u32 = 0;

/// At most so many steps halve the mappings of a program: 65536 of them.
const MAPPING_STEPS: u32 = 17;

/// An address that was looked up.
#[repr(C)]
pub struct Cached {
    address: u64,
    /// Of the program, see [`offwake_shared::UnwindProgram::generation`]; 0: nothing is here.
    generation: u32,
    rule: u32,
}

/// The rule at an address of the walk's program; `None` in no mapping that is known.
#[inline(always)]
pub fn rule(walk: &mut Walk, address: u64) -> Option<*const UnwindRule> {
    let generation = walk.program.generation;
    let number = if generation == 0 {
        NO_RULE
    } else {
        let at = (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (CACHED_RULES - 1);
        let cached = &walk.cache[at];
        if cached.address == address && cached.generation == generation {
            cached.rule
        } else {
            let rule = look_up(walk, address)?;
            walk.cache[at] = Cached { address, generation, rule };
            rule
        }
    };
    UNWIND_RULES.get_ptr(number)
}

#[inline(always)]
fn look_up(walk: &mut Walk, address: u64) -> Option<u32> {
    if !find_mapping(walk, address) {
        return None;
    }
    let mapping = &walk.mapping;
    let in_file = address.wrapping_sub(mapping.bias);
    let page = (in_file >> UNWIND_PAGE_BITS).wrapping_sub(u64::from(mapping.first_page));
    if page >= u64::from(mapping.pages) {
        return Some(NO_RULE);
    }
    let page = mapping.page_base.wrapping_add(page as u32);
    let row_base = mapping.row_base;
    let first = row_base.wrapping_add(first_row(page)?);
    let behind = row_base.wrapping_add(first_row(page.wrapping_add(1))?);
    let byte = (in_file & ((1 << UNWIND_PAGE_BITS) - 1)) as u16;
    // The first row of a page begins at its first byte: the one that holds is never before it.
    let (mut low, mut high) = (first, behind);
    for _ in 0..UNWIND_PAGE_BITS + 1 {
        if high.wrapping_sub(low) <= 1 || high < low {
            break;
        }
        let middle = low + ((high - low) >> 1);
        if row(middle)?.start <= byte {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(u32::from(row(low)?.rule))
}

/// Finds the mapping of an address, and keeps it for the next frame.
#[inline(always)]
fn find_mapping(walk: &mut Walk, address: u64) -> bool {
    if address >= walk.mapping.start && address < walk.mapping.end {
        return true;
    }
    let mut low = walk.program.first;
    let mut high = low.wrapping_add(walk.program.len);
    for _ in 0..MAPPING_STEPS {
        if low >= high {
            break;
        }
        let middle = low + ((high - low) >> 1);
        let Some(mapping) = UNWIND_MAPPINGS.get(middle) else { return false };
        if address < mapping.start {
            high = middle;
        } else if address >= mapping.end {
            low = middle + 1;
        } else {
            walk.mapping = *mapping;
            return true;
        }
    }
    false
}

#[inline(always)]
fn row(index: u32) -> Option<UnwindRow> {
    let chunk = UNWIND_ROWS.get(index / UNWIND_CHUNK as u32)?;
    Some(chunk[index as usize & (UNWIND_CHUNK - 1)])
}

#[inline(always)]
fn first_row(page: u32) -> Option<u32> {
    let chunk = UNWIND_PAGES.get(page / UNWIND_CHUNK as u32)?;
    Some(chunk[page as usize & (UNWIND_CHUNK - 1)])
}
