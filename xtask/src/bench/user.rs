//! What offwake takes in user space: from the command to the first interval that it can record, from the
//! stop to the written graph, and the peak of its memory.
//!
//! One target has 50,000 distinct stacks, the other is Envoy under load. Each is recorded with both ways to
//! walk user stacks, several times; of times the median counts, of memory the most.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use serde_json::Value;

use super::cost::{self, Cost};
use super::on_envoy::OnEnvoy;
use super::report::median;
use crate::child::{self, Group};
use crate::target::Target;
use crate::workspace::Workspace;

const STACKS: u32 = 50_000;
/// How long the threads of the stacks' target may take to go through all of them.
const PLAY: Duration = Duration::from_secs(120);
/// From the start of a recording to when it surely records.
const SETTLE: Duration = Duration::from_secs(3);
const WALKS: [&str; 2] = ["fp", "cfi"];
/// Bytes that a recording of Envoy may take, with the BPF maps, by walk.
const MAX_BYTES: [u64; 2] = [150_000_000, 250_000_000];
/// Seconds.
const MAX_START_UP: f64 = 0.5;
const MAX_AFTER_ENVOY: f64 = 1.0;
const MAX_AFTER_STACKS: f64 = 3.0;

/// What recordings of one target took.
#[derive(Default)]
struct Figures {
    /// Seconds.
    start_up: Vec<f64>,
    after: Vec<f64>,
    cpu: Vec<f64>,
    /// The most of all rounds, with the BPF maps.
    bytes: u64,
    /// What offwake said last, of its memory and of losses.
    said: Vec<String>,
}

#[derive(Args)]
pub(super) struct Options {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long Envoy is recorded
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    on: OnEnvoy,
    /// Fail beyond 1 s after the stop of Envoy and 3 s of the stacks, 0.5 s of start-up with fp, and 150 MB with fp or 250 MB
    /// with cfi, BPF maps included
    #[arg(long)]
    gate: bool,
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    super::begin(&[])?;
    super::build(workspace)?;
    let dir = make_dir(&workspace.target)?;
    println!(
        "{:<16} {:<5} {:>10} {:>12} {:>7} {:>8}",
        "target", "walk", "start-up s", "after stop s", "CPU s", "peak MB"
    );
    let mut breaches = Vec::new();
    for (walk, max_bytes) in WALKS.into_iter().zip(MAX_BYTES) {
        let stacks = rounds(options, || many_stacks(workspace, &dir, walk))?;
        stacks.print(&format!("{STACKS} stacks"), walk);
        let envoy = rounds(options, || envoy(workspace, &dir, walk, options))?;
        envoy.print("Envoy", walk);
        let mut most = |what: &str, is: f64, most: f64| {
            if is > most {
                breaches.push(format!("{what} with {walk}: {is:.2}, not {most:.2}"));
            }
        };
        most("seconds after the stop of 50,000 stacks", median(&stacks.after), MAX_AFTER_STACKS);
        most("seconds after the stop of Envoy", median(&envoy.after), MAX_AFTER_ENVOY);
        most("MB of memory with Envoy", envoy.bytes as f64 / 1e6, max_bytes as f64 / 1e6);
        if walk == "fp" {
            most("seconds of start-up with Envoy", median(&envoy.start_up), MAX_START_UP);
        }
    }
    std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    ensure!(!options.gate || breaches.is_empty(), "{}", breaches.join("; "));
    Ok(())
}

fn make_dir(target: &Path) -> Result<PathBuf> {
    let dir = target.join("bench-user");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn rounds(options: &Options, mut round: impl FnMut() -> Result<Figures>) -> Result<Figures> {
    let mut all = Figures::default();
    for _ in 0..options.rounds {
        let Figures { start_up, after, cpu, bytes, said } = round()?;
        all.start_up.extend(start_up);
        all.after.extend(after);
        all.cpu.extend(cpu);
        all.bytes = all.bytes.max(bytes);
        all.said = said;
    }
    Ok(all)
}

impl Figures {
    fn print(&self, target: &str, walk: &str) {
        println!(
            "{target:<16} {walk:<5} {:>10.2} {:>12.2} {:>7.2} {:>8.0}",
            median(&self.start_up),
            median(&self.after),
            median(&self.cpu),
            self.bytes as f64 / 1e6,
        );
        for line in &self.said {
            println!("    {line}");
        }
    }
}

/// A target goes through its stacks once, and all of that is recorded.
fn many_stacks(workspace: &Workspace, dir: &Path, walk: &str) -> Result<Figures> {
    let mut program = Command::new(workspace.release_binary("many_stacks"));
    let mut target = Target::start(program.args(["--count", &STACKS.to_string()]), super::START)?;
    let start_up = start_up(workspace, dir, walk, target.pid)?;
    measure(workspace, dir, walk, target.pid, start_up, || {
        child::pause(SETTLE)?;
        target.go()?;
        target.wait_for("done", PLAY)?;
        Ok(())
    })
}

fn envoy(workspace: &Workspace, dir: &Path, walk: &str, options: &Options) -> Result<Figures> {
    // Longer than anybody measures: it is killed.
    let load = (options.seconds + 60).to_string();
    let target =
        Target::start(options.on.demo(workspace).args(["--seconds", &load]), super::START)?;
    // The load has to be under way.
    child::pause(Duration::from_secs(1))?;
    let start_up = start_up(workspace, dir, walk, target.pid)?;
    measure(workspace, dir, walk, target.pid, start_up, || {
        child::pause(Duration::from_secs(options.seconds))
    })
}

/// Seconds from the command to when its probes are attached, which the profile tells.
fn start_up(workspace: &Workspace, dir: &Path, walk: &str, pid: u32) -> Result<f64> {
    let file = dir.join("start.json");
    let start = SystemTime::now();
    let mut offwake = offwake(workspace, walk, pid);
    // Long enough for an interval, of whatever length.
    offwake.args(["-d", "0.1", "-o"]).arg(&file);
    cost::run(offwake.stderr(Stdio::null()))?;
    let profile: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let started = profile["recording"]["started"].as_f64().context("no start in the profile")?;
    let start = start.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    Ok(started - start)
}

fn offwake(workspace: &Workspace, walk: &str, pid: u32) -> Command {
    let mut offwake = Command::new(workspace.release_binary("offwake"));
    offwake.args(["--unwind", walk, "-p", &pid.to_string()]).stdin(Stdio::null());
    offwake
}

/// A recording to a graph, for as long as `play` takes.
fn measure(
    workspace: &Workspace,
    dir: &Path,
    walk: &str,
    pid: u32,
    start_up: f64,
    play: impl FnOnce() -> Result<()>,
) -> Result<Figures> {
    let said = dir.join("said");
    let mut command = offwake(workspace, walk, pid);
    command.arg("-o").arg(dir.join("out.svg")).stderr(std::fs::File::create(&said)?);
    let mut offwake = Group::start(&mut command)?;
    let played = play().and_then(|()| offwake.expect_running());
    if let Err(error) = played {
        eprint!("{}", std::fs::read_to_string(&said)?);
        return Err(error);
    }
    let stop = Instant::now();
    offwake.signal(libc::SIGINT);
    let Cost { time, cpu, bytes } = cost::finish(offwake.child(), stop)?;
    let said = std::fs::read_to_string(&said)?;
    Ok(Figures {
        start_up: vec![start_up],
        after: vec![time.as_secs_f64()],
        cpu: vec![cpu.as_secs_f64()],
        bytes: bytes + bytes_of_maps(&said).context("offwake did not tell its BPF maps")?,
        said: said.lines().map(str::to_owned).collect(),
    })
}

/// Bytes of the BPF maps, of what offwake says at its end.
fn bytes_of_maps(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once(" at its peak, and ")?;
    let megabytes: f64 = rest.split_once(" MB")?.0.parse().ok()?;
    Some((megabytes * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_maps_are_told() {
        let said = "offwake: memory: 51.8 MB at its peak, and 77.7 MB of BPF maps\n";
        assert_eq!(bytes_of_maps(said), Some(77_700_000));
        assert_eq!(bytes_of_maps("offwake: 3 intervals\n"), None);
    }
}
