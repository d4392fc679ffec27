//! From an address to the rule that holds there.

use core::hint::black_box;

use offwake_shared::{MAX_UNWIND_MAPPINGS, UNWIND_CHUNK, UNWIND_PAGE_BITS, UnwindRow, UnwindRule};

use super::Walk;
use crate::maps::{UNWIND_MAPPINGS, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES};

/// How many looked-up addresses each CPU remembers: stacks have the same few thousand callers over
/// and over. A power of two.
pub const CACHED_RULES: usize = 1024;

/// The number of the rule without call frame information.
const NO_RULE: u32 = 0;

/// Bytes of a page of a table.
const PAGE_BYTES: u32 = 1 << UNWIND_PAGE_BITS;

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
    let byte = in_file as u32 & (PAGE_BYTES - 1);
    // The first row of a page begins at its first byte: the one that holds is never before it. Each
    // step halves what is left, without a branch: the verifier would follow both ways, again and again.
    let (mut low, mut size) = (first, behind.wrapping_sub(first));
    for _ in 0..UNWIND_PAGE_BITS {
        let half = size >> 1;
        let row = row(low.wrapping_add(half))?;
        let is_behind = all_if_negative(i64::from(byte) - i64::from(row.start));
        low = low.wrapping_add(half & !is_behind);
        size -= half;
    }
    Some(u32::from(row(low)?.rule))
}

/// All bits set if the difference is negative, none else.
#[inline(always)]
fn all_if_negative(difference: i64) -> u32 {
    // So that the compiler makes no branch of it.
    black_box((difference >> 63) as u32)
}

/// Finds the mapping of an address, and keeps it for the next frame.
#[inline(always)]
fn find_mapping(walk: &mut Walk, address: u64) -> bool {
    if address >= walk.mapping.start && address < walk.mapping.end {
        return true;
    }
    if walk.program.len == 0 {
        return false;
    }
    // The last one that begins at the address or before it.
    let (mut low, mut size) = (walk.program.first, walk.program.len);
    for _ in 0..MAX_UNWIND_MAPPINGS.ilog2() {
        let half = size >> 1;
        let Some(mapping) = UNWIND_MAPPINGS.get(low.wrapping_add(half)) else { return false };
        let is_behind = all_if_negative((address >> 1) as i64 - (mapping.start >> 1) as i64);
        low = low.wrapping_add(half & !is_behind);
        size -= half;
    }
    let Some(mapping) = UNWIND_MAPPINGS.get(low) else { return false };
    if address < mapping.start || address >= mapping.end {
        return false;
    }
    walk.mapping = *mapping;
    true
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
