//! Machines that are slow, because another one emulates them: there, times are allowed to be less exact, and
//! targets do less. Who slept and who woke whom stays what it is; see CONTRIBUTING.md.

use std::env;

/// How much slower an emulated CPU is, at least.
const FACTOR: u64 = 20;
/// How much longer things may take there: its emulator waits for CPUs, too.
const LATENESS: u64 = 60;

/// Whether `OFFWAKE_SLOW` says that this machine is slow.
pub(crate) fn is_slow() -> bool {
    env::var_os("OFFWAKE_SLOW").is_some()
}

/// A time that is allowed to pass beside what is measured.
pub(crate) fn allowance(ns: u64) -> u64 {
    if is_slow() { ns * LATENESS } else { ns }
}

/// How far a sum of times may be from another one: 2 %.
pub(crate) fn share(ns: u64) -> u64 {
    if is_slow() { ns / 10 } else { ns / 50 }
}

/// How often a target does something.
pub(crate) fn amount(count: u64) -> u64 {
    if is_slow() { count / FACTOR } else { count }
}
