//! Ctrl-C, SIGTERM and SIGHUP end a recording, not its results.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

use super::unfinished;

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets. The next one ends the process, as it would have without
/// offwake's doing, but leaves no half-written file: for a user who does not want to wait for the results. SIGHUP, by
/// which a terminal that goes away ends its programs, stays ignored under `nohup`.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // Shells have SIGINT ignored by what they start in the background, which nobody wants for a recording.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    [SIGINT, SIGTERM].into_iter().chain(hangup).try_for_each(|signal| handle(signal, &stop))?;
    Ok(stop)
}

/// Has the first of these signals that is not ignored end the process, without a half-written file: for commands that
/// would have no result of it.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn at_once() -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(true));
    let mut signals = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    signals.try_for_each(|signal| handle(signal, &stop))
}

/// Has a signal set the flag. Where it is set already, it ends the process.
fn handle(signal: libc::c_int, flag: &Arc<AtomicBool>) -> io::Result<()> {
    let flag = Arc::clone(flag);
    let action = move || {
        if flag.swap(true, Ordering::SeqCst) {
            unfinished::remove();
            // Of these signals it does not return.
            let _ = low_level::emulate_default_handler(signal);
        }
    };
    // SAFETY: to swap a flag and to call either function is allowed in signal handlers.
    unsafe { low_level::register(signal, action) }.map(drop)
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
    }
}
