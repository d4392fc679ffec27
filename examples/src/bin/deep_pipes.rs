//! A load for benchmarks: two threads on one CPU pass a byte to and fro without pause, each at the bottom
//! of a stack of a given depth. It knows no truth, and goes on until it is
//! killed.

use std::hint::black_box;
use std::os::fd::{AsRawFd, RawFd};

use anyhow::Result;
use clap::Parser;
use offwake_examples::sys::{self, Cpus, read_byte, write_byte};

/// Two threads on one CPU wake each other as fast as they can, from deep stacks
#[derive(Parser, Debug)]
struct Args {
    /// How many functions call each other before the one that reads and writes
    #[arg(long, value_name = "N", default_value_t = 12)]
    depth: u32,
}

fn main() -> Result<()> {
    let Args { depth } = Args::parse();
    let (to_even, to_odd) = (sys::pipe()?, sys::pipe()?);
    Cpus::allowed()?.only(0)?.bind()?;
    let play = |name: &str, read: RawFd, write: RawFd| {
        std::thread::Builder::new().name(name.into()).spawn(move || descend(depth, read, write))
    };
    play("even", to_even.0.as_raw_fd(), to_odd.1.as_raw_fd())?;
    let odd = play("odd", to_odd.0.as_raw_fd(), to_even.1.as_raw_fd())?;
    write_byte(to_even.1.as_raw_fd(), 1);
    odd.join().ok();
    Ok(())
}

/// Each call keeps its frame: there is work after it.
#[inline(never)]
fn descend(depth: u32, read: RawFd, write: RawFd) -> u32 {
    if depth > 0 {
        return black_box(descend(depth - 1, read, write)) + 1;
    }
    while let Some(byte) = read_byte(read) {
        write_byte(write, byte);
    }
    0
}
