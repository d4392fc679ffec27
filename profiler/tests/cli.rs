//! The command as a user meets it: what it prints, and how it exits. Nothing here records.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn offwake(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offwake"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    offwake(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Asserts that the command fails with exactly one line on stderr, and nothing on stdout.
fn assert_fails(arguments: &[&str], code: i32, expected: &str) {
    let output = run(arguments);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert_eq!(stdout(&output), "", "{arguments:?}");
    assert!(error.starts_with("offwake: error: "), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.contains(expected), "{arguments:?}: {error}");
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    assert_fails(&[], 2, "nothing to record");
    assert_fails(&["-p", "x"], 2, "invalid value 'x' for '--pid <PID,...>'");
    assert_fails(
        &["-p", "1", "-F", "png"],
        2,
        "possible values: svg, html, folded, text, json, pprof",
    );
    assert_fails(&["-p", "1", "-o", "out.png"], 2, "unknown format of -o 'out.png'");
    assert_fails(&["-p", "1", "-U", "-K"], 2, "cannot be used with");
    assert_fails(&["-p", "1", "--", "true"], 2, "cannot be used with");
    assert_fails(&["--comm", "sixteen bytes :-)"], 2, "15 bytes");
    assert_fails(&["report"], 2, "the following required arguments were not provided: <FILE>");
    assert_fails(&["report", "-", "-"], 2, "standard input can be read only once");
    assert_fails(&["report", "x", "--include", "("], 2, "unclosed group");
    assert_fails(&["report", "x", "-o", "out.png"], 2, "unknown format of -o 'out.png'");
    assert_fails(&["report", "x", "-p", "1"], 2, "unexpected argument '-p'");
    assert_fails(&["check", "-d", "1"], 2, "unexpected argument '-d'");
}

#[test]
fn numbers_below_zero_are_told_what_they_should_be() {
    let positive = "for '--duration <SECS>': must be more than 0 and at most";
    assert_fails(&["-p", "1", "-d", "-1"], 2, positive);
    assert_fails(&["-p", "1", "-d", "-0.5"], 2, positive);
    assert_fails(&["epoll", "-p", "1", "-d", "-1"], 2, positive);
    for arguments in
        [&["-p", "-1"][..], &["-t", "-1"], &["epoll", "-p", "-1"], &["check", "-p", "-1"]]
    {
        assert_fails(arguments, 2, "ids are whole numbers from 1");
    }
    assert_fails(&["-p", "1", "-m", "-1"], 2, "a whole number of microseconds, from 0");
    assert_fails(&["-p", "1", "-M", "-1"], 2, "a whole number of microseconds, from 1");
    assert_fails(&["-p", "1", "-M", "0"], 2, "a whole number of microseconds, from 1");
    assert_fails(&["-p", "1", "--overhead", "-1"], 2, "must be from 0.01 to 100 percent");
    assert_fails(&["report", "x", "--min-us", "-1"], 2, "a whole number of microseconds, from 0");
    assert_fails(&["diff", "x", "y", "--per", "-1"], 2, "whole numbers from 1");
    assert_fails(&["diff", "x", "y", "--fail-above", "-1"], 2, "a number of percent from 0");
}

#[test]
fn outputs_fail_before_anything_is_recorded() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // The command would leave a trace, had it been started.
    let trace = path("trace");
    let run_with =
        |out: &str, expected| assert_fails(&["-o", out, "--", "touch", &trace], 1, expected);
    run_with(&path("missing/out.svg"), "No such file or directory");
    fs::create_dir(path("dir.svg")).unwrap();
    run_with(&path("dir.svg"), "it is a directory");
    let good = path("good.svg");
    assert_fails(&["-o", &good, "-o", &path("no/o.txt"), "--", "touch", &trace], 1, "no/o.txt");
    assert!(!Path::new(&trace).exists());
    assert!(!Path::new(&good).exists());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "only the directory made here");
}

#[test]
fn short_and_long_help_name_every_option() {
    let short = run(&["-h"]);
    let long = run(&["--help"]);
    let options = [
        "--pid",
        "--tid",
        "--cgroup",
        "--comm",
        "--all",
        "--follow",
        "--duration",
        "--min-block-time",
        "--max-block-time",
        "--state",
        "--user-stacks-only",
        "--kernel-stacks-only",
        "--probe",
        "--unwind",
        "--no-remember",
        "--overhead",
        "--wake-source",
        "--output",
        "--format",
        "--folded",
        "--metric",
        "--per-thread",
        "--delimited",
        "--lines",
        "--annotate",
        "--title",
        "--debug-dir",
        "--help",
        "--version",
    ];
    for help in [&short, &long] {
        assert!(help.status.success());
        for option in options {
            assert!(stdout(help).contains(option), "{option} is missing");
        }
        assert!(stdout(help).contains("Usage: offwake [OPTIONS] -p PID,..."));
        assert!(stdout(help).contains("offwake check"));
    }
    assert!(stdout(&long).contains("Examples:") && !stdout(&short).contains("Examples:"));
    assert!(long.stdout.len() > 2 * short.stdout.len());
}

#[test]
fn subcommands_have_help_of_their_own() {
    for (arguments, expected) in [
        (["check", "--help"], "The exit code is 1 when something is missing"),
        (["generate", "-h"], "[possible values: man, bash, zsh, fish]"),
        (["report", "--help"], "--min-us <US> No waits that were shorter"),
    ] {
        let output = run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        let words: Vec<_> = stdout(&output).split_whitespace().collect();
        assert!(words.join(" ").contains(expected), "{arguments:?}: {}", stdout(&output));
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = run(&["-V"]);
    assert_eq!(stdout(&output), format!("offwake {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_man_page_is_complete() {
    let output = run(&["generate", "man"]);
    assert!(output.status.success());
    let page = stdout(&output);
    let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    assert_eq!(
        sections,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "COMMANDS",
            "\"OUTPUT FORMATS\"",
            "LOSSES",
            "\"OFFWAKE EPOLL\"",
            "SIGNALS",
            "\"EXIT STATUS\"",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ]
    );
    for text in [
        r"\fB\-\-min\-block\-time\fR",
        r"\fBoffwake check [OPTIONS]\fR",
        "Possible values:",
        r"\fBoffwake report [OPTIONS] FILE...\fR",
        r"\fB\-\-exclude REGEX\fR",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
}

#[test]
fn completions_know_options_and_their_values() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["generate", shell]);
        assert!(output.status.success());
        for word in ["min-block-time", "uninterruptible", "folded", "check"] {
            assert!(stdout(&output).contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn a_full_disk_is_one_line_and_exit_code_1() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = offwake(&["generate", "man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "offwake: error: cannot write standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [&["generate", "man"][..], &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = offwake(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{arguments:?}");
    }
}
