//! What Envoy serves under `wrk` while it is recorded, beside what it serves alone: requests a second, and the
//! 99th percentile of their latencies.
//!
//! The tracers take turns, each between two runs without any, with whose mean it is compared. In another run the
//! kernel counts the time in BPF programs for each request, which other work on the machine changes less. BPF programs that
//! do nothing tell how far runs differ that should not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, value_parser};

use super::on_envoy::OnEnvoy;
use super::programs;
use super::report::median;
use super::stats::StatsEnabled;
use super::tracer::{FP, Tracer};
use crate::packages::{FOR_BENCH, Need};
use crate::target::Target;
use crate::workspace::Workspace;
use crate::{child, command};

/// Requests a second and 99th percentile, as a share of those without: worse is out of bounds.
const MIN_RATE: f64 = 0.97;
const MAX_LATENCY: f64 = 1.0 / 0.97;
/// What drives it, and how.
const WRK: [&str; 4] = ["-t1", "-c16", "--latency", "-d"];

/// A tracer, in each round.
#[derive(Clone, Default)]
struct Rounds {
    /// Requests a second, as a share of those without.
    rates: Vec<f64>,
    /// The same of the 99th percentile of the latencies.
    latencies: Vec<f64>,
    /// In BPF programs for each request, in us.
    bpf: Vec<f64>,
}

/// What `wrk` tells.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Served {
    requests: f64,
    per_second: f64,
    /// In ms.
    p99: f64,
}

#[derive(Args)]
pub(super) struct Options {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each time
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    on: OnEnvoy,
    /// Fail below 97 % of the requests of without, or beyond its 99th percentile by as much
    #[arg(long)]
    gate: bool,
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    super::begin(&[FOR_BENCH, &[Need::new("wrk", "wrk")]].concat())?;
    super::build(workspace)?;
    let mut demo = options.on.demo(workspace);
    // Its own load is next to none. Where one worker has more connections than the other, both serve less.
    demo.args(["--balanced", "--rate", "1", "--connections", "1", "--seconds", "100000"]);
    let target = Target::start(&mut demo, super::START)?;
    let url = format!("http://127.0.0.1:{}/", listening_port(target.pid)?);

    let mut tracers = vec![Tracer::empty(), Tracer::libbpf_tools()?];
    tracers.extend(Tracer::recorders(&workspace.release_binary("offwake")));
    let alone = || wrk(&url, options.seconds);
    let mut all = vec![Rounds::default(); tracers.len()];
    let mut before = alone()?;
    for round in 1..=options.rounds {
        for (tracer, rounds) in tracers.iter().zip(&mut all) {
            eprintln!("Envoy: round {round} of {}: {}", options.rounds, tracer.name);
            let mut running = tracer.start(target.pid)?;
            let owners = running.wait_for_programs()?;
            child::pause(Duration::from_millis(500))?;
            let traced = wrk(&url, options.seconds)?;
            let (requests, programs) = {
                let _stats = StatsEnabled::new()?;
                let before = programs::read(&owners)?;
                let served = wrk(&url, options.seconds.min(2))?;
                (served.requests, programs::difference(&before, &programs::read(&owners)?))
            };
            running.stop()?;
            let after = alone()?;
            rounds.rates.push(2.0 * traced.per_second / (before.per_second + after.per_second));
            rounds.latencies.push(2.0 * traced.p99 / (before.p99 + after.p99));
            let ns: u64 = programs.iter().map(|program| program.ns).sum();
            rounds.bpf.push(ns as f64 / 1e3 / requests);
            before = after;
        }
    }
    println!(
        "Envoy under wrk, as a share of without; medians of {} rounds, and what half of them are between\n",
        options.rounds
    );
    println!("{:<26} {:<24} {:<24} BPF us per request", "tracer", "requests/s", "p99");
    let mut breach = None;
    for (tracer, Rounds { rates, latencies, bpf }) in tracers.iter().zip(all) {
        let (rate, latency, bpf) = (median(&rates), median(&latencies), median(&bpf));
        let [rates, latencies] = [&rates, &latencies].map(|shares| middle_half(shares));
        println!("{:<26} {rate:.3} ({rates})   {latency:.3} ({latencies})   {bpf:.2}", tracer.name);
        if tracer.name == FP && (rate < MIN_RATE || latency > MAX_LATENCY) {
            breach = Some(format!("{FP}: {rate:.3} of the requests, {latency:.3} of the p99"));
        }
    }
    println!("\n{:.0} requests a second and {:.1} ms without, last", before.per_second, before.p99);
    match breach {
        Some(breach) if options.gate => bail!(breach),
        _ => Ok(()),
    }
}

/// Between which two of the shares half of them are.
fn middle_half(shares: &[f64]) -> String {
    let mut shares = shares.to_vec();
    shares.sort_by(f64::total_cmp);
    let quarter = (shares.len() - 1) / 4;
    format!("{:.3} to {:.3}", shares[quarter], shares[shares.len() - 1 - quarter])
}

fn wrk(url: &str, seconds: u64) -> Result<Served> {
    let text = command::capture(Command::new("wrk").args(WRK).arg(seconds.to_string()).arg(url))?;
    served(&text).with_context(|| format!("wrk says neither rate nor latency: {text}"))
}

fn served(text: &str) -> Option<Served> {
    let value =
        |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let latency = value("99%")?;
    let (number, unit) = latency.split_at(latency.find(|c: char| c.is_ascii_alphabetic())?);
    let us = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    let p99 = us * number.parse::<f64>().ok()? / 1e3;
    // `51234 requests in 10.01s, 9.87MB read`
    let total = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let requests = total?.0.parse().ok()?;
    Some(Served { requests, per_second: value("Requests/sec:")?.parse().ok()?, p99 })
}

/// The only port on which a process listens.
fn listening_port(pid: u32) -> Result<u16> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let port = table.lines().skip(1).find_map(|line| {
        // proc_net_tcp: the local address, the state (0A: LISTEN), and the inode.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let socket = format!("socket:[{}]", fields.get(9)?);
        if *fields.get(3)? != "0A" || !sockets.contains(&socket) {
            return None;
        }
        u16::from_str_radix(fields.get(1)?.split_once(':')?.1, 16).ok()
    });
    port.context("Envoy does not listen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_shares() {
        assert_eq!(middle_half(&[1.0]), "1.000 to 1.000");
        assert_eq!(middle_half(&[0.9, 1.3, 1.0, 0.8, 1.1]), "0.900 to 1.100");
    }

    #[test]
    fn what_wrk_says() {
        let text = "  Latency Distribution\n     50%    1.02ms\n     99%  950.00us\n\
                    51234 requests in 10.01s, 9.87MB read\nRequests/sec:   5123.45\nTransfer/sec:      1.00MB\n";
        assert_eq!(
            served(text),
            Some(Served { requests: 51234.0, per_second: 5123.45, p99: 0.95 })
        );
        assert_eq!(served("unable to connect to 127.0.0.1:1 Connection refused\n"), None);
    }
}
