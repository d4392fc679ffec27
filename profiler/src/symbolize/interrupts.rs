//! Where interrupts enter the kernel, by its symbol table.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;

use anyhow::{Context, Result, bail};

use crate::arch::Architecture;

/// The kernel text that interrupts enter through: any stack that holds an address of it was taken
/// in an interrupt. Few ranges, in order of address: what follows each other is one.
///
/// # Errors
/// When the table cannot be read, or hides addresses (`kernel.kptr_restrict`, `CAP_SYSLOG`).
pub fn entries() -> Result<Vec<Range<u64>>> {
    const TABLE: &str = "/proc/kallsyms";
    let is_interrupt_entry = Architecture::OWN.facts().kernel.is_interrupt_entry;
    let reader = BufReader::new(File::open(TABLE).context(TABLE)?);
    let mut text = Vec::new();
    for line in reader.lines() {
        let line = line.context(TABLE)?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // Modules have no entry of the kernel, and are listed last.
        if words.next().is_some() {
            break;
        }
        if kind.eq_ignore_ascii_case("t") {
            let address = u64::from_str_radix(address, 16).context(TABLE)?;
            text.push((address, is_interrupt_entry(name)));
        }
    }
    text.sort_unstable();
    if text.last().is_none_or(|&(address, _)| address == 0) {
        bail!(
            "{TABLE} shows no addresses: run as root or with CAP_SYSLOG, and with `sysctl \
             kernel.kptr_restrict` at 0 or 1"
        );
    }
    let ranges = ranges(&text);
    if ranges.is_empty() {
        bail!("{TABLE} names no interrupt entry that is known");
    }
    Ok(ranges)
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
