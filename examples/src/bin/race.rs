//! Wake-ups that race the switch-out. The waker spins on another CPU and wakes the sleeper at the very
//! moment at which it goes to sleep: some wake-ups come before the sleeper is in the futex's queue (no
//! wait), some while it is being switched out, some just after. How many were waits is known to the kernel
//! alone: its count of voluntary switches.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

use anyhow::Result;
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::busy;
use offwake_examples::ledger::{Ledger, Sums};
use offwake_examples::report::Waker;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{Cpus, futex_wait, futex_wake};
use offwake_examples::{oracle_fn, oracle_name};

/// What the sleeper sleeps on.
static BED: AtomicU32 = AtomicU32::new(AWAKE);
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// How often the sleeper has been to bed, and whether it found the last wake-up there already.
static NIGHTS: AtomicU64 = AtomicU64::new(0);
static TOO_EARLY: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);

oracle_fn! {
    fn oracle_race_sleep / oracle_race_sleep_inner() -> bool { futex_wait(&BED, ASLEEP) }
}

oracle_fn! {
    fn oracle_race_wake / oracle_race_wake_inner() -> bool { futex_wake(&BED) }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (sleeper, waker) = (Stage::role(), Stage::role());
    let waits = Ledger::new();
    let cpus = Cpus::allowed()?;
    let mut stage = Stage::new()?;
    cpus.only(0)?.bind()?;
    stage.thread(sleeper, "race_sleeper", move || {
        while !OVER.load(Acquire) {
            let since = waits.sleep();
            BED.store(ASLEEP, Release);
            let mut waited = false;
            while BED.load(Acquire) == ASLEEP {
                waited |= oracle_race_sleep();
            }
            waits.slept(since);
            TOO_EARLY.store(!waited, Relaxed);
            NIGHTS.fetch_add(1, Release);
        }
        Ok(())
    })?;
    cpus.only(1)?.bind()?;
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(200_000));
    stage.thread(waker, "race_waker", move || {
        // Where the middle of the race is, in ns after the sleeper's announcement. It is found, and
        // followed, by half of the wake-ups coming too early.
        let mut middle: u64 = 1_000;
        for night in 0.. {
            while BED.load(Acquire) != ASLEEP {
                spin_loop();
            }
            busy(middle.saturating_sub(WIDTH / 2) + rng.between(0, WIDTH));
            if !budget.spend() {
                OVER.store(true, Release);
            }
            waits.wake();
            BED.store(AWAKE, Release);
            // Nobody there: the sleeper has not gone to bed yet, or wakes without help.
            oracle_race_wake();
            while NIGHTS.load(Acquire) == night {
                spin_loop();
            }
            if OVER.load(Acquire) {
                break;
            }
            middle = if TOO_EARLY.load(Relaxed) {
                middle + STEP
            } else {
                middle.saturating_sub(STEP).max(WIDTH / 2)
            };
        }
        Ok(())
    })?;
    cpus.bind()?;
    let played = stage.perform()?;
    let sleeps = oracle_name!(oracle_race_sleep / oracle_race_sleep_inner);
    let wakes = oracle_name!(oracle_race_wake / oracle_race_wake_inner);
    let sums = waits.sums().expect("as many nights as mornings");
    let sums = Sums { count: played.usage(sleeper).voluntary_switches, ..sums };
    played.tell_sums(
        sums,
        "futex",
        (sleeper, sleeps),
        Waker::Task(played.side(waker, wakes)),
        "interruptible",
    )?;
    played.finish()
}

/// How far around the middle wake-ups are spread, in ns.
const WIDTH: u64 = 1_000;
/// How fast the middle moves, in ns for each night.
const STEP: u64 = 10;
