//! What is recorded, where it is no load of `perf bench`.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::child::Group;

/// A program that prints a line of JSON with its process when it is ready.
pub(super) struct Target {
    group: Group,
    lines: Lines<BufReader<ChildStdout>>,
    pub(super) pid: u32,
}

impl Target {
    /// Starts it, and waits until it is ready.
    pub(super) fn start(program: &mut Command) -> Result<Self> {
        let mut group = Group::start(program.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdout = group.child().stdout.take().context("the target has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next().context("the target ended too early")??;
        let ready: Value = serde_json::from_str(&line).context("the target printed no JSON")?;
        let pid = ready["ready"]["pid"].as_u64().context("the target has no pid")?;
        Ok(Self { group, lines, pid: u32::try_from(pid)? })
    }

    /// Lets it begin.
    pub(super) fn go(&mut self) -> Result<()> {
        let stdin = self.group.child().stdin.as_mut().context("the target has no stdin")?;
        Ok(stdin.write_all(b"\n")?)
    }

    /// Waits for a line that has this member, but not longer than `patience`.
    pub(super) fn wait_for(&mut self, member: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        for line in &mut self.lines {
            let line: Value = serde_json::from_str(&line?)?;
            if line.get(member).is_some() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the target takes longer than {patience:?}");
        }
        bail!("the target ended too early")
    }
}
