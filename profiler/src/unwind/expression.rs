//! The few shapes of DWARF expressions that call frame information has.
//!
//! They are recognized, not evaluated: what the tables cannot express is of no use here.

use gimli::{Encoding, EndianSlice, Expression, LittleEndian, Operation, Register};
use offwake_shared::CfaKind;

use crate::arch::{Architecture, DwarfRegisters};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The longest shape has 9; constants may be added in several steps.
const MAX_OPERATIONS: usize = 16;

/// How to find the CFA: its kind, `cfa_offset`, and `cfa_add`.
pub(super) fn cfa(
    architecture: Architecture,
    expression: Expression<Bytes<'_>>,
    encoding: Encoding,
) -> Option<(CfaKind, i32, i32)> {
    let operations = operations(expression, encoding)?;
    let dwarf = &architecture.facts().dwarf;
    if let Some(first_byte) = plt(dwarf, &operations) {
        return Some((CfaKind::Plt, first_byte, 0));
    }
    let (register, offset, rest) = base(&operations)?;
    if let [Operation::Deref { size: 8, space: false, .. }, rest @ ..] = rest {
        let kind = match register.0 {
            sp if sp == dwarf.sp => CfaKind::SpDeref,
            fp if fp == dwarf.fp => CfaKind::FpDeref,
            _ => return None,
        };
        Some((kind, narrow(offset)?, narrow(sum(rest)?)?))
    } else {
        let kind = register_kind(architecture, register)?;
        Some((kind, narrow(offset.checked_add(sum(rest)?)?)?, 0))
    }
}

/// The kind of a CFA that is this register plus an offset.
pub(super) fn register_kind(architecture: Architecture, register: Register) -> Option<CfaKind> {
    let dwarf = &architecture.facts().dwarf;
    match register.0 {
        sp if sp == dwarf.sp => Some(CfaKind::Sp),
        fp if fp == dwarf.fp => Some(CfaKind::Fp),
        other if other == dwarf.other => Some(CfaKind::Other),
        _ => None,
    }
}

/// Where a register was saved, if that is the frame pointer plus this offset.
pub(super) fn saved_at_fp(
    architecture: Architecture,
    expression: Expression<Bytes<'_>>,
    encoding: Encoding,
) -> Option<i32> {
    let operations = operations(expression, encoding)?;
    match base(&operations)? {
        (register, offset, rest) if register.0 == architecture.facts().dwarf.fp => {
            narrow(offset.checked_add(sum(rest)?)?)
        }
        _ => None,
    }
}

fn operations<'a>(
    expression: Expression<Bytes<'a>>,
    encoding: Encoding,
) -> Option<Vec<Operation<Bytes<'a>>>> {
    let mut iter = expression.operations(encoding);
    let mut operations = Vec::new();
    while let Some(operation) = iter.next().ok()? {
        if operations.len() == MAX_OPERATIONS {
            return None;
        }
        operations.push(operation);
    }
    Some(operations)
}

/// The register and the offset with which nearly all expressions begin, and what follows.
fn base<'o, 'a>(
    operations: &'o [Operation<Bytes<'a>>],
) -> Option<(Register, i64, &'o [Operation<Bytes<'a>>])> {
    match operations {
        [Operation::RegisterOffset { register, offset, .. }, rest @ ..] => {
            Some((*register, *offset, rest))
        }
        _ => None,
    }
}

/// What constants that are added and subtracted come to.
fn sum(mut operations: &[Operation<Bytes<'_>>]) -> Option<i64> {
    let mut sum = 0_i64;
    loop {
        (sum, operations) = match operations {
            [] => return Some(sum),
            [Operation::PlusConstant { value }, rest @ ..] => {
                (sum.checked_add_unsigned(*value)?, rest)
            }
            [first, Operation::Plus, rest @ ..] => (sum.checked_add(constant(first)?)?, rest),
            [first, Operation::Minus, rest @ ..] => (sum.checked_sub(constant(first)?)?, rest),
            _ => return None,
        };
    }
}

/// An entry of a procedure linkage table, as linkers for x86-64 describe it (binutils, `elf_x86_64_eh_frame_plt`
/// in bfd/elfxx-x86.c): `8 + rsp + ((rip & 15) >= n) << 3`. The `n` is of the kind of table.
fn plt(dwarf: &DwarfRegisters, operations: &[Operation<Bytes<'_>>]) -> Option<i32> {
    let [
        Operation::RegisterOffset { register: sp, offset: 8, .. },
        Operation::RegisterOffset { register: ip, offset: 0, .. },
        mask,
        Operation::And,
        first_byte,
        Operation::Ge,
        shift,
        Operation::Shl,
        Operation::Plus,
    ] = operations
    else {
        return None;
    };
    let registers = (sp.0, ip.0) == (dwarf.sp, dwarf.return_address);
    if !registers || (constant(mask)?, constant(shift)?) != (15, 3) {
        return None;
    }
    narrow(constant(first_byte)?).filter(|byte| (0..=16).contains(byte))
}

fn constant(operation: &Operation<Bytes<'_>>) -> Option<i64> {
    match operation {
        Operation::UnsignedConstant { value } => i64::try_from(*value).ok(),
        Operation::SignedConstant { value } => Some(*value),
        _ => None,
    }
}

fn narrow(value: i64) -> Option<i32> {
    i32::try_from(value).ok()
}
