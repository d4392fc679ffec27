//! Stacks that change in one frame: a thread goes down through functions of which each has a twin, and waits at
//! the bottom. From one wait to the next one of them is replaced by its twin, and all others stay: what a
//! profiler remembers of the last wait is right but for one return address. So it is in the kernel: the thread
//! reads from a pipe or from a socket, by the same system call. Each third wait changes nothing. Two threads do
//! so in turn, each the waker of the other, and say from which path they wrote and where they read next.

use std::hint::black_box;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::{Args, Budget};
use offwake_examples::oracle_fn;
use offwake_examples::report::{Line, Paths};
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, Cpus, read_byte, write_byte};
use offwake_examples::task::{Role, own_voluntary_switches};

/// Of a byte: the path of whoever wrote it, and whether the play goes on.
const ON: u8 = 0x80;

/// Of a byte and of a path: the socket, not the pipe. Of a byte it says where its writer reads next.
const SOCKET: u64 = 1 << DEPTH;

/// How many functions are on top of each other.
const DEPTH: u32 = 5;

/// How many paths there are: a bit for each function, and [`SOCKET`].
const PATHS: u64 = 2 * SOCKET;

oracle_fn! {
    fn oracle_mutant_read / oracle_mutant_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_mutant_write / oracle_mutant_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

/// A function, of which the twin is [`one`]: the same frame, but for the return address.
#[inline(never)]
fn zero(path: u64, left: u32, bottom: &dyn Fn() -> u8) -> u8 {
    black_box("zero");
    black_box(descend(path, left, bottom))
}

/// See [`zero`].
#[inline(never)]
fn one(path: u64, left: u32, bottom: &dyn Fn() -> u8) -> u8 {
    black_box("one");
    black_box(descend(path, left, bottom))
}

#[inline(always)]
fn descend(path: u64, left: u32, bottom: &dyn Fn() -> u8) -> u8 {
    match (left, path & 1) {
        (0, _) => bottom(),
        (_, 0) => zero(path >> 1, left - 1, bottom),
        _ => one(path >> 1, left - 1, bottom),
    }
}

/// Changes one function of a path, or where it reads, or nothing.
fn mutate(path: u64, rng: &mut Rng) -> u64 {
    match rng.between(0, 3 * u64::from(DEPTH + 1)) {
        n if n < 2 * u64::from(DEPTH + 1) => path ^ 1 << (n / 2),
        _ => path,
    }
}

/// What one thread does, and what it tells in the end: how often it slept, by its own path and the waker's.
struct Mutant {
    role: &'static Role,
    /// Ends of a pipe and of a socket.
    read: [RawFd; 2],
    write: [RawFd; 2],
    rng: Rng,
    tell: Sender<(&'static Role, Vec<[u64; 3]>)>,
}

impl Mutant {
    /// `budget`: of the one that begins and ends the play.
    fn play(mut self, mut budget: Option<Budget>) -> Result<()> {
        let mut counts = vec![0u64; (PATHS * PATHS) as usize];
        let (mut sleeps_at, mut wakes_at) = (0, 0);
        // Where the other one reads.
        let mut answers_at = 0;
        let mut heard = ON;
        let mut is_first = budget.is_none();
        loop {
            if !std::mem::take(&mut is_first) {
                let goes_on = budget.as_mut().map_or(heard & ON != 0, Budget::spend);
                wakes_at = mutate(wakes_at, &mut self.rng) & !SOCKET;
                sleeps_at = mutate(sleeps_at, &mut self.rng);
                let byte = (wakes_at | sleeps_at & SOCKET) as u8 | if goes_on { ON } else { 0 };
                let fd = self.write[usize::from(answers_at != 0)];
                let write = || u8::from(oracle_mutant_write(fd, byte));
                ensure!(descend(wakes_at, DEPTH, &write) == 1, "write failed");
                if budget.is_none() && !goes_on {
                    break;
                }
            }
            let fd = self.read[usize::from(sleeps_at & SOCKET != 0)];
            let before = own_voluntary_switches();
            heard = descend(sleeps_at, DEPTH, &|| oracle_mutant_read(fd).unwrap_or(0));
            let slept = own_voluntary_switches() - before;
            answers_at = u64::from(heard) & SOCKET;
            // It was woken where it reads.
            let wakes = u64::from(heard & !ON) & !SOCKET | sleeps_at & SOCKET;
            counts[(sleeps_at * PATHS + wakes) as usize] += slept;
            if budget.is_some() && heard & ON == 0 {
                break;
            }
        }
        let counts = counts.into_iter().enumerate().filter(|&(_, count)| count > 0);
        let told = counts.map(|(paths, count)| {
            let paths = paths as u64;
            [paths / PATHS, paths % PATHS, count]
        });
        self.tell.send((self.role, told.collect()))?;
        Ok(())
    }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (first, second) = (Stage::role(), Stage::role());
    let pipes = [sys::pipe()?, sys::pipe()?];
    let sockets = [UnixStream::pair()?, UnixStream::pair()?];
    let ends = |to: usize| {
        let ((read, write), (receive, send)) = (&pipes[to], &sockets[to]);
        ([read.as_raw_fd(), receive.as_raw_fd()], [write.as_raw_fd(), send.as_raw_fd()])
    };
    let (to_first, to_second) = (ends(0), ends(1));
    let (tell, told) = channel();
    let mut stage = Stage::new()?;
    let cpus = Cpus::allowed()?;
    cpus.only(0)?.bind()?;
    let budget = length.budget(60_000);
    let mutant = |role, read, write, seed| Mutant {
        role,
        read,
        write,
        rng: Rng::new(seed),
        tell: tell.clone(),
    };
    let one = mutant(first, to_first.0, to_second.1, length.seed);
    stage.thread(first, "first", move || one.play(Some(budget)))?;
    let other = mutant(second, to_second.0, to_first.1, length.seed + 1);
    stage.thread(second, "second", move || other.play(None))?;
    cpus.bind()?;
    let played = stage.perform()?;
    for (role, counts) in told.iter().take(2) {
        Line::Paths(&Paths { tid: role.tid(), counts }).print()?;
    }
    played.finish()
}
