//! What instructions and expressions become.

use offwake_shared::{CfaKind, SavedKind, UnwindRule};

use super::image::{Entries, Image, TEXT, USUAL};
use super::{Refused, Table, assert_sane, build, build_from_bytes, vdso};

fn table(entries: Entries) -> Table {
    let table = build_from_bytes(&Image::new(entries).bytes()).unwrap();
    assert_sane(&table);
    table
}

/// The rule after these instructions of a function.
#[track_caller]
fn rule_after(instructions: &[u8]) -> UnwindRule {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    entries.fde(cie, TEXT, 64, instructions);
    let table = table(entries);
    assert!(!table.damaged);
    table.rule_at(TEXT + 63)
}

fn cfa(kind: CfaKind, cfa_offset: i32, cfa_add: i32) -> UnwindRule {
    UnwindRule { cfa_kind: kind as u8, cfa_offset, cfa_add, ..UnwindRule::default() }
}

#[test]
fn registers_and_offsets() {
    assert_eq!(rule_after(&[]), cfa(CfaKind::Sp, 8, 0));
    assert_eq!(rule_after(&[0x0e, 0x90, 1]), cfa(CfaKind::Sp, 144, 0));
    assert_eq!(rule_after(&[0x0c, 6, 16]), cfa(CfaKind::Fp, 16, 0));
    assert_eq!(rule_after(&[0x0d, 3]), cfa(CfaKind::Other, 8, 0));
    // Factored by -8.
    assert_eq!(rule_after(&[0x12, 6, 0x7e]), cfa(CfaKind::Fp, 16, 0));
    assert_eq!(rule_after(&[0x13, 0x7d]), cfa(CfaKind::Sp, 24, 0));
    // r10, and more than 31 bits.
    assert_eq!(rule_after(&[0x0d, 10]), cfa(CfaKind::Unsupported, 0, 0));
    let too_large = rule_after(&[0x0e, 0x80, 0x80, 0x80, 0x80, 0x8]);
    assert_eq!(too_large, cfa(CfaKind::Unsupported, 0, 0));
}

#[test]
fn rows_begin_where_they_should() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    // push: CFA 16; after a remembered epilogue again; the rest is beyond the function.
    let instructions =
        [&[0x41, 0x0e, 16][..], &[0x44, 0x0a, 0x0e, 8, 0x41, 0x0b], &[0x02, 0xff, 0x0e, 24]];
    entries.fde(cie, TEXT + 0x20, 16, &instructions.concat());
    let table = table(entries);
    let offsets: Vec<i32> =
        (0x1f..0x31).map(|byte| table.rule_at(TEXT + byte).cfa_offset).collect();
    assert_eq!(offsets, [0, 8, 16, 16, 16, 16, 8, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 0]);
    assert_eq!(table.rule_at(0), UnwindRule::default());
    assert_eq!(table.rule_at(u64::MAX), UnwindRule::default());
}

#[test]
fn saved_registers() {
    let usual = cfa(CfaKind::Sp, 8, 0);
    let fp = |kind: SavedKind, fp_offset| UnwindRule { fp_kind: kind as u8, fp_offset, ..usual };
    let other = |kind: SavedKind, other_offset| UnwindRule {
        other_kind: kind as u8,
        other_offset,
        ..usual
    };
    assert_eq!(rule_after(&[0x86, 2]), fp(SavedKind::AtCfa, -16));
    assert_eq!(rule_after(&[0x83, 3]), other(SavedKind::AtCfa, -24));
    assert_eq!(rule_after(&[0x11, 6, 0x7f]), fp(SavedKind::AtCfa, 8));
    assert_eq!(rule_after(&[0x86, 2, 0xc6]), usual, "restored to what the CIE says");
    assert_eq!(rule_after(&[0x86, 2, 0x08, 6]), usual, "the same value");
    assert_eq!(rule_after(&[0x07, 6]), fp(SavedKind::Lost, 0), "undefined");
    assert_eq!(rule_after(&[0x09, 6, 12]), fp(SavedKind::Lost, 0), "in another register");
    assert_eq!(rule_after(&[0x09, 3, 3]), usual, "in itself");
    assert_eq!(rule_after(&[0x14, 6, 2]), fp(SavedKind::Lost, 0), "a value");
    // At rbp + 0, as code that aligns the stack has it; at rsp + 8.
    assert_eq!(rule_after(&[0x10, 6, 2, 0x76, 0]), fp(SavedKind::AtFp, 0));
    assert_eq!(rule_after(&[0x10, 3, 2, 0x76, 0x78]), other(SavedKind::AtFp, -8));
    assert_eq!(rule_after(&[0x10, 6, 2, 0x77, 8]), fp(SavedKind::Lost, 0));
    assert_eq!(rule_after(&[0x16, 6, 2, 0x76, 0]), fp(SavedKind::Lost, 0), "a value");
    // Other registers do not matter.
    assert_eq!(rule_after(&[0x8c, 2, 0x07, 13, 0x10, 14, 1, 0x96]), usual);
}

#[test]
fn expressions() {
    let expression = |bytes: &[u8]| {
        let mut instructions = vec![0x0f, bytes.len() as u8];
        instructions.extend(bytes);
        rule_after(&instructions)
    };
    let unsupported = cfa(CfaKind::Unsupported, 0, 0);
    assert_eq!(expression(&[0x76, 0x78, 0x06]), cfa(CfaKind::FpDeref, -8, 0));
    assert_eq!(expression(&[0x77, 0xa0, 1, 0x06]), cfa(CfaKind::SpDeref, 160, 0));
    assert_eq!(expression(&[0x77, 8, 0x06, 0x23, 16]), cfa(CfaKind::SpDeref, 8, 16));
    assert_eq!(expression(&[0x77, 8, 0x06, 0x38, 0x22]), cfa(CfaKind::SpDeref, 8, 8));
    assert_eq!(expression(&[0x77, 8, 0x06, 0x08, 40, 0x1c]), cfa(CfaKind::SpDeref, 8, -40));
    assert_eq!(expression(&[0x77, 24]), cfa(CfaKind::Sp, 24, 0));
    assert_eq!(expression(&[0x73, 24, 0x23, 8]), cfa(CfaKind::Other, 32, 0));
    assert_eq!(expression(&[0x73, 24, 0x06]), unsupported, "no rule for *(rbx + n)");
    assert_eq!(expression(&[0x77, 8, 0x06, 0x06]), unsupported);
    assert_eq!(expression(&[0x30]), unsupported);
    assert_eq!(expression(&[0x77, 8, 0x94, 4]), unsupported, "a word of 4 bytes");
    // Procedure linkage tables: lazy, with IBT, and one that nobody makes.
    for first_byte in [11, 9, 5] {
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x30 + first_byte, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(expression(&plt), cfa(CfaKind::Plt, first_byte.into(), 0));
        let mut other = plt;
        other[4] = 0x37;
        assert_eq!(expression(&other), unsupported);
    }
}

#[test]
fn return_addresses() {
    assert_eq!(rule_after(&[0x07, 16]), cfa(CfaKind::Outermost, 0, 0));
    assert_eq!(rule_after(&[0x07, 16, 0xd0]), cfa(CfaKind::Sp, 8, 0));
    for elsewhere in [&[0x90, 2][..], &[0x08, 16], &[0x09, 16, 0], &[0x10, 16, 2, 0x77, 0]] {
        assert_eq!(rule_after(elsewhere), cfa(CfaKind::Unsupported, 0, 0));
    }
    // A CIE that says nothing.
    let mut entries = Entries::default();
    let cie = entries.cie("", &[0x0c, 7, 8]);
    entries.fde(cie, TEXT, 8, &[]);
    assert_eq!(table(entries).rule_at(TEXT), cfa(CfaKind::Unsupported, 0, 0));
}

#[test]
fn signal_frames() {
    let mut entries = Entries::default();
    let cie = entries.cie("zS", &[]);
    entries.fde_z(cie, TEXT + 0xf, 10, &[]);
    let table = table(entries);
    assert_eq!(table.rule_at(TEXT + 0xf), cfa(CfaKind::Signal, 0, 0));
    assert_eq!(table.rule_at(TEXT + 0x18), cfa(CfaKind::Signal, 0, 0));
    assert_eq!(table.rule_at(TEXT + 0x19), UnwindRule::default());
}

/// Entries that overlap, are empty, out of order, or of code that was discarded.
#[test]
fn any_order() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    let offset = |offset| [0x0e, offset];
    entries.fde(cie, TEXT + 0x300, 0x10, &offset(48));
    entries.fde(cie, 0, TEXT + 0x10_0000, &offset(99));
    entries.fde(cie, TEXT + 0x100, 0x100, &offset(16));
    entries.fde(cie, TEXT + 0x180, 0x20, &offset(24));
    entries.0.extend([0; 4]);
    entries.fde(cie, TEXT + 0x110, 0, &offset(99));
    entries.fde(cie, TEXT + 0x180, 0x10, &offset(99));
    entries.fde(cie, TEXT + 0xff0, 0x1_0000, &offset(32));
    entries.fde(cie, u64::MAX, 2, &offset(99));
    let table = table(entries);
    let at = |byte| table.rule_at(TEXT + byte).cfa_offset;
    assert_eq!([at(0xff), at(0x100), at(0x17f)], [0, 16, 16]);
    assert_eq!([at(0x180), at(0x19f), at(0x1a0)], [24, 24, 0]);
    assert_eq!([at(0x2ff), at(0x300), at(0x310)], [0, 48, 0]);
    assert_eq!([at(0xff0), at(0xfff), at(0x1000)], [32, 32, 0]);
    assert!(!table.damaged);
}

#[test]
fn padding_needs_no_rows() {
    let mut image = {
        let mut entries = Entries::default();
        let cie = entries.cie("", USUAL);
        for begin in [0x10, 0x20, 0x30, 0x60] {
            entries.fde(cie, TEXT + begin, 8, &[]);
        }
        Image::new(entries)
    };
    // A nop of 8 bytes; then one of 7, a breakpoint, and code.
    let (long, shorter) =
        ([0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], [0x66, 0x2e, 0x0f, 0x1f, 0x40, 0, 0xcc]);
    image.text[0x18..0x20].copy_from_slice(&long);
    image.text[0x28..0x2f].copy_from_slice(&shorter);
    image.text[0x38..0x60].fill(0x90);
    let bytes = image.bytes();
    let table = build_from_bytes(&bytes).unwrap();
    let has_rule = |byte| table.rule_at(TEXT + byte) != UnwindRule::default();
    assert!(has_rule(0x18) && has_rule(0x1f));
    assert!(!has_rule(0x28), "code in the gap");
    assert!(!has_rule(0x38), "a gap too long");
    assert!(!has_rule(0x68), "behind the last");
    image.text[0x2f] = 0;
    let table = build_from_bytes(&image.bytes()).unwrap();
    assert!(table.rule_at(TEXT + 0x28) != UnwindRule::default());
}

#[test]
fn code_that_returns_from_signals() {
    let long = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let short = [0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let signal = cfa(CfaKind::Signal, 0, 0);
    let mut image = Image::new(Entries::default());
    image.text = vec![0x90; 0x10_0000];
    // One is cut by the end of a piece that is read at once.
    let cut = super::super::text::PIECE - 3;
    image.text[cut..cut + long.len()].copy_from_slice(&long);
    image.text[0x100..0x107].copy_from_slice(&short);
    let table = build_from_bytes(&image.bytes()).unwrap();
    assert_sane(&table);
    for (begin, size) in [(cut as u64, 9), (0x100, 7)] {
        // The handler returns to its first byte, and the byte before is looked up.
        let of: Vec<bool> =
            (0..size + 3).map(|byte| table.rule_at(TEXT + begin - 2 + byte) == signal).collect();
        assert!(!of[0] && of[1..of.len() - 1].iter().all(|&is| is) && !of[of.len() - 1], "{of:?}");
    }

    // Where an entry describes it, that holds.
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    entries.fde(cie, TEXT + 0xf0, 0x40, &[]);
    image.eh_frame = entries.0;
    let table = build_from_bytes(&image.bytes()).unwrap();
    assert_eq!(table.rule_at(TEXT + 0x100), cfa(CfaKind::Sp, 8, 0));
    assert_eq!(table.rule_at(TEXT + cut as u64), signal);
}

/// Nobody describes the procedure linkage table of aarch64.
#[test]
fn linkage_on_aarch64() {
    /// `bti c`, `stp x16, x30, [sp, #-16]!`, `adrp x16, …`.
    const FIRST: [u32; 3] = [0xd503_245f, 0xa9bf_7bf0, 0x9000_0010];
    let in_lr = cfa(CfaKind::Sp, 0, 0);
    let other_kind = SavedKind::AtCfa as u8;
    let pushed = UnwindRule { other_kind, other_offset: -8, ..cfa(CfaKind::Sp, 16, 0) };
    for skipped in [0, 1] {
        let mut image = Image::new(Entries::default());
        (image.machine, image.linkage) = (183, 64);
        let first = FIRST[skipped..].iter().flat_map(|it| it.to_le_bytes());
        image.text.splice(..first.clone().count(), first.collect::<Vec<u8>>());
        let table = build_from_bytes(&image.bytes()).unwrap();
        assert_sane(&table);
        let behind = TEXT + 8 - 4 * skipped as u64;
        for address in (TEXT..TEXT + 72).step_by(4) {
            let expected = match address {
                _ if address >= TEXT + 64 => UnwindRule::default(),
                _ if (behind..TEXT + 32).contains(&address) => pushed,
                _ => in_lr,
            };
            assert_eq!(table.rule_at(address), expected, "{:#x}", address - TEXT);
        }
        // On x86-64 it is described.
        image.machine = 62;
        assert_eq!(build_from_bytes(&image.bytes()), Err(Refused::NoFrames));
        // Stubs without the one that pushes, as in a static program; and what the file has not.
        image.machine = 183;
        image.text = vec![0xc3; 0x1000];
        assert_eq!(build_from_bytes(&image.bytes()).unwrap().rule_at(TEXT + 8), in_lr);
        image.linkage = 0x1001;
        assert_eq!(build_from_bytes(&image.bytes()), Err(Refused::NoFrames));
    }
}

#[test]
fn without_sections() {
    let mut entries = Entries::default();
    let cie = entries.cie("", USUAL);
    entries.fde(cie, TEXT, 8, &[]);
    entries.0.extend([0; 4]);
    // Behind the terminator there is something else.
    entries.0.extend([0xff; 32]);
    let mut image = Image::new(entries);
    (image.sections, image.hdr) = (false, true);
    let table = build_from_bytes(&image.bytes()).unwrap();
    assert_eq!(table.rule_at(TEXT), cfa(CfaKind::Sp, 8, 0));
    assert!(!table.damaged);
    image.hdr = false;
    assert_eq!(build_from_bytes(&image.bytes()), Err(Refused::NoFrames));
}

/// A file that is open gives what its bytes give.
#[test]
fn files_and_bytes() {
    let path = std::env::current_exe().unwrap();
    let from_file = build(&std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(from_file, build_from_bytes(&std::fs::read(&path).unwrap()).unwrap());
    assert_sane(&from_file);
    assert!(from_file.bytes() > 4 * from_file.rows.len());
    let vdso = build_from_bytes(&vdso()).unwrap();
    assert_sane(&vdso);
    assert_eq!(vdso.bias(0x7000_0000, 0), Some(0x7000_0000));
}

#[test]
fn refused() {
    let refused = |image: &Image| build_from_bytes(&image.bytes()).unwrap_err().to_string();
    let mut image = Image::new(Entries::default());
    assert_eq!(refused(&image), "it has no call frame information");
    image.machine = 243;
    assert_eq!(refused(&image), "of another machine");
    (image.machine, image.class) = (3, 1);
    assert_eq!(refused(&image), "of another machine");
    assert_eq!(build_from_bytes(b"#!/bin/sh\n"), Err(Refused::NotElf));
    assert_eq!(build_from_bytes(&[]), Err(Refused::NotElf));
    let cut = &Image::new(Entries::default()).bytes()[..64];
    let expected = "malformed: its program headers are not in the file";
    assert_eq!(build_from_bytes(cut).unwrap_err().to_string(), expected);
}

#[test]
fn biases() {
    use super::super::Segment;
    let segment = |file, address, executable| Segment { file, address, executable };
    // As lld makes them: all three share pages of the file with their neighbours.
    let table = Table {
        segments: vec![
            segment(0..0x1234, 0, false),
            segment(0x1234..0x3100, 0x2234, true),
            segment(0x3100..0x3800, 0x5100, false),
        ],
        ..Table::default()
    };
    // The second is mapped from its first page on, 0x1000 above where it is in the file.
    assert_eq!(table.bias(0x7f00_2000, 0x1000), Some(0x7f00_0000));
    assert_eq!(table.bias(0x7f00_4000, 0x3000), Some(0x7f00_0000));
    assert_eq!(table.bias(0x7f00_0000, 0), Some(0x7f00_0000));
    assert_eq!(table.bias(0x7f00_0000, 0x4000), None);
}
