//! `offwake diff`: read → name → compare → render.

use std::process::ExitCode;

use anyhow::ensure;
use offwake::diff::{self, Diff};
use offwake::profile::Profile;
use offwake::{render, symbolize};

use super::config::Comparison;
use super::{results, say, source};

/// What got longer than --fail-above allows.
const REGRESSION: u8 = 3;

/// Compares two profiles, and writes the results.
///
/// # Errors
/// When a profile cannot be read or compared. An output that fails is reported at once and leaves the
/// others alone; it shows in the exit code.
pub(crate) fn run(job: &Comparison) -> anyhow::Result<ExitCode> {
    let sinks = results::open(&job.outputs)?;
    let read = |path| Ok(symbolize::name_later(source::read(path)?, &job.symbolize));
    let (before, after): (Profile, Profile) = {
        let before: anyhow::Result<Profile> = read(&job.before);
        (before?, read(&job.after)?)
    };
    let diff = Diff::new(&before, &after, job.options)?;
    let exit = results::write(sinks, &job.outputs, |format, out| {
        render::write_diff(format, &before, &after, &diff, out)
    });
    let slower = regressions(job, &before, &after, &diff)?;
    for line in &slower {
        say(line);
    }
    Ok(if exit == ExitCode::SUCCESS && !slower.is_empty() {
        ExitCode::from(REGRESSION)
    } else {
        exit
    })
}

/// One line for each path that got slower than is allowed.
///
/// # Errors
/// When a path that is watched is in neither profile: it must not pass unseen.
fn regressions(
    job: &Comparison,
    before: &Profile,
    after: &Profile,
    diff: &Diff,
) -> anyhow::Result<Vec<String>> {
    let Some(limit) = job.fail_above else { return Ok(Vec::new()) };
    let mut watched = Vec::new();
    for path in &job.paths {
        let row = diff::path(before, after, diff.options.metric, path);
        let is_there = row.before.value > 0 || row.after.value > 0;
        ensure!(is_there, "no wait in either profile matches --path {path}");
        watched.push((format!("waits through {path}"), row));
    }
    if watched.is_empty() {
        watched.push(("all waits".into(), diff.total.clone()));
    }
    let slower = watched.iter().filter_map(|(name, row)| {
        let percent = diff.percent(row);
        let by = if percent.is_finite() {
            format!("got longer by {percent:.1} %, and {limit} % are allowed")
        } else {
            "are new".into()
        };
        (percent > limit).then(|| format!("regression: {name} {by}"))
    });
    Ok(slower.collect())
}
