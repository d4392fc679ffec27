//! The rules of all tables, each once.

use aya::maps::MapError;
use hashbrown::HashMap;
use offwake_shared::{MAX_UNWIND_RULES, UnwindRule};

use super::maps::Maps;

/// The numbers of rules in the BPF array of rules. They are never given back: all programs of a
/// distribution together have a few thousand.
pub(super) struct Rules {
    numbers: HashMap<UnwindRule, u16>,
}

impl Rules {
    /// Only the rule without call frame information, which has the number 0.
    pub(super) fn new() -> Self {
        Self { numbers: HashMap::from([(UnwindRule::default(), 0)]) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The numbers of these rules; `None` where there is no room for them.
    pub(super) fn numbers(
        &mut self,
        rules: &[UnwindRule],
        maps: &mut Maps,
    ) -> Result<Option<Vec<u16>>, MapError> {
        let mut numbers = Vec::with_capacity(rules.len());
        for &rule in rules {
            let number = match self.numbers.get(&rule) {
                Some(&number) => number,
                None if self.numbers.len() == MAX_UNWIND_RULES as usize => return Ok(None),
                None => {
                    let number = u16::try_from(self.numbers.len()).expect("fewer than 65536");
                    maps.set_rule(number, rule)?;
                    self.numbers.insert(rule, number);
                    number
                }
            };
            numbers.push(number);
        }
        Ok(Some(numbers))
    }
}
