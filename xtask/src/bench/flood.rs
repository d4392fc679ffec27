//! Whether a recording holds under any load: what it loses, what memory and processor time it takes
//! meanwhile, and how long it takes to start and to stop.
//!
//! One process is started by offwake and recorded from its first instruction, so that the kernel's own
//! count of its sleeps tells whether each was recorded. Many processes are recorded with `-a` for a while.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::child::{self, Group};
use crate::workspace::Workspace;

#[derive(Args)]
pub(super) struct Options {
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    seconds: f64,
    /// So many threads
    #[arg(long, value_name = "N", default_value_t = 8)]
    threads: u64,
    /// In so many processes; more than one are recorded with -a
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: u64,
    /// So many distinct user stacks
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    stacks: u64,
    /// So many sleeps a second; 0: as many as can be
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rate: u64,
    /// Fail if anything is lost, or memory grows
    #[arg(long)]
    gate: bool,
    /// Of offwake; with --overhead, the gate is also for its ceiling
    #[arg(last = true, value_name = "OPTIONS")]
    offwake: Vec<OsString>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|&seconds| seconds >= 2.0);
    seconds.ok_or_else(|| "it is a number from 2 on".into())
}

/// Runs the load and prints one table.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    super::begin(&[])?;
    super::build(workspace)?;
    let [offwake, load] = ["offwake", "load"].map(|name| workspace.release_binary(name));
    let dir = workspace.target.join("bench-load");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let result = measure(options, &offwake, &load, &dir);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    result?.print(options.gate)
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    resident_kb: u64,
    cpu: Duration,
}

/// What a run showed.
struct Outcome {
    /// From the start to the first instruction of what is recorded.
    start: Option<Duration>,
    /// From the end of what is recorded to the end of offwake, which has written its output then.
    stop: Duration,
    seconds: f64,
    /// Of each second.
    usage: Vec<Usage>,
    peak_kb: u64,
    /// As the kernel has counted.
    sleeps: Option<u64>,
    profile: Value,
    /// What offwake said.
    stderr: String,
}

fn measure(options: &Options, offwake: &Path, load: &Path, dir: &Path) -> Result<Outcome> {
    let Options { seconds, threads, processes, stacks, rate, .. } = options;
    let whole = *processes == 1;
    // Many processes take a while to start, and go on until they are not needed any more.
    let play = if whole { *seconds } else { 600.0 };
    let arguments: Vec<OsString> = [
        ("--threads", threads.to_string()),
        ("--processes", processes.to_string()),
        ("--stacks", stacks.to_string()),
        ("--rate", rate.to_string()),
        ("--seconds", play.to_string()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.into(), value.into()])
    .collect();
    let json = dir.join("profile.json");
    let [out, err] = ["stdout", "stderr"].map(|name| dir.join(name));
    let mut recorder = Command::new(offwake);
    recorder.args(&options.offwake).arg("-o").arg(&json);
    recorder.stdin(Stdio::null()).stdout(fs::File::create(&out)?).stderr(fs::File::create(&err)?);
    let mut background = None;
    if whole {
        recorder.arg("--").arg(load).args(&arguments);
    } else {
        recorder.args(["-a", "-d", &seconds.to_string()]);
        let mut command = Command::new(load);
        background = Some(Group::start_silent(command.args(&arguments))?);
        child::pause(Duration::from_secs(3 + processes / 500))?;
    }

    let (begun, clock) = (monotonic(), Instant::now());
    let mut group = Group::start(&mut recorder)?;
    let (mut usage, mut peak_kb) = (Vec::new(), 0);
    let status = loop {
        if let Some(status) =
            child::wait_for(Duration::from_secs(1), || Ok(group.child().try_wait()?))?
        {
            break status;
        }
        let Some((now, peak)) = usage_of(group.pid()) else { continue };
        peak_kb = peak.max(peak_kb);
        if clock.elapsed().as_secs_f64() < *seconds {
            usage.push(now);
        }
        ensure!(clock.elapsed().as_secs_f64() < 10.0 * seconds + 120.0, "offwake does not end");
    };
    let ended = monotonic();
    drop(background);
    let stderr = fs::read_to_string(&err)?;
    ensure!(status.success(), "offwake failed ({status}): {stderr}");
    let profile: Value = serde_json::from_str(&fs::read_to_string(&json)?)?;
    let told: Value = serde_json::from_str(&fs::read_to_string(&out)?).unwrap_or_default();
    let told = |name: &str| told[name].as_u64();
    let start = told("begun_ns").map(|ns| Duration::from_nanos(ns).saturating_sub(begun));
    let end =
        told("ended_ns").map_or(begun + Duration::from_secs_f64(*seconds), Duration::from_nanos);
    Ok(Outcome {
        start,
        stop: ended.saturating_sub(end),
        seconds: *seconds,
        usage,
        peak_kb,
        sleeps: told("sleeps"),
        profile,
        stderr,
    })
}

impl Outcome {
    fn print(&self, gate: bool) -> Result<()> {
        let losses = |name: &str| self.profile["losses"][name].as_u64().unwrap_or(0);
        let lost = ["threads_full", "waits_full", "stacks_full", "probe_misses"].map(losses);
        let waits = self.profile["waits"].as_array().context("no waits")?;
        let count = |wait: &Value| wait["count"].as_u64().unwrap_or(0);
        let all: u64 = waits.iter().map(count).sum();
        let slept = |wait: &&Value| wait["state"] != "preempted" && wait["state"] != "new";
        let sleeps: u64 = waits.iter().filter(slept).map(count).sum();
        print!("{}", self.stderr);
        println!("intervals           {all} ({:.0} a second)", all as f64 / self.seconds);
        println!("distinct waits      {}", waits.len());
        println!("lost                {lost:?} (threads, waits, stacks, probes)");
        if let Some(told) = self.sleeps {
            println!("sleeps              {sleeps} recorded, {told} counted by the kernel");
        }
        let at = |part: f64| {
            let index = (self.usage.len() as f64 * part) as usize;
            self.usage.get(index.min(self.usage.len().saturating_sub(1))).copied()
        };
        let megabytes = |kb: u64| kb as f64 / 1e3;
        if let (Some(quarter), Some(half), Some(end)) = (at(0.25), at(0.5), at(1.0)) {
            println!(
                "memory of offwake   {:.1} MB after a quarter, {:.1} after half, {:.1} at the end, \
                 {:.1} at most (with symbols)",
                megabytes(quarter.resident_kb),
                megabytes(half.resident_kb),
                megabytes(end.resident_kb),
                megabytes(self.peak_kb),
            );
            println!(
                "CPU of offwake      {:.1} % of a core while it recorded",
                100.0 * end.cpu.as_secs_f64() / self.seconds
            );
            if gate {
                let grown = end.resident_kb as f64 / half.resident_kb as f64;
                ensure!(grown < 1.1, "offwake's memory grows: by {:.0} %", (grown - 1.0) * 100.0);
            }
        }
        if let Some(start) = self.start {
            println!("to start            {:.2} s", start.as_secs_f64());
        }
        println!("to stop and write   {:.2} s", self.stop.as_secs_f64());
        ensure!(!gate || lost == [0; 4], "something was lost");
        self.print_sampling(gate)
    }

    /// What `--overhead` did, if it was given.
    fn print_sampling(&self, gate: bool) -> Result<()> {
        let sampling = &self.profile["sampling"];
        let number = |name: &str| sampling[name].as_f64();
        let (Some(ceiling), Some(spent)) = (number("ceiling_percent"), number("spent_percent"))
        else {
            return Ok(());
        };
        let threads = sampling["threads"].as_array().into_iter().flatten();
        let exact: u64 = threads.filter_map(|thread| thread["count"].as_u64()).sum();
        println!("BPF                 {spent:.2} % of the CPU, at most {ceiling} %");
        println!("waits               {exact} counted, {} recorded", sampling["samples"]);
        ensure!(!gate || spent <= 1.2 * ceiling, "the ceiling does not hold");
        Ok(())
    }
}

/// What a process takes, and its peak in KB. `None`: it is gone.
fn usage_of(pid: u32) -> Option<(Usage, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kb = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    // utime and stime, in 1/100 s (proc_pid_stat(5)).
    let ticks = |index: usize| behind_name.split(' ').nth(index)?.parse::<u64>().ok();
    let cpu = Duration::from_millis(10 * (ticks(11)? + ticks(12)?));
    Some((Usage { resident_kb: kb("VmRSS")?, cpu }, kb("VmHWM")?))
}

/// `CLOCK_MONOTONIC`, in which the load tells when it began and ended.
fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
