//! The command line: arguments → validated configuration → the pipeline of the library.
//!
//! Exit codes: 0 for success, 1 when something went wrong, 2 when the arguments make no sense, 3 when
//! `offwake diff --fail-above` finds a regression.

mod args;
mod check;
mod config;
mod diff;
mod epoll;
mod examples;
mod generate;
mod man;
mod output;
mod progress;
mod record;
mod report;
mod results;
mod source;
mod stop;
mod summary;
mod unfinished;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use args::{Cli, Subcommand};
use config::{Comparison, Job, Report};

const USAGE_ERROR: u8 = 2;

/// Runs the command that the arguments ask for.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return usage_error(one_line(&error)),
        Err(help) => {
            // Help that nobody reads to its end is no failure.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let result = match cli.subcommand {
        Some(Subcommand::Report(args)) => match Report::new(*args, io::stdout().is_terminal()) {
            Ok(job) => report::run(&job),
            Err(message) => return usage_error(message),
        },
        Some(Subcommand::Diff(args)) => match Comparison::new(*args) {
            Ok(job) => diff::run(&job),
            Err(message) => return usage_error(message),
        },
        Some(Subcommand::Epoll(args)) => epoll::run(*args),
        Some(Subcommand::Check { pid }) => check::run(&pid),
        Some(Subcommand::Generate { what }) => generate::run(what),
        None => match Job::new(cli.record, io::stdout().is_terminal()) {
            Ok(job) => record::run(&job),
            Err(message) => return usage_error(message),
        },
    };
    result.unwrap_or_else(|error| {
        report(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn usage_error(message: impl Display) -> ExitCode {
    report(message);
    ExitCode::from(USAGE_ERROR)
}

/// Prints an error to stderr.
fn report(error: impl Display) {
    say(format_args!("error: {error}"));
}

/// Prints a line to stderr. There is nobody to tell when that fails.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "offwake: {}", escape(&line.to_string()));
}

/// Without control characters: messages quote names of threads and files, and those may hold
/// anything.
fn escape(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// A clap error as one line, like every other error: without the usage and the pointer to
/// `--help` that end it.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut parts: Vec<String> = text
        .trim_start_matches("error: ")
        .split("\n\n")
        .map(str::trim)
        .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    // `offwake sleep 1` is what users of other profilers type.
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && !argument.starts_with('-')
    {
        parts.push("a command to record goes after --".into());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_leave_its_line_or_command_the_terminal() {
        assert_eq!(escape("a\nb\x1b[2J\u{9b}2J\r"), "a\\nb\\u{1b}[2J\\u{9b}2J\\r");
        assert_eq!(escape("µs, 'wrk:worker_0' \\"), "µs, 'wrk:worker_0' \\");
    }
}
