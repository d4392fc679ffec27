//! Folded stacks: one line for each distinct merged stack (see [`super::stacks`]), sorted, then a
//! space and its value: µs, or with [`Metric::Count`] a number of intervals.
//!
//! Times are summed in ns before they are rounded to the nearest µs. A stack with any time at all
//! has at least 1 µs, so that none disappears: parsers drop a 0. A sum over lines is off by less
//! than 1 µs a line.
//!
//! Neither the probe nor the losses are in it, since there are no comments that every reader leaves out: inferno does
//! where a line begins with `# `, but flamegraph.pl draws such a line if it ends with a number, and else complains, and
//! difffolded.pl makes a stack of any. The command line tells both on stderr.

use std::io::{self, Write};

use super::RenderOptions;
use super::stacks::{Identity, MergedStacks};
use crate::profile::{Metric, Profile};

pub(super) fn write(
    profile: &Profile,
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let merged = MergedStacks::new(profile, options, Identity::Name);
    let mut line = String::new();
    for stack in merged.stacks() {
        line.clear();
        for frame in merged.frames(stack) {
            line.push_str(merged.name(frame));
            line.push(';');
        }
        line.pop();
        let value = match options.metric {
            Metric::Count => stack.value,
            Metric::Off | Metric::Blocked | Metric::Runqueue => {
                (stack.value.saturating_add(500) / 1000).max(1)
            }
        };
        writeln!(out, "{line} {value}")?;
    }
    Ok(())
}
