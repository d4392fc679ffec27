//! The kernel's clock for BPF programs.

use std::fs;

use anyhow::{Context, Result};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While this lives, the kernel measures BPF programs. Then it is as it was.
pub(crate) struct StatsEnabled {
    before: String,
}

impl StatsEnabled {
    pub(crate) fn new() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).context("the kernel has no bpf_stats (5.1)")?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for StatsEnabled {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("warning: cannot restore {SWITCH} to {}: {error}", self.before.trim());
        }
    }
}
