//! The distinct rules of a file, by number.

use hashbrown::HashMap;
use offwake_shared::{CfaKind, MAX_UNWIND_RULES, UnwindRule};

use super::Refused;

/// The number of the rule where there is no call frame information.
pub(super) const NONE: u16 = 0;

/// A rule that is nothing but its kind.
pub(super) fn only(kind: CfaKind) -> UnwindRule {
    UnwindRule { cfa_kind: kind as u8, ..UnwindRule::default() }
}

pub(super) struct Rules {
    list: Vec<UnwindRule>,
    numbers: HashMap<UnwindRule, u16>,
}

impl Default for Rules {
    fn default() -> Self {
        let none = only(CfaKind::None);
        Self { list: vec![none], numbers: [(none, NONE)].into() }
    }
}

impl Rules {
    /// The number of the rule.
    pub(super) fn number(&mut self, rule: UnwindRule) -> Result<u16, Refused> {
        if let Some(&number) = self.numbers.get(&rule) {
            return Ok(number);
        }
        let number = u16::try_from(self.list.len()).map_err(|_| Refused::TooLarge("rules"))?;
        self.list.push(rule);
        self.numbers.insert(rule, number);
        Ok(number)
    }

    pub(super) fn into_list(self) -> Vec<UnwindRule> {
        self.list
    }
}

const _: () = assert!(MAX_UNWIND_RULES == 1 << u16::BITS);
