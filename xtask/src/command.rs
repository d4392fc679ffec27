//! Running other programs.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Prints the command, runs it, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    eprintln!("+ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What a command said, and how it ended.
pub(crate) struct Run {
    pub(crate) succeeded: bool,
    /// Standard output and standard error, as they came; what is not UTF-8 is replaced.
    pub(crate) output: String,
}

/// Prints the command, runs it, and passes on what it prints, which is the result, too.
pub(crate) fn run_and_listen(command: &mut Command) -> Result<Run> {
    let line = show(command);
    eprintln!("+ {line}");
    let (mut from, to) = io::pipe().context("cannot make a pipe")?;
    command.stdout(to.try_clone()?).stderr(to);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    // The command holds the other end of the pipe until it is given another one.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut output, mut buffer) = (Vec::new(), [0; 1 << 14]);
    loop {
        let length =
            from.read(&mut buffer).with_context(|| format!("cannot read from `{line}`"))?;
        if length == 0 {
            break;
        }
        io::stdout().write_all(&buffer[..length])?;
        output.extend_from_slice(&buffer[..length]);
    }
    let status = child.wait().with_context(|| format!("`{line}`"))?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Run { succeeded: status.success(), output })
}

/// Runs the command silently and gives its standard output. What it says on standard error is
/// part of the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let line = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not print text"))
}

/// The cargo that runs this.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Finds a program in `PATH` or where system tools are, which is not in everybody's `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Whether this runs in CI, where nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
