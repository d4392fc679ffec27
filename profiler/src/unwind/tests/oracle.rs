//! The tables against gimli's own unwinder, which finds the entry by the linker's index and runs
//! its instructions anew for each address.
//!
//! What is compared is not the rules but what they do: from the same registers and the same memory,
//! both have to get to the same registers of the caller.

use std::path::{Path, PathBuf};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EhFrameOffset, EndianSlice, Evaluation,
    EvaluationResult, LittleEndian, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow, Value, Vendor,
};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

use offwake_shared::{CfaKind, StackEnd};

use super::super::walk::{FoundBy, Frame, step};
use super::*;
use crate::arch::{DwarfRegisters, ReturnAddress};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// How many addresses of each file are compared.
const SAMPLES: u64 = 40_000;

const REGISTERS: Registers = Registers {
    pc: 0,
    sp: 0x7f00_0000_1000,
    fp: 0x7f00_0000_2340,
    other: 0x7f00_0000_5678,
    di: 5,
    in_syscall: false,
};

/// The word at an address. Large, so that a CFA that is read from memory is above the stack pointer.
fn memory(address: u64) -> u64 {
    Random(address).number() | 1 << 63
}

/// What gimli makes of a row: the return address, the CFA, and the two saved registers. `None` for
/// what the tables cannot express, and for what is undefined.
#[derive(Debug, PartialEq, Eq)]
enum Caller {
    Registers { pc: u64, sp: u64, fp: Option<u64>, other: Option<u64> },
    Outermost,
    Other,
}

struct Oracle<'a> {
    architecture: Architecture,
    frame: EhFrame<Bytes<'a>>,
    address: u64,
}

impl<'a> Oracle<'a> {
    fn evaluate(&self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        let encoding =
            gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
        let expression = expression.get(&self.frame).ok()?;
        let mut evaluation: Evaluation<Bytes<'a>> = expression.evaluation(encoding);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, .. } => {
                    evaluation.resume_with_memory(Value::Generic(memory(address))).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.register(register)?;
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.result()[0].location {
            gimli::Location::Address { address } => Some(address),
            _ => None,
        }
    }

    fn register(&self, register: Register) -> Option<u64> {
        let DwarfRegisters { sp, fp, other, return_address, .. } = self.dwarf();
        match register.0 {
            it if it == *sp => Some(REGISTERS.sp),
            it if it == *fp => Some(REGISTERS.fp),
            it if it == *other => Some(REGISTERS.other),
            it if it == *return_address => Some(self.address),
            _ => None,
        }
    }

    fn dwarf(&self) -> &'static DwarfRegisters {
        &self.architecture.facts().dwarf
    }

    fn caller(&self, row: &UnwindTableRow<usize>) -> Caller {
        let dwarf = self.dwarf();
        let return_address = Register(dwarf.return_address);
        let is_below_cfa = self.architecture.facts().return_address == ReturnAddress::BelowCfa;
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset }
                if [dwarf.sp, dwarf.fp, dwarf.other].contains(&register.0) =>
            {
                self.register(*register).map(|value| value.wrapping_add_signed(*offset))
            }
            CfaRule::RegisterAndOffset { .. } => None,
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        };
        match row.register(return_address) {
            Some(RegisterRule::Undefined) => return Caller::Outermost,
            Some(RegisterRule::Offset(-8)) => {}
            _ if !is_below_cfa => {}
            _ => return Caller::Other,
        }
        let Some(cfa) = cfa else { return Caller::Other };
        let saved = |register: Register| match row.register(register) {
            None | Some(RegisterRule::SameValue) => self.register(register),
            Some(RegisterRule::Offset(offset)) => Some(memory(cfa.wrapping_add_signed(offset))),
            Some(RegisterRule::Expression(expression)) => {
                self.evaluate(&expression, Some(cfa)).map(memory)
            }
            _ => None,
        };
        let fp = saved(Register(dwarf.fp));
        let other = saved(Register(dwarf.other));
        if is_below_cfa {
            return Caller::Registers { pc: memory(cfa.wrapping_sub(8)), sp: cfa, fp, other };
        }
        match other {
            Some(lr) => {
                let (pc, other) = (lr & Architecture::address_mask(), Some(REGISTERS.other));
                Caller::Registers { pc, sp: cfa, fp, other }
            }
            None => Caller::Other,
        }
    }
}

/// A section with this name: its address and its bytes.
pub(super) fn section<'a>(file: &'a [u8], name: &str) -> Option<(u64, &'a [u8])> {
    let header = FileHeader64::<object::LittleEndian>::parse(file).ok()?;
    let endian = object::LittleEndian;
    let sections = header.sections(endian, file).ok()?;
    let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
    Some((section.sh_addr.get(endian), section.data(endian, file).ok()?))
}

/// Where the entries are of functions that are not empty, in order of address.
fn entries(frame: &EhFrame<Bytes<'_>>, bases: &BaseAddresses) -> Vec<(Range<u64>, EhFrameOffset)> {
    let mut iter = frame.entries(bases);
    let mut entries = Vec::new();
    while let Some(entry) = iter.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
        if fde.len() > 0 {
            entries.push((fde.initial_address()..fde.end_address(), EhFrameOffset(fde.offset())));
        }
    }
    entries.sort_by_key(|(range, _)| range.start);
    entries
}

fn find(entries: &[(Range<u64>, EhFrameOffset)], address: u64) -> Option<EhFrameOffset> {
    let after = entries.partition_point(|(range, _)| range.start <= address);
    let (range, offset) = entries[..after].last()?;
    range.contains(&address).then_some(*offset)
}

/// How many addresses had a rule of their own, and how many one that says there is none.
#[derive(Debug, Default)]
struct Compared {
    agree: u64,
    lost: u64,
    unsupported: u64,
    signal: u64,
    none: u64,
}

fn compare(name: &Path, file: &[u8]) -> Option<Compared> {
    let table = build_from_bytes(file).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    assert_sane(&table);
    assert!(!table.damaged, "{name:?}");
    let (frame_address, frame) = section(file, ".eh_frame")?;
    let (hdr_address, hdr) = section(file, ".eh_frame_hdr")?;
    let bases = BaseAddresses::default().set_eh_frame(frame_address).set_eh_frame_hdr(hdr_address);
    let hdr = EhFrameHdr::new(hdr, LittleEndian).parse(&bases, 8).unwrap();
    let index = hdr.table().unwrap();
    let mut frame = EhFrame::new(frame, LittleEndian);
    if table.architecture == Architecture::Aarch64 {
        frame.set_vendor(Vendor::AArch64);
    }
    let entries = entries(&frame, &bases);
    let mut context = UnwindContext::new();
    let mut random = Random(1);
    let mut compared = Compared::default();

    let segments: Vec<&Segment> = table.segments.iter().filter(|one| one.executable).collect();
    let size = |segment: &Segment| segment.file.end - segment.file.start;
    let all: u64 = segments.iter().map(|segment| size(segment)).sum();
    for segment in segments {
        for _ in 0..SAMPLES * size(segment) / all {
            let address = segment.address + random.below(size(segment));
            let rule = table.rule_at(address);
            let kind = |kind: CfaKind| rule.cfa_kind == kind as u8;
            let get_cie = EhFrame::cie_from_offset;
            let fde = match index.fde_for_address(&frame, &bases, address, get_cie) {
                Ok(fde) => Some(fde),
                // lld lists an empty entry for functions that were folded with empty ones.
                Err(_) => find(&entries, address)
                    .map(|offset| frame.fde_from_offset(&bases, offset, get_cie).unwrap()),
            };
            let Some(fde) = fde else {
                // Or padding, which has the rule of the code before.
                let is_padding = !kind(CfaKind::None)
                    && (1..=16).any(|back| find(&entries, address - back).is_some());
                assert!(kind(CfaKind::None) || is_padding, "{name:?} {address:#x}: {rule:?}");
                compared.none += 1;
                continue;
            };
            let row = fde.unwind_info_for_address(&frame, &bases, &mut context, address).unwrap();
            if fde.is_signal_trampoline() {
                assert!(kind(CfaKind::Signal), "{name:?} {address:#x}");
                compared.signal += 1;
                continue;
            }
            let oracle = Oracle { architecture: table.architecture, frame, address };
            let found_by = FoundBy::Thread;
            let here = Frame { at: REGISTERS, found_by, address, is_innermost: true };
            let ours = step(table.architecture, &here, &rule, &mut |address, words: &mut [u64]| {
                words.iter_mut().zip(0..).for_each(|(word, n)| *word = memory(address + n * 8));
                true
            });
            match (oracle.caller(row), ours) {
                (Caller::Registers { pc, sp, fp, other }, Ok((ours, _))) => {
                    let expected = Registers {
                        pc,
                        sp,
                        fp: fp.unwrap_or(ours.fp),
                        other: other.unwrap_or(ours.other),
                        di: REGISTERS.di,
                        in_syscall: false,
                    };
                    assert_eq!(ours, expected, "{name:?} {address:#x}: {rule:?}");
                    // Nobody knows it there, so nobody may here.
                    assert!(fp.is_some() || ours.fp == 0, "{name:?} {address:#x}: {rule:?}");
                    compared.agree += 1;
                    // Saved by an expression that the tables have no kind for.
                    compared.lost += u64::from(fp.is_some() && ours.fp == 0);
                }
                (Caller::Outermost, Err(StackEnd::Complete)) => compared.agree += 1,
                (_, Err(StackEnd::Unsupported)) => compared.unsupported += 1,
                // The dynamic loader of aarch64 says so of `_dl_runtime_resolve`, mistakenly.
                (Caller::Registers { sp, .. }, Err(StackEnd::Astray)) if sp < REGISTERS.sp => {
                    compared.unsupported += 1;
                }
                (expected, ours) => {
                    panic!("{name:?} {address:#x}: {rule:?} gives {ours:?}, not {expected:?}")
                }
            }
        }
    }
    Some(compared)
}

/// The code of this process, the vDSO, and a C++ library; and the files in
/// `OFFWAKE_UNWIND_FILES`, separated by colons.
#[test]
fn tables_agree_with_gimli() {
    let mut files = own_files();
    assert!(files.len() >= 3, "{files:?}");
    files.extend(
        ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib64/libstdc++.so.6"]
            .map(PathBuf::from)
            .into_iter()
            .filter(|path| path.exists()),
    );
    if let Some(more) = std::env::var_os("OFFWAKE_UNWIND_FILES") {
        files.extend(std::env::split_paths(&more));
    }
    for path in files {
        let compared = compare(&path, &std::fs::read(&path).unwrap());
        println!("{}: {compared:?}", path.display());
        let compared = compared.expect("both sections");
        assert!(compared.agree + compared.none > SAMPLES * 9 / 10);
        // Cryptography in assembly keeps the CFA in other registers.
        assert!(compared.unsupported * 20 <= compared.agree, "{}", path.display());
    }
    compare(Path::new("[vdso]"), &vdso());
}
