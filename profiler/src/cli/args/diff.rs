//! The arguments of `offwake diff`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use offwake::diff::By;
use offwake::render::DiffFormat;
use regex::Regex;

use super::output::MetricName;

const COMPARISON: &str = "Comparison";
const GATE: &str = "Gate";

/// What to compare, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct DiffArgs {
    /// The first profile, saved or as folded stacks
    #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
    pub(crate) before: PathBuf,

    /// The second profile
    #[arg(value_name = "AFTER", value_hint = ValueHint::FilePath)]
    pub(crate) after: PathBuf,

    /// What makes one row
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, help_heading = COMPARISON)]
    pub(crate) by: ByName,

    /// What is compared
    #[arg(long, value_name = "METRIC", value_enum, default_value_t, help_heading = COMPARISON)]
    pub(crate) metric: MetricName,

    /// Divide by these numbers of requests, before and after, in place of the length
    ///
    /// Or by the number of anything else that was done in the time of each recording.
    #[arg(long, value_name = "N,M", value_parser = parse_per, conflicts_with = "absolute", help_heading = COMPARISON)]
    pub(crate) per: Option<(u64, u64)>,

    /// Compare sums, whatever the length of the recordings
    #[arg(long, help_heading = COMPARISON)]
    pub(crate) absolute: bool,

    /// Look for separate debug files here, too; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = COMPARISON)]
    pub(crate) debug_dir: Vec<PathBuf>,

    /// Exit with 3 when waits got longer than this, in percent
    ///
    /// All waits in sum, or those of each --path. With one run each nothing tells a change from
    /// noise: choose a limit that is above what two runs of the same differ by.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = GATE)]
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

/// A [`DiffFormat`] and its help.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DiffFormatName {
    /// A flame graph: widths are those after, red got longer, blue got shorter
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

fn parse_per(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| {
        // Exact arithmetic has room for this.
        text.parse::<u64>().ok().filter(|number| (1..1 << 62).contains(number))
    };
    text.split_once(',')
        .and_then(|(before, after)| Some((number(before)?, number(after)?)))
        .ok_or_else(|| "two whole numbers from 1, separated by a comma".into())
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if percent >= 0.0 && percent.is_finite() => Ok(percent),
        _ => Err("a number of percent from 0".into()),
    }
}
