//! Threads of offwake's that must not wait for a CPU.

/// Gives this thread the CPU as soon as it has something to do, even on a busy machine: a process that has
/// just woken a thread may end in the next moment, and a map may be full. Such threads run for little.
pub(super) fn hurry() {
    const MOST: libc::c_int = -20;
    // SAFETY: the call takes no pointers; id 0 is the calling thread. Without the privilege the
    // thread stays as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, MOST) };
}
