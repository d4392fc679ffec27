//! Where interrupts enter the kernel, by its symbol table.

use std::ops::Range;

use anyhow::{Result, bail};

use super::kallsyms;
use crate::arch::Architecture;

/// The kernel text that interrupts enter through: any stack that holds an address of it was taken
/// in an interrupt. Few ranges, in order of address: what follows each other is one.
///
/// # Errors
/// When the table cannot be read, or hides addresses (`kernel.kptr_restrict`, `CAP_SYSLOG`).
pub fn entries() -> Result<Vec<Range<u64>>> {
    let are_entries = Architecture::OWN.facts().kernel.interrupt_entries;
    let mut text = Vec::new();
    kallsyms::for_each_function(|address, name| {
        text.push((address, are_entries.iter().position(|is_entry| is_entry(name))));
    })?;
    text.sort_unstable();
    let Some(of_kernel) = text.iter().filter_map(|&(_, entry)| entry).min() else {
        bail!("{} names no interrupt entry that is known", kallsyms::TABLE);
    };
    let text: Vec<(u64, bool)> =
        text.into_iter().map(|(address, entry)| (address, entry == Some(of_kernel))).collect();
    Ok(ranges(&text))
}

/// Joins symbols, in order of address, into ranges. A symbol ends where the next one begins.
fn ranges(text: &[(u64, bool)]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (i, &(start, is_entry)) in text.iter().enumerate() {
        let end = text[i..].iter().map(|&(next, _)| next).find(|&next| next > start);
        let (true, Some(end)) = (is_entry, end) else { continue };
        match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = end.max(last.end),
            _ => ranges.push(start..end),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_entries_are_one_range() {
        let text = [(10, false), (20, true), (30, true), (40, false), (50, true), (60, false)];
        assert_eq!(ranges(&text), [20..40, 50..60]);
    }

    #[test]
    fn two_names_at_one_address_are_both_seen() {
        let text = [(10, false), (10, true), (20, false), (30, true), (40, false)];
        assert_eq!(ranges(&text), [10..20, 30..40]);
    }
}
