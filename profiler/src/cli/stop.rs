//! Ctrl-C, SIGTERM and SIGHUP end a recording, not its results.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::unfinished;

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets. The next one ends the process, as it would have
/// without offwake's doing, and without a trace: for a user who does not want to wait for the results. SIGHUP, by which a terminal that goes
/// away ends its programs, stays ignored under `nohup`.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // Shells have SIGINT ignored by what they start in the background, which nobody wants for a recording.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        // Before the other: they must still see the flag as the signal found it.
        end_if(signal, &stop)?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Has each of these signals, where it is not ignored, end the process at once and without a trace: for commands that
/// would have no result of it.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn at_once() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    let mut signals = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
    signals.try_for_each(|signal| end_if(signal, &always))
}

/// While the flag is set, the signal removes what is half-written, and ends the process.
fn end_if(signal: libc::c_int, flag: &Arc<AtomicBool>) -> io::Result<()> {
    let is_set = Arc::clone(flag);
    let remove = move || {
        if is_set.load(Ordering::SeqCst) {
            unfinished::remove();
        }
    };
    // SAFETY: to load a flag and to call `remove` is allowed in signal handlers.
    unsafe { low_level::register(signal, remove) }?;
    flag::register_conditional_default(signal, Arc::clone(flag))?;
    Ok(())
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
