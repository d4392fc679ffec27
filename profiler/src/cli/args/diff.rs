//! The arguments of `offwake diff`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use offwake::diff::{Base, By};
use offwake::render::DiffFormat;
use regex::Regex;

use super::output::MetricName;

const RUNS: &str = "Repeated runs";
const COMPARISON: &str = "Comparison";
const GATE: &str = "Gate";

/// What to compare, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct DiffArgs {
    /// The first profile, saved or as folded stacks
    #[arg(value_name = "BEFORE", required_unless_present = "before_runs", value_hint = ValueHint::FilePath)]
    pub(crate) before: Option<PathBuf>,

    /// The second profile
    #[arg(value_name = "AFTER", required_unless_present = "after_runs", value_hint = ValueHint::FilePath)]
    pub(crate) after: Option<PathBuf>,

    /// Repeated runs in place of BEFORE, with those of --after: tells changes from noise
    ///
    /// Values are then those of all runs of a side together, and each row is marked `*` when its
    /// change is significant: by Welch's t-test of the logarithms of the rates of single runs, with p
    /// adjusted for the number of rows (Benjamini and Hochberg), at 5 %. It needs two runs of each
    /// side; three or more find much smaller changes.
    #[arg(
        long = "before", id = "before_runs", value_name = "FILE", num_args = 1..,
        requires = "after_runs", conflicts_with_all = ["before", "after"],
        value_hint = ValueHint::FilePath, help_heading = RUNS
    )]
    pub(crate) before_runs: Vec<PathBuf>,

    /// Repeated runs in place of AFTER
    #[arg(
        long = "after", id = "after_runs", value_name = "FILE", num_args = 1..,
        requires = "before_runs", conflicts_with_all = ["before", "after"],
        value_hint = ValueHint::FilePath, help_heading = RUNS
    )]
    pub(crate) after_runs: Vec<PathBuf>,

    /// What makes one row
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, help_heading = COMPARISON)]
    pub(crate) by: ByName,

    /// What is compared
    #[arg(long, value_name = "METRIC", value_enum, default_value_t, help_heading = COMPARISON)]
    pub(crate) metric: MetricName,

    /// Divide by these numbers of requests, before and after, in place of the length
    ///
    /// Or by the number of anything else that was done in the time of each recording. Repeated runs
    /// take one number each, first those before, then those after.
    #[arg(
        long, value_name = "N,M", value_delimiter = ',',
        value_parser = parse_per, allow_negative_numbers = true,
        conflicts_with = "absolute", help_heading = COMPARISON
    )]
    pub(crate) per: Vec<u64>,

    /// Compare sums, whatever the length of the recordings; of repeated runs, their mean
    #[arg(long, help_heading = COMPARISON)]
    pub(crate) absolute: bool,

    /// Whose values are the widths of the flame graph
    ///
    /// What is not on that side has a graph of its own below. Red got longer and blue got shorter,
    /// either way.
    #[arg(long, value_name = "SIDE", value_enum, default_value_t, help_heading = COMPARISON)]
    pub(crate) base: BaseName,

    /// Look for separate debug files here, too; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = COMPARISON)]
    pub(crate) debug_dir: Vec<PathBuf>,

    /// Exit with 3 when waits got longer than this, in percent
    ///
    /// All waits in sum, or those of each --path. With repeated runs only what is significant counts,
    /// too: longer than this, and beyond noise. With one run each nothing tells a change from noise:
    /// choose a limit that is above what two runs of the same differ by.
    #[arg(
        long, value_name = "PERCENT",
        value_parser = parse_percent, allow_negative_numbers = true, help_heading = GATE
    )]
    pub(crate) fail_above: Option<f64>,

    /// Only for --fail-above: the waits with a thread or a function that matches; may be given several
    /// times
    #[arg(long, value_name = "REGEX", requires = "fail_above", help_heading = GATE)]
    pub(crate) path: Vec<Regex>,

    /// Write to this file; may be given several times
    ///
    /// The extension tells the format: .svg, .html, .txt or .json; with -F it may be anything.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = super::output::OUTPUT)]
    pub(crate) output: Vec<PathBuf>,

    /// Write every output in this format
    #[arg(short = 'F', long, value_name = "FORMAT", value_enum, help_heading = super::output::OUTPUT)]
    pub(crate) format: Option<DiffFormatName>,
}

/// A [`By`] and its help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum ByName {
    /// Where threads wait: the innermost function that is not the scheduler's
    #[default]
    Wait,
    /// Who ends the waits
    Waker,
    /// Whole stacks, of sleeper and waker
    Stack,
    /// The names of the threads that wait
    Thread,
}

impl From<ByName> for By {
    fn from(name: ByName) -> Self {
        match name {
            ByName::Wait => Self::Wait,
            ByName::Waker => Self::Waker,
            ByName::Stack => Self::Stack,
            ByName::Thread => Self::Thread,
        }
    }
}

/// A [`Base`] and its help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum BaseName {
    /// Those before
    Before,
    /// Those after
    #[default]
    After,
}

impl From<BaseName> for Base {
    fn from(name: BaseName) -> Self {
        match name {
            BaseName::Before => Self::Before,
            BaseName::After => Self::After,
        }
    }
}

/// A [`DiffFormat`] and its help.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DiffFormatName {
    /// A flame graph: widths are those after (see --base), red got longer, blue got shorter
    Svg,
    /// A page to explore: flame graph, table, search and filters
    Html,
    /// A table, for reading
    Text,
    /// Everything that is known, for programs
    Json,
}

impl From<DiffFormatName> for DiffFormat {
    fn from(name: DiffFormatName) -> Self {
        match name {
            DiffFormatName::Svg => Self::Svg,
            DiffFormatName::Html => Self::Html,
            DiffFormatName::Text => Self::Text,
            DiffFormatName::Json => Self::Json,
        }
    }
}

fn parse_per(text: &str) -> Result<u64, String> {
    // Exact arithmetic has room for this.
    text.parse()
        .ok()
        .filter(|number| (1..1 << 62).contains(number))
        .ok_or_else(|| "whole numbers from 1, separated by commas".into())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent),
        _ => Err("a number of percent from 0".into()),
    }
}
