//! The results of a command, each to where it goes.

use std::process::ExitCode;

use anyhow::Context;
use offwake::profile::Profile;
use offwake::render::{self, RenderOptions};

use super::config::Output;
use super::output::Sink;
use super::report;

/// Makes sure that all outputs can be written.
///
/// # Errors
/// When one cannot.
pub(crate) fn open(outputs: &[Output]) -> anyhow::Result<Vec<Sink>> {
    outputs.iter().map(|output| Sink::open(&output.destination)).collect()
}

/// Writes all outputs. One that fails is reported at once and leaves the others alone; it shows in
/// the exit code.
pub(crate) fn write(
    sinks: Vec<Sink>,
    outputs: &[Output],
    profile: &Profile,
    options: &RenderOptions,
) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    for (sink, output) in sinks.into_iter().zip(outputs) {
        let Output { format, .. } = output;
        let written = sink.write(|out| {
            render::write(*format, profile, options, out)
                .with_context(|| format!("cannot make {}", format.name()))
        });
        if let Err(error) = written {
            report(format_args!("{error:#}"));
            exit = ExitCode::FAILURE;
        }
    }
    exit
}
