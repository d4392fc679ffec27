//! A diff as a table, the largest difference first.
//!
//! ```text
//!     before     after     delta  change  share     waits           mean wait  wait
//!     12.345    15.000    +2.655  +21.5%  40.1%  100→200  1.20 ms→1.30 ms  ep_poll
//! ```
//!
//! Of repeated runs there is one more column, `p`, behind `change`: adjusted, with `*` where the change
//! is significant.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Labels, in_unit, unit};
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
    let mut cells = Cells::head();
    let columns = Columns::new(diff, &cells);
    let mut line = String::new();
    columns.push(&cells, &mut line);
    writeln!(out, "{line}{by}")?;
    cells.fill(diff, &diff.total);
    line.clear();
    columns.push(&cells, &mut line);
    writeln!(out, "{line}(all)")?;
    let labels = Labels::new(&diff.names);
    for name in &diff.rows {
        cells.fill(diff, &diff.row(*name));
        line.clear();
        columns.push(&cells, &mut line);
        labels.push(*name, &mut line);
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
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
    )?;
    match profile.describe_sampling() {
        Some(sampling) => writeln!(out, "{which}: {sampling}"),
        None => Ok(()),
    }
}

/// How many columns there are before the name.
const COLUMNS: usize = 8;

/// The columns that have a number of their own here.
const P: usize = 4;
const WAITS: usize = 6;
const MEANS: usize = 7;

/// The cells of a line before its name; the next line takes their place.
struct Cells([String; COLUMNS]);

impl Cells {
    fn head() -> Self {
        let head = ["before", "after", "delta", "change", "p", "share", "waits", "mean wait"];
        Self(head.map(str::to_owned))
    }

    fn fill(&mut self, diff: &Diff, row: &Row) {
        let values = Values::of(diff, row);
        self.0.iter_mut().for_each(String::clear);
        let [before, after, delta, change, p, share, waits, mean] = &mut self.0;
        // Writing to a string does not fail.
        let _ = write!(before, "{:.3}", values.before);
        let _ = write!(after, "{:.3}", values.after);
        let _ = write!(delta, "{:+.3}", values.delta);
        let _ = match values.percent {
            new if new.is_infinite() => write!(change, "new"),
            percent => write!(change, "{percent:+.1}%"),
        };
        row.significance.map_or_else(String::new, significance).clone_into(p);
        let _ = write!(share, "{:.1}%", values.share);
        push_waits(waits, row);
        push_means(mean, row);
    }
}

fn push_waits(text: &mut String, row: &Row) {
    let _ = match (row.before.count, row.after.count) {
        // Folded stacks do not count, and may be many.
        (0, 0) => write!(text, "0→0"),
        (before, after) => write!(text, "{}→{}", human::count(before), human::count(after)),
    };
}

fn push_means(text: &mut String, row: &Row) {
    let mean = |ns: Option<u64>| ns.map_or_else(|| "?".into(), human::time);
    let _ = match (row.before.mean_ns(), row.after.mean_ns()) {
        (None, None) => write!(text, "?→?"),
        (before, after) => write!(text, "{}→{}", mean(before), mean(after)),
    };
}

/// The numbers of a line.
#[derive(Default)]
struct Values {
    before: f64,
    after: f64,
    delta: f64,
    percent: f64,
    share: f64,
}

impl Values {
    fn of(diff: &Diff, row: &Row) -> Self {
        let (before, after) = diff.divisors();
        let (before, after) = (before as f64, after as f64);
        Self {
            before: in_unit(diff, row.before.value as f64, before),
            after: in_unit(diff, row.after.value as f64, after),
            delta: in_unit(diff, diff.numerator(row) as f64, before * after),
            percent: diff.percent(row),
            share: row.after.value as f64 / diff.total.after.value.max(1) as f64 * 100.0,
        }
    }
}

/// Marks end in their column, too.
fn significance(significance: Significance) -> String {
    let mark = if significance.is_significant() { "" } else { " " };
    format!("{}{mark}", significance.describe())
}

/// How wide each column is. Numbers end in their column; the name is the last, and as long as it is.
struct Columns {
    widths: [usize; COLUMNS],
    with_p: bool,
}

impl Columns {
    /// Wide enough for every line, without writing them all: the largest number is the longest.
    fn new(diff: &Diff, head: &Cells) -> Self {
        let mut longest = Values::default();
        let mut widths = [0; COLUMNS];
        let mut cell = String::new();
        for row in diff.rows.iter().map(|name| diff.row(*name)).chain([diff.total]) {
            let row = &row;
            let Values { before, after, delta, percent, share } = Values::of(diff, row);
            longest.before = longest.before.max(before);
            longest.after = longest.after.max(after);
            longest.delta = longest.delta.max(delta.abs());
            longest.share = longest.share.max(share);
            if percent.is_finite() {
                longest.percent = longest.percent.max(percent.abs());
            }
            if let Some(known) = row.significance {
                widths[P] = widths[P].max(significance(known).len());
            }
            cell.clear();
            push_waits(&mut cell, row);
            widths[WAITS] = widths[WAITS].max(cell.chars().count());
            cell.clear();
            push_means(&mut cell, row);
            widths[MEANS] = widths[MEANS].max(cell.chars().count());
        }
        let cells = [
            format!("{:.3}", longest.before),
            format!("{:.3}", longest.after),
            format!("{:+.3}", longest.delta),
            format!("{:+.1}%", longest.percent),
            String::new(),
            format!("{:.1}%", longest.share),
        ];
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.len());
        }
        for (width, head) in widths.iter_mut().zip(&head.0) {
            *width = (*width).max(head.len());
        }
        Self { widths, with_p: diff.total.significance.is_some() }
    }

    fn push(&self, cells: &Cells, line: &mut String) {
        for (column, (cell, width)) in cells.0.iter().zip(self.widths).enumerate() {
            if column != P || self.with_p {
                let padding = width - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', padding));
                line.push_str(cell);
                line.push_str("  ");
            }
        }
    }
}
