//! A diff as a table, the largest difference first.
//!
//! ```text
//!     before     after     delta  change  share     waits           mean wait  wait
//!     12.345    15.000    +2.655  +21.5%  40.1%  100→200  1.20 ms→1.30 ms  ep_poll
//! ```
//!
//! Of repeated runs there is one more column, `p`, behind `change`: adjusted, with `*` where the change
//! is significant.

use std::io::{self, Write};

use super::{in_unit, name, unit};
use crate::diff::{Diff, Row, Scale, Significance};
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
    if let Scale::Per(..) = diff.options.scale {
        let (before, after) = diff.divisors();
        let (before, after) = (human::count(before), human::count(after));
        write!(out, " ({before} requests before, {after} after)")?;
    }
    writeln!(out, "; share: of all after")?;
    match (diff.runs(), diff.compared) {
        ((1, 1), _) => writeln!(out, "significance: unknown, with one run each")?,
        ((before, after), rows) => writeln!(
            out,
            "significance: * where p <= 0.05, of {before} and {after} runs (Welch's t-test of log rates, \
             adjusted for {rows} rows by Benjamini-Hochberg)"
        )?,
    }
    writeln!(out)?;

    let by = diff.options.by.name();
    let head = ["before", "after", "delta", "change", "p", "share", "waits", "mean wait", by];
    let mut lines = vec![head.map(str::to_owned)];
    lines.push(line(diff, &diff.total, "(all)".into()));
    lines.extend(diff.rows.iter().map(|row| line(diff, row, name(&row.name))));
    write_table(&lines, diff.total.significance.is_some(), out)?;
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

fn line(diff: &Diff, row: &Row, name: String) -> [String; 9] {
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
        row.significance.map_or_else(String::new, significance),
        format!("{share:.1}%"),
        format!("{}→{}", human::count(row.before.count), human::count(row.after.count)),
        format!("{}→{}", mean(row.before.mean_ns()), mean(row.after.mean_ns())),
        name,
    ]
}

/// Marks end in their column, too.
fn significance(significance: Significance) -> String {
    let mark = if significance.is_significant() { '*' } else { ' ' };
    match significance.adjusted {
        p if p < 0.001 => format!("<0.001{mark}"),
        p => format!("{p:.3}{mark}"),
    }
}

/// The column of `p`.
const P: usize = 4;

/// Numbers end in their column; the name is the last, and as long as it is.
fn write_table(lines: &[[String; 9]], with_p: bool, out: &mut dyn Write) -> io::Result<()> {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let columns = || (0..8).filter(|column| *column != P || with_p);
    let widths: Vec<(usize, usize)> = columns().map(|column| (column, width(column))).collect();
    for line in lines {
        for (column, width) in &widths {
            write!(out, "{:>width$}  ", line[*column])?;
        }
        writeln!(out, "{}", line[8])?;
    }
    Ok(())
}
