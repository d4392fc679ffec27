//! What happened between a sleeper and its waker.

use std::sync::atomic::{AtomicU64, Ordering::*};

use serde::Serialize;

use crate::clock;
use crate::shared::{Shareable, shared};
use crate::task::{Role, own_voluntary_switches};

/// The sums over all waits of one kind. Sleeper and waker each keep their own half; neither needs to
/// know the other's times, as the blocked time is the sum of all wakes minus the sum of all sleeps.
#[derive(Debug, Default)]
pub struct Ledger {
    sleeps: AtomicU64,
    slept_at: AtomicU64,
    off: AtomicU64,
    wakes: AtomicU64,
    woke_at: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Shareable for Ledger {}

/// When a thread went to sleep.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// The moment of [`clock::now`].
    pub moment: u64,
    on_cpu: u64,
}

/// What a [`Ledger`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// How many waits.
    pub count: u64,
    /// From just before the sleeper's system call to just before the waker's, in ns.
    pub blocked_ns: u64,
    /// From just before the sleeper's system call to just after it, without the time on a CPU, in ns.
    pub off_ns: u64,
    /// How many distinct user stacks the sleeper waited with, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeper_stacks: Option<u64>,
}

impl Ledger {
    /// An empty ledger, shared with the processes forked from now on.
    pub fn new() -> &'static Self {
        shared()
    }

    /// The thread of `role` goes to sleep now: announces it to its waker.
    #[inline(always)]
    pub fn announce_sleep(&self, role: &Role) -> Since {
        role.announce();
        self.sleep()
    }

    /// The calling thread goes to sleep now. The result is for [`Self::slept`].
    #[inline(always)]
    pub fn sleep(&self) -> Since {
        let on_cpu = clock::on_cpu();
        let since = Since { on_cpu, moment: clock::now() };
        add(&self.slept_at, since.moment);
        since
    }

    /// The calling thread slept since then.
    #[inline(always)]
    pub fn slept(&self, since: Since) {
        let time = clock::now() - since.moment;
        add(&self.off, time.saturating_sub(clock::on_cpu() - since.on_cpu));
        add(&self.sleeps, 1);
    }

    /// The calling thread sleeps in `wait` until a timer wakes it after `ns`, at the moment that `wait` is told. Returns how
    /// long that took, in ns; `None`: the timer fired before the thread slept, since the machine stood still, and there was
    /// no wait.
    #[inline(always)]
    pub fn timed(&self, ns: u64, wait: impl FnOnce(u64)) -> Option<u64> {
        let switches = own_voluntary_switches();
        let since = self.sleep();
        wait(since.moment + ns);
        let back = clock::now();
        if own_voluntary_switches() == switches {
            add(&self.slept_at, since.moment.wrapping_neg());
            return None;
        }
        self.wake_at(since.moment + ns);
        self.slept(since);
        Some(back - since.moment)
    }

    /// The sleeper is woken now.
    #[inline(always)]
    pub fn wake(&self) {
        self.wake_at(clock::now());
    }

    /// The sleeper was or will be woken at this moment of [`clock::now`].
    #[inline(always)]
    pub fn wake_at(&self, moment: u64) {
        add(&self.wakes, 1);
        add(&self.woke_at, moment);
    }

    /// The sums. `None` when there were not as many sleeps as wakes.
    pub fn sums(&self) -> Option<Sums> {
        let count = self.sleeps.load(Acquire);
        // The sums of moments wrap; their difference does not.
        let blocked_ns = self.woke_at.load(Acquire).wrapping_sub(self.slept_at.load(Acquire));
        let off_ns = self.off.load(Acquire);
        (count == self.wakes.load(Acquire)).then_some(Sums {
            count,
            blocked_ns,
            off_ns,
            sleeper_stacks: None,
        })
    }
}

/// Adds to a number that one thread writes.
#[inline(always)]
fn add(number: &AtomicU64, value: u64) {
    number.store(number.load(Relaxed).wrapping_add(value), Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_time_is_from_sleep_to_wake() {
        let ledger = Ledger::default();
        let mut wakes = 0;
        for blocked in [1_000, 7_000] {
            let since = ledger.sleep();
            ledger.wake_at(since.moment + blocked);
            wakes += blocked;
            ledger.slept(since);
        }
        let sums = ledger.sums().unwrap();
        assert_eq!((sums.count, sums.blocked_ns), (2, wakes));
    }

    #[test]
    fn who_stays_awake_does_not_sleep() {
        let ledger = Ledger::default();
        assert_eq!(ledger.timed(1000, |_| ()), None);
        let sums = ledger.sums().unwrap();
        assert_eq!((sums.count, sums.blocked_ns), (0, 0));
    }

    #[test]
    fn a_wake_without_a_sleep_is_noticed() {
        let ledger = Ledger::default();
        ledger.wake();
        assert_eq!(ledger.sums(), None);
    }
}
