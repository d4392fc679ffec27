//! Ctrl-C, SIGTERM and SIGHUP end a recording, not its results.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

use super::unfinished;

/// For so long after the first signal no other one ends the process. Some senders send two at once: a shell whose
/// terminal goes away, and the kernel after it; `timeout`, to the process and to its group.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets. A later SIGINT or SIGTERM ends the process, as it would have
/// without offwake's doing, but leaves no half-written file: for a user who does not want to wait for the results. SIGHUP,
/// by which a terminal that goes away ends its programs, stays ignored under `nohup`.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn on_signals() -> io::Result<Arc<AtomicBool>> {
    let (stop, first) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clock = Instant::now();
    // Shells have SIGINT ignored by what they start in the background, which nobody wants for a recording.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        let (stop, first) = (Arc::clone(&stop), Arc::clone(&first));
        handle(signal, move || {
            // Never 0.
            let now = clock.elapsed().as_nanos() as u64 + 1;
            match first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => stop.store(true, Ordering::SeqCst),
                Err(first) if signal != SIGHUP && is_later(first, now) => end(signal),
                Err(_) => {}
            }
        })?;
    }
    Ok(stop)
}

/// Has the first of these signals that is not ignored end the process, without a half-written file: for commands that
/// would have no result of it.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn at_once() -> io::Result<()> {
    let mut signals = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    signals.try_for_each(|signal| handle(signal, move || end(signal)))
}

/// What is done when a signal comes. It may do no more than signal handlers may.
fn handle(signal: libc::c_int, action: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    // SAFETY: all that is done here is to use atomic numbers, to look at a clock, and what `end` does.
    unsafe { low_level::register(signal, action) }.map(drop)
}

/// Ends the process as the signal would have.
fn end(signal: libc::c_int) {
    unfinished::remove();
    // Of these signals it does not return.
    let _ = low_level::emulate_default_handler(signal);
}

/// Whether the time of a signal, in ns, is not that of the first one.
const fn is_later(first: u64, now: u64) -> bool {
    now.saturating_sub(first) as u128 >= AT_ONCE.as_nanos()
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: all zeros are a valid `sigaction`, and the call only writes to it.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action);
        action
    };
    action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag_and_does_not_end_the_process() {
        let stop = on_signals().unwrap();
        assert!(!stop.load(Ordering::Relaxed));
        low_level::raise(SIGTERM).unwrap();
        assert!(stop.load(Ordering::Relaxed));
        // The same one once more, and one that never ends it.
        low_level::raise(SIGTERM).unwrap();
        std::thread::sleep(AT_ONCE);
        low_level::raise(SIGHUP).unwrap();
    }

    #[test]
    fn what_comes_half_a_second_later_is_another_one() {
        let ns = AT_ONCE.as_nanos() as u64;
        assert!(!is_later(7, 7) && !is_later(7, ns + 6) && is_later(7, ns + 7));
        // Two clocks may differ by a bit.
        assert!(!is_later(8, 7));
    }
}
