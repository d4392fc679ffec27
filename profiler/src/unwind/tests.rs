//! Tests of the tables and of the walk. Those of running programs need gcc.

use std::ops::Range;
use std::path::PathBuf;

use offwake_shared::{UNWIND_PAGE_BITS, UnwindRule};

use super::*;
use crate::arch::Architecture;
use crate::saved::random::Random;

mod hostile;
mod image;
#[cfg(target_arch = "x86_64")]
mod live;
mod oracle;
mod rules;
mod walks;

/// Whether a table is what its fields promise.
#[track_caller]
fn assert_sane(table: &Table) {
    if table.rows.is_empty() {
        assert!(table.pages.is_empty());
        return;
    }
    assert_eq!(table.pages[0], 0);
    assert_eq!(*table.pages.last().unwrap() as usize, table.rows.len());
    for page in table.pages.windows(2) {
        let rows = &table.rows[page[0] as usize..page[1] as usize];
        assert_eq!(rows[0].start, 0, "the first row of a page");
        assert!(rows.iter().all(|row| row.start < 1 << UNWIND_PAGE_BITS));
        assert!(rows.windows(2).all(|pair| pair[0].start < pair[1].start), "rows ascend");
    }
    assert!(table.rows.iter().all(|row| usize::from(row.rule) < table.rules.len()));
    let last_rule = table.rows.last().unwrap().rule;
    assert_eq!(table.rules[usize::from(last_rule)], UnwindRule::default(), "it ends");
}

/// A mapping of a process.
struct Mapping {
    range: Range<u64>,
    offset: u64,
    /// Empty where it is not of a file.
    name: String,
}

/// The executable mappings of a process.
fn mappings_of(pid: u32) -> Vec<Mapping> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mapping = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let offset = number(fields.next()?)?;
        let name = fields.nth(2).unwrap_or_default().to_owned();
        let range = number(start)?..number(end)?;
        permissions.contains('x').then_some(Mapping { range, offset, name })
    };
    maps.lines().filter_map(mapping).collect()
}

/// The number of the system call that a process is in, and more.
fn system_call_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap()
}

/// Where this process has its code from: the C library, the loader, and the tests.
fn own_files() -> Vec<PathBuf> {
    let mappings = mappings_of(std::process::id()).into_iter();
    let mut files: Vec<PathBuf> = mappings
        .map(|mapping| mapping.name.into())
        .filter(|path: &PathBuf| path.is_file())
        .collect();
    files.sort();
    files.dedup();
    files
}

/// The image of the vDSO of this process.
fn vdso() -> Vec<u8> {
    let mappings = mappings_of(std::process::id());
    let vdso = mappings.iter().find(|mapping| mapping.name == "[vdso]").expect("a vDSO");
    let size = (vdso.range.end - vdso.range.start) as usize;
    // SAFETY: the kernel keeps the vDSO mapped there, readable, for as long as the process lives.
    unsafe { std::slice::from_raw_parts(vdso.range.start as *const u8, size) }.to_vec()
}
