//! The machine that the instructions of call frame information run on (DWARF 5, 6.4.2), reduced to
//! what a rule has: the CFA, two saved registers, and the return address.

use gimli::{
    CallFrameInstruction, CommonInformationEntry, EhFrame, EndianSlice, LittleEndian, Register,
    UnwindExpression,
};
use offwake_shared::{CfaKind, SavedKind, UnwindRule};

use super::expression;
use super::rules::only;
use crate::arch::{Architecture, ReturnAddress as Convention};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Cie<'a> = CommonInformationEntry<Bytes<'a>>;

/// How deep states are remembered. Compilers need 1, hand-written code rarely 2.
const MAX_REMEMBERED: usize = 64;

/// An instruction that cannot be followed.
pub(super) struct Malformed;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cfa {
    /// The CFA is a register plus an offset.
    Register { register: Register, offset: i64 },
    /// By an expression: kind, `cfa_offset`, `cfa_add`.
    Expression(CfaKind, i32, i32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Saved {
    kind: SavedKind,
    offset: i32,
}

impl Saved {
    const SAME: Self = Self { kind: SavedKind::Same, offset: 0 };
    const LOST: Self = Self { kind: SavedKind::Lost, offset: 0 };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReturnAddress {
    /// Where the architecture has it.
    Usual,
    /// Undefined: there is no caller.
    Undefined,
    /// In the register that may keep it.
    Kept,
    /// Elsewhere, or nothing was said.
    Other,
}

/// What holds at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    cfa: Cfa,
    fp: Saved,
    other: Saved,
    return_address: ReturnAddress,
}

impl State {
    /// Before the first instruction of a CIE.
    fn new(architecture: Architecture) -> Self {
        Self {
            cfa: Cfa::Expression(CfaKind::Unsupported, 0, 0),
            fp: Saved::SAME,
            other: Saved::SAME,
            return_address: match architecture.facts().return_address {
                Convention::BelowCfa => ReturnAddress::Other,
                Convention::InOther => ReturnAddress::Usual,
            },
        }
    }

    /// The rule of this state.
    fn rule(&self, architecture: Architecture) -> UnwindRule {
        match self.return_address {
            ReturnAddress::Usual => {}
            ReturnAddress::Undefined => return only(CfaKind::Outermost),
            ReturnAddress::Other => return only(CfaKind::Unsupported),
            ReturnAddress::Kept => return self.rule_of_vfork(architecture),
        }
        let cfa = match self.cfa {
            Cfa::Register { register, offset } => expression::register_kind(architecture, register)
                .zip(i32::try_from(offset).ok())
                .map(|(kind, offset)| (kind, offset, 0)),
            Cfa::Expression(CfaKind::Unsupported, ..) => None,
            Cfa::Expression(kind, offset, add) => Some((kind, offset, add)),
        };
        let cfa = cfa.filter(|(kind, ..)| architecture.facts().cfa_kinds.contains(kind));
        let Some((kind, cfa_offset, cfa_add)) = cfa else { return only(CfaKind::Unsupported) };
        UnwindRule {
            cfa_kind: kind as u8,
            fp_kind: self.fp.kind as u8,
            other_kind: self.other.kind as u8,
            cfa_offset,
            cfa_add,
            fp_offset: self.fp.offset,
            other_offset: self.other.offset,
            ..UnwindRule::default()
        }
    }
}

impl State {
    /// A rule whose return address is in a register that may keep it, as far as one can express it.
    fn rule_of_vfork(&self, architecture: Architecture) -> UnwindRule {
        let Cfa::Register { register, offset } = self.cfa else {
            return only(CfaKind::Unsupported);
        };
        let is_simple = register.0 == architecture.facts().dwarf.sp
            && (self.fp, self.other) == (Saved::SAME, Saved::SAME);
        match i32::try_from(offset) {
            Ok(cfa_offset) if is_simple => UnwindRule { cfa_offset, ..only(CfaKind::ReturnInDi) },
            _ => only(CfaKind::Unsupported),
        }
    }
}

/// Runs instructions.
pub(super) struct Machine<'s, 'a> {
    architecture: Architecture,
    section: &'s EhFrame<Bytes<'a>>,
    cie: &'s Cie<'a>,
    /// What the CIE begins with; `None` while that itself is run.
    initial: Option<State>,
    pub(super) state: State,
    remembered: &'s mut Vec<State>,
}

impl<'s, 'a> Machine<'s, 'a> {
    /// `remembered` is memory to use.
    pub(super) fn new(
        architecture: Architecture,
        section: &'s EhFrame<Bytes<'a>>,
        cie: &'s Cie<'a>,
        initial: Option<State>,
        remembered: &'s mut Vec<State>,
    ) -> Self {
        remembered.clear();
        let state = initial.unwrap_or_else(|| State::new(architecture));
        Self { architecture, section, cie, initial, state, remembered }
    }

    /// The rule of the state.
    pub(super) fn rule(&self) -> UnwindRule {
        // A function written by hand may have its return address elsewhere all along: the C library of
        // aarch64 has one.
        let column = self.architecture.facts().dwarf.return_address;
        if self.cie.return_address_register().0 != column {
            return only(CfaKind::Unsupported);
        }
        self.state.rule(self.architecture)
    }

    /// Changes the state. Instructions that advance the address are the caller's.
    pub(super) fn run(
        &mut self,
        instruction: CallFrameInstruction<usize>,
    ) -> Result<(), Malformed> {
        use CallFrameInstruction as I;
        let dwarf = &self.architecture.facts().dwarf;
        match instruction {
            I::DefCfa { register, offset } => {
                self.state.cfa = Cfa::Register { register, offset: signed(offset) };
            }
            I::DefCfaSf { register, factored_offset } => {
                self.state.cfa = Cfa::Register { register, offset: self.factor(factored_offset) };
            }
            I::DefCfaRegister { register: new } => match &mut self.state.cfa {
                Cfa::Register { register, .. } => *register = new,
                Cfa::Expression(..) => return Err(Malformed),
            },
            I::DefCfaOffset { offset } => self.set_cfa_offset(signed(offset))?,
            I::DefCfaOffsetSf { factored_offset } => {
                self.set_cfa_offset(self.factor(factored_offset))?;
            }
            I::DefCfaExpression { expression } => {
                let expression = expression.get(self.section).map_err(|_| Malformed)?;
                let (kind, offset, add) =
                    expression::cfa(self.architecture, expression, self.cie.encoding())
                        .unwrap_or((CfaKind::Unsupported, 0, 0));
                self.state.cfa = Cfa::Expression(kind, offset, add);
            }
            I::Undefined { register } if register.0 == dwarf.return_address => {
                self.state.return_address = ReturnAddress::Undefined;
            }
            I::Undefined { register } => self.save(register, Saved::LOST),
            I::SameValue { register } => self.save(register, Saved::SAME),
            I::Offset { register, factored_offset } => {
                self.save_at_cfa(register, self.factor(signed(factored_offset)));
            }
            I::OffsetExtendedSf { register, factored_offset } => {
                self.save_at_cfa(register, self.factor(factored_offset));
            }
            I::Register { dest_register, src_register }
                if dest_register.0 == dwarf.return_address
                    && dwarf.keeps_return == Some(src_register.0) =>
            {
                self.state.return_address = ReturnAddress::Kept;
            }
            I::Register { dest_register, src_register } => {
                let same = dest_register == src_register;
                self.save(dest_register, if same { Saved::SAME } else { Saved::LOST });
            }
            I::ValOffset { register, .. }
            | I::ValOffsetSf { register, .. }
            | I::ValExpression { register, .. } => self.save(register, Saved::LOST),
            I::Expression { register, expression } => {
                let saved = self.saved_by(&expression, register)?;
                self.save(register, saved);
            }
            I::Restore { register } => {
                let initial = self.initial.ok_or(Malformed)?;
                if register.0 == dwarf.fp {
                    self.state.fp = initial.fp;
                }
                if register.0 == dwarf.other {
                    self.state.other = initial.other;
                }
                if register.0 == dwarf.return_address {
                    self.state.return_address = initial.return_address;
                }
            }
            I::RememberState => {
                if self.remembered.len() == MAX_REMEMBERED {
                    return Err(Malformed);
                }
                self.remembered.push(self.state);
            }
            // The CFA too: so do GCC's unwinder and all others, whatever the standard says.
            I::RestoreState => self.state = self.remembered.pop().ok_or(Malformed)?,
            I::ArgsSize { .. } | I::Nop => {}
            // Whether return addresses are signed: a walk takes signatures off wherever it finds some.
            I::NegateRaState if self.architecture == Architecture::Aarch64 => {}
            I::SetLoc { .. } | I::AdvanceLoc { .. } | I::NegateRaState => return Err(Malformed),
        }
        Ok(())
    }

    /// In bytes.
    fn factor(&self, factored: i64) -> i64 {
        factored.wrapping_mul(self.cie.data_alignment_factor())
    }

    fn set_cfa_offset(&mut self, new: i64) -> Result<(), Malformed> {
        match &mut self.state.cfa {
            Cfa::Register { offset, .. } => *offset = new,
            Cfa::Expression(..) => return Err(Malformed),
        }
        Ok(())
    }

    fn save(&mut self, register: Register, saved: Saved) {
        let facts = self.architecture.facts();
        if register.0 == facts.dwarf.fp {
            self.state.fp = saved;
        }
        if register.0 == facts.dwarf.other {
            self.state.other = saved;
        }
        if register.0 == facts.dwarf.return_address {
            let is_known = facts.return_address == Convention::InOther && saved != Saved::LOST;
            self.state.return_address =
                if is_known { ReturnAddress::Usual } else { ReturnAddress::Other };
        }
    }

    fn save_at_cfa(&mut self, register: Register, offset: i64) {
        let facts = self.architecture.facts();
        if facts.return_address == Convention::BelowCfa
            && register.0 == facts.dwarf.return_address
            && offset == -8
        {
            self.state.return_address = ReturnAddress::Usual;
            return;
        }
        let saved = i32::try_from(offset)
            .map_or(Saved::LOST, |offset| Saved { kind: SavedKind::AtCfa, offset });
        self.save(register, saved);
    }

    /// Expressions of other registers are not looked at.
    fn saved_by(
        &self,
        expression: &UnwindExpression<usize>,
        register: Register,
    ) -> Result<Saved, Malformed> {
        let dwarf = &self.architecture.facts().dwarf;
        if register.0 != dwarf.fp && register.0 != dwarf.other {
            return Ok(Saved::LOST);
        }
        let expression = expression.get(self.section).map_err(|_| Malformed)?;
        let offset = expression::saved_at_fp(self.architecture, expression, self.cie.encoding());
        Ok(offset.map_or(Saved::LOST, |offset| Saved { kind: SavedKind::AtFp, offset }))
    }
}

/// An offset that the encoding has no sign for. Those too large to have one are refused later.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
