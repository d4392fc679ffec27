//! Programs to record, which tell how far they are by lines of JSON on their standard output.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Group};

/// A program that tells its process when it is ready. It ends with this value.
pub(crate) struct Target {
    group: Group,
    lines: Receiver<String>,
    pub(crate) pid: u32,
}

impl Target {
    /// Starts it, and waits until it is ready, but not longer than `patience`.
    pub(crate) fn start(program: &mut Command, patience: Duration) -> Result<Self> {
        let mut group = Group::start(program.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdout = group.child().stdout.take().context("the target has no stdout")?;
        // A read cannot time out, but a channel can. And the target never blocks on what it prints.
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut target = Self { group, lines, pid: 0 };
        let pid = target.wait_for("ready", patience)?["pid"].as_u64();
        target.pid = u32::try_from(pid.context("the target did not tell its pid")?)?;
        Ok(target)
    }

    /// Lets it begin.
    pub(crate) fn go(&mut self) -> Result<()> {
        let stdin = self.group.child().stdin.as_mut().context("the target has no stdin")?;
        Ok(stdin.write_all(b"\n")?)
    }

    /// Waits for a line that has this member, but not longer than `patience`. Returns its value.
    pub(crate) fn wait_for(&mut self, member: &str, patience: Duration) -> Result<Value> {
        let found = child::wait_for(patience, || {
            loop {
                match self.lines.try_recv() {
                    Ok(line) => {
                        let mut line: Value =
                            serde_json::from_str(&line).context("the target printed no JSON")?;
                        if let Some(value) = line.get_mut(member) {
                            return Ok(Some(value.take()));
                        }
                    }
                    Err(TryRecvError::Empty) => return Ok(None),
                    Err(TryRecvError::Disconnected) => bail!("the target ended too early"),
                }
            }
        })?;
        let name = self.group.name();
        found.with_context(|| format!("`{name}` did not say `{member}` within {patience:?}"))
    }
}
