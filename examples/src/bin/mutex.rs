//! Mutex hand-off: a thread waits for a lock until its holder unlocks.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::pause;
use offwake_examples::ledger::Ledger;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::watch::Watch;
use offwake_examples::{oracle_fn, oracle_name};

static BALL: Mutex<()> = Mutex::new(());
/// How often the holder has taken the lock; the top bit is set with the last time.
static HELD: AtomicU64 = AtomicU64::new(0);
const LAST: u64 = 1 << 63;
/// How often the waiter has had it. Without that the holder could lock again before the waiter woke.
static HAD: AtomicU64 = AtomicU64::new(0);

oracle_fn! {
    fn oracle_lock / oracle_lock_inner() -> MutexGuard<'static, ()> { BALL.lock().expect("nobody panics") }
}

oracle_fn! {
    fn oracle_unlock / oracle_unlock_inner(guard: MutexGuard<'static, ()>) { drop(guard); }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (waiter, holder) = (Stage::role(), Stage::role());
    let waits = Ledger::new();
    let mut stage = Stage::new()?;
    stage.thread(waiter, "mutex_waiter", move || {
        for turn in 1.. {
            let held = loop {
                let held = HELD.load(Acquire);
                if held & !LAST == turn {
                    break held;
                }
                spin_loop();
            };
            let since = waits.announce_sleep(waiter);
            let guard = oracle_lock();
            waits.slept(since);
            drop(guard);
            HAD.store(turn, Release);
            if held & LAST != 0 {
                break;
            }
        }
        Ok(())
    })?;
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(300));
    stage.thread(holder, "mutex_holder", move || {
        let mut watch = Watch::new(waiter)?;
        for turn in 1.. {
            let more = budget.spend();
            while HAD.load(Acquire) < turn - 1 {
                spin_loop();
            }
            let guard = BALL.lock().expect("nobody panics");
            HELD.store(if more { turn } else { turn | LAST }, Release);
            watch.asleep()?;
            pause(rng.micros(200, 3_000));
            waits.wake();
            oracle_unlock(guard);
            if !more {
                break;
            }
        }
        Ok(())
    })?;
    let played = stage.perform()?;
    let locks = oracle_name!(oracle_lock / oracle_lock_inner);
    let unlocks = oracle_name!(oracle_unlock / oracle_unlock_inner);
    played.tell(waits, "futex", (waiter, locks), (holder, unlocks))?;
    played.finish()
}
