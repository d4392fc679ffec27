//! What tracers cost in BPF, side by side in one run.
//!
//! The load is `perf bench sched pipe`: two threads that wake each other as fast as they can. A second
//! load does the same from deep user stacks, and tells what the ways to walk them cost. The kernel
//! counts the time in each BPF program (`kernel.bpf_stats_enabled`), but not while it is measured by how much the
//! load is slower: that clock costs as much as a small program. Rounds of the tracers are interleaved, and the
//! medians compared, so that a machine that slows down meanwhile slows all of them.
//!
//! What threads pay that are not recorded is compared with programs that do nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};

use super::cgroup::Cgroup;
use super::load::{self, Kind, Load};
use super::report::{Measurement, Report};
use super::stats::StatsEnabled;
use super::tracer::{self, Tracer};
use super::{empty, programs};
use crate::child::{self, Group};
use crate::packages;
use crate::workspace::Workspace;

/// What offwake's BPF time per switch is at most, as a share of its peers' together: by frame pointers, and by
/// call frame information.
const MAX_SHARES: [(&str, f64); 2] = [(tracer::FP, 0.45), (tracer::CFI, 0.6)];
/// How many times slower the load may be that is recorded by frame pointers.
const MAX_SLOWDOWN: f64 = 1.25;
/// How many times a run of an empty program a run for a thread that is not recorded may take.
const MAX_OTHERS: f64 = 1.6;
/// How many times slower a load may be that is not recorded.
const MAX_SLOWDOWN_OF_OTHERS: f64 = 1.03;
/// Walking by call frame information takes at most so many times as long as by frame pointers.
const MAX_CFI_WALK: f64 = 1.5;

#[derive(Args)]
pub(super) struct Options {
    /// How often each tracer is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each time
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Write the figures, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure without offwake
    #[arg(long, conflicts_with = "gate")]
    peers_only: bool,
    /// Fail where a ratio is beyond its bar, which the last lines name
    #[arg(long)]
    gate: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.5..=600.0).contains(seconds));
    seconds.ok_or_else(|| "it is a number from 0.5 to 600".into())
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    super::begin(packages::FOR_BENCH)?;
    let offwake = workspace.release_binary("offwake");
    // What is no target: it has to be there.
    let mut idle = std::process::Command::new("sleep");
    let mut recorders = vec![Tracer::libbpf_tools()?];
    let mut others = vec![Tracer::empty()];
    let mut walks = Vec::new();
    let idle = Group::start_silent(idle.arg("100000"))?;
    let cgroup = Cgroup::new()?;
    if !options.peers_only {
        super::build(workspace)?;
        recorders.extend(Tracer::recorders(&offwake));
        others.extend(Tracer::others(&offwake, idle.pid(), cgroup.as_ref()));
        walks.extend(Tracer::walks(&offwake));
    }

    let deep = Kind::Deep(workspace.release_binary("deep_pipes"));
    let walks_title = format!("user stacks of {} frames", load::DEEP_FRAMES);
    let parts = [
        ("perf bench sched pipe", &Kind::Pipe, &recorders),
        ("perf bench sched pipe, not recorded", &Kind::Pipe, &others),
        ("perf bench sched pipe on one CPU, not recorded", &Kind::PipeOnOneCpu, &others),
        (&walks_title, &deep, &walks),
    ];
    let mut reports = Vec::new();
    for (title, load, tracers) in parts.into_iter().filter(|(.., tracers)| !tracers.is_empty()) {
        let report = rounds(options, title, load, tracers)?;
        report.print();
        println!();
        reports.push(report);
    }
    if let Some(walks) = reports.get(3) {
        walks.print_walks();
    }
    if let Some(path) = &options.json {
        let json: Vec<_> = reports.iter().map(Report::json).collect();
        fs::write(path, format!("{:#}\n", serde_json::Value::from(json)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let [recorders, others, others_on_one_cpu, walks] = &reports[..] else { return Ok(()) };
    let breaches = breaches(recorders, [others, others_on_one_cpu], walks)?;
    for breach in &breaches {
        println!("{breach}");
    }
    ensure!(!options.gate || breaches.is_empty(), "{}", breaches.join("; "));
    Ok(())
}

/// What is beyond its bar, a line for each.
fn breaches(recorders: &Report, others: [&Report; 2], walks: &Report) -> Result<Vec<String>> {
    let peers = recorders.row(tracer::LIBBPF_TOOLS)?;
    let mut found = Vec::new();
    let mut most = |what: String, is: f64, most: f64| {
        println!("{what:<76} {is:>5.2}, at most {most}");
        if is > most {
            found.push(format!("{what}: {is:.2}, more than {most}"));
        }
    };
    for (name, max) in MAX_SHARES {
        let share = recorders.row(name)?.ns_per_switch() / peers.ns_per_switch();
        most(format!("{name}: BPF time per switch, of its peers'"), share, max);
    }
    let slowdown = recorders.row(tracer::FP)?.slowdown();
    most(format!("{}: the load is slower by", tracer::FP), slowdown, MAX_SLOWDOWN);
    for (cpus, others) in ["", " on one CPU"].into_iter().zip(others) {
        let empty = others.row(tracer::EMPTY)?;
        for other in others.rows().filter(|row| row.tracer() != tracer::EMPTY) {
            let name = format!("{}{cpus}", other.tracer());
            for program in empty::TRACEPOINTS.map(|name| name.to_string_lossy()) {
                let times = other.ns_per_run(&program) / empty.ns_per_run(&program);
                most(format!("{name}: {program}, of an empty program's time"), times, MAX_OTHERS);
            }
            let slowdown = other.slowdown();
            most(format!("{name}: the load is slower by"), slowdown, MAX_SLOWDOWN_OF_OTHERS);
        }
    }
    let walk = |name| Ok::<_, anyhow::Error>(walks.row(name)?.ns_per_any_run());
    let times = walk(tracer::CFI_WALK)? / walk(tracer::FP_WALK)?;
    most("walking by cfi, of the time by fp".into(), times, MAX_CFI_WALK);
    Ok(found)
}

/// All rounds of some tracers on one load.
fn rounds(options: &Options, title: &str, load: &Kind, tracers: &[Tracer]) -> Result<Report> {
    let duration = Duration::from_secs_f64(options.seconds);
    let mut report = Report::new(title, tracers);
    for round in 1..=options.rounds {
        for tracer in tracers {
            eprintln!("{title}: round {round} of {}: {}", options.rounds, tracer.name);
            report.add(tracer.name, measure(load, tracer, duration)?);
        }
    }
    Ok(report)
}

/// One tracer on a load of its own: the load alone, then traced, then with the kernel's clock, then alone again.
fn measure(load: &Kind, tracer: &Tracer, duration: Duration) -> Result<Measurement> {
    const SETTLE: Duration = Duration::from_millis(500);
    let mut load = Load::start(load)?;
    child::pause(SETTLE)?;
    let before = load.switches_during(duration / 2)?;

    let mut running = tracer.start(load.pid())?;
    let owners = running.wait_for_programs()?;
    child::pause(SETTLE)?;
    let traced = load.switches_during(duration)?;
    let (counted, programs) = {
        let _stats = StatsEnabled::new()?;
        let before = programs::read(&owners)?;
        let counted = load.switches_during(duration)?;
        (counted, programs::difference(&before, &programs::read(&owners)?))
    };
    running.stop()?;
    child::pause(SETTLE)?;
    // The machine may have other things to do meanwhile.
    let alone = before + load.switches_during(duration / 2)?;
    ensure!(
        programs.iter().any(|program| program.runs > 0),
        "{}: none of its BPF programs ran",
        tracer.name
    );
    Ok(Measurement { alone, traced, counted, programs })
}
