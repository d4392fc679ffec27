//! The arguments of `offwake report`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use offwake::report::NamePattern;
use regex::Regex;

use super::output::{GraphArgs, OutputArgs};
use super::parse_micros;

const CONDITIONS: &str = "Conditions";

/// What to read, and which part of it to show.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportArgs {
    /// Saved profiles or folded stacks, also packed by gzip; `-` is standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,

    /// Only waits of the threads with this name
    ///
    /// The whole name, or a regular expression that matches a part of it when no thread has exactly
    /// this name.
    #[arg(long, value_name = "NAME|REGEX", value_parser = parse_name, help_heading = CONDITIONS)]
    pub(crate) sleeper: Option<NamePattern>,

    /// Only waits that a thread with this name ended
    ///
    /// As for --sleeper. `[irq]`, `[softirq:NET_RX]`, `[preempted]`, `[not woken]` and `[unknown waker]`
    /// are names, too.
    #[arg(long, value_name = "NAME|REGEX", value_parser = parse_name, help_heading = CONDITIONS)]
    pub(crate) waker: Option<NamePattern>,

    /// Only waits with a frame that matches this; may be given several times
    ///
    /// A regular expression for a part of a frame, as the outputs show it, in either stack. Of several
    /// one has to match.
    #[arg(long, value_name = "REGEX", help_heading = CONDITIONS)]
    pub(crate) include: Vec<Regex>,

    /// No waits with a frame that matches this; may be given several times
    #[arg(long, value_name = "REGEX", help_heading = CONDITIONS)]
    pub(crate) exclude: Vec<Regex>,

    /// No waits that were shorter than this many microseconds in sum
    ///
    /// The sum of all their intervals; single intervals are not in a profile. Offwake's own
    /// --min-block-time leaves those out while it records.
    #[arg(
        long, value_name = "US", default_value_t = 0, hide_default_value = true,
        value_parser = parse_micros, allow_negative_numbers = true,
        help_heading = CONDITIONS
    )]
    pub(crate) min_us: u64,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    #[command(flatten)]
    pub(crate) graph: GraphArgs,
}

fn parse_name(text: &str) -> Result<NamePattern, String> {
    NamePattern::new(text).map_err(|error| error.to_string())
}
