//! `offwake report`: read → combine → name → filter → render.

use std::process::ExitCode;

use anyhow::{Context, bail};
use offwake::{render, report, symbolize};

use super::config::Report;
use super::summary::{say_probe, say_refusal, say_sampling};
use super::{results, say, source, stop};

/// Reads the files, and writes the results.
///
/// # Errors
/// When a file cannot be read, or nothing is left to show. An output that fails is reported at once
/// and leaves the others alone; it shows in the exit code.
pub(crate) fn run(job: &Report) -> anyhow::Result<ExitCode> {
    stop::at_once().context("cannot handle signals")?;
    let sinks = results::open(&job.outputs)?;
    let profiles =
        job.files.iter().map(|path| source::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let all = symbolize::name_later(report::combine(profiles)?, &job.symbolize);
    let waits = all.waits.len();
    let profile = job.filter.apply(all);
    if profile.waits.is_empty() && waits > 0 {
        bail!("none of the {waits} waits meets all conditions");
    }
    let exit = results::write(sinks, &job.outputs, |format, out| {
        render::write(format, &profile, &job.render, out)
    });
    say_probe(&profile);
    say_sampling(&profile);
    say_refusal(&profile, &job.outputs);
    say(profile.losses.describe(true));
    Ok(exit)
}
