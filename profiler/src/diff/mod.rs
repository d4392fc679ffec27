//! The difference of two profiles: what waits longer, what shorter, and by how much.
//!
//! Values are compared by rate, since recordings differ in length. All of it is exact: a value is a
//! whole number (ns, or intervals) over a whole number (ns of recording, requests, or 1), and so is a
//! difference. The differences of all rows add up to that of the totals.

mod frames;
mod group;
mod histograms;
mod names;
mod noise;
mod normal;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use anyhow::{Result, ensure};
use regex::Regex;

pub use frames::Frames;
pub use group::By;
pub(crate) use group::is_scheduler;
pub use histograms::Histograms;
pub use names::{NameId, Names, Part};
pub use noise::Significance;
pub(crate) use normal::label;

use crate::profile::{Metric, Profile, Wait};
use group::Keys;
use names::Interner;

/// What values are divided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// The length of the recording: ms per second, or waits per second.
    #[default]
    Rate,
    /// A number of requests, or of whatever else was done in the time of each recording: one number
    /// for each run before and after.
    Per(Vec<u64>, Vec<u64>),
    /// Nothing; of repeated runs, their number.
    Absolute,
}

/// Whose values are the widths of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Those before.
    Before,
    /// Those after.
    #[default]
    After,
}

/// How to compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What makes a row.
    pub by: By,
    /// What is compared.
    pub metric: Metric,
    /// What values are divided by.
    pub scale: Scale,
    /// Whose values are the widths of a graph.
    pub base: Base,
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
    /// The variance of `count`, where intervals were sampled.
    pub count_variance: u64,
}

impl Sums {
    fn add(&mut self, wait: &Wait, metric: Metric) {
        let time = if metric == Metric::Count { Metric::Off } else { metric };
        self.value += metric.of(wait);
        self.time_ns += time.of(wait);
        self.count += wait.count;
        let error = wait.estimate.count_error;
        self.count_variance = self.count_variance.saturating_add(error.saturating_mul(error));
    }

    fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            time_ns: self.time_ns + other.time_ns,
            count: self.count + other.count,
            count_variance: self.count_variance.saturating_add(other.count_variance),
        }
    }

    /// As many intervals that were all counted tell as much as these (Kish, 1965): of a sample with the weights `w` the
    /// variance is the sum of `w² - w`.
    fn effective_count(&self) -> u64 {
        let count = self.count as f64;
        (count * count / (count + self.count_variance as f64).max(1.0)).ceil() as u64
    }

    /// The mean time of an interval, in ns, where it is known.
    pub fn mean_ns(&self) -> Option<u64> {
        self.time_ns.checked_div(self.count)
    }
}

/// A group on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// In the first profile, or in all runs before.
    pub before: Sums,
    /// In the second, or in all runs after.
    pub after: Sums,
    /// Whether that is more than noise. Not known with one run each.
    pub significance: Option<Significance>,
}

impl Row {
    /// Whether there is anything to compare.
    pub const fn is_compared(&self) -> bool {
        self.before.value > 0 || self.after.value > 0
    }
}

/// Two profiles, or repeated runs of each side, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// How.
    pub options: Options,
    /// Every group that differs, the largest difference first.
    pub rows: Vec<NameId>,
    /// The names of the groups.
    pub names: Names,
    /// All waits, also those of groups that do not differ. Its significance is not adjusted: it is one
    /// comparison.
    pub total: Row,
    /// How many groups were compared, also those that do not differ. Of repeated runs, without those that
    /// have too few waits to tell anything.
    pub compared: usize,
    /// The values of each frame of a graph, after [`Diff::with_frames`].
    pub frames: Option<Frames>,
    groups: Groups,
    divisors: Divisors,
}

/// What each run is divided by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Divisors {
    before: Vec<u64>,
    after: Vec<u64>,
}

impl Diff {
    /// Compares two profiles.
    ///
    /// # Errors
    /// When a rate is asked for and the length of a recording is not known.
    pub fn new(before: &Profile, after: &Profile, options: Options) -> Result<Self> {
        Self::of_runs(&[before], &[after], options)
    }

    /// Compares repeated runs. Values are those of all runs of a side together; how much single runs
    /// differ tells change from noise.
    ///
    /// # Errors
    /// When one side has one run and the other more, when a rate is asked for and the length of a
    /// recording is not known, and when the runs add up to too much.
    pub fn of_runs(before: &[&Profile], after: &[&Profile], options: Options) -> Result<Self> {
        let divisors = Divisors::new(before, after, &options.scale)?;
        let metric = options.metric;
        let total = Table::new(before, after, metric, |_, _| true);
        let test = total.test(0, &divisors);
        let total = Row { significance: test.map(noise::Test::alone), ..total.row(0) };
        let (names, groups, compared) =
            Groups::new(before, after, options.by, metric, Some(&divisors));
        let mut diff = Self {
            options,
            rows: Vec::new(),
            names,
            total,
            compared,
            frames: None,
            groups,
            divisors,
        };
        let size = |name: NameId| diff.numerator(&diff.row(name)).unsigned_abs();
        let mut rows: Vec<(Reverse<u128>, NameId)> =
            diff.names.ids().map(|name| (Reverse(size(name)), name)).collect();
        rows.retain(|(size, _)| size.0 > 0);
        let order = diff.names.order();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| order(a.1, b.1)));
        let rows = rows.into_iter().map(|(_, name)| name).collect();
        drop(order);
        diff.rows = rows;
        Ok(diff)
    }

    /// The values of a group.
    ///
    /// # Panics
    /// When the name is from elsewhere.
    pub fn row(&self, name: NameId) -> Row {
        self.groups.row(name)
    }

    /// The same, with the values of each frame of a graph where there are repeated runs.
    ///
    /// # Panics
    /// When there are other numbers of runs than were compared.
    pub fn with_frames(mut self, before: &[&Profile], after: &[&Profile]) -> Self {
        assert_eq!(self.runs(), (before.len(), after.len()));
        if before.len() > 1 {
            self.frames = Frames::new(before, after, self.options.metric, &self.divisors);
        }
        self
    }

    /// What values before and after are divided by.
    pub fn divisors(&self) -> (u64, u64) {
        (self.divisors.before.iter().sum(), self.divisors.after.iter().sum())
    }

    /// How many runs there are before and after.
    pub fn runs(&self) -> (usize, usize) {
        (self.divisors.before.len(), self.divisors.after.len())
    }

    /// The difference of a row, after less before, in units of one over both divisors.
    pub fn numerator(&self, row: &Row) -> i128 {
        let (before, after) = self.divisors();
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
        let before = i128::from(row.before.value) * i128::from(self.divisors().1);
        difference as f64 / before as f64 * 100.0
    }

    /// The waits of these runs that go through a function or a thread which matches a path, in either
    /// stack: one row for each path. Functions are those of [`Part::Frame`]. Significance is adjusted
    /// for the number of paths.
    ///
    /// # Panics
    /// When there are other numbers of runs than were compared.
    pub fn paths(&self, before: &[&Profile], after: &[&Profile], paths: &[Regex]) -> Vec<Row> {
        assert_eq!(self.runs(), (before.len(), after.len()));
        let mut parts = Interner::default();
        let keys: Vec<Keys> = before
            .iter()
            .chain(after)
            .map(|profile| Keys::new(profile, By::Stack, &mut parts))
            .collect();
        let mut key = Vec::new();
        let mut row = |path: &Regex| {
            // Each part is looked at once, whatever the number of stacks it is in.
            let mut matching: Vec<bool> = Vec::new();
            let table = Table::new(before, after, self.options.metric, |run, wait| {
                keys[run].of(wait, &mut parts, &mut key);
                let new = &parts.parts()[matching.len()..];
                matching.extend(new.iter().map(|part| path.is_match(part.text())));
                key.iter().any(|part| matching[*part as usize])
            });
            (table.row(0), table.test(0, &self.divisors))
        };
        let (rows, tests): (Vec<Row>, Vec<Option<noise::Test>>) =
            paths.iter().map(&mut row).unzip();
        let tests: Option<Vec<noise::Test>> = tests.into_iter().collect();
        let mut significances = tests.map(|tests| noise::adjust(&tests).into_iter());
        let mut next = || significances.as_mut()?.next();
        rows.into_iter().map(|row| Row { significance: next(), ..row }).collect()
    }
}

impl Divisors {
    fn new(before: &[&Profile], after: &[&Profile], scale: &Scale) -> Result<Self> {
        let numbers = (before.len(), after.len());
        ensure!(numbers.0 > 0 && numbers.1 > 0, "there is nothing to compare");
        ensure!(
            numbers == (1, 1) || (numbers.0 > 1 && numbers.1 > 1),
            "one run has no noise to compare with: give two or more before and after, or one of each"
        );
        let divisors = match scale {
            Scale::Rate => Self {
                before: before.iter().map(|run| length(run, "before")).collect::<Result<_>>()?,
                after: after.iter().map(|run| length(run, "after")).collect::<Result<_>>()?,
            },
            Scale::Per(before, after) => {
                ensure!(
                    numbers == (before.len(), after.len()),
                    "--per takes one number of requests for each recording"
                );
                Self { before: before.clone(), after: after.clone() }
            }
            Scale::Absolute => Self { before: vec![1; numbers.0], after: vec![1; numbers.1] },
        };
        for side in [&divisors.before, &divisors.after] {
            let sum: u128 = side.iter().map(|divisor| u128::from(*divisor)).sum();
            ensure!(side.iter().all(|divisor| *divisor > 0), "nothing can be divided by 0");
            ensure!(sum <= 1 << 62, "the runs are too long in sum");
        }
        for side in [before, after] {
            let waits = || side.iter().flat_map(|run| &run.waits);
            let sum = |of: fn(&Wait) -> u64| waits().map(|wait| u128::from(of(wait))).sum::<u128>();
            let most = sum(Wait::off_ns).max(sum(|wait| wait.count));
            ensure!(most <= 1 << 62, "the runs add up to too much");
        }
        Ok(divisors)
    }
}

/// Every stack of two profiles, also of those that do not differ, in order of name.
pub fn stacks(before: &Profile, after: &Profile, metric: Metric) -> (Names, Vec<(NameId, Row)>) {
    let (names, groups, _) = Groups::new(&[before], &[after], By::Stack, metric, None);
    let mut rows: Vec<NameId> = names.ids().collect();
    let order = names.order();
    rows.sort_unstable_by(|a, b| order(*a, *b));
    drop(order);
    let rows = rows.into_iter().map(|name| (name, groups.row(name))).collect();
    (names, rows)
}

/// The values of each group, by the number of its name. There may be millions: rows are made when they
/// are asked for.
#[derive(Clone, Debug, PartialEq)]
struct Groups {
    table: Table,
    /// Empty where it is not known.
    significances: Vec<Significance>,
}

impl Groups {
    /// Their names, they, and how many are compared.
    fn new(
        before: &[&Profile],
        after: &[&Profile],
        by: By,
        metric: Metric,
        divisors: Option<&Divisors>,
    ) -> (Names, Self, usize) {
        let (names, table) = Table::grouped(before, after, by, metric);
        let tests: Option<Vec<noise::Test>> = divisors.and_then(|divisors| {
            names.ids().map(|name| table.test(name.index(), divisors)).collect()
        });
        let compared = match &tests {
            Some(tests) => tests.iter().filter(|test| test.can_tell()).count(),
            None => names.ids().filter(|name| table.row(name.index()).is_compared()).count(),
        };
        let significances = tests.map(|tests| noise::adjust(&tests)).unwrap_or_default();
        (names, Self { table, significances }, compared)
    }

    fn row(&self, name: NameId) -> Row {
        let significance = self.significances.get(name.index()).copied();
        Row { significance, ..self.table.row(name.index()) }
    }
}

/// What each run has of each group.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    /// How many runs are before.
    before: usize,
    /// How many there are.
    runs: usize,
    /// Of group 0 in each run, of group 1, and so on.
    sums: Vec<Sums>,
}

impl Table {
    /// One group: the waits that are wanted. `is_wanted` is told the number of the run.
    fn new(
        before: &[&Profile],
        after: &[&Profile],
        metric: Metric,
        mut is_wanted: impl FnMut(usize, &Wait) -> bool,
    ) -> Self {
        let runs = before.len() + after.len();
        let mut sums = vec![Sums::default(); runs];
        for (run, profile) in before.iter().chain(after).enumerate() {
            for wait in profile.waits.iter().filter(|wait| is_wanted(run, wait)) {
                sums[run].add(wait, metric);
            }
        }
        Self { before: before.len(), runs, sums }
    }

    fn grouped(before: &[&Profile], after: &[&Profile], by: By, metric: Metric) -> (Names, Self) {
        let runs = before.len() + after.len();
        let mut groups = Interner::default();
        let (mut sums, mut key) = (Vec::new(), Vec::new());
        for (run, profile) in before.iter().chain(after).enumerate() {
            let keys = Keys::new(profile, by, &mut groups);
            for wait in &profile.waits {
                keys.of(wait, &mut groups, &mut key);
                let group = groups.name(&key);
                if sums.len() == group * runs {
                    sums.resize(sums.len() + runs, Sums::default());
                }
                sums[group * runs + run].add(wait, metric);
            }
        }
        (groups.into_names(), Self { before: before.len(), runs, sums })
    }

    /// Whose significance is not known yet.
    fn row(&self, group: usize) -> Row {
        let (before, after) = self.runs_of(group);
        let all = |runs: &[Sums]| runs.iter().copied().fold(Sums::default(), Sums::plus);
        Row { before: all(before), after: all(after), significance: None }
    }

    /// Nothing, with one run each.
    fn test(&self, group: usize, divisors: &Divisors) -> Option<noise::Test> {
        let (before, after) = self.runs_of(group);
        if before.len() < 2 || after.len() < 2 {
            return None;
        }
        let runs = |sums: &[Sums], divisors: &[u64]| -> Vec<noise::Run> {
            let run = |(sums, divisor): (&Sums, &u64)| noise::Run {
                value: sums.value,
                count: sums.effective_count(),
                divisor: *divisor,
            };
            sums.iter().zip(divisors).map(run).collect()
        };
        Some(noise::Test::new(&runs(before, &divisors.before), &runs(after, &divisors.after)))
    }

    fn runs_of(&self, group: usize) -> (&[Sums], &[Sums]) {
        self.sums[group * self.runs..][..self.runs].split_at(self.before)
    }
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
