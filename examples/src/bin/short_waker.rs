//! Wakers that live for milliseconds: each wait is ended by a program started for that alone, which is gone
//! before anybody could look it up.

use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::sync::Mutex;
use std::{env, io};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use offwake_examples::clock::{busy, now, pause};
use offwake_examples::ledger::Ledger;
use offwake_examples::report::{Side, Thread, Waker};
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::watch::Watch;
use offwake_examples::{oracle_fn, oracle_name, sys};

/// A thread is woken by processes that live for milliseconds
#[derive(Parser, Debug)]
struct Args {
    /// Play this many waits, each with another waker
    #[arg(long, value_name = "N", default_value_t = 40)]
    count: u64,
    /// Seed of the durations' jitter
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Be such a process: wake whoever reads from the standard output, and end
    #[arg(long, hide = true)]
    wake: bool,
}

/// What a waker writes: when it was about to, and who it is.
type Message = [u64; 2];

oracle_fn! {
    fn oracle_await_message / oracle_await_message_inner(fd: RawFd) -> Option<Message> {
        let mut message: Message = [0; 2];
        // SAFETY: `message` is valid for writing.
        let length = unsafe { libc::read(fd, message.as_mut_ptr().cast(), size_of::<Message>()) };
        (length == size_of::<Message>() as isize).then_some(message)
    }
}

oracle_fn! {
    fn oracle_brief_wake / oracle_brief_wake_inner(fd: RawFd) -> bool {
        let message: Message = [now(), std::process::id().into()];
        // SAFETY: `message` is valid for reading.
        unsafe { libc::write(fd, message.as_ptr().cast(), size_of::<Message>()) == size_of::<Message>() as isize }
    }
}

/// The whole life of a waker: a few milliseconds.
fn live_briefly(seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    busy(rng.micros(300, 1_500));
    ensure!(oracle_brief_wake(libc::STDOUT_FILENO), "write: {}", io::Error::last_os_error());
    busy(rng.micros(300, 1_500));
    Ok(())
}

/// The name of a program is that of its file.
const WAKER: &str = "short_waker";

fn main() -> Result<()> {
    let Args { count, seed, wake } = Args::parse();
    if wake {
        return live_briefly(seed);
    }
    let (sleeper, launcher) = (Stage::role(), Stage::role());
    let (read, write) = sys::pipe()?;
    let waits: &'static Mutex<Vec<(u32, &'static Ledger)>> = Box::leak(Box::default());
    let mut stage = Stage::new()?;

    let fd = read.as_raw_fd();
    stage.thread(sleeper, "long_sleeper", move || {
        for _ in 0..count {
            let ledger = Ledger::new();
            let since = ledger.announce_sleep(sleeper);
            let [woken_at, pid] = oracle_await_message(fd).context("read failed")?;
            ledger.slept(since);
            ledger.wake_at(woken_at);
            waits.lock().expect("nobody panics").push((pid as u32, ledger));
        }
        Ok(())
    })?;
    let program = env::current_exe()?;
    stage.thread(launcher, "launcher", move || {
        let mut watch = Watch::new(sleeper)?;
        let mut rng = Rng::new(seed);
        for _ in 0..count {
            watch.asleep()?;
            pause(rng.micros(100, 2_000));
            let seed = rng.next_u64().to_string();
            let mut waker = Command::new(&program);
            waker.args(["--wake", "--seed", &seed]).stdout(write.try_clone()?);
            ensure!(waker.status()?.success(), "a waker failed");
        }
        Ok(())
    })?;
    let played = stage.perform()?;
    let sleeps = oracle_name!(oracle_await_message / oracle_await_message_inner);
    let wakes = oracle_name!(oracle_brief_wake / oracle_brief_wake_inner);
    for (pid, ledger) in waits.lock().expect("nobody panics").iter() {
        let thread = Thread { pid: *pid, tid: *pid, comm: WAKER.into() };
        let sums = ledger.sums().expect("one thread keeps both halves");
        played.tell_sums(
            sums,
            "read",
            (sleeper, sleeps),
            Waker::Task(Side { thread, function: wakes }),
            "interruptible",
        )?;
    }
    played.finish()
}
