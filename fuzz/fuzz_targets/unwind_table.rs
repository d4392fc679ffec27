//! Any bytes as an ELF file: a table comes of it or an error, and every use of the table ends.
//!
//! `fuzz/seed.sh`, then `cargo +nightly fuzz run unwind_table -- -max_len=65536`. On stable:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none unwind_table -- -max_len=65536`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use offwake::unwind::{Place, Registers, Table, build_from_bytes, walk};
use offwake_shared::{MAX_FRAMES, UNWIND_PAGE_BITS, UnwindRule};

/// Numbers made of the input.
struct Numbers<'a>(&'a [u8], u64);

impl Numbers<'_> {
    fn next(&mut self) -> u64 {
        let (bytes, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        for &byte in bytes {
            self.1 = self.1.rotate_left(8) ^ u64::from(byte);
        }
        self.1 = self.1.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.1
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = build_from_bytes(bytes) else { return };
    check(&table);

    // What is at the end of an ELF file matters least: numbers are made of it.
    let mut numbers = Numbers(&bytes[bytes.len().saturating_sub(256)..], 1);
    let first = u64::from(table.first_page) << UNWIND_PAGE_BITS;
    let size = (table.pages.len() as u64 + 1) << UNWIND_PAGE_BITS;
    for _ in 0..16 {
        table.rule_at(numbers.next());
        table.rule_at(first + numbers.next() % size);
        table.bias(numbers.next(), numbers.next() % (1 << 17));
    }
    let registers = Registers {
        pc: first + numbers.next() % size,
        sp: numbers.next() >> (numbers.next() % 64),
        fp: numbers.next() >> (numbers.next() % 64),
        other: numbers.next(),
        di: numbers.next(),
        in_syscall: numbers.next() % 2 == 0,
    };
    let unreadable = numbers.next() % 64;
    let place_of = |address: u64| {
        let rule = if address % 16 == 1 { UnwindRule::default() } else { table.rule_at(address) };
        (address % 64 != unreadable).then_some(Place { rule, bias: 0 })
    };
    let read = |address: u64, words: &mut [u64]| {
        words.iter_mut().zip(0..).for_each(|(word, index)| {
            let mixed = (address ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            *word = if mixed % 4 == 0 { mixed } else { first + mixed % size };
        });
        address % 64 != unreadable
    };
    let (frames, _) = walk(table.architecture, registers, place_of, read);
    assert!(frames.len() <= MAX_FRAMES);
});

/// Whether it is what its fields promise, and [`Table::rule_at`] finds what a plain search does.
fn check(table: &Table) {
    assert!(table.bytes() < 64 << 20);
    let Some((&end, pages)) = table.pages.split_last() else {
        assert!(table.rows.is_empty());
        return;
    };
    assert_eq!(end as usize, table.rows.len());
    for (page, &first) in pages.iter().enumerate() {
        let next = table.pages[page + 1];
        let rows = &table.rows[first as usize..next as usize];
        assert_eq!(rows[0].start, 0);
        assert!(rows.is_sorted_by(|a, b| a.start < b.start));
        for row in rows {
            let page = u64::from(table.first_page) + page as u64;
            let address = (page << UNWIND_PAGE_BITS) + u64::from(row.start);
            assert!(row.start < 1 << UNWIND_PAGE_BITS);
            assert_eq!(table.rule_at(address), table.rules[usize::from(row.rule)]);
        }
    }
    let last = table.rows.last().expect("not empty").rule;
    assert_eq!(table.rules[usize::from(last)], UnwindRule::default());
}
