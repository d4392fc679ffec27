//! Arguments → what will be done, or one line that says why not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use offwake::diff::Scale;
use offwake::record::{self, Filter};
use offwake::render::{DiffFormat, Format, RenderOptions};
use offwake::{diff, report, symbolize};
use offwake_shared::{SourceDetail, WaitState};
use regex::Regex;

use super::args::RecordArgs;
use super::args::diff::DiffArgs;
use super::args::output::{GraphArgs, OutputArgs};
use super::args::report::ReportArgs;

/// A recording with all that happens to it: valid, as far as arguments alone can tell.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) record: record::Config,
    pub(crate) symbolize: symbolize::Options,
    pub(crate) render: RenderOptions,
    pub(crate) outputs: Vec<Output>,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output<F = Format> {
    pub(crate) destination: Destination,
    pub(crate) format: F,
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    File(PathBuf),
}

impl Job {
    /// # Errors
    /// One line for the user when the arguments contradict each other or leave something open.
    pub(crate) fn new(args: RecordArgs, stdout_is_terminal: bool) -> Result<Self, String> {
        check_targets(&args)?;
        check_block_times(&args)?;
        let outputs = outputs(&args.output, stdout_is_terminal)?;
        let states = if args.state.is_empty() { &WaitState::ALL[..] } else { &args.state };
        Ok(Self {
            record: record::Config {
                filter: Filter {
                    pids: unique(&args.pid),
                    tids: unique(&args.tid),
                    cgroup: args.cgroup,
                    comm: args.comm,
                },
                command: Some(args.command).filter(|command| !command.is_empty()),
                follow: args.follow,
                duration: args.duration,
                min_off: Duration::from_micros(args.min_block_time),
                max_off: args.max_block_time.map(Duration::from_micros),
                states: states.iter().fold(0, |set, state| set | state.bit()),
                user_stacks: !args.kernel_stacks_only,
                kernel_stacks: !args.user_stacks_only,
                unwind: args.unwind.into(),
                remember: !args.no_remember,
                probe: args.probe.into(),
                overhead_ppm: args.overhead,
                wake_source: args.wake_source.map_or(SourceDetail::Off, Into::into),
                capacity: record::Capacity::default(),
            },
            symbolize: symbolize_options(&args.graph),
            render: render_options(args.graph),
            outputs,
        })
    }
}

/// A report of saved profiles: valid, as far as arguments alone can tell.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) filter: report::Filter,
    pub(crate) symbolize: symbolize::Options,
    pub(crate) render: RenderOptions,
    pub(crate) outputs: Vec<Output>,
}

impl Report {
    /// # Errors
    /// One line for the user when the arguments contradict each other or leave something open.
    pub(crate) fn new(args: ReportArgs, stdout_is_terminal: bool) -> Result<Self, String> {
        let ReportArgs { files, sleeper, waker, include, exclude, min_us, output, graph } = args;
        let stdin = |path: &&PathBuf| path.as_os_str() == "-";
        if files.iter().filter(stdin).count() > 1 {
            return Err("standard input can be read only once".into());
        }
        Ok(Self {
            files,
            filter: report::Filter { sleeper, waker, include, exclude, min_us },
            outputs: outputs(&output, stdout_is_terminal)?,
            symbolize: symbolize_options(&graph),
            render: render_options(graph),
        })
    }
}

/// A comparison of two profiles, or of repeated runs: valid, as far as arguments alone can tell.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) before: Vec<PathBuf>,
    pub(crate) after: Vec<PathBuf>,
    pub(crate) options: diff::Options,
    pub(crate) symbolize: symbolize::Options,
    pub(crate) fail_above: Option<f64>,
    pub(crate) paths: Vec<Regex>,
    pub(crate) outputs: Vec<Output<DiffFormat>>,
}

impl Comparison {
    /// # Errors
    /// One line for the user when the arguments contradict each other or leave something open.
    pub(crate) fn new(args: DiffArgs) -> Result<Self, String> {
        let DiffArgs {
            before,
            after,
            before_runs,
            after_runs,
            by,
            metric,
            per,
            absolute,
            base,
            debug_dir,
            fail_above,
            path,
            output,
            format,
        } = args;
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) => (vec![before], vec![after]),
            _ => (before_runs, after_runs),
        };
        if before.iter().chain(&after).filter(|path| path.as_os_str() == "-").count() > 1 {
            return Err("standard input can be read only once".into());
        }
        let (runs_before, runs_after) = (before.len(), after.len());
        if (runs_before == 1) != (runs_after == 1) {
            return Err(format!(
                "--before has {runs_before} and --after has {runs_after}: one run has no noise to compare \
                 with, so give two or more of each, or one of each"
            ));
        }
        let scale = match per.split_at_checked(runs_before) {
            Some((before, after)) if after.len() == runs_after => {
                Scale::Per(before.to_vec(), after.to_vec())
            }
            _ if !per.is_empty() => {
                let runs = runs_before + runs_after;
                return Err(format!("--per takes one number for each recording: {runs}"));
            }
            _ if absolute => Scale::Absolute,
            _ => Scale::Rate,
        };
        let format = format.map(Into::into);
        Ok(Self {
            before,
            after,
            options: diff::Options {
                by: by.into(),
                metric: metric.into(),
                scale,
                base: base.into(),
            },
            symbolize: symbolize::Options { debug_dirs: debug_dir, lines: false },
            fail_above,
            paths: path,
            outputs: outputs_in(&output, format, DiffFormat::Text, diff_format_of)?,
        })
    }
}

fn symbolize_options(args: &GraphArgs) -> symbolize::Options {
    symbolize::Options { debug_dirs: args.debug_dir.clone(), lines: args.lines }
}

fn render_options(args: GraphArgs) -> RenderOptions {
    let GraphArgs { metric, per_thread, delimited, lines, annotate, title, debug_dir: _ } = args;
    RenderOptions { metric: metric.into(), per_thread, delimited, lines, annotate, title }
}

fn check_targets(args: &RecordArgs) -> Result<(), String> {
    let RecordArgs { pid, tid, cgroup, comm, all, follow, command, .. } = args;
    let has_process = !pid.is_empty() || !command.is_empty();
    if !(has_process || !tid.is_empty() || cgroup.is_some() || comm.is_some() || *all) {
        return Err("nothing to record: name a target with -p, -t, --cgroup or --comm, give a \
                    command after --, or record everything with -a (see 'offwake --help')"
            .into());
    }
    if *follow && !has_process {
        return Err("--follow takes the children of processes along: name the processes with -p, \
                    or give a command after --"
            .into());
    }
    Ok(())
}

fn check_block_times(args: &RecordArgs) -> Result<(), String> {
    let min = args.min_block_time;
    match args.max_block_time {
        Some(max) if min > max => Err(format!(
            "no interval can be both longer than -m {min} and shorter than -M {max}: swap them"
        )),
        _ => Ok(()),
    }
}

fn outputs(args: &OutputArgs, stdout_is_terminal: bool) -> Result<Vec<Output>, String> {
    let forced = if args.folded { Some(Format::Folded) } else { args.format };
    let for_stdout = if stdout_is_terminal { Format::Text } else { Format::Svg };
    outputs_in(&args.output, forced, for_stdout, format_of)
}

/// The outputs in any kind of format: in one that is `forced`, or else by the name of each file.
fn outputs_in<F: Copy>(
    paths: &[PathBuf],
    forced: Option<F>,
    for_stdout: F,
    of_file: fn(&Path) -> Result<F, String>,
) -> Result<Vec<Output<F>>, String> {
    let stdout =
        || Output { destination: Destination::Stdout, format: forced.unwrap_or(for_stdout) };
    if paths.is_empty() {
        return Ok(vec![stdout()]);
    }
    let mut outputs: Vec<Output<F>> = Vec::new();
    for path in paths {
        let output = if path.as_os_str() == "-" {
            stdout()
        } else {
            let format = forced.map_or_else(|| of_file(path), Ok)?;
            Output { destination: Destination::File(path.clone()), format }
        };
        if outputs.iter().any(|other| other.destination == output.destination) {
            return Err(format!("-o '{}' is given twice", path.display()));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

fn format_of(path: &Path) -> Result<Format, String> {
    Format::of_file(path).ok_or_else(|| {
        format!(
            "unknown format of -o '{}': its name must end with .svg, .html, .folded, .txt, .json or \
             .pb.gz, or -F must name the format",
            path.display()
        )
    })
}

fn diff_format_of(path: &Path) -> Result<DiffFormat, String> {
    match Format::of_file(path) {
        Some(Format::Text) => Ok(DiffFormat::Text),
        Some(Format::Json) => Ok(DiffFormat::Json),
        Some(Format::Svg) => Ok(DiffFormat::Svg),
        Some(Format::Html) => Ok(DiffFormat::Html),
        _ => Err(format!(
            "unknown format of -o '{}': the name of a diff must end with .svg, .html, .txt or .json, or \
             -F must name the format",
            path.display()
        )),
    }
}

/// The ids, each once, in the order given.
pub(super) fn unique(ids: &[u32]) -> Vec<u32> {
    let mut seen = Vec::with_capacity(ids.len());
    for id in ids {
        if !seen.contains(id) {
            seen.push(*id);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
