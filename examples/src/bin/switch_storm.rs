//! As many switches as a CPU can do: two processes on one CPU pass a byte to and fro without pause. How
//! often and how long each slept is known to the kernel alone: a read does not wait when a tick came before
//! it, and looking at a clock each time would be half of the work.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Length;
use offwake_examples::ledger::Sums;
use offwake_examples::report::Waker;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, Cpus, read_byte, write_byte};
use offwake_examples::{args, oracle_fn, oracle_name};

/// Two processes on one CPU wake each other as fast as they can
#[derive(Parser, Debug)]
struct Args {
    /// For how many seconds (fractions allowed)
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = args::seconds)]
    seconds: Duration,
}

oracle_fn! {
    fn oracle_even_read / oracle_even_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_even_write / oracle_even_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

oracle_fn! {
    fn oracle_odd_read / oracle_odd_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_odd_write / oracle_odd_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

const ON: u8 = 1;
const LAST: u8 = 0;

fn main() -> Result<()> {
    let length = Length { seconds: Some(Args::parse().seconds), count: None, seed: 0 };
    let (even, odd) = (Stage::role(), Stage::role());
    let (to_even, to_odd) = (sys::pipe()?, sys::pipe()?);
    let mut stage = Stage::new()?;
    let cpus = Cpus::allowed()?;
    cpus.only(0)?.bind()?;
    sys::run_as_batch()?;

    let mut budget = length.budget(1);
    let (read, write) = (to_even.0.as_raw_fd(), to_odd.1.as_raw_fd());
    stage.process(even, "even", move || {
        loop {
            let byte = if budget.spend() { ON } else { LAST };
            ensure!(oracle_even_write(write, byte), "write failed");
            ensure!(oracle_even_read(read).is_some(), "read failed");
            if byte == LAST {
                return Ok(());
            }
        }
    })?;
    let (read, write) = (to_odd.0.as_raw_fd(), to_even.1.as_raw_fd());
    stage.process(odd, "odd", move || {
        loop {
            let Some(byte) = oracle_odd_read(read) else { anyhow::bail!("read failed") };
            ensure!(oracle_odd_write(write, byte), "write failed");
            if byte == LAST {
                return Ok(());
            }
        }
    })?;

    cpus.bind()?;
    let played = stage.perform()?;
    let even_reads = oracle_name!(oracle_even_read / oracle_even_read_inner);
    let even_writes = oracle_name!(oracle_even_write / oracle_even_write_inner);
    let odd_reads = oracle_name!(oracle_odd_read / oracle_odd_read_inner);
    let odd_writes = oracle_name!(oracle_odd_write / oracle_odd_write_inner);
    for (sleeper, waker, wakes_in) in
        [((even, even_reads), odd, odd_writes), ((odd, odd_reads), even, even_writes)]
    {
        let usage = played.usage(sleeper.0);
        let off_ns = usage.wall_ns - usage.on_cpu_ns;
        let sums = Sums {
            count: usage.voluntary_switches,
            blocked_ns: off_ns - usage.run_delay_ns,
            off_ns,
            sleeper_stacks: None,
        };
        let waker = Waker::Task(played.side(waker, wakes_in));
        played.tell_sums(sums, "read", sleeper, waker, "interruptible")?;
    }
    played.finish()
}
