//! The options of what is measured on Envoy, and Envoy itself.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::number;
use crate::workspace::Workspace;

/// How, and how often, something is measured on Envoy.
pub(super) struct Options {
    pub(super) rounds: usize,
    /// Of each recording, or of each run of a load.
    pub(super) seconds: u64,
    /// Its executable, in the place of the one that is fetched.
    pub(super) envoy: Option<OsString>,
    /// Whether what is beyond its bar is a failure.
    pub(super) gate: bool,
}

impl Options {
    /// What is measured where nothing else is said.
    pub(super) const fn new(rounds: usize, seconds: u64) -> Self {
        Self { rounds, seconds, envoy: None, gate: false }
    }

    /// With what the user says to `cargo xtask bench PART`, whose seconds are within bounds.
    pub(super) fn parse(
        mut self,
        part: &str,
        args: &[OsString],
        bounds: RangeInclusive<u64>,
    ) -> Result<Self> {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().with_context(|| format!("{} needs a value", arg.display()));
            match arg.to_str() {
                Some("--rounds") => self.rounds = number(value()?)?,
                Some("--seconds") => self.seconds = number(value()?)?,
                Some("--envoy") => self.envoy = Some(value()?.clone()),
                Some("--gate") => self.gate = true,
                _ => bail!("bench {part}: no option `{}`; see `cargo xtask help`", arg.display()),
            }
        }
        ensure!(self.rounds >= 1, "bench {part}: --rounds must be at least 1");
        let (least, most) = (bounds.start(), bounds.end());
        ensure!(
            bounds.contains(&self.seconds),
            "bench {part}: --seconds must be from {least} to {most}"
        );
        Ok(self)
    }

    /// The program that runs Envoy. For how long, and under what load, is for the caller to add.
    pub(super) fn demo(&self, workspace: &Workspace) -> Command {
        let mut program = Command::new(workspace.release_binary("envoy-demo"));
        if let Some(envoy) = &self.envoy {
            program.arg("--envoy").arg(envoy);
        }
        program
    }
}
