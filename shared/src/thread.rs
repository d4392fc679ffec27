use crate::{Sampling, assert_packed};

/// [`TaskId::flags`]: a kernel thread (`PF_KTHREAD`), which has no user stack.
pub const TASK_KERNEL_THREAD: u32 = 1;

/// [`TaskId::flags`]: the idle thread of a CPU, which does nothing of its own.
pub const TASK_IDLE: u32 = 2;

/// A thread at one moment: its ids, its name then, and which program it ran.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The process (what user space calls the pid), in offwake's pid namespace; 0 if that does
    /// not show it.
    pub tgid: u32,
    /// The thread, likewise.
    pub tid: u32,
    /// Tells one program of the process from the next, and one process from another with the same
    /// pid: of `task_struct::self_exec_id`, which changes with every `execve`, and of when the
    /// process was born.
    pub exec_id: u32,
    /// [`TASK_KERNEL_THREAD`] and [`TASK_IDLE`].
    pub flags: u32,
    /// The thread's name, ended by a 0 unless it fills the array. Any bytes.
    pub comm: [u8; 16],
}
assert_packed!(TaskId, 32);

/// The words of a name, each little-endian.
#[inline(always)]
pub const fn comm_words(comm: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = comm;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

/// The name in 16 bytes of memory, given as [`comm_words`]: up to its end, behind which there may be leftovers (the
/// kernel's `task_struct::comm`, up to 5.16).
#[inline(always)]
pub const fn comm([low, high]: [u64; 2]) -> [u8; 16] {
    let mask = before_end(low);
    let high = if mask == u64::MAX { high & before_end(high) } else { 0 };
    ((high as u128) << 64 | (low & mask) as u128).to_le_bytes()
}

/// A mask of the bytes of a little-endian word that lie before its first 0.
#[inline(always)]
const fn before_end(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The lowest bit of these is the highest one of the first byte that is 0.
    let ends = word.wrapping_sub(ONES) & !word & ONES << 7;
    (ends & ends.wrapping_neg()).wrapping_sub(1)
}

/// The open interval of one thread: a value of the map `THREADS`, whose key is the
/// tid in the initial pid namespace.
///
/// The thread's own CPU writes the first half as it switches out, a waker writes the second half
/// under the thread's `pi_lock`; the two may run at the same time and share no field but those of [`Sampling`]. Both are
/// complete before the thread can be switched in again.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct ThreadState {
    /// When the thread was switched out; 0 while it runs.
    pub off_since: u64,
    /// The address of its `task_struct`; 0: not known.
    pub task: u64,
    /// `task_struct::self_exec_id` of the thread as it was switched out; 0: not known.
    pub execs: u32,
    /// A [`crate::WaitState`].
    pub state: u32,
    /// The thread as it was then.
    pub sleeper: TaskId,
    /// Stack id of its kernel stack.
    pub sleeper_kernel: u64,
    /// Stack id of its user stack.
    pub sleeper_user: u64,
    /// When the thread was last woken; 0: not since it last ran. The second half begins here.
    pub woken_at: u64,
    /// The bits of the task state that the waker found; 0 where it cannot tell.
    pub woken_from: u32,
    /// A [`crate::WakerKind`].
    pub waker_kind: u32,
    /// Who woke it.
    pub waker: TaskId,
    /// Stack id of the waker's kernel stack.
    pub waker_kernel: u64,
    /// Stack id of the waker's user stack.
    pub waker_user: u64,
    /// What the thread waited for: a key of the map `SOURCES`; 0: not known.
    pub source: u64,
    /// Used only while the cost of the recording has a ceiling.
    pub sampling: Sampling,
}

/// A wake-up that comes before the switch-out belongs to it only if it is younger than this, in ns:
/// then it was under way. An older one ended a sleep that was called off.
const RACE_NS: u64 = 10_000_000;

impl ThreadState {
    /// Whether a wake-up is under way as the thread is switched out, at `now`.
    #[inline(always)]
    pub const fn is_woken_ahead(&self, now: u64) -> bool {
        self.woken_at != 0 && self.woken_at.wrapping_add(RACE_NS) > now
    }

    /// Whether a wake-up was seen that ends the open interval.
    #[inline(always)]
    pub const fn is_woken(&self) -> bool {
        self.is_woken_ahead(self.off_since)
    }
}
assert_packed!(ThreadState, 16 + 8 + 32 + 16 + 8 + 8 + 32 + 16 + 8 + size_of::<Sampling>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_with_its_first_0() {
        for (memory, name) in [
            (*b"\0leftoverleftove", &b""[..]),
            (*b"a\0b\0cccccccccccc", b"a"),
            (*b"bash\0\x01\x80\xffleftove\0", b"bash"),
            (*b"seven77\0leftove\0", b"seven77"),
            (*b"eight888\0eftove\0", b"eight888"),
            (*b"\xff\x80\x01nine99\0ftov\0\0", b"\xff\x80\x01nine99"),
            (*b"fifteen_letters\0", b"fifteen_letters"),
            (*b"sixteen__letters", b"sixteen__letters"),
        ] {
            let comm = comm(comm_words(memory));
            let (found, rest) = comm.split_at(name.len());
            assert_eq!(found, name);
            assert!(rest.iter().all(|&byte| byte == 0), "{name:?}: {rest:?}");
        }
    }

    #[test]
    fn a_wake_up_belongs_to_the_sleep_that_it_ends() {
        let woken = |off_since: u64, woken_at: u64| {
            ThreadState { off_since, woken_at, ..ThreadState::default() }.is_woken()
        };
        assert!(woken(1_000_000_000, 1_000_000_001));
        assert!(woken(1_000_000_000, 999_990_000), "under way at the switch-out");
        assert!(!woken(1_000_000_000, 900_000_000), "of a sleep that was called off");
        assert!(!woken(1_000_000_000, 0), "none");
    }
}
