//! What offwake costs, and what it loses.

mod cgroup;
mod cost;
mod diff;
mod empty;
mod envoy;
mod epoll;
mod flood;
mod load;
mod on_envoy;
mod programs;
mod report;
mod stats;
mod switches;
mod tracer;
mod user;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::packages::{self, Need};
use crate::workspace::Workspace;
use crate::{child, command};

/// How long a target may take to be ready: one may be fetched first.
const START: Duration = Duration::from_secs(600);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    switches: switches::Options,
}

#[derive(Subcommand)]
enum Part {
    /// What a recording loses, and takes, under a load (root)
    Load(flood::Options),
    /// What `offwake diff` takes for 100 MB of folded stacks: seconds and memory
    Diff(diff::Options),
    /// What offwake takes beside the probes: start-up, seconds from the stop to the graph, peak of its memory; for
    /// 50,000 distinct stacks and for Envoy (root)
    User(user::Options),
    /// What Envoy serves under wrk while it is recorded, beside libbpf-tools (root)
    Envoy(envoy::Options),
    /// What `offwake epoll` costs for each event, and what it loses (root)
    Epoll(epoll::Options),
}

pub(crate) fn run(workspace: &Workspace, options: Bench) -> Result<()> {
    match options.part {
        None => switches::run(workspace, &options.switches),
        Some(Part::Load(options)) => flood::run(workspace, &options),
        Some(Part::Diff(options)) => diff::run(workspace, &options),
        Some(Part::User(options)) => user::run(workspace, &options),
        Some(Part::Envoy(options)) => envoy::run(workspace, &options),
        Some(Part::Epoll(options)) => epoll::run(workspace, &options),
    }
}

/// Begins a benchmark that loads BPF programs, and takes these programs of Debian.
fn begin(needs: &[Need<'_>]) -> Result<()> {
    ensure!(command::is_root(), "the benchmark loads BPF programs: run it as root");
    packages::ensure("the benchmark", needs)?;
    child::unwind_on_signals()
}

/// Builds what is measured, and the targets.
fn build(workspace: &Workspace) -> Result<()> {
    let mut build = command::cargo(&workspace.root);
    command::run(build.args([
        "build",
        "--release",
        "--package=offwake",
        "--package=offwake-examples",
    ]))
}
