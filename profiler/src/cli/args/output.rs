//! What every command that renders has: where results go, and what is in them.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use offwake::profile::Metric;
use offwake::render::Format;

pub(super) const OUTPUT: &str = "Output";
const GRAPH: &str = "Content of the output";

/// Where results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Write to this file; may be given several times
    ///
    /// The extension tells the format: .svg, .html (a page to explore), .folded, .txt, .json or .pb.gz (a
    /// saved profile); with -F it may be anything.
    /// `-` is standard output. A file appears under its name only when it is complete; pipes and
    /// devices are written as they are.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub(crate) output: Vec<PathBuf>,

    /// Write every output in this format
    ///
    /// Without it the extension of each -o decides. Standard output gets svg, or text when it is a
    /// terminal.
    #[arg(short = 'F', long, value_name = "FORMAT", value_parser = format_parser(), conflicts_with = "folded", help_heading = OUTPUT)]
    pub(crate) format: Option<Format>,

    /// The same as -F folded
    #[arg(short, long, help_heading = OUTPUT)]
    pub(crate) folded: bool,
}

/// What results show.
#[derive(Args, Clone, Debug)]
pub(crate) struct GraphArgs {
    /// What the width of a frame and the value of a folded stack mean
    ///
    /// Text is sorted by it, and shows all of them; html begins with it, and can change to the others; JSON
    /// and pprof have all of them.
    #[arg(long, value_name = "METRIC", value_enum, default_value_t, help_heading = GRAPH)]
    pub(crate) metric: MetricName,

    /// Keep the threads of a name apart: the root frame gets the thread id
    ///
    /// Without it the threads of a pool that share a name share a tower, too. For svg and folded;
    /// html begins with it, and the other formats always name each thread.
    #[arg(long, help_heading = GRAPH)]
    pub(crate) per_thread: bool,

    /// Put a frame `-` between user and kernel frames
    ///
    /// It shows where each stack enters the kernel. For svg, html, folded and text.
    #[arg(long, help_heading = GRAPH)]
    pub(crate) delimited: bool,

    /// Show the source file and the line behind the name of a function
    ///
    /// Where debug information has them, also that of separate debug files: `name (file.cc:123)`; JSON
    /// has the whole path. Of a function that calls, the line is that of the call. What differs in
    /// the line only is no longer one frame. Reading lines may take some seconds.
    #[arg(long, help_heading = GRAPH)]
    pub(crate) lines: bool,

    /// Mark what kind of frame each is: `_[k]` kernel, `_[i]` inlined, `_[j]` compiled at run time
    ///
    /// Behind the name, as stackcollapse-perf.pl --all does and as flamegraph.pl --color=java paints
    /// it. For svg, html, folded and text; JSON always tells.
    #[arg(long, help_heading = GRAPH)]
    pub(crate) annotate: bool,

    /// The title of the flame graph, the page or the text, instead of one that names the target
    #[arg(long, value_name = "TEXT", help_heading = GRAPH)]
    pub(crate) title: Option<String>,

    /// Look for separate debug files here, too; may be given several times
    ///
    /// Directories laid out like /usr/lib/debug, which is always searched last: files by build id
    /// under .build-id, or by the name in .gnu_debuglink. With them, stripped programs have names
    /// instead of addresses, and inlined functions and lines.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = GRAPH)]
    pub(crate) debug_dir: Vec<PathBuf>,
}

/// A [`Metric`] and its help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum MetricName {
    /// Time off-CPU in µs: blocked and run-queue time together
    #[default]
    Off,
    /// Time until the wake-up, in µs: what the thread waited for
    Blocked,
    /// Time from the wake-up until the thread ran, in µs: waiting for a CPU
    Runqueue,
    /// Number of intervals
    Count,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Off => Self::Off,
            MetricName::Blocked => Self::Blocked,
            MetricName::Runqueue => Self::Runqueue,
            MetricName::Count => Self::Count,
        }
    }
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name))
        .try_map(|name| Format::from_name(&name).ok_or("not a format"))
}
