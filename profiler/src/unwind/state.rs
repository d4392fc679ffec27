//! The machine that the instructions of call frame information run on (DWARF 5, 6.4.2), reduced to
//! what a rule has: the CFA, two saved registers, and the return address.

use gimli::{
    CallFrameInstruction, CommonInformationEntry, EhFrame, EndianSlice, LittleEndian, Register,
    UnwindExpression, X86_64,
};
use offwake_shared::{CfaKind, SavedKind, UnwindRule};

use super::expression;
use super::rules::only;

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
    /// At the CFA less 8.
    Usual,
    /// Undefined: there is no caller.
    Undefined,
    /// In `rdi`.
    InDi,
    /// Elsewhere, or nothing was said.
    Other,
}

/// What holds at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    cfa: Cfa,
    fp: Saved,
    bx: Saved,
    return_address: ReturnAddress,
}

impl State {
    /// Before the first instruction of a CIE.
    pub(super) const NEW: Self = Self {
        cfa: Cfa::Expression(CfaKind::Unsupported, 0, 0),
        fp: Saved::SAME,
        bx: Saved::SAME,
        return_address: ReturnAddress::Other,
    };

    /// The rule of this state.
    pub(super) fn rule(&self) -> UnwindRule {
        match self.return_address {
            ReturnAddress::Usual => {}
            ReturnAddress::Undefined => return only(CfaKind::Outermost),
            ReturnAddress::Other => return only(CfaKind::Unsupported),
            ReturnAddress::InDi => return self.rule_of_vfork(),
        }
        let cfa = match self.cfa {
            Cfa::Register { register, offset } => expression::register_kind(register)
                .zip(i32::try_from(offset).ok())
                .map(|(kind, offset)| (kind, offset, 0)),
            Cfa::Expression(CfaKind::Unsupported, ..) => None,
            Cfa::Expression(kind, offset, add) => Some((kind, offset, add)),
        };
        let Some((kind, cfa_offset, cfa_add)) = cfa else { return only(CfaKind::Unsupported) };
        UnwindRule {
            cfa_kind: kind as u8,
            fp_kind: self.fp.kind as u8,
            bx_kind: self.bx.kind as u8,
            cfa_offset,
            cfa_add,
            fp_offset: self.fp.offset,
            bx_offset: self.bx.offset,
            ..UnwindRule::default()
        }
    }
}

impl State {
    /// A rule whose return address is in `rdi`, as far as one can express it.
    fn rule_of_vfork(&self) -> UnwindRule {
        let Cfa::Register { register: X86_64::RSP, offset } = self.cfa else {
            return only(CfaKind::Unsupported);
        };
        match i32::try_from(offset) {
            Ok(cfa_offset) if (self.fp, self.bx) == (Saved::SAME, Saved::SAME) => {
                UnwindRule { cfa_offset, ..only(CfaKind::ReturnInDi) }
            }
            _ => only(CfaKind::Unsupported),
        }
    }
}

/// Runs instructions.
pub(super) struct Machine<'s, 'a> {
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
        section: &'s EhFrame<Bytes<'a>>,
        cie: &'s Cie<'a>,
        initial: Option<State>,
        remembered: &'s mut Vec<State>,
    ) -> Self {
        remembered.clear();
        Self { section, cie, initial, state: initial.unwrap_or(State::NEW), remembered }
    }

    /// Changes the state. Instructions that advance the address are the caller's.
    pub(super) fn run(
        &mut self,
        instruction: CallFrameInstruction<usize>,
    ) -> Result<(), Malformed> {
        use CallFrameInstruction as I;
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
                let (kind, offset, add) = expression::cfa(expression, self.cie.encoding())
                    .unwrap_or((CfaKind::Unsupported, 0, 0));
                self.state.cfa = Cfa::Expression(kind, offset, add);
            }
            I::Undefined { register: X86_64::RA } => {
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
            I::Register { dest_register: X86_64::RA, src_register: X86_64::RDI } => {
                self.state.return_address = ReturnAddress::InDi;
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
                match register {
                    X86_64::RBP => self.state.fp = initial.fp,
                    X86_64::RBX => self.state.bx = initial.bx,
                    X86_64::RA => self.state.return_address = initial.return_address,
                    _ => {}
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
        match register {
            X86_64::RBP => self.state.fp = saved,
            X86_64::RBX => self.state.bx = saved,
            X86_64::RA => self.state.return_address = ReturnAddress::Other,
            _ => {}
        }
    }

    fn save_at_cfa(&mut self, register: Register, offset: i64) {
        if register == X86_64::RA && offset == -8 {
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
        if !matches!(register, X86_64::RBP | X86_64::RBX) {
            return Ok(Saved::LOST);
        }
        let expression = expression.get(self.section).map_err(|_| Malformed)?;
        let offset = expression::saved_at_fp(expression, self.cie.encoding());
        Ok(offset.map_or(Saved::LOST, |offset| Saved { kind: SavedKind::AtFp, offset }))
    }
}

/// An offset that the encoding has no sign for. Those too large to have one are refused later.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
