//! Folded stacks: one line for each distinct merged stack (see [`super::stacks`]), sorted, then a
//! space and its value: µs, or with [`Metric::Count`] a number of intervals.
//!
//! Times are summed in ns before they are rounded to the nearest µs. A stack with any time at all
//! has at least 1 µs, so that none disappears: parsers drop a 0. A sum over lines is off by less
//! than 1 µs a line.

use std::io::{self, Write};

use super::RenderOptions;
use super::stacks::merge_stacks;
use crate::profile::{Metric, Profile};

pub(super) fn write(
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let stacks = merge_stacks(profile, options, |stack, _role, name| stack.push_str(name));
    for (stack, value) in stacks {
        let value = match options.metric {
            Metric::Count => value,
            Metric::Off | Metric::Blocked | Metric::Runqueue => {
                (value.saturating_add(500) / 1000).max(1)
            }
        };
        writeln!(out, "{stack} {value}")?;
    }
    Ok(())
}
