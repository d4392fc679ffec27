//! Each way in which a walk goes on or ends, on stacks made by hand.

use std::collections::HashMap;

use offwake_shared::{CfaKind, MAX_FRAMES, SavedKind, StackEnd, UnwindRow, UnwindRule};

use super::super::{Place, Registers, Table, walk};
use crate::arch::Architecture;

const BIAS: u64 = 0x5500_0000;
const PAGE: u64 = 0x1000;

/// A table with one rule for each page from page 1 on.
fn table(rules: &[UnwindRule]) -> Table {
    let count = rules.len() as u32;
    Table {
        first_page: 1,
        pages: (0..=count).collect(),
        rows: (0..count).map(|rule| UnwindRow { start: 0, rule: rule as u16 }).collect(),
        rules: rules.to_vec(),
        ..Table::default()
    }
}

/// An address in the page with this rule.
fn code(rule: u64, byte: u64) -> u64 {
    BIAS + (1 + rule) * PAGE + byte
}

fn rule(cfa_kind: CfaKind, cfa_offset: i32) -> UnwindRule {
    UnwindRule { cfa_kind: cfa_kind as u8, cfa_offset, ..UnwindRule::default() }
}

/// Walks by the rules; memory is those words, code those pages and one without a table before.
fn run(rules: &[UnwindRule], registers: Registers, memory: &[(u64, u64)]) -> (Vec<u64>, StackEnd) {
    let table = table(rules);
    let memory: HashMap<u64, u64> = memory.iter().copied().collect();
    let place_of = |address: u64| {
        let page = address.checked_sub(BIAS)? / PAGE;
        match page {
            0 => Some(Place { rule: UnwindRule::default(), bias: 0 }),
            _ if page <= rules.len() as u64 => {
                Some(Place { rule: table.rule_at(address - BIAS), bias: BIAS })
            }
            _ => None,
        }
    };
    walk(Architecture::X86_64, registers, place_of, |address, words| {
        words.iter_mut().zip(0..).all(|(word, index)| {
            memory.get(&address.wrapping_add(index * 8)).map(|found| *word = *found).is_some()
        })
    })
}

fn at(pc: u64, sp: u64) -> Registers {
    Registers { pc, sp, ..Registers::default() }
}

#[test]
fn each_kind_of_frame_address() {
    let outermost = rule(CfaKind::Outermost, 0);
    let end = code(1, 4);
    let registers = Registers { fp: 0x200, other: 0x300, ..at(code(0, 0), 0x100) };
    let deref = |kind| UnwindRule { cfa_add: 16, ..rule(kind, 8) };
    let cases = [
        (rule(CfaKind::Sp, 24), vec![(0x110, end)]),
        (rule(CfaKind::Fp, 16), vec![(0x208, end)]),
        (rule(CfaKind::Other, 8), vec![(0x300, end)]),
        (deref(CfaKind::SpDeref), vec![(0x108, 0x400), (0x408, end)]),
        (deref(CfaKind::FpDeref), vec![(0x208, 0x400), (0x408, end)]),
    ];
    for (rule, memory) in cases {
        let walked = run(&[rule, outermost], registers, &memory);
        assert_eq!(walked, (vec![code(0, 0), end], StackEnd::Complete), "{rule:?}");
        let (_, unreadable) = run(&[rule, outermost], registers, &[]);
        assert_eq!(unreadable, StackEnd::Unreadable);
    }
}

#[test]
fn linkage_tables() {
    let rules = [rule(CfaKind::Plt, 11), rule(CfaKind::Outermost, 0)];
    let memory = [(0x100, code(1, 1)), (0x108, code(1, 2))];
    let caller = |byte| run(&rules, at(code(0, byte), 0x100), &memory).0[1];
    assert_eq!([caller(0x20), caller(0x2a)], [code(1, 1); 2]);
    assert_eq!([caller(0x2b), caller(0x2f)], [code(1, 2); 2]);
}

#[test]
fn saved_registers() {
    // The frame pointer and rbx of the first frame lead to the second and the third.
    let saved = |kind: SavedKind, offset| UnwindRule {
        fp_kind: kind as u8,
        fp_offset: offset,
        other_kind: kind as u8,
        other_offset: offset,
        ..rule(CfaKind::Sp, 16)
    };
    let rules = |kind, offset| {
        let lost = UnwindRule { other_kind: SavedKind::Same as u8, ..rule(CfaKind::Fp, 16) };
        [saved(kind, offset), lost, rule(CfaKind::Other, 0x90), rule(CfaKind::Outermost, 0)]
    };
    let registers = Registers { fp: 0x200, other: 0x200, ..at(code(0, 0), 0x100) };
    let frames = vec![code(0, 0), code(1, 1), code(2, 1), code(3, 1)];
    let memory = |base: u64, save: (u64, u64)| {
        [(0x108, code(1, 1)), (base + 8, code(2, 1)), (base + 0x88, code(3, 1)), save]
    };
    let walked = run(&rules(SavedKind::Same, 0), registers, &memory(0x200, (0, 0)));
    assert_eq!(walked, (frames.clone(), StackEnd::Complete));
    let walked = run(&rules(SavedKind::AtCfa, -16), registers, &memory(0x600, (0x100, 0x600)));
    assert_eq!(walked, (frames.clone(), StackEnd::Complete));
    let walked = run(&rules(SavedKind::AtFp, 8), registers, &memory(0x600, (0x208, 0x600)));
    assert_eq!(walked, (frames, StackEnd::Complete));
    // What is lost is 0, and the CFA has to grow.
    let walked = run(&rules(SavedKind::Lost, 0), registers, &memory(0x200, (0, 0)));
    assert_eq!(walked, (vec![code(0, 0), code(1, 1)], StackEnd::Astray));
    // What was saved cannot be read.
    let walked = run(&rules(SavedKind::AtCfa, -16), registers, &[(0x108, code(1, 1))]);
    assert_eq!(walked, (vec![code(0, 0)], StackEnd::Unreadable));
}

#[test]
fn return_addresses_are_looked_up_before() {
    let rules = [rule(CfaKind::Sp, 8), rule(CfaKind::Outermost, 0)];
    // It returns to the first byte of page 2, from a call at the end of page 1.
    let memory = [(0x100, code(1, PAGE))];
    let (frames, end) = run(&rules, at(code(0, 0), 0x100), &memory);
    assert_eq!((frames[1], end), (code(2, 0), StackEnd::Complete));
    // Not so the first, unless it is behind a system call.
    let first = at(code(1, 0), 0x100);
    assert_eq!(run(&rules, first, &memory).0.len(), 1);
    let in_syscall = Registers { in_syscall: true, ..first };
    assert_eq!(run(&rules, in_syscall, &memory).0, [code(1, 0), code(2, 0)]);
}

#[test]
fn ends() {
    let sp = rule(CfaKind::Sp, 8);
    let first = code(0, 0);
    let run = |rules: &[UnwindRule], memory: &[(u64, u64)]| run(rules, at(first, 0x100), memory);
    assert_eq!(run(&[sp], &[(0x100, 0)]), (vec![first], StackEnd::Complete));
    assert_eq!(run(&[sp], &[]), (vec![first], StackEnd::Unreadable));
    assert_eq!(run(&[sp], &[(0x100, 7)]), (vec![first, 7], StackEnd::Unmapped));
    let unsupported = rule(CfaKind::Unsupported, 0);
    assert_eq!(run(&[unsupported], &[]), (vec![first], StackEnd::Unsupported));
    for shrinking in [0, -8, -0x100] {
        let walked = run(&[rule(CfaKind::Sp, shrinking)], &[(0xf8, first)]);
        assert_eq!(walked, (vec![first], StackEnd::Astray));
    }
    let memory: Vec<(u64, u64)> = (0..1000).map(|n| (0x100 + 8 * n, first + 1)).collect();
    let (frames, end) = run(&[sp], &memory);
    assert_eq!((frames.len(), end), (MAX_FRAMES, StackEnd::Truncated));
    // One that has just as many.
    let mut fits = memory;
    fits[MAX_FRAMES - 1].1 = 0;
    let (frames, end) = run(&[sp], &fits);
    assert_eq!((frames.len(), end), (MAX_FRAMES, StackEnd::Complete));
}

#[test]
fn code_without_tables() {
    // Compiled at run time, with frame pointers; its caller is described.
    let jit = BIAS + 0x10;
    let rules = [rule(CfaKind::Fp, 16), rule(CfaKind::Outermost, 0)];
    let registers = |fp| Registers { fp, ..at(jit, 0x100) };
    let memory =
        [(0x120, 0x140), (0x128, jit), (0x140, 0x160), (0x148, code(0, 9)), (0x168, code(1, 9))];
    let expected = vec![jit, jit, code(0, 9), code(1, 9)];
    assert_eq!(run(&rules, registers(0x120), &memory), (expected, StackEnd::Complete));
    // The outermost has no frame pointer, or no return address.
    let outermost = [(0x120, 0), (0x128, jit)];
    assert_eq!(run(&rules, registers(0x120), &outermost), (vec![jit, jit], StackEnd::Complete));
    let neither = [(0x120, 0), (0x128, 0)];
    assert_eq!(run(&rules, registers(0x120), &neither), (vec![jit], StackEnd::Complete));
    let last = [(0x120, 0), (0x128, jit + 1)];
    assert_eq!(run(&rules, registers(0x120), &last), (vec![jit, jit + 1], StackEnd::Complete));
    // It was used for something else: it points below the stack, nowhere, or at no code.
    let astray = (vec![jit], StackEnd::Astray);
    // Where the thread stands, it may as well not have been set up.
    assert_eq!(run(&rules, registers(0), &memory), astray);
    assert_eq!(run(&rules, registers(0x120), &[(0x120, 0x140), (0x128, 0)]), astray);
    assert_eq!(run(&rules, registers(0x98), &memory), astray);
    assert_eq!(run(&rules, registers(0x1_0000), &memory), astray);
    assert_eq!(run(&rules, registers(0x120), &[(0x120, 0x140), (0x128, 7)]), astray);
}

#[test]
fn vfork() {
    let rules = [rule(CfaKind::ReturnInDi, 0), rule(CfaKind::Sp, 8), rule(CfaKind::Outermost, 0)];
    let registers = Registers { di: code(1, 5), ..at(code(0, 0), 0x100) };
    let memory = [(0x100, code(2, 3))];
    let frames = vec![code(0, 0), code(1, 5), code(2, 3)];
    assert_eq!(run(&rules, registers, &memory), (frames, StackEnd::Complete));
    // A caller's `rdi` is not known.
    let rules = [rule(CfaKind::Sp, 8), rule(CfaKind::ReturnInDi, 0)];
    let walked = run(&rules, registers, &[(0x100, code(1, 5))]);
    assert_eq!(walked, (vec![code(0, 0), code(1, 5)], StackEnd::Unsupported));
}

#[test]
fn signals() {
    // The handler's caller returns to the first byte of page 2, which is the kernel's frame; on
    // another stack, below.
    let rules = [rule(CfaKind::Sp, 8), rule(CfaKind::Signal, 0), rule(CfaKind::Fp, 16)];
    let rules = [&rules[..], &[rule(CfaKind::Other, 8), rule(CfaKind::Outermost, 0)]].concat();
    let interrupted = code(2, 0);
    let context = 0x9108;
    let gregs = context + 40 + 10 * 8;
    let memory = [
        (0x9100, code(1, 0) + 1),
        (gregs, 0x200),
        (gregs + 8, 0x300),
        (gregs + 16, 1),
        (gregs + 24, 2),
        (gregs + 32, 3),
        (gregs + 40, 0x100),
        (gregs + 48, interrupted),
        (0x208, code(3, 1)),
        (0x300, code(4, 1)),
    ];
    let (frames, end) = run(&rules, at(code(0, 0), 0x9100), &memory);
    // Where the handler returns to and where it was interrupted is exact: one more makes it what return
    // addresses are.
    let expected = [code(0, 0), code(1, 2), interrupted + 1, code(3, 1), code(4, 1)];
    assert_eq!((frames.as_slice(), end), (&expected[..], StackEnd::Complete));
    let (frames, end) = run(&rules, at(code(0, 0), 0x9100), &memory[..1]);
    assert_eq!((frames.len(), end), (2, StackEnd::Unreadable));
}
