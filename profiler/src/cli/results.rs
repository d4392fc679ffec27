//! The results of a command, each to where it goes.

use std::io::{self, Write};
use std::process::ExitCode;

use super::config::Output;
use super::output::Sink;
use super::report;

/// Makes sure that all outputs can be written.
///
/// # Errors
/// When one cannot.
pub(crate) fn open<F>(outputs: &[Output<F>]) -> anyhow::Result<Vec<Sink>> {
    outputs.iter().map(|output| Sink::open(&output.destination)).collect()
}

/// Writes all outputs by `render`. One that fails is reported at once and leaves the others alone; it
/// shows in the exit code.
pub(crate) fn write<F: Copy>(
    sinks: Vec<Sink>,
    outputs: &[Output<F>],
    render: impl Fn(F, &mut dyn Write) -> io::Result<()>,
) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    for (sink, output) in sinks.into_iter().zip(outputs) {
        let written = sink.write(|out| Ok(render(output.format, out)?));
        if let Err(error) = written {
            report(format_args!("{error:#}"));
            exit = ExitCode::FAILURE;
        }
    }
    exit
}
