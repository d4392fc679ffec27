//! Time, and how to let it pass.

use std::hint::spin_loop;

/// `CLOCK_MONOTONIC` in ns: the clock that profilers of the kernel use (`bpf_ktime_get_ns`), the same
/// in every process.
#[inline(always)]
pub fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// How long the calling thread has been on a CPU, in ns.
#[inline(always)]
pub fn on_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

#[inline(always)]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing. The call cannot fail with these clocks.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets `ns` pass asleep: for threads whose own waits are not measured.
#[inline(never)]
pub fn pause(ns: u64) {
    std::thread::sleep(std::time::Duration::from_nanos(ns));
}

/// Lets `ns` pass on the CPU: for threads whose own waits are measured.
#[inline(never)]
pub fn busy(ns: u64) {
    let end = now() + ns;
    while now() < end {
        spin_loop();
    }
}
