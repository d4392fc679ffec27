/// Why a thread was off-CPU: the task state in which it was switched out, reduced to the classes
/// that `ps` and the kernel's documentation name.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitState {
    /// Switched out while runnable: another thread took the CPU. Nobody wakes it.
    Preempted = 0,
    /// `TASK_INTERRUPTIBLE`: a sleep that signals end.
    Interruptible = 1,
    /// `TASK_UNINTERRUPTIBLE`: a sleep that nothing but its event ends.
    Uninterruptible = 2,
    /// `TASK_KILLABLE`: a sleep that only fatal signals end; `ps` shows `D` for it too.
    Killable = 3,
    /// `TASK_IDLE`: a kernel thread without work.
    Idle = 4,
    /// `__TASK_STOPPED`: job control.
    Stopped = 5,
    /// `__TASK_TRACED`: held by a debugger.
    Traced = 6,
    /// `TASK_PARKED`: a parked kernel thread.
    Parked = 7,
    /// A new thread, from its creation to its first run. Its creator is its waker.
    New = 8,
    /// Any other combination of bits.
    Other = 9,
}

// include/linux/sched.h; the same from 5.10 to 7.2.
const TASK_INTERRUPTIBLE: u64 = 0x1;
const TASK_UNINTERRUPTIBLE: u64 = 0x2;
const TASK_STOPPED: u64 = 0x4;
const TASK_TRACED: u64 = 0x8;
const TASK_PARKED: u64 = 0x40;
const TASK_WAKEKILL: u64 = 0x100;
const TASK_NOLOAD: u64 = 0x400;
/// Set on a thread that will never run again (`do_task_dead`).
const TASK_DEAD: u64 = 0x80;
/// Set on a thread whose wake-up is under way (`try_to_wake_up`).
pub const TASK_WAKING: u32 = 0x200;
/// Waits for a lock that is a spinlock on other kernels (preempt-RT, 5.15+); the kernel reports it as
/// uninterruptible (`__task_state_index`).
const TASK_RTLOCK_WAIT: u64 = 0x1000;
/// Frozen (6.1+); reported likewise.
const TASK_FROZEN: u64 = 0x8000;

impl WaitState {
    /// How many states there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Preempted,
        Self::Interruptible,
        Self::Uninterruptible,
        Self::Killable,
        Self::Idle,
        Self::Stopped,
        Self::Traced,
        Self::Parked,
        Self::New,
        Self::Other,
    ];

    /// The class of a thread that is switched out with these bits in `task_struct::__state`
    /// (`state` before 5.14). `None`: the thread is dead.
    #[inline(always)]
    pub const fn from_task_state(bits: u64) -> Option<Self> {
        Some(if bits == 0 {
            Self::Preempted
        } else if bits & TASK_DEAD != 0 {
            return None;
        } else if bits & TASK_INTERRUPTIBLE != 0 {
            Self::Interruptible
        } else if bits & TASK_UNINTERRUPTIBLE != 0 {
            if bits & TASK_WAKEKILL != 0 {
                Self::Killable
            } else if bits & TASK_NOLOAD != 0 {
                Self::Idle
            } else {
                Self::Uninterruptible
            }
        } else if bits & TASK_STOPPED != 0 {
            Self::Stopped
        } else if bits & TASK_TRACED != 0 {
            Self::Traced
        } else if bits & TASK_PARKED != 0 {
            Self::Parked
        } else if bits & (TASK_RTLOCK_WAIT | TASK_FROZEN) != 0 {
            Self::Uninterruptible
        } else {
            Self::Other
        })
    }

    /// The class of a thread that the tracepoint `sched:sched_switch` reports with this `prev_state`:
    /// one bit, by the letter that `ps` shows (`__trace_sched_switch_state`, the same from 5.10 to 7.2).
    /// It does not tell [`Self::Killable`] from [`Self::Uninterruptible`]. `None`: the thread is dead.
    #[inline(always)]
    pub const fn from_reported(bits: u32) -> Option<Self> {
        /// `EXIT_DEAD` and `EXIT_ZOMBIE`: a thread in its last switch is reported by how it ended.
        const EXITED: u32 = 0x10 | 0x20;
        /// `TASK_REPORT_IDLE`.
        const IDLE: u32 = 0x80;
        if bits & EXITED != 0 {
            None
        } else if bits & IDLE != 0 {
            Some(Self::Idle)
        } else {
            Self::from_task_state(bits as u64)
        }
    }

    /// The state with this number, as found in a [`crate::WaitKey`].
    pub const fn from_u32(value: u32) -> Option<Self> {
        if (value as usize) < Self::COUNT { Some(Self::ALL[value as usize]) } else { None }
    }

    /// The name in every output and in `--state`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::Interruptible => "interruptible",
            Self::Uninterruptible => "uninterruptible",
            Self::Killable => "killable",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Parked => "parked",
            Self::New => "new",
            Self::Other => "other",
        }
    }

    /// The bit of this state in a set of states.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}
