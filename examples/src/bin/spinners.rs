//! Preemption: two threads on one CPU that never sleep. Each is off the CPU for about half of the time,
//! and nobody wakes it.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use offwake_examples::ledger::Sums;
use offwake_examples::report::Waker;
use offwake_examples::stage::Stage;
use offwake_examples::sys::Cpus;
use offwake_examples::{args, clock, oracle_fn, oracle_name};

/// Two threads compete for one CPU
#[derive(Parser, Debug)]
struct Args {
    /// For how many seconds (fractions allowed)
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = args::seconds)]
    seconds: Duration,
}

oracle_fn! {
    fn oracle_spin_left / oracle_spin_left_inner(ns: u64) { clock::busy(ns); }
}

oracle_fn! {
    fn oracle_spin_right / oracle_spin_right_inner(ns: u64) { clock::busy(ns); }
}

fn main() -> Result<()> {
    let ns = Args::parse().seconds.as_nanos() as u64;
    let (left, right) = (Stage::role(), Stage::role());
    let cpus = Cpus::allowed()?;
    let mut stage = Stage::new()?;
    cpus.only(0)?.bind()?;
    stage.thread(left, "spin_left", move || {
        oracle_spin_left(ns);
        Ok(())
    })?;
    stage.thread(right, "spin_right", move || {
        oracle_spin_right(ns);
        Ok(())
    })?;
    cpus.bind()?;
    let played = stage.perform()?;
    for (role, function) in [
        (left, oracle_name!(oracle_spin_left / oracle_spin_left_inner)),
        (right, oracle_name!(oracle_spin_right / oracle_spin_right_inner)),
    ] {
        let usage = played.usage(role);
        let sums = Sums {
            count: usage.involuntary_switches,
            blocked_ns: 0,
            off_ns: usage.run_delay_ns,
            sleeper_stacks: None,
        };
        played.tell_sums(sums, "", (role, function), Waker::Preempted, "preempted")?;
    }
    played.finish()
}
