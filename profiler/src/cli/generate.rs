//! `offwake generate`: the man page and completion scripts, from the definition of `--help`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::{Cli, Generated};
use super::man;
use super::output::Sink;

/// Prints it to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(what: Generated) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    match what {
        Generated::Man => man::write(Cli::command(), &mut text)?,
        Generated::Bash => completions(Shell::Bash, &mut text),
        Generated::Zsh => completions(Shell::Zsh, &mut text),
        Generated::Fish => completions(Shell::Fish, &mut text),
    }
    Sink::stdout()?.write(|out| Ok(out.write_all(&text)?))?;
    Ok(ExitCode::SUCCESS)
}

/// Into memory: clap_complete panics when a write fails.
fn completions(shell: Shell, text: &mut Vec<u8>) {
    clap_complete::generate(shell, &mut Cli::command(), "offwake", text);
}
