//! All tests, the privileged ones too, with all that they need.
//!
//! The tests read `OFFWAKE_PRIVILEGED` (`require`: fail where privileges are missing), and append
//! the names of tests that they skip to the file in `OFFWAKE_SKIPS`, one a line.
//!
//! Tests that compare times and wakers with the truth run on machines that do other things too. A failure is
//! run once more, by itself: what fails again is a defect. What does not is named at the end, for somebody to look
//! into, and many failures are not run again.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::Workspace;
use crate::{command, packages};

/// More failures than this are no accident.
const FAILURES_TO_REPEAT: usize = 3;

#[derive(Args)]
pub(crate) struct Options {
    /// For `cargo test`
    #[arg(allow_hyphen_values = true)]
    args: Vec<OsString>,
    /// For the tests themselves
    #[arg(last = true, value_name = "TEST_ARGS")]
    of_tests: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mandatory = command::is_ci();
    if mandatory && !command::is_root() {
        bail!("CI=true: the privileged tests must run, so this needs root");
    }
    packages::ensure("the tests", packages::FOR_TESTS)?;

    let cpp = workspace.target.join("cpp");
    let mut make = Command::new("make");
    make.current_dir(&workspace.root).args(["-C", "examples/cpp"]);
    command::run(make.arg(format!("OUT={}", cpp.display())))?;
    // The targets, by a test that has cargo build them: in one go with the tests, so that nothing is compiled twice, for other
    // features of what both depend on.
    let mut build = command::cargo(&workspace.root);
    command::run(build.args(["test", "--no-run", "--workspace", "--test", "targets"]))?;

    let skips = workspace.target.join("skipped-tests");
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    let cargo_test = || {
        let mut test = command::cargo(&workspace.root);
        test.args(["test", "--no-fail-fast"]).env("OFFWAKE_SKIPS", &skips);
        if mandatory {
            test.env("OFFWAKE_PRIVILEGED", "require");
        }
        test
    };
    let mut test = cargo_test();
    // `-p` would be ignored beside it.
    if !options.args.iter().any(|arg| arg == "-p" || arg == "--package") {
        test.arg("--workspace");
    }
    test.args(&options.args);
    if !options.of_tests.is_empty() {
        test.arg("--").args(&options.of_tests);
    }
    let run = command::run_and_listen(&mut test)?;
    let result = match run.succeeded {
        true => Ok(Vec::new()),
        false => repeat(&Failures::read(&run.output), cargo_test),
    };

    // Also of a failed run: what was skipped may be why.
    let skips = fs::read_to_string(&skips)?;
    let skipped = skipped(&skips);
    println!("{}", told(&skipped, "skipped"));
    let repeated = result?;
    println!("{}", told(&repeated, "passed only when run again"));
    if mandatory && !skipped.is_empty() {
        bail!("CI=true: no test may be skipped");
    }
    Ok(())
}

/// Runs failed tests once more. Gives their names.
///
/// # Errors
/// When one of them fails again, and when there are too many, or none that can be told.
fn repeat<'a>(failures: &Failures<'a>, cargo_test: impl Fn() -> Command) -> Result<Vec<&'a str>> {
    let names = &failures.tests;
    if names.is_empty() || failures.targets.is_empty() || names.len() > FAILURES_TO_REPEAT {
        bail!("{}", told(names, "failed"));
    }
    let mut passed = 0;
    for target in &failures.targets {
        let mut test = cargo_test();
        test.args(target.split(' ')).arg("--").arg("--exact").args(names);
        let run = command::run_and_listen(&mut test)?;
        if !run.succeeded {
            bail!("{}, and again", told(names, "failed"));
        }
        passed += run.output.lines().filter(|line| line.ends_with(" ... ok")).count();
    }
    if passed != names.len() {
        bail!("{}, and only {passed} of them could be run again", told(names, "failed"));
    }
    Ok(names.clone())
}

/// What failed, as cargo and its tests tell.
#[derive(Debug, PartialEq)]
struct Failures<'a> {
    /// The arguments for cargo that select a target with failures.
    targets: Vec<&'a str>,
    tests: Vec<&'a str>,
}

impl<'a> Failures<'a> {
    fn read(output: &'a str) -> Self {
        let targets = output.lines().filter_map(|line| {
            let line = line.trim_start();
            line.starts_with("`-p ").then(|| line.trim_matches('`'))
        });
        let tests = output
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        Self { targets: targets.collect(), tests: tests.collect() }
    }
}

/// The names in the file, each once.
fn skipped(file: &str) -> Vec<&str> {
    let mut names: Vec<&str> = file.lines().filter(|line| !line.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn told(names: &[&str], what: &str) -> String {
    match names.len() {
        0 => format!("0 {what}"),
        count => format!("{count} {what}: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skipped_test_counts_once() {
        assert_eq!(skipped("b\na\n\nb\n"), ["a", "b"]);
        assert!(skipped("").is_empty());
    }

    #[test]
    fn failures_are_read_from_what_cargo_prints() {
        let output = "\
test waits::a ... ok
test waits::b ... FAILED
failures:
    waits::b
error: test failed, to rerun pass `-p offwake --test truth`
error: 2 targets failed:
    `-p offwake --test truth`
    `-p xtask --bin xtask`
";
        let targets = vec!["-p offwake --test truth", "-p xtask --bin xtask"];
        assert_eq!(Failures::read(output), Failures { targets, tests: vec!["waits::b"] });
    }

    #[test]
    fn many_failures_are_no_accident() {
        let tests = ["a", "b", "c", "d"].to_vec();
        let failures = Failures { targets: vec!["-p offwake --lib"], tests };
        let error = repeat(&failures, || unreachable!("nothing is run")).expect_err("too many");
        assert_eq!(error.to_string(), "4 failed: a, b, c, d");
    }
}
