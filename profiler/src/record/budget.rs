//! Keeping the cost of the programs under a ceiling: `--overhead`.
//!
//! The kernel measures the programs while it is asked to (`BPF_ENABLE_STATS`, 5.8+). A thread reads that,
//! and changes how many intervals of each thread are recorded in one place, as [`offwake_shared::Sampling`] explains.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData};
use offwake_shared::Sampling;

use super::program::run_time_ns;
use super::{descriptor, priority};

/// How often the cost is looked at.
const TICK: Duration = Duration::from_millis(50);
/// No interval that is recorded costs less, in ns: bounds what a thread that had been idle may cost before
/// the next look.
const LEAST_COST: u64 = 1000;
/// The smallest quota, seven intervals of a thread and place in a second: few enough that only the account of intervals
/// costs something, and as many as it takes for the error to be known, which a handful tells nothing of.
const LEAST: u64 = 8 * Sampling::ONE;

/// How much of what may be spent is saved at most, where more was spent before.
const MOST_SAVED: f64 = 0.5;
/// How much is saved at most after a load that was out of all bounds, in seconds of what may be spent.
const MOST_DEBT: f64 = 1.0;

/// The thread that keeps a recording under its ceiling.
pub(super) struct Budget {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Spent>>,
}

/// Where programs and their quota are.
pub(super) struct Handles {
    /// The programs that are paid for.
    pub(super) programs: Vec<OwnedFd>,
    /// The map `QUOTA`.
    pub(super) quota: Array<MapData, u64>,
}

/// What the programs have cost, in millionths of the machine's CPU time.
pub(super) type Spent = u32;

/// A recording's cost so far.
struct Meter {
    programs: Vec<OwnedFd>,
    cpus: u64,
    begun: Instant,
    at: Instant,
    before_ns: u64,
    ns: u64,
}

impl Budget {
    /// Starts the thread. The quota is set when this returns.
    ///
    /// # Errors
    /// When this kernel does not measure programs.
    pub(super) fn start(handles: Handles, ceiling_ppm: u32) -> Result<Self> {
        let stats = match enable_stats() {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                // Where an administrator has switched it on, nobody needs to be one.
                ensure!(
                    are_stats_on(),
                    "--overhead has the kernel measure BPF programs, which takes root or CAP_SYS_ADMIN: or have \
                     it do so by `sysctl kernel.bpf_stats_enabled=1`"
                );
                None
            }
            result => Some(result.context(
                "--overhead needs the kernel to measure BPF programs (BPF_ENABLE_STATS, 5.8)",
            )?),
        };
        let Handles { programs, mut quota } = handles;
        let mut control = Control::new(ceiling_ppm, online_cpus());
        quota.set(0, control.quota(), 0)?;
        let stop = Arc::<AtomicBool>::default();
        let is_over = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("offwake-budget".into())
            .spawn(move || {
                priority::hurry();
                let mut meter = Meter::new(programs);
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    let (cost_ppm, elapsed) = meter.look();
                    control.look(cost_ppm, elapsed);
                    // What cannot be set now is set the next time.
                    let _ = quota.set(0, control.quota(), 0);
                }
                drop(stats);
                meter.spent()
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread. Returns what the programs have cost since it began.
    pub(super) fn finish(mut self) -> Spent {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Spent> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        Some(thread.join().expect("the thread that looks at the cost does not panic"))
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.end();
    }
}

impl Meter {
    fn new(programs: Vec<OwnedFd>) -> Self {
        let now = Instant::now();
        let mut meter =
            Self { programs, cpus: online_cpus(), begun: now, at: now, before_ns: 0, ns: 0 };
        meter.before_ns = meter.read();
        meter.ns = meter.before_ns;
        meter
    }

    fn read(&self) -> u64 {
        self.programs.iter().map(|program| run_time_ns(program.as_fd())).sum()
    }

    /// The cost since the last look, in millionths, and how long ago that was.
    fn look(&mut self) -> (u64, Duration) {
        let (before, at) = (self.ns, self.at);
        (self.ns, self.at) = (self.read(), Instant::now());
        let elapsed = self.at - at;
        (ppm(self.ns.saturating_sub(before), elapsed, self.cpus), elapsed)
    }

    fn spent(mut self) -> Spent {
        self.look();
        let all = ppm(self.ns.saturating_sub(self.before_ns), self.begun.elapsed(), self.cpus);
        u32::try_from(all).unwrap_or(Spent::MAX)
    }
}

fn ppm(ns: u64, elapsed: Duration, cpus: u64) -> u64 {
    let all = elapsed.as_nanos().max(1) * u128::from(cpus.max(1));
    u64::try_from(u128::from(ns) * 1_000_000 / all).unwrap_or(u64::MAX)
}

/// How many intervals of a thread in one place are recorded in a window.
struct Control {
    ceiling_ppm: u64,
    /// What is spent with hardly any interval recorded, as far as that was ever seen to be beyond the ceiling.
    floor_ppm: f64,
    /// What was spent too much lately, and not saved since, as so many seconds of what may be spent.
    debt: f64,
    quota: f64,
    most: f64,
}

impl Control {
    fn new(ceiling_ppm: u32, cpus: u64) -> Self {
        // As if one thread were to spend it all.
        let window_ns = (1u64 << Sampling::WINDOW_BITS) as f64;
        let budget_ns = window_ns * f64::from(ceiling_ppm) / 1e6 * cpus as f64;
        let most = (budget_ns / LEAST_COST as f64).max(1.0) * Sampling::ONE as f64;
        Self { ceiling_ppm: ceiling_ppm.into(), floor_ppm: 0.0, debt: 0.0, quota: most, most }
    }

    /// The number of the map `QUOTA`.
    fn quota(&self) -> u64 {
        self.quota as u64
    }

    /// The programs have cost so much lately. What they cost without any interval recorded is part of it, so
    /// that the quota comes near where it belongs step by step, and never beyond.
    ///
    /// Where that part alone is beyond the ceiling, recording next to nothing would not help: then a tenth
    /// more is spent, so that there is something to see. That part is known then, and the quota is about the rest. It is
    /// looked at again every few seconds, and when another load costs less than it.
    ///
    /// When a load begins, more is spent until this has looked at it: that is saved afterwards.
    fn look(&mut self, cost_ppm: u64, elapsed: Duration) {
        let (cost, ceiling) = (cost_ppm.max(1) as f64, self.ceiling_ppm as f64);
        self.floor_ppm *= 0.999;
        if cost < 0.8 * self.floor_ppm {
            self.floor_ppm = 0.0;
        }
        if self.quota <= LEAST as f64 && cost > ceiling {
            self.floor_ppm = cost;
        }
        let floor = if self.floor_ppm > ceiling { self.floor_ppm } else { 0.0 };
        let allowed = ceiling.max(1.1 * floor);
        let over = elapsed.as_secs_f64() * (cost / allowed - 1.0);
        self.debt = (self.debt + over).clamp(0.0, MOST_DEBT);
        let share = 1.0 - self.debt.min(MOST_SAVED);
        let ratio = share * (allowed - floor) / (cost - floor).max(1.0);
        self.quota = (self.quota * ratio.clamp(1.0 / 64.0, 1.5)).clamp(LEAST as f64, self.most);
    }
}

/// The kernel measures while this is open.
fn enable_stats() -> std::io::Result<OwnedFd> {
    const BPF_ENABLE_STATS: libc::c_int = 32;
    // `BPF_STATS_RUN_TIME`, and the end of the part of `union bpf_attr` that is used.
    let attr: [u32; 2] = [0, 0];
    // SAFETY: the attribute is as large as it says.
    descriptor::owned(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const attr, size_of_val(&attr))
    })
}

/// Whether the kernel measures programs without being asked.
fn are_stats_on() -> bool {
    let text = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled");
    text.is_ok_and(|text| text.trim() == "1")
}

fn online_cpus() -> u64 {
    // SAFETY: the call takes no pointers.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u64::try_from(cpus).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use offwake_shared::Place;

    use super::*;

    /// A load on which the account of intervals alone costs `floor`, and each of the quota's `slope`.
    fn settled(floor: f64, slope: f64) -> f64 {
        let mut control = Control::new(10_000, 2);
        let cost = |quota: f64| floor + slope * quota / Sampling::ONE as f64;
        for _ in 0..200 {
            control.look(cost(control.quota) as u64, TICK);
        }
        cost(control.quota)
    }

    #[test]
    fn the_cost_settles_at_the_ceiling() {
        for (floor, slope) in [(0.0, 50.0), (5000.0, 50.0), (9000.0, 100.0), (100.0, 1000.0)] {
            let cost = settled(floor, slope);
            assert!((9_000.0..=10_100.0).contains(&cost), "{floor} {slope}: {cost}");
        }
    }

    #[test]
    fn an_idle_machine_has_all_its_intervals_recorded() {
        let mut control = Control::new(10_000, 2);
        control.look(0, TICK);
        assert_eq!(control.quota, control.most);
    }

    /// A load that begins after an idle time, recorded as the programs do it, for few seconds.
    #[test]
    fn what_the_beginning_of_a_load_takes_is_saved_afterwards() {
        const RATE: u64 = 60_000;
        const CEILING: f64 = 10_000.0;
        const SECONDS: u64 = 3;
        let mut control = Control::new(CEILING as u32, 2);
        let mut place = Place::default();
        let (mut now, mut spent_ns) = (0, 0.0);
        while now < SECONDS * 1_000_000_000 {
            let mut tick_ns = 0.0;
            let end = now + TICK.as_nanos() as u64;
            while now < end {
                let weight = place.next_weight(now, control.quota());
                tick_ns += 2_400.0 * Sampling::ONE as f64 / weight as f64;
                now += 1_000_000_000 / RATE;
            }
            spent_ns += tick_ns;
            control.look(ppm(tick_ns as u64, TICK, 2), TICK);
        }
        let spent = spent_ns / now as f64 / 2.0 * 1e6;
        assert!((0.9 * CEILING..1.05 * CEILING).contains(&spent), "{spent}");
    }

    /// Loads that follow each other, by what their account costs. Where that alone is beyond the ceiling, a bit is added;
    /// of others as much is recorded as the ceiling allows.
    #[test]
    fn whatever_the_load_was_before_little_is_spent_beyond_the_account() {
        const CEILING: f64 = 10_000.0;
        let mut control = Control::new(CEILING as u32, 2);
        for account in [50_000.0, 12_000.0, 43_000.0, 40_000.0, 5_000.0, 60_000.0, 8_000.0] {
            let (mut added, mut looks) = (0.0, 0);
            for tick in 0..300 {
                // No two looks are alike, and no more is recorded than there is.
                let noise = [0.95, 1.05, 1.0, 1.02, 0.98][tick % 5];
                let recorded = (2.0 * control.quota / Sampling::ONE as f64).min(3.0 * account);
                control.look((noise * (account + recorded)) as u64, TICK);
                if tick >= 60 {
                    (added, looks) = (added + recorded, looks + 1);
                }
            }
            let added = added / f64::from(looks);
            let most = if account > CEILING { 0.2 * account } else { CEILING - account };
            assert!((0.04 * most..1.1 * most).contains(&added), "{account}: {added} of {most}");
        }
    }
}
