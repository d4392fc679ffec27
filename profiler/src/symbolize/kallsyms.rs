//! The kernel's table of its own symbols.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;

use anyhow::{Context, Result, bail};

pub(super) const TABLE: &str = "/proc/kallsyms";

/// Calls `visit` with the address and the name of each function that is not in a module.
///
/// # Errors
/// When the table cannot be read, or hides addresses (`kernel.kptr_restrict`, `CAP_SYSLOG`).
pub(crate) fn for_each_function(visit: impl FnMut(u64, &str)) -> Result<()> {
    for_each_function_to(None, visit)
}

/// The same, up to a symbol, which is visited, too. They come in order of address (`scripts/kallsyms.c`), and the kernel
/// takes 0.5 us to tell of one.
///
/// # Errors
/// As for [`for_each_function`].
pub(super) fn for_each_function_to(
    last: Option<&str>,
    mut visit: impl FnMut(u64, &str),
) -> Result<()> {
    let mut reader = BufReader::new(File::open(TABLE).context(TABLE)?);
    let (mut line, mut highest) = (String::new(), 0);
    while reader.read_line(&mut line).context(TABLE)? > 0 {
        let mut words = line.split_ascii_whitespace();
        let (address, kind, name) = (words.next(), words.next(), words.next());
        // Modules have functions that are not the kernel's own, and are listed last.
        if words.next().is_some() {
            break;
        }
        if let (Some(address), Some(kind), Some(name)) = (address, kind, name)
            && kind.eq_ignore_ascii_case("t")
        {
            let address = u64::from_str_radix(address, 16).context(TABLE)?;
            highest = address.max(highest);
            visit(address, name);
            if last == Some(name) {
                break;
            }
        }
        line.clear();
    }
    if highest == 0 {
        bail!(
            "{TABLE} shows no addresses: run as root or with CAP_SYSLOG, and with `sysctl \
             kernel.kptr_restrict` at 0 or 1"
        );
    }
    Ok(())
}

/// The symbols of functions that the compiler may have given a suffix: `finish_task_switch` is
/// `finish_task_switch.isra.0` in many kernels.
///
/// # Errors
/// When the table of symbols cannot be read, or hides addresses.
pub fn find(names: &[&str]) -> Result<Vec<Option<String>>> {
    let mut found = vec![None; names.len()];
    for_each_function(|_, symbol| {
        for (name, found) in names.iter().zip(&mut found) {
            if is_better(symbol, name, found.is_some()) {
                *found = Some(symbol.to_owned());
            }
        }
    })?;
    Ok(found)
}

/// Where these functions are, each under exactly this name or with a suffix as for [`find`]. A function ends where
/// the next symbol begins.
///
/// # Errors
/// As for [`find`].
pub(crate) fn ranges(names: &[&str]) -> Result<Vec<Option<Range<u64>>>> {
    let mut addresses = Vec::new();
    let mut starts = vec![None; names.len()];
    for_each_function(|address, symbol| {
        addresses.push(address);
        for (name, start) in names.iter().zip(&mut starts) {
            if is_better(symbol, name, start.is_some()) {
                *start = Some(address);
            }
        }
    })?;
    addresses.sort_unstable();
    let range = |start: u64| {
        let next = addresses.partition_point(|&address| address <= start);
        Some(start..*addresses.get(next)?)
    };
    Ok(starts.into_iter().map(|start| range(start?)).collect())
}

/// Whether a symbol is that of a function. `has_other`: one that may be was found already; the very name is better.
fn is_better(symbol: &str, name: &str, has_other: bool) -> bool {
    symbol == name || !has_other && is_variant(symbol, name)
}

/// Whether the symbol is that of the function as a whole, and not of a part of it (`.cold`, `.part.0`, `.__part.1`) or of
/// a jump to it (`.cfi_jt`): GCC and Clang append what else they have done, with a number.
fn is_variant(symbol: &str, name: &str) -> bool {
    const DONE: [&str; 5] = ["isra", "constprop", "lto_priv", "llvm", "__uniq"];
    let Some(suffix) = symbol.strip_prefix(name) else { return false };
    let is_known = |word: &str| DONE.contains(&word) || word.bytes().all(|b| b.is_ascii_digit());
    suffix.is_empty() || suffix.starts_with('.') && suffix.split('.').skip(1).all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_whole_functions() {
        for (symbol, is) in [
            ("finish_task_switch", true),
            ("finish_task_switch.isra.0", true),
            ("finish_task_switch.constprop.0.isra.12", true),
            ("finish_task_switch.llvm.4213370815", true),
            ("finish_task_switch.__uniq.98765.llvm.4213370815", true),
            ("finish_task_switch.lto_priv.0", true),
            ("finish_task_switch.cold", false),
            ("finish_task_switch.isra.0.cold", false),
            ("finish_task_switch.part.0", false),
            ("finish_task_switch.__part.1", false),
            ("finish_task_switch.cfi_jt", false),
            ("finish_task_switch_old", false),
            ("finish_task", false),
        ] {
            assert_eq!(is_variant(symbol, "finish_task_switch"), is, "{symbol}");
        }
    }

    #[test]
    fn the_very_name_is_better_in_any_order() {
        assert!(is_better("f.isra.0", "f", false));
        assert!(is_better("f", "f", true));
        assert!(!is_better("f.isra.0", "f", true));
    }
}
