//! Comparing what a target says with what offwake says.

use std::ops::RangeInclusive;

use super::kernel;
use super::profile::{Profile, Wait, has, names, sum};
use super::speed;
use super::target::{Side, Truth, Waker};

/// How far the blocked time may be from the truth: 2 %, and for each wait a floor.
///
/// A truth is what a target can see of itself: from just before the sleeper's system call to just before
/// the waker's. The floors are what lies between that and the switch-out and the wake-up, as measured on
/// a virtual machine (`examples/README.md`), and a bit for a machine that does other things too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Floor(pub(crate) u64);

impl Floor {
    /// A futex, a pipe: two ways into the kernel.
    pub(crate) const LOCAL: Self = Self(15_000);
    /// Loopback TCP: and the way through the network stack.
    pub(crate) const TCP: Self = Self(25_000);
    /// A timer: and its lateness.
    pub(crate) const TIMER: Self = Self(100_000);

    /// Asserts that two sums over `count` waits agree.
    pub(crate) fn assert_near(self, told: u64, seen: u64, count: u64, what: &str) {
        let slack = speed::share(told) + speed::allowance(self.0) * count;
        assert!(
            told.abs_diff(seen) <= slack,
            "{what}: told {told} ns, seen {seen} ns, {count} waits: more than {slack} ns apart"
        );
    }
}

/// How many wake-ups may have happened on the time of a thread that the kernel hides from every
/// tracer (`Loss::SwitchInMissed`): then nobody can know the waker, and it is `unknown`. Wakers of the
/// play are not hidden, but the last of their wake-ups may be done by an interrupt.
pub(crate) fn hidden(count: u64) -> u64 {
    1 + count / 100
}

/// As [`hidden`], of wake-ups by interrupts: they come on the time of whoever runs, and so as many are
/// hidden as such threads have of the CPU.
fn hidden_interrupts(count: u64) -> u64 {
    1 + count / 4
}

/// Whether a wait over loopback ended by the network stack's own hand. It has the packet that a thread wrote
/// from a queue, which that thread empties itself when it enables softirqs again (`__local_bh_enable_ip`),
/// and so is the waker; but for an interrupt that comes just then, whose end does it (`__irq_exit_rcu`), and
/// for a CPU with much to do, which leaves it to a thread.
pub(crate) fn is_deferred(wait: &Wait) -> bool {
    let by_thread = wait.waker.thread.as_ref().map(|thread| thread.comm.starts_with("ksoftirqd/"));
    let by_softirq = wait.waker.softirq.as_deref() == Some("NET_RX");
    by_thread.unwrap_or(by_softirq) && has(&wait.waker_stack, "net_rx_action")
}

/// How many wake-ups over loopback may be [deferred](is_deferred).
fn deferrable(count: u64) -> u64 {
    if speed::is_slow() { count / 2 } else { hidden(count) }
}

/// Whether a thread waited for what is a spinlock on kernels without preempt-RT: that is a wait of its own beside
/// the one that a target tells of (`rtlock_slowlock_locked` in kernel/locking/rtmutex.c).
pub(crate) fn is_spinlock(wait: &Wait) -> bool {
    wait.state == "uninterruptible"
        && has(&wait.sleeper_stack, "schedule_rtlock")
        && kernel::is_realtime()
}

/// Whether a thread waited for a lock of the kernel's that it wanted for a moment only: such a spinlock, or a mutex that
/// somebody has who was preempted, as that of a pipe.
pub(crate) fn is_lock(wait: &Wait) -> bool {
    wait.state == "uninterruptible"
        && (is_spinlock(wait) || has(&wait.sleeper_stack, "schedule_preempt_disabled"))
}

/// How many waits may have been seen in the function of a thread of which the kernel has counted so many in all: those
/// for locks elsewhere, and at the gates too, are among them.
pub(crate) fn possible(profile: &Profile, sleeper: &Side, told: u64) -> RangeInclusive<u64> {
    let is_elsewhere = |wait: &&Wait| is_lock(wait) && !has(&wait.sleeper_stack, &sleeper.function);
    let elsewhere = sum(profile.of(sleeper.thread.tid).filter(is_elsewhere), |wait| wait.count);
    *profile.possible(told.saturating_sub(elsewhere)).start()..=told
}

/// Asserts that each wait for such a lock was ended by whoever had it, and that there are not too many: who wakes a
/// thread may still have up to two locks that it wants next, of the wait queue and of an epoll instance.
fn check_spinlocks(waits: &[&Wait], told: u64, what: &str) {
    const UNLOCKS: [&str; 3] = ["rt_spin_unlock", "rt_read_unlock", "rt_write_unlock"];
    for wait in waits {
        let is_unlocked = UNLOCKS.iter().any(|function| has(&wait.waker_stack, function));
        assert!(wait.waker.kind == "task" && is_unlocked, "{what}: {wait:?}");
    }
    let count = sum(waits.iter().copied(), |wait| wait.count);
    assert!(count <= 2 * told, "{what}: {count} spinlocks in {told} waits: {}", wakers(waits));
}

/// Whether the waker is a thread that runs softirqs: with preempt-RT the rule, and those of timers have threads of
/// their own (`run_timersd` in kernel/softirq.c).
pub(crate) fn is_softirq_thread(wait: &Wait) -> bool {
    let runs_softirqs = |comm: &str| comm.starts_with("ksoftirqd/") || comm.starts_with("ktimers/");
    let thread = wait.waker.thread.as_ref();
    wait.waker.kind == "task" && thread.is_some_and(|thread| runs_softirqs(&thread.comm))
}

/// Asserts that all truths about each sleeper are what was recorded.
pub(crate) fn check<'a>(
    profile: &Profile,
    truths: impl IntoIterator<Item = &'a Truth>,
    floor: Floor,
    is_interrupt: fn(&Wait) -> bool,
) {
    let mut rest: Vec<_> = truths.into_iter().collect();
    let by_interrupts = rest.iter().any(|truth| matches!(truth.waker, Waker::Irq));
    let (mut count, mut unknown) = (0, 0);
    while let Some(first) = rest.first() {
        let (tid, function) = (first.sleeper.thread.tid, first.sleeper.function.clone());
        let (truths, others) = rest.into_iter().partition(|truth: &&Truth| {
            truth.sleeper.thread.tid == tid && truth.sleeper.function == function
        });
        rest = others;
        unknown += check_sleeper(profile, &truths, floor, is_interrupt);
        count += truths.iter().map(|truth| truth.count).sum::<u64>();
    }
    let bar = if by_interrupts { hidden_interrupts(count) } else { hidden(count) };
    let counted = profile.lost("unknown_waker");
    assert!(
        unknown <= bar.min(counted),
        "{unknown} of {count} wakers are unknown: {:?}",
        profile.losses
    );
}

/// Compares what was recorded of one function of one thread; returns how many wakers are unknown.
fn check_sleeper(
    profile: &Profile,
    truths: &[&Truth],
    floor: Floor,
    is_interrupt: fn(&Wait) -> bool,
) -> u64 {
    let sleeper = &truths[0].sleeper;
    let what = format!("{} in {}", sleeper.thread.comm, sleeper.function);
    // To be preempted is no wait.
    let (spinlocks, waits): (Vec<_>, Vec<_>) = profile
        .waits_in(sleeper.thread.tid, &sleeper.function)
        .filter(|wait| wait.state != "preempted")
        .partition(|wait| is_spinlock(wait));
    for wait in &waits {
        assert_eq!(wait.sleeper, sleeper.thread, "{what}");
        assert_eq!(wait.state, truths[0].state, "{what}: {wait:?}");
    }
    let told: u64 = truths.iter().map(|truth| truth.count).sum();
    check_spinlocks(&spinlocks, told, &what);
    let seen = sum(waits.iter().copied(), |wait| wait.count);
    let possible = possible(profile, sleeper, told);
    let missed = told - possible.start();
    assert!(
        possible.contains(&seen),
        "{what}: {seen} of {told}: {:?}; elsewhere: {}",
        profile.losses,
        elsewhere(profile, sleeper)
    );

    let count = |of: &dyn Fn(&Wait) -> bool| {
        sum(waits.iter().copied().filter(|wait| of(wait)), |wait| wait.count)
    };
    let unknown = count(&|wait| wait.waker.kind == "unknown");
    let deferred = if floor == Floor::TCP { count(&is_deferred) } else { 0 };
    assert!(deferred <= deferrable(told), "{what}: {deferred} deferred: {}", wakers(&waits));
    let mut explained = unknown + deferred;
    for truth in truths {
        let seen = count(&|wait| is_woken_by(wait, truth, is_interrupt));
        let missing = unknown + deferred + missed;
        assert!(
            (truth.count.saturating_sub(missing)..=truth.count).contains(&seen),
            "{what}: {:?} ended {} waits, seen {seen}, unknown {unknown}, deferred {deferred}: {}",
            truth.waker,
            truth.count,
            wakers(&waits),
        );
        explained += seen;
    }
    assert_eq!(explained, seen, "{what}: wrong wakers: {:?}{}", profile.losses, wakers(&waits));

    let blocked = sum(waits.iter().copied(), |wait| wait.blocked_ns);
    let told_ns = |of: fn(&Truth) -> u64| truths.iter().map(|truth| of(truth)).sum::<u64>();
    let (least, most) = (told_ns(|truth| truth.blocked_ns), told_ns(|truth| truth.off_ns));
    // A timer that fires late, since the whole machine stood still, prolongs the wait by that: the
    // target has then seen it, too, but for when it was due.
    let is_late = matches!(truths[0].waker, Waker::Irq) && blocked > least;
    floor.assert_near(if is_late { blocked.min(most) } else { least }, blocked, told, &what);
    unknown
}

fn is_woken_by(wait: &Wait, truth: &Truth, is_interrupt: fn(&Wait) -> bool) -> bool {
    match &truth.waker {
        Waker::Task(side) => {
            wait.waker.kind == "task"
                && wait.waker.thread.as_ref() == Some(&side.thread)
                && has(&wait.waker_stack, &side.function)
        }
        Waker::Irq => is_interrupt(wait),
        Waker::Preempted => wait.waker.kind == "preempted",
    }
}

/// Whether a timer ended a wait.
pub(crate) fn is_timer(wait: &Wait) -> bool {
    let is_expected = match wait.waker.kind.as_str() {
        "irq" => true,
        "softirq" => wait.waker.softirq.as_deref() == Some("HRTIMER"),
        _ => false,
    };
    // Whoever was interrupted has no part in it.
    (is_expected && wait.waker.thread.is_none() || kernel::is_realtime() && is_softirq_thread(wait))
        && wait.waker_stack.iter().all(|frame| frame.kernel)
        && has(&wait.waker_stack, "hrtimer_wakeup")
}

/// No waker is an interrupt.
pub(crate) fn never(_: &Wait) -> bool {
    false
}

/// The waits of a thread outside of a function.
fn elsewhere(profile: &Profile, side: &Side) -> String {
    let waits =
        profile.of(side.thread.tid).filter(|wait| !has(&wait.sleeper_stack, &side.function));
    let rows = waits.map(|wait| {
        format!("\n{} × {} {}", wait.count, wait.state, names(&wait.sleeper_stack).join(" < "))
    });
    rows.collect()
}

fn wakers(waits: &[&Wait]) -> String {
    let rows = waits.iter().map(|wait| {
        format!("\n{} × {:?} {}", wait.count, wait.waker, names(&wait.waker_stack).join(" < "))
    });
    rows.collect()
}
