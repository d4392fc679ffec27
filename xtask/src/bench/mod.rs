//! What tracers cost in BPF, side by side in one run.
//!
//! The load is `perf bench sched pipe`: two threads that wake each other as fast as they can. A second
//! load does the same from deep user stacks, and tells what the ways to walk them cost. The kernel
//! counts the time in each BPF program (`kernel.bpf_stats_enabled`). Rounds of the tracers are
//! interleaved, and the medians compared, so that a machine that slows down meanwhile slows all of
//! them.

mod cost;
mod diff;
mod epoll;
mod flood;
mod load;
mod programs;
mod report;
mod stats;
mod tracer;
mod user;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::load::{Kind, Load};
use self::report::{Measurement, Report};
use self::stats::StatsEnabled;
use self::tracer::Tracer;
use crate::workspace::Workspace;
use crate::{child, command, packages};

struct Options {
    rounds: usize,
    seconds: f64,
    json: Option<PathBuf>,
    peers_only: bool,
    gate: bool,
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

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    if let Some((part, args)) = args.split_first() {
        match part.to_str() {
            Some("diff") => return diff::run(workspace, args),
            Some("epoll") => return epoll::run(workspace, args),
            Some("load") => return flood::run(workspace, args),
            Some("user") => return user::run(workspace, args),
            _ => {}
        }
    }
    let options = parse(args)?;
    if !command::is_root() {
        bail!("the benchmark loads BPF programs: run it as root");
    }
    packages::ensure("the benchmark", packages::FOR_BENCH)?;
    let mut tracers = vec![Tracer::libbpf_tools()?];
    let mut walks = Vec::new();
    if !options.peers_only {
        build(workspace)?;
        let offwake = workspace.release_binary("offwake");
        walks.extend(Tracer::walks(&offwake));
        tracers.push(Tracer::offwake(offwake));
    }

    child::unwind_on_signals()?;
    let _stats = StatsEnabled::new()?;
    let peers = rounds(&options, "perf bench sched pipe", &Kind::Pipe, &tracers)?;
    peers.print();
    let mut json = vec![peers.json()];
    let deep = Kind::Deep(workspace.release_binary("deep_pipes"));
    let title = format!("user stacks of {} frames", load::DEEP_FRAMES);
    let walks = match walks.is_empty() {
        true => None,
        false => Some(rounds(&options, &title, &deep, &walks)?),
    };
    if let Some(walks) = &walks {
        println!();
        walks.print();
        walks.print_walks();
        json.push(walks.json());
    }
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", serde_json::Value::from(json)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.gate {
        peers.gate(tracer::OFFWAKE, tracer::LIBBPF_TOOLS, 1.0)?;
        if let Some(walks) = walks {
            walks.gate(tracer::CFI, tracer::FP, 1.5)?;
        }
    }
    Ok(())
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

/// One tracer on a load of its own: first the load alone, then traced.
fn measure(load: &Kind, tracer: &Tracer, duration: Duration) -> Result<Measurement> {
    const SETTLE: Duration = Duration::from_millis(500);
    let mut load = Load::start(load)?;
    child::pause(SETTLE)?;
    let alone = load.switches_during(duration / 2)?;

    let mut running = tracer.start(load.pid())?;
    let owners = running.wait_for_programs()?;
    child::pause(SETTLE)?;
    let before = programs::read(&owners)?;
    let traced = load.switches_during(duration)?;
    let after = programs::read(&owners)?;
    running.stop()?;

    let programs = programs::difference(&before, &after);
    ensure!(
        programs.iter().any(|program| program.runs > 0),
        "{}: none of its BPF programs ran",
        tracer.name
    );
    Ok(Measurement { alone, traced, programs })
}

fn parse(args: &[OsString]) -> Result<Options> {
    let mut options =
        Options { rounds: 3, seconds: 3.0, json: None, peers_only: false, gate: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{} needs a value", arg.display()));
        match arg.to_str() {
            Some("--rounds") => options.rounds = number(value()?)?,
            Some("--seconds") => options.seconds = number(value()?)?,
            Some("--json") => options.json = Some(value()?.into()),
            Some("--peers-only") => options.peers_only = true,
            Some("--gate") => options.gate = true,
            _ => bail!("bench: no option `{}`; see `cargo xtask help`", arg.display()),
        }
    }
    ensure!(options.rounds >= 1, "bench: --rounds must be at least 1");
    ensure!((0.5..=600.0).contains(&options.seconds), "bench: --seconds must be from 0.5 to 600");
    ensure!(!(options.gate && options.peers_only), "bench: --gate is about offwake");
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &OsString) -> Result<T> {
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.with_context(|| format!("bench: `{}` is not such a number", text.display()))
}
