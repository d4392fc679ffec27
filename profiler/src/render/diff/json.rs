//! A diff as JSON. Names are as in folded stacks.
//!
//! ```text
//! {
//!   "before": {"recording": {…}, "losses": {…}},   as in the JSON of a profile
//!   "after": {…},
//!   "metric": "off",           what is compared; the names that --metric takes
//!   "by": "wait",              what makes a row; the names that --by takes
//!   "unit": "ms/s",            of before, after and delta: ms or waits, per s, per request, or sums
//!   "runs": {"before": 3, "after": 3},   with more than one, before and after are all of a side
//!   "compared": 40,            how many rows there are, also those that do not differ; of repeated
//!                              runs without those that have too few waits to tell anything
//!   "total": {…},              as a row, without a name
//!   "rows": [{                 what differs, the largest difference first
//!     "name": "ep_poll",
//!     "before": 12.5, "after": 15.0, "delta": 2.5,
//!     "percent": 20.0,         null when there was nothing before
//!     "significant": true,     by p_adjusted <= 0.05; null when not known, with one run each
//!     "p": 0.001, "p_adjusted": 0.004,   of Welch's t-test of log rates, as it is and adjusted for
//!                              the number of rows by Benjamini-Hochberg; that of the total is not
//!     "before_sum": 375000000, "after_sum": 450000000,   ns, or a number of waits
//!     "before_count": 10, "after_count": 12,             0 is unknown in folded stacks
//!     "before_mean_ns": 37500000, "after_mean_ns": null, null where the count is 0
//!     "before_histogram": [[33554432, 10]], "after_histogram": []   as in the JSON of a profile
//!   }]
//! }
//! ```

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Labels, in_unit, unit};
use crate::diff::{Diff, Histograms, Row, Significance};
use crate::profile::{Histogram, Profile};
use crate::render::json;

pub(super) fn write(
    before: &Profile,
    after: &Profile,
    diff: &Diff,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut histograms = Histograms::new(diff, before, after);
    let head = Head {
        before: Side::new(before),
        after: Side::new(after),
        metric: diff.options.metric.name(),
        by: diff.options.by.name(),
        unit: unit(diff),
        runs: BTreeMap::from([("after", diff.runs().1), ("before", diff.runs().0)]),
        compared: diff.compared,
        total: Entry::new(diff, String::new(), &diff.total, &histograms.total),
    };
    // The rows go inside, one a line.
    let head = serde_json::to_string(&head)?;
    let head = head.strip_suffix('}').unwrap_or(&head);
    write!(out, "{head},\n\"rows\":[")?;
    let labels = Labels::new(&diff.names);
    for (index, name) in diff.rows.iter().enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        let (row, lengths) = (diff.row(*name), histograms.of(*name));
        serde_json::to_writer(&mut *out, &Entry::new(diff, labels.name(*name), &row, &lengths))?;
    }
    out.write_all(b"\n]}\n")
}

#[derive(Serialize)]
struct Head<'a> {
    before: Side<'a>,
    after: Side<'a>,
    metric: &'static str,
    by: &'static str,
    unit: &'static str,
    runs: BTreeMap<&'static str, usize>,
    compared: usize,
    total: Entry,
}

#[derive(Serialize)]
struct Side<'a> {
    recording: json::Recording<'a>,
    losses: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<json::Sampling<'a>>,
}

impl<'a> Side<'a> {
    fn new(profile: &'a Profile) -> Self {
        Self {
            recording: json::Recording::new(&profile.meta),
            losses: json::losses(&profile.losses),
            sampling: json::Sampling::of(profile),
        }
    }
}

#[derive(Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    before: f64,
    after: f64,
    delta: f64,
    percent: Option<f64>,
    significant: Option<bool>,
    p: Option<f64>,
    p_adjusted: Option<f64>,
    before_sum: u64,
    after_sum: u64,
    before_count: u64,
    after_count: u64,
    before_mean_ns: Option<u64>,
    after_mean_ns: Option<u64>,
    before_histogram: Vec<(u64, u64)>,
    after_histogram: Vec<(u64, u64)>,
}

impl Entry {
    fn new(diff: &Diff, name: String, row: &Row, lengths: &[Histogram; 2]) -> Self {
        let (before, after) = diff.divisors();
        let (before, after) = (before as f64, after as f64);
        let percent = diff.percent(row);
        Self {
            name,
            before: in_unit(diff, row.before.value as f64, before),
            after: in_unit(diff, row.after.value as f64, after),
            delta: in_unit(diff, diff.numerator(row) as f64, before * after),
            percent: percent.is_finite().then_some(percent),
            significant: row.significance.map(Significance::is_significant),
            p: row.significance.map(|one| one.p),
            p_adjusted: row.significance.map(|one| one.adjusted),
            before_sum: row.before.value,
            after_sum: row.after.value,
            before_count: row.before.count,
            after_count: row.after.count,
            before_mean_ns: row.before.mean_ns(),
            after_mean_ns: row.after.mean_ns(),
            before_histogram: json::histogram(&lengths[0]),
            after_histogram: json::histogram(&lengths[1]),
        }
    }
}
