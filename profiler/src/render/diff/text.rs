//! A diff as a table, the largest difference first.
//!
//! ```text
//!     before     after     delta  change  share     waits           mean wait  wait
//!     12.345    15.000    +2.655  +21.5%  40.1%  100→200  1.20 ms→1.30 ms  ep_poll
//! ```

use std::io::{self, Write};

use super::{in_unit, name, unit};
use crate::diff::{Diff, Row, Scale};
use crate::profile::Profile;
use crate::render::{escape, human};

pub(super) fn write(
    before: &Profile,
    after: &Profile,
    diff: &Diff,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_profile("before", before, out)?;
    write_profile("after", after, out)?;
    write!(out, "values: {}, {}", human::metric(diff.options.metric), unit(diff))?;
    if let Scale::Per(before, after) = diff.options.scale {
        let (before, after) = (human::count(before), human::count(after));
        write!(out, " ({before} requests before, {after} after)")?;
    }
    writeln!(out, "; share: of all after")?;
    writeln!(out, "significance: unknown, with one run each")?;
    writeln!(out)?;

    let by = diff.options.by.name();
    let head = ["before", "after", "delta", "change", "share", "waits", "mean wait", by];
    let mut lines = vec![head.map(str::to_owned)];
    lines.push(line(diff, &diff.total, "(all)".into()));
    lines.extend(diff.rows.iter().map(|row| line(diff, row, name(&row.name))));
    write_table(&lines, out)?;
    if diff.rows.is_empty() {
        writeln!(out, "no difference")?;
    }
    Ok(())
}

fn write_profile(which: &str, profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{which}: {}, {}, {} waits, {}",
        escape::name(&profile.meta.targets.join(", ")),
        human::length(profile.meta.duration),
        human::count(profile.waits.iter().map(|wait| wait.count).sum()),
        profile.losses.describe(false),
    )
}

fn line(diff: &Diff, row: &Row, name: String) -> [String; 8] {
    let (before, after) = diff.divisors();
    let (before, after) = (before as f64, after as f64);
    let delta = in_unit(diff, diff.numerator(row) as f64, before * after);
    let percent = diff.percent(row);
    let share = row.after.value as f64 / diff.total.after.value.max(1) as f64 * 100.0;
    let mean = |ns: Option<u64>| ns.map_or_else(|| "?".into(), human::time);
    [
        format!("{:.3}", in_unit(diff, row.before.value as f64, before)),
        format!("{:.3}", in_unit(diff, row.after.value as f64, after)),
        format!("{delta:+.3}"),
        if percent.is_infinite() { "new".into() } else { format!("{percent:+.1}%") },
        format!("{share:.1}%"),
        format!("{}→{}", human::count(row.before.count), human::count(row.after.count)),
        format!("{}→{}", mean(row.before.mean_ns()), mean(row.after.mean_ns())),
        name,
    ]
}

/// Numbers end in their column; the name is the last, and as long as it is.
fn write_table(lines: &[[String; 8]], out: &mut dyn Write) -> io::Result<()> {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    for line in lines {
        for (text, width) in line.iter().zip(&widths) {
            write!(out, "{text:>width$}  ")?;
        }
        writeln!(out, "{}", line[7])?;
    }
    Ok(())
}
