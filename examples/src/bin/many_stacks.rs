//! Many distinct user stacks: a thread goes down through two functions, one for each bit of a counter, and
//! waits at the bottom. Every value of the counter is another stack.

use std::hint::black_box;
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::ledger::{Ledger, Sums};
use offwake_examples::report::Waker;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, read_byte, write_byte};
use offwake_examples::watch::Watch;
use offwake_examples::{oracle_fn, oracle_name};

/// How many bits of the counter are in the stack.
const DEPTH: u32 = 17;

oracle_fn! {
    fn oracle_bottom_read / oracle_bottom_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_bottom_write / oracle_bottom_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

/// A bit that is 0.
#[inline(never)]
fn zero(path: u64, left: u32, bottom: &dyn Fn() -> Option<u8>) -> Option<u8> {
    black_box("zero");
    black_box(descend(path, left, bottom))
}

/// A bit that is 1.
#[inline(never)]
fn one(path: u64, left: u32, bottom: &dyn Fn() -> Option<u8>) -> Option<u8> {
    black_box("one");
    black_box(descend(path, left, bottom))
}

#[inline(always)]
fn descend(path: u64, left: u32, bottom: &dyn Fn() -> Option<u8>) -> Option<u8> {
    match (left, path & 1) {
        (0, _) => bottom(),
        (_, 0) => zero(path >> 1, left - 1, bottom),
        _ => one(path >> 1, left - 1, bottom),
    }
}

const ON: u8 = 1;
const LAST: u8 = 0;

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (diver, lifter) = (Stage::role(), Stage::role());
    let waits = Ledger::new();
    let (read, write) = sys::pipe()?;
    let mut stage = Stage::new()?;
    let fd = read.as_raw_fd();
    stage.thread(diver, "diver", move || {
        for path in 0.. {
            let bottom = || {
                let since = waits.announce_sleep(diver);
                let byte = oracle_bottom_read(fd);
                waits.slept(since);
                byte
            };
            let byte = descend(path, DEPTH, &bottom);
            ensure!(byte.is_some(), "read failed");
            if byte == Some(LAST) {
                break;
            }
        }
        Ok(())
    })?;
    let (fd, mut budget) = (write.as_raw_fd(), length.budget(20_480));
    stage.thread(lifter, "lifter", move || {
        let mut watch = Watch::new(diver)?;
        loop {
            let byte = if budget.spend() { ON } else { LAST };
            watch.asleep()?;
            waits.wake();
            ensure!(oracle_bottom_write(fd, byte), "write failed");
            if byte == LAST {
                return Ok(());
            }
        }
    })?;
    let played = stage.perform()?;
    let reads = oracle_name!(oracle_bottom_read / oracle_bottom_read_inner);
    let writes = oracle_name!(oracle_bottom_write / oracle_bottom_write_inner);
    let sums = waits.sums().expect("as many reads as writes");
    let sums = Sums { sleeper_stacks: Some(sums.count.min(1 << DEPTH)), ..sums };
    played.tell_sums(
        sums,
        "read",
        (diver, reads),
        Waker::Task(played.side(lifter, writes)),
        "interruptible",
    )?;
    played.finish()
}
