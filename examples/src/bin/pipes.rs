//! Pipe ping-pong between two processes: each sleeps in `read` and is woken by the other's `write`.

use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::ledger::Ledger;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, read_byte, write_byte};
use offwake_examples::watch::Watch;
use offwake_examples::{clock, oracle_fn, oracle_name};

oracle_fn! {
    fn oracle_ping_read / oracle_ping_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_ping_write / oracle_ping_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

oracle_fn! {
    fn oracle_pong_read / oracle_pong_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_pong_write / oracle_pong_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

/// What a byte says: play on, or this was the last one.
const ON: u8 = 1;
const LAST: u8 = 0;

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (ping, pong) = (Stage::role(), Stage::role());
    let (ping_waits, pong_waits) = (Ledger::new(), Ledger::new());
    let (to_ping, to_pong) = (sys::pipe()?, sys::pipe()?);
    let mut stage = Stage::new()?;

    // Both hold the ball for a while on the CPU, so that all that they ever sleep is announced.
    let (mut ping_rng, mut pong_rng) = (Rng::new(length.seed), Rng::new(length.seed + 1));
    let mut budget = length.budget(500);
    let (read, write) = (to_ping.0.as_raw_fd(), to_pong.1.as_raw_fd());
    stage.process(ping, "ping", move || {
        let mut watch = Watch::new(pong)?;
        loop {
            let byte = if budget.spend() { ON } else { LAST };
            watch.asleep()?;
            clock::busy(ping_rng.micros(100, 1_500));
            pong_waits.wake();
            ensure!(oracle_ping_write(write, byte), "write failed");

            let since = ping_waits.announce_sleep(ping);
            ensure!(oracle_ping_read(read).is_some(), "read failed");
            ping_waits.slept(since);
            if byte == LAST {
                return Ok(());
            }
        }
    })?;
    let (read, write) = (to_pong.0.as_raw_fd(), to_ping.1.as_raw_fd());
    stage.process(pong, "pong", move || {
        let mut watch = Watch::new(ping)?;
        loop {
            let since = pong_waits.announce_sleep(pong);
            let Some(byte) = oracle_pong_read(read) else { anyhow::bail!("read failed") };
            pong_waits.slept(since);

            watch.asleep()?;
            clock::busy(pong_rng.micros(100, 1_500));
            ping_waits.wake();
            ensure!(oracle_pong_write(write, byte), "write failed");
            if byte == LAST {
                return Ok(());
            }
        }
    })?;

    let played = stage.perform()?;
    let ping_reads = oracle_name!(oracle_ping_read / oracle_ping_read_inner);
    let ping_writes = oracle_name!(oracle_ping_write / oracle_ping_write_inner);
    let pong_reads = oracle_name!(oracle_pong_read / oracle_pong_read_inner);
    let pong_writes = oracle_name!(oracle_pong_write / oracle_pong_write_inner);
    played.tell(ping_waits, "read", (ping, ping_reads), (pong, pong_writes))?;
    played.tell(pong_waits, "read", (pong, pong_reads), (ping, ping_writes))?;
    played.finish()
}
