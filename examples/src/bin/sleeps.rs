//! Timed sleeps. Two threads sleep until absolute moments: nobody but the timer interrupt wakes them,
//! and each wait ends when its timer is due.

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::now;
use offwake_examples::ledger::Ledger;
use offwake_examples::report::{Function, Waker};
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::{oracle_fn, oracle_name, sys};

oracle_fn! {
    fn oracle_short_sleep / oracle_short_sleep_inner(until: u64) -> i32 { sleep_until(until) }
}

oracle_fn! {
    fn oracle_long_sleep / oracle_long_sleep_inner(until: u64) -> i32 { sleep_until(until) }
}

#[inline(always)]
fn sleep_until(moment: u64) -> i32 {
    let until = libc::timespec {
        tv_sec: (moment / 1_000_000_000) as libc::time_t,
        tv_nsec: (moment % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `until` is valid for reading; the remaining time is not asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &until,
            std::ptr::null_mut(),
        )
    }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    type Sleep = (&'static str, fn(u64) -> i32, Function, (u64, u64), u64);
    let kinds: [Sleep; 2] = [
        (
            "sleep_short",
            oracle_short_sleep,
            oracle_name!(oracle_short_sleep / oracle_short_sleep_inner),
            (3_000, 12_000),
            150,
        ),
        (
            "sleep_long",
            oracle_long_sleep,
            oracle_name!(oracle_long_sleep / oracle_long_sleep_inner),
            (30_000, 80_000),
            20,
        ),
    ];
    sys::precise_timers()?;
    let mut stage = Stage::new()?;
    let mut told = Vec::new();
    for (index, (comm, sleep, function, (low, high), count)) in kinds.into_iter().enumerate() {
        let (role, ledger) = (Stage::role(), Ledger::new());
        let mut rng = Rng::new(length.seed + index as u64);
        let mut budget = length.budget(count);
        stage.thread(role, comm, move || {
            loop {
                let more = budget.spend();
                let (mut error, mut ended_early) = (0, false);
                ledger.timed(rng.micros(low, high), |until| {
                    error = sleep(until);
                    ended_early = now() < until;
                });
                ensure!(error == 0, "clock_nanosleep failed");
                ensure!(!ended_early, "a sleep ended early");
                if !more {
                    return Ok(());
                }
            }
        })?;
        told.push((role, ledger, function));
    }
    let played = stage.perform()?;
    for (role, ledger, function) in told {
        let sums = ledger.sums().expect("one thread keeps both halves");
        played.tell_sums(sums, "clock_nanosleep", (role, function), Waker::Irq, "interruptible")?;
    }
    played.finish()
}
