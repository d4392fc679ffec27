//! `offwake [OPTIONS]`: record → symbolize → merge → render.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Context;
use offwake::recording::human_bytes;
use offwake::snapshot::memory;
use offwake::{merge, record, render, symbolize};

use super::config::Job;
use super::summary::{Summary, no_interval, say_probe, say_refusal, say_sampling};
use super::{progress, results, say, stop};

/// Records, and writes the results.
///
/// # Errors
/// When nothing could be or was recorded. An output that fails is reported at once and leaves the
/// others alone; it shows in the exit code.
pub(crate) fn run(job: &Job) -> anyhow::Result<ExitCode> {
    // Nobody should record for an hour to learn that the directory does not exist.
    let sinks = results::open(&job.outputs)?;
    // After the outputs: opening a pipe waits for its reader, which Ctrl-C must be able to end.
    let stop = stop::on_signals().context("cannot handle signals")?;

    let bar = progress::recording(job.record.duration);
    let result = record::record(&job.record, &stop, &mut |now| bar.update(now));
    bar.clear();
    let recording = result?;
    if recording.waits.is_empty() {
        let was_stopped = stop.load(Ordering::Relaxed);
        anyhow::bail!(no_interval(&recording, &job.record, was_stopped));
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
    let (unwind, bpf_bytes) = (recording.unwind, recording.bpf_bytes);
    let summary = Summary::of(&recording, &profile);
    let remembered = recording.remembered_stacks;
    drop(recording);

    let exit = results::write(sinks, &job.outputs, |format, out| {
        render::write(format, &profile, &job.render, out)
    });
    say_probe(&profile);
    if let Some(figures) = unwind {
        say(format_args!("unwind tables: {}", figures.tables()));
    }
    if let Some(peak) = memory::peak() {
        let (peak, maps) = (human_bytes(peak), human_bytes(bpf_bytes));
        say(format_args!("memory: {peak} at its peak, and {maps} of BPF maps"));
    }
    say_sampling(&profile);
    say_refusal(&profile, &job.outputs);
    if remembered != 0 {
        say(format_args!("stacks not unwound again: {remembered}"));
    }
    say(summary);
    Ok(exit)
}
