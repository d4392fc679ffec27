//! Where interrupts enter the kernel, by its symbol table.

use std::ops::Range;

use anyhow::{Result, bail};

use super::kallsyms;
use crate::arch::Architecture;

/// The kernel text that interrupts enter through: any stack that holds an address of it was taken
/// in an interrupt. Few ranges, in order of address: what follows each other is one.
///
/// `has_cpu_flag`: whether `/proc/cpuinfo` has a flag.
///
/// # Errors
/// When the table cannot be read, or hides addresses (`kernel.kptr_restrict`, `CAP_SYSLOG`).
pub fn entries(has_cpu_flag: impl Fn(&str) -> bool) -> Result<Vec<Range<u64>>> {
    let mut ways: Vec<_> = Architecture::OWN.facts().kernel.interrupt_entries.iter().collect();
    ways.retain(|way| way.cpu_flag.is_none_or(&has_cpu_flag));
    // The one that all ways lie before, if there is one.
    let last = ways.iter().map(|way| way.end).reduce(|one, other| one.filter(|_| one == other));
    let mut text = Vec::new();
    kallsyms::for_each_function_to(last.flatten(), |address, name| {
        text.push((address, ways.iter().position(|way| (way.is_entry)(name))));
    })?;
    text.sort_unstable();
    let ranges = ranges(&of_newest(&text));
    if ranges.is_empty() {
        bail!("{} names no interrupt entry that is known", kallsyms::TABLE);
    }
    Ok(ranges)
}

/// Whether each symbol is an entry, of symbols with the number of the way whose entries they may be: those of the
/// newest count.
fn of_newest(text: &[(u64, Option<usize>)]) -> Vec<(u64, bool)> {
    let newest = text.iter().filter_map(|&(_, way)| way).min();
    let is_entry = |way: Option<usize>| way.is_some() && way == newest;
    text.iter().map(|&(address, way)| (address, is_entry(way))).collect()
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

    /// The rest of the kernel's symbols is not looked at.
    #[test]
    fn all_entries_of_this_kernel_lie_before_the_end() {
        let table = std::fs::read_to_string(kallsyms::TABLE).unwrap();
        let names: Vec<&str> =
            table.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)).collect();
        for way in Architecture::OWN.facts().kernel.interrupt_entries {
            let Some(end) = way.end else { continue };
            let end = names.iter().position(|&name| name == end).expect("it has the symbol");
            assert!(!names[end..].iter().any(|name| (way.is_entry)(name)));
        }
    }

    #[test]
    fn names_of_older_kernels_count_where_there_are_no_newer() {
        let (newer, older) = (Some(0), Some(1));
        assert_eq!(of_newest(&[(1, older), (2, None)]), [(1, true), (2, false)]);
        assert_eq!(of_newest(&[(1, older), (2, newer)]), [(1, false), (2, true)]);
        assert_eq!(of_newest(&[(1, None)]), [(1, false)]);
    }

    #[test]
    fn two_names_at_one_address_are_both_seen() {
        let text = [(10, false), (10, true), (20, false), (30, true), (40, false)];
        assert_eq!(ranges(&text), [10..20, 30..40]);
    }
}
