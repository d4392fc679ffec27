//! `offwake report`: read → combine → name → filter → render.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use offwake::profile::Profile;
use offwake::saved::{self, Loaded};
use offwake::{report, symbolize};

use super::config::Report;
use super::{results, say};

/// Reads the files, and writes the results.
///
/// # Errors
/// When a file cannot be read, or nothing is left to show. An output that fails is reported at once
/// and leaves the others alone; it shows in the exit code.
pub(crate) fn run(job: &Report) -> anyhow::Result<ExitCode> {
    let sinks = results::open(&job.outputs)?;
    let profiles = job.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let all = symbolize::name_later(report::combine(profiles)?, &job.symbolize);
    let profile = job.filter.apply(&all);
    if profile.waits.is_empty() && !all.waits.is_empty() {
        bail!("none of the {} waits meets all conditions", all.waits.len());
    }
    let exit = results::write(sinks, &job.outputs, &profile, &job.render);
    say(profile.losses.describe(true));
    Ok(exit)
}

/// Reads one file, and tells on stderr what to know of it.
///
/// # Errors
/// When it cannot be read.
fn read(path: &Path) -> anyhow::Result<Profile> {
    let (name, loaded) = if path.as_os_str() == "-" {
        let name = "standard input".to_owned();
        let loaded = saved::read(&name, io::stdin().lock());
        (name, loaded)
    } else {
        let open = || {
            let file = File::open(path)?;
            ensure!(!file.metadata()?.is_dir(), "it is a directory");
            saved::read(&path.file_name().unwrap_or_default().to_string_lossy(), file)
        };
        (format!("'{}'", path.display()), open())
    };
    let Loaded { profile, notes } = loaded.with_context(|| format!("cannot read {name}"))?;
    for note in notes {
        say(format_args!("{name}: {note}"));
    }
    Ok(profile)
}
