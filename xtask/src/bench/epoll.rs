//! What `offwake epoll` costs for each event, and whether it loses any: two threads wake each other through epoll as
//! fast as they can (examples/src/bin/epoll_storm.rs).

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::programs::{self, Owners};
use super::stats::StatsEnabled;
use crate::child::{self, Group};
use crate::workspace::Workspace;

/// So many events a second must come through.
const RATE: f64 = 50_000.0;
/// So many the load may make then: fewer, where a thread finds its byte without a sleep.
const LOAD: &str = "80000";
/// For so long it is watched.
const SECONDS: f64 = 5.0;

#[derive(Args)]
pub(super) struct Options {
    /// Fail if it loses any of 50,000 a second
    #[arg(long)]
    gate: bool,
}

/// Measures twice: at the rate at which nothing may be lost, and at the highest that there is.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    super::begin(&[])?;
    super::build(workspace)?;
    let _stats = StatsEnabled::new()?;
    let (rate, lost) = measure(workspace, &["--rate", LOAD])?;
    println!();
    measure(workspace, &[])?;
    if options.gate {
        ensure!(lost == 0, "{lost} of {rate:.0} events a second were lost");
        ensure!(rate >= RATE, "only {rate:.0} events a second: this machine is too busy to tell");
    }
    Ok(())
}

/// Watches the load, and prints what that costs. Returns how many events a second there were, and how many were lost.
fn measure(workspace: &Workspace, arguments: &[&str]) -> Result<(f64, u64)> {
    let mut load = Command::new(workspace.release_binary("epoll_storm"));
    let load = Group::start_silent(load.args(["--seconds", "60"]).args(arguments))?;
    let path = workspace.target.join("bench-epoll.json");
    let out = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut watch = Command::new(workspace.release_binary("offwake"));
    watch.args(["epoll", "--json", "-p", &load.pid().to_string(), "-d", &SECONDS.to_string()]);
    let mut watch = Group::start(watch.stdin(Stdio::null()).stdout(out))?;
    child::pause(Duration::from_secs_f64(SECONDS - 1.0))?;
    let ids = programs::ids_of(watch.pid())?;
    let owners: Owners = ids.into_iter().map(|id| (id, watch.name().to_owned())).collect();
    let programs = programs::read(&owners)?;
    ensure!(watch.wait(Duration::from_secs(30))?.success(), "offwake epoll failed");
    drop(load);

    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    let summary: Value = serde_json::from_str(text.lines().last().context("it wrote nothing")?)?;
    let events = summary["events"].as_u64().context("no events")?;
    let lost = summary["lost"].as_object().context("no losses")?;
    let lost: u64 = lost.values().filter_map(Value::as_u64).sum();
    let rate = events as f64 / SECONDS;
    let mut ns = 0;
    for program in programs.values().filter(|program| program.runs > 0) {
        let mean = program.ns / program.runs;
        println!("{:<32} {:>12} runs {mean:>8} ns each", program.name, program.runs);
        ns += program.ns;
    }
    // The programs were read a second before the end.
    let seen = rate * (SECONDS - 1.0);
    println!(
        "{events} events, {rate:.0} a second, {lost} lost; {:.0} ns of BPF for each",
        ns as f64 / seen
    );
    Ok((rate, lost))
}
