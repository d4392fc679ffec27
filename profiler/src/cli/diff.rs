//! `offwake diff`: read → name → compare → render.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, ensure};
use offwake::diff::Diff;
use offwake::profile::Profile;
use offwake::render::DiffFormat;
use offwake::{render, report, symbolize};

use super::config::Comparison;
use super::{results, say, source, stop};

/// What got longer than --fail-above allows.
const REGRESSION: u8 = 3;

/// Compares two profiles, or repeated runs of each side, and writes the results.
///
/// # Errors
/// When a profile cannot be read or compared. An output that fails is reported at once and leaves the
/// others alone; it shows in the exit code.
pub(crate) fn run(job: &Comparison) -> anyhow::Result<ExitCode> {
    stop::at_once().context("cannot handle signals")?;
    let sinks = results::open(&job.outputs)?;
    let read = |paths: &[PathBuf]| -> anyhow::Result<Vec<Profile>> {
        paths
            .iter()
            .map(|path| Ok(symbolize::name_later(source::read(path)?, &job.symbolize)))
            .collect()
    };
    let (before, after) = thread::scope(|scope| {
        let after = scope.spawn(|| read(&job.after));
        (read(&job.before), after.join())
    });
    let (before, after) = (before?, after.unwrap_or_else(|panic| resume_unwind(panic))?);
    let (before_runs, after_runs): (Vec<&Profile>, Vec<&Profile>) =
        (before.iter().collect(), after.iter().collect());
    let mut diff = Diff::of_runs(&before_runs, &after_runs, job.options.clone())?;
    if job.outputs.iter().any(|output| output.format == DiffFormat::Svg) {
        diff = diff.with_frames(&before_runs, &after_runs);
    }
    let slower = regressions(job, &before_runs, &after_runs, &diff)?;
    let (before, after) = (report::combine(before)?, report::combine(after)?);
    let exit = results::write(sinks, &job.outputs, |format, out| {
        render::write_diff(format, &before, &after, &diff, out)
    });
    for line in &slower {
        say(line);
    }
    Ok(if exit == ExitCode::SUCCESS && !slower.is_empty() {
        ExitCode::from(REGRESSION)
    } else {
        exit
    })
}

/// One line for each path that got slower than is allowed: with repeated runs, beyond noise.
///
/// # Errors
/// When what is watched is in no profile: it must not pass unseen.
fn regressions(
    job: &Comparison,
    before: &[&Profile],
    after: &[&Profile],
    diff: &Diff,
) -> anyhow::Result<Vec<String>> {
    let Some(limit) = job.fail_above else { return Ok(Vec::new()) };
    let mut watched = Vec::new();
    for (path, row) in job.paths.iter().zip(diff.paths(before, after, &job.paths)) {
        ensure!(row.is_compared(), "no wait in any profile matches --path {path}");
        watched.push((format!("waits through {path}"), row));
    }
    if watched.is_empty() {
        ensure!(diff.total.is_compared(), "no profile has anything of this --metric to compare");
        watched.push(("all waits".into(), diff.total));
    }
    let slower = watched.iter().filter_map(|(name, row)| {
        let percent = diff.percent(row);
        let by = if percent.is_finite() {
            format!("got longer by {percent:.1} %, and {limit} % are allowed")
        } else {
            "are new".into()
        };
        let is_noise = row.significance.is_some_and(|one| !one.is_significant());
        (percent > limit && !is_noise).then(|| format!("regression: {name} {by}"))
    });
    Ok(slower.collect())
}
