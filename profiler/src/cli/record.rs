//! `offwake [OPTIONS]`: record → symbolize → merge → render.

use std::process::ExitCode;

use anyhow::Context;
use offwake::recording::human_bytes;
use offwake::{merge, record, render, symbolize};

use super::config::{Job, Output};
use super::output::Sink;
use super::summary::{Summary, no_interval};
use super::{progress, report, say, stop};

/// Records, and writes the results.
///
/// # Errors
/// When nothing could be or was recorded. An output that fails is reported at once and leaves the
/// others alone; it shows in the exit code.
pub(crate) fn run(job: &Job) -> anyhow::Result<ExitCode> {
    // Nobody should record for an hour to learn that the directory does not exist.
    let sinks = job
        .outputs
        .iter()
        .map(|output| Sink::open(&output.destination))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // After the outputs: opening a pipe waits for its reader, which Ctrl-C must be able to end.
    let stop = stop::on_signals().context("cannot handle signals")?;

    let bar = progress::recording(job.record.duration);
    let result = record::record(&job.record, &stop, &mut |now| bar.update(now));
    bar.clear();
    let recording = result?;
    if recording.waits.is_empty() {
        anyhow::bail!(no_interval(&recording, &job.record));
    }

    let bar = progress::symbolizing();
    let symbols = symbolize::symbolize(&recording, &job.symbolize, &mut |done, total| {
        bar.update(done, total);
    });
    bar.clear();
    for warning in recording.warnings.iter().chain(&symbols.warnings) {
        say(format_args!("warning: {warning}"));
    }
    let profile = merge::merge(&recording, &symbols);
    let summary = Summary::of(&recording, profile.losses);
    let unwind = recording.unwind;
    drop(recording);

    let mut exit = ExitCode::SUCCESS;
    for (sink, output) in sinks.into_iter().zip(&job.outputs) {
        let Output { format, .. } = output;
        let written = sink.write(|out| {
            render::write(*format, &profile, &job.render, out)
                .with_context(|| format!("cannot make {}", format.name()))
        });
        if let Err(error) = written {
            report(format_args!("{error:#}"));
            exit = ExitCode::FAILURE;
        }
    }
    if let Some(figures) = unwind {
        let memory = human_bytes(figures.bpf_bytes);
        say(format_args!("unwind tables: {}; BPF memory {memory}", figures.tables()));
    }
    say(summary);
    Ok(exit)
}
