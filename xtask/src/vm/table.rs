//! The result: a line for each kernel, probe and suite.

use std::collections::BTreeSet;
use std::fmt;

use super::console::Outcome;

/// Lines, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<[String; 5]>,
    failures: usize,
    /// Tests that are not for a virtual machine, and why.
    left_out: BTreeSet<(&'static str, &'static str, &'static str)>,
}

impl Table {
    /// How many lines are failures.
    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// Adds the lines of another table.
    pub(crate) fn append(&mut self, other: Self) {
        let Self { rows, failures, left_out } = other;
        self.rows.extend(rows);
        self.failures += failures;
        self.left_out.extend(left_out);
    }

    /// Says something of each result.
    pub(crate) fn note(&mut self, what: &str) {
        for [.., result] in &mut self.rows {
            *result = format!("{result} ({what})");
        }
    }

    /// Adds a failure of a kernel as a whole.
    pub(crate) fn failure(&mut self, kernel: &str, release: &str, probe: &str, why: &str) {
        self.failures += 1;
        self.row(kernel, release, probe, "", format!("FAILED: {why}"));
    }

    /// Adds what `offwake check` found, and what it should have found and did not.
    pub(crate) fn check(&mut self, kernel: &str, release: &str, wanted: usize, wrong: &[String]) {
        let result = if wrong.is_empty() {
            format!("ok: {wanted} capabilities as they should be")
        } else {
            self.failures += 1;
            format!("FAILED: {}", wrong.join(", "))
        };
        self.row(kernel, release, "", "check", result);
    }

    /// Adds a suite that a kernel cannot run, which is no failure.
    pub(crate) fn left_out(
        &mut self,
        kernel: &str,
        release: &str,
        probe: &str,
        suite: &str,
        why: &str,
    ) {
        self.row(kernel, release, probe, suite, format!("not here: {why}"));
    }

    /// Adds what became of a suite; `None`: it did not begin.
    pub(crate) fn outcome(
        &mut self,
        [kernel, release, probe]: [&str; 3],
        suite: &'static str,
        outcome: Option<&Outcome>,
        left_out: &[(&'static str, &'static str)],
    ) {
        self.left_out.extend(left_out.iter().map(|&(test, why)| (suite, test, why)));
        let good = outcome.is_some_and(Outcome::is_good);
        self.failures += usize::from(!good);
        let mut result = match outcome {
            None => "FAILED: did not begin".into(),
            Some(outcome) if good => format!("ok: {} passed", outcome.passed),
            Some(Outcome { passed, failed, status, running, again: _ }) => {
                let end = match status {
                    None => format!("did not end ({}), ", running.as_deref().unwrap_or("no test")),
                    Some(_) if failed.is_empty() => format!("status {}, ", status.unwrap_or(0)),
                    Some(_) => String::new(),
                };
                let names = failed.join(", ");
                format!("FAILED: {end}{passed} passed, {} failed: {names}", failed.len())
            }
        };
        if let Some(again) = outcome.map(|it| &it.again).filter(|again| !again.is_empty()) {
            result += &format!(", the second time: {}", again.join(", "));
        }
        if !left_out.is_empty() {
            result += &format!(", {} not for a VM", left_out.len());
        }
        self.row(kernel, release, probe, suite, result);
    }

    fn row(&mut self, kernel: &str, release: &str, probe: &str, suite: &str, result: String) {
        let row = [kernel, release, probe, suite].map(str::to_owned);
        let [kernel, release, probe, suite] = row;
        self.rows.push([kernel, release, probe, suite, result]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["kernel", "release", "probe", "suite", "result"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3].map(width);
        for row in rows {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", row[4])?;
        }
        for (suite, test, why) in &self.left_out {
            writeln!(f, "not for a VM: {suite}: {test} needs {why}")?;
        }
        Ok(())
    }
}
