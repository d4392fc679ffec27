//! The difference of two profiles: what waits longer, what shorter, and by how much.
//!
//! Values are compared by rate, since recordings differ in length. All of it is exact: a value is a
//! whole number (ns, or intervals) over a whole number (ns of recording, requests, or 1), and so is a
//! difference. The differences of all rows add up to that of the totals.

mod group;
mod normal;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use regex::Regex;

pub(crate) use group::is_scheduler;
pub use group::{By, Part};
pub(crate) use normal::label;

use crate::profile::{Metric, Profile, Wait};
use group::Keys;

/// What values are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// The length of the recording: ms per second, or waits per second.
    #[default]
    Rate,
    /// A number of requests, or of whatever else was done in the time of each recording.
    Per(u64, u64),
    /// Nothing.
    Absolute,
}

/// How to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What makes a row.
    pub by: By,
    /// What is compared.
    pub metric: Metric,
    /// What values are divided by.
    pub scale: Scale,
}

/// What a group of waits adds up to in one profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The metric: ns, or a number of intervals.
    pub value: u64,
    /// Time in ns: the metric, or off-CPU time when that is the count.
    pub time_ns: u64,
    /// How many intervals. Folded stacks do not tell.
    pub count: u64,
}

impl Sums {
    fn add(&mut self, wait: &Wait, metric: Metric) {
        let time = if metric == Metric::Count { Metric::Off } else { metric };
        self.value += metric.of(wait);
        self.time_ns += time.of(wait);
        self.count += wait.count;
    }

    /// The mean time of an interval, in ns, where it is known.
    pub fn mean_ns(&self) -> Option<u64> {
        self.time_ns.checked_div(self.count)
    }
}

/// A group in both profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is compared: one part, or with [`By::Stack`] the whole stack.
    pub name: Vec<Part>,
    /// In the first profile.
    pub before: Sums,
    /// In the second.
    pub after: Sums,
}

/// Two profiles compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// How.
    pub options: Options,
    /// Every group that differs, the largest difference first.
    pub rows: Vec<Row>,
    /// All waits, also those of groups that do not differ.
    pub total: Row,
    /// See [`Diff::divisors`].
    divisors: (u64, u64),
}

impl Diff {
    /// Compares two profiles.
    ///
    /// # Errors
    /// When a rate is asked for and the length of a recording is not known.
    pub fn new(before: &Profile, after: &Profile, options: Options) -> Result<Self> {
        let divisors = match options.scale {
            Scale::Rate => (length(before, "before")?, length(after, "after")?),
            Scale::Per(before, after) => (before, after),
            Scale::Absolute => (1, 1),
        };
        let rows = groups(before, after, options.by, options.metric);
        let total = sum(before, after, options.metric, |_, _| true);
        let mut diff = Self { options, rows, total, divisors };
        let mut rows = std::mem::take(&mut diff.rows);
        rows.retain(|row| diff.numerator(row) != 0);
        // Stable: equal ones stay in the order of their names.
        rows.sort_by_key(|row| Reverse(diff.numerator(row).unsigned_abs()));
        diff.rows = rows;
        Ok(diff)
    }

    /// What values of the first and of the second profile are divided by.
    pub const fn divisors(&self) -> (u64, u64) {
        self.divisors
    }

    /// The difference of a row, after less before, in units of one over both divisors.
    pub fn numerator(&self, row: &Row) -> i128 {
        let (before, after) = self.divisors;
        // Sums are below 2^62, and so are divisors.
        i128::from(row.after.value) * i128::from(before)
            - i128::from(row.before.value) * i128::from(after)
    }

    /// By how many percent a row is larger than before; infinite when there was nothing before.
    pub fn percent(&self, row: &Row) -> f64 {
        let difference = self.numerator(row);
        if difference == 0 {
            return 0.0;
        }
        let before = i128::from(row.before.value) * i128::from(self.divisors.1);
        difference as f64 / before as f64 * 100.0
    }
}

/// Every stack of two profiles, also of those that do not differ, in order of name.
pub fn stacks(before: &Profile, after: &Profile, metric: Metric) -> Vec<Row> {
    groups(before, after, By::Stack, metric)
}

/// In order of name.
fn groups(before: &Profile, after: &Profile, by: By, metric: Metric) -> Vec<Row> {
    let mut groups: BTreeMap<Vec<Part>, (Sums, Sums)> = BTreeMap::new();
    let keys = Keys::new(before, by);
    for wait in &before.waits {
        groups.entry(keys.of(wait)).or_default().0.add(wait, metric);
    }
    let keys = Keys::new(after, by);
    for wait in &after.waits {
        groups.entry(keys.of(wait)).or_default().1.add(wait, metric);
    }
    groups.into_iter().map(|(name, (before, after))| Row { name, before, after }).collect()
}

/// The waits of two profiles that go through a function or a thread which matches `path`, in either
/// stack, as one row. Functions are those of [`Part::Frame`].
pub fn path(before: &Profile, after: &Profile, metric: Metric, path: &Regex) -> Row {
    let before_keys = Keys::new(before, By::Stack);
    let after_keys = Keys::new(after, By::Stack);
    let mut row = sum(before, after, metric, |wait, is_after| {
        let keys = if is_after { &after_keys } else { &before_keys };
        keys.of(wait).iter().any(|part| match part {
            Part::Frame(name) | Part::Thread(name) | Part::Mark(name) => path.is_match(name),
        })
    });
    row.name = vec![Part::Mark(path.as_str().into())];
    row
}

fn sum(
    before: &Profile,
    after: &Profile,
    metric: Metric,
    mut is_wanted: impl FnMut(&Wait, bool) -> bool,
) -> Row {
    let mut sum = |profile: &Profile, is_after| {
        let mut sums = Sums::default();
        for wait in profile.waits.iter().filter(|wait| is_wanted(wait, is_after)) {
            sums.add(wait, metric);
        }
        sums
    };
    Row { name: Vec::new(), before: sum(before, false), after: sum(after, true) }
}

/// The length of a recording, in ns.
fn length(profile: &Profile, which: &str) -> Result<u64> {
    let ns = u64::try_from(profile.meta.duration.as_nanos()).unwrap_or(u64::MAX).min(1 << 62);
    ensure!(
        ns > 0,
        "the length of the recording {which} is not known: compare sums by --absolute, or give \
         numbers of requests by --per"
    );
    Ok(ns)
}
