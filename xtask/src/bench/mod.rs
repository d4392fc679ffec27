//! What tracers cost in BPF, side by side in one run.
//!
//! The load is `perf bench sched pipe`: two threads that wake each other as fast as they can. A second
//! load does the same from deep user stacks, and tells what the ways to walk them cost. The kernel
//! counts the time in each BPF program (`kernel.bpf_stats_enabled`), but not while it is measured by how much the
//! load is slower: that clock costs as much as a small program. Rounds of the tracers are interleaved, and the
//! medians compared, so that a machine that slows down meanwhile slows all of them.
//!
//! What threads pay that are not recorded is compared with programs that do nothing.

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
mod target;
mod tracer;
mod user;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::cgroup::Cgroup;
use self::load::{Kind, Load};
use self::report::{Measurement, Report};
use self::stats::StatsEnabled;
use self::tracer::Tracer;
use crate::child::Group;
use crate::workspace::Workspace;
use crate::{child, command, packages};

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
            Some("envoy") => return envoy::run(workspace, args),
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
    let offwake = workspace.release_binary("offwake");
    // What is no target: it has to be there.
    let mut idle = std::process::Command::new("sleep");
    let mut recorders = vec![Tracer::libbpf_tools()?];
    let mut others = vec![Tracer::empty()];
    let mut walks = Vec::new();
    child::unwind_on_signals()?;
    let idle = Group::start_silent(idle.arg("100000"))?;
    let cgroup = Cgroup::new()?;
    if !options.peers_only {
        build(workspace)?;
        recorders.extend(Tracer::recorders(&offwake));
        others.extend(Tracer::others(&offwake, idle.pid(), cgroup.as_ref()));
        walks.extend(Tracer::walks(&offwake));
    }

    let deep = Kind::Deep(workspace.release_binary("deep_pipes"));
    let walks_title = format!("user stacks of {} frames", load::DEEP_FRAMES);
    let parts = [
        ("perf bench sched pipe", &Kind::Pipe, recorders),
        ("perf bench sched pipe, not recorded", &Kind::Pipe, others),
        (&walks_title, &deep, walks),
    ];
    let mut reports = Vec::new();
    for (title, load, tracers) in parts.into_iter().filter(|(.., tracers)| !tracers.is_empty()) {
        let report = rounds(&options, title, load, &tracers)?;
        report.print();
        println!();
        reports.push(report);
    }
    if let Some(walks) = reports.get(2) {
        walks.print_walks();
    }
    if let Some(path) = &options.json {
        let json: Vec<_> = reports.iter().map(Report::json).collect();
        fs::write(path, format!("{:#}\n", serde_json::Value::from(json)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let [recorders, others, walks] = &reports[..] else { return Ok(()) };
    let breaches = breaches(recorders, others, walks)?;
    for breach in &breaches {
        println!("{breach}");
    }
    ensure!(!options.gate || breaches.is_empty(), "{}", breaches.join("; "));
    Ok(())
}

/// What is beyond its bar, a line for each.
fn breaches(recorders: &Report, others: &Report, walks: &Report) -> Result<Vec<String>> {
    let peers = recorders.row(tracer::LIBBPF_TOOLS)?;
    let empty = others.row(tracer::EMPTY)?;
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
    for other in others.rows().filter(|row| row.tracer() != tracer::EMPTY) {
        let name = other.tracer();
        for program in empty::TRACEPOINTS.map(|name| name.to_string_lossy()) {
            let times = other.ns_per_run(&program) / empty.ns_per_run(&program);
            most(format!("{name}: {program}, of an empty program's time"), times, MAX_OTHERS);
        }
        let slowdown = other.slowdown();
        most(format!("{name}: the load is slower by"), slowdown, MAX_SLOWDOWN_OF_OTHERS);
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
