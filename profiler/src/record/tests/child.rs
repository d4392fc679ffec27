//! Processes to record. offwake never records its own threads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::snapshot::process;

/// A fork of this process. Ends when dropped, and is then gone.
pub(super) struct Child {
    pub(super) pid: u32,
}

impl Child {
    /// Starts a process that does `work` and ends. `work` must not panic, allocate or print: other
    /// threads may have held any lock at the moment of the fork.
    pub(super) fn start(work: impl FnOnce()) -> Self {
        // SAFETY: the child only does `work` and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the calls take no pointers.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                work();
                libc::_exit(0)
            }
        }
        Self { pid: u32::try_from(pid).expect("cannot fork") }
    }

    /// Waits until the child is blocked.
    pub(super) fn wait_until_asleep(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while process::state(self.pid) != Some(b'S') {
            assert!(Instant::now() < deadline, "the child does not sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.pid as libc::pid_t;
        // SAFETY: a child of ours that nobody else waits for; a null pointer is allowed.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Memory that a child shares with its parent.
#[repr(C)]
pub(super) struct Shared {
    /// How far the child is.
    pub(super) progress: AtomicU32,
    /// How often the child may sleep.
    pub(super) may_sleep: AtomicU32,
    wake_ups: AtomicU32,
}

impl Shared {
    /// Zeros. Never freed: it is a page, in a test.
    pub(super) fn new() -> &'static Self {
        // SAFETY: new memory of the kernel's choice, zeros, aligned to a page, and shared only as
        // atomics.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(page, libc::MAP_FAILED);
            &*page.cast::<Self>()
        }
    }

    /// Blocks until the next [`Self::wake_up`], also if that came before.
    pub(super) fn wait_for_wake_up(&self) {
        while self.wake_ups.load(Ordering::Relaxed) == 0 {
            self.futex(libc::FUTEX_WAIT, 0);
        }
        self.wake_ups.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends one [`Self::wait_for_wake_up`].
    pub(super) fn wake_up(&self) {
        self.wake_ups.fetch_add(1, Ordering::Relaxed);
        self.futex(libc::FUTEX_WAKE, 1);
    }

    fn futex(&self, operation: libc::c_int, value: u32) {
        let no_timeout = std::ptr::null::<libc::timespec>();
        // SAFETY: the address is that of a futex word in shared memory.
        unsafe {
            libc::syscall(libc::SYS_futex, self.wake_ups.as_ptr(), operation, value, no_timeout)
        };
    }
}
