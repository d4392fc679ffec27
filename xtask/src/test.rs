//! All tests, the privileged ones too, with all that they need.
//!
//! The tests read `OFFWAKE_PRIVILEGED` (`require`: fail where privileges are missing), and append
//! the names of tests that they skip to the file in `OFFWAKE_SKIPS`, one a line.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{command, packages};

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let mandatory = command::is_ci();
    if mandatory && !command::is_root() {
        bail!("CI=true: the privileged tests must run, so this needs root");
    }
    packages::ensure("the tests", packages::FOR_TESTS)?;

    let cpp = workspace.target.join("cpp");
    let mut make = Command::new("make");
    make.current_dir(&workspace.root).args(["-C", "examples/cpp"]);
    command::run(make.arg(format!("OUT={}", cpp.display())))?;
    let mut build = command::cargo(&workspace.root);
    command::run(build.args(["build", "-p", "offwake-examples"]))?;

    let skips = workspace.target.join("skipped-tests");
    fs::write(&skips, "").with_context(|| format!("cannot write {}", skips.display()))?;
    let mut test = command::cargo(&workspace.root);
    test.arg("test");
    // `-p` would be ignored beside it.
    if !args.iter().any(|arg| arg == "-p" || arg == "--package") {
        test.arg("--workspace");
    }
    test.args(args);
    test.env("OFFWAKE_SKIPS", &skips);
    if mandatory {
        test.env("OFFWAKE_PRIVILEGED", "require");
    }
    let result = command::run(&mut test);

    // Also of a failed run: what was skipped may be why.
    let skips = fs::read_to_string(&skips)?;
    let skipped = skipped(&skips);
    match skipped.len() {
        0 => println!("0 skipped"),
        count => println!("{count} skipped: {}", skipped.join(", ")),
    }
    result?;
    if mandatory && !skipped.is_empty() {
        bail!("CI=true: no test may be skipped");
    }
    Ok(())
}

/// The names in the file, each once.
fn skipped(file: &str) -> Vec<&str> {
    let mut names: Vec<&str> = file.lines().filter(|line| !line.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skipped_test_counts_once() {
        assert_eq!(skipped("b\na\n\nb\n"), ["a", "b"]);
        assert!(skipped("").is_empty());
    }
}
