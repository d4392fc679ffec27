//! Ids in offwake's own pid namespace, when it is not the initial one: in a container.

use crate::maps::{
    NAMESPACE_INUM, OWN_NAMESPACE, PID_LEVEL, PID_NUMBERS, TASK_GROUP_LEADER, TASK_THREAD_PID,
};
use crate::memory::{read, read_at};
use crate::task::{Ids, Task};

/// Namespaces nest at most this deep below the initial one (`MAX_PID_NS_LEVEL`).
const MAX_LEVEL: u32 = 32;

/// `struct upid` (include/linux/pid.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Number {
    nr: u32,
    _padding: u32,
    namespace: u64,
}

/// The ids of a task; 0 where the namespace does not show it.
#[inline(always)]
pub fn ids(task: Task) -> Ids {
    let task = task.as_ptr() as u64;
    let leader: u64 = read_at(task, &TASK_GROUP_LEADER);
    let number = |task: u64| offwake_pid_number(read_at(task, &TASK_THREAD_PID));
    Ids { tgid: number(leader), tid: number(task) }
}

/// The number of a `struct pid` in offwake's namespace. Every pid has one in each namespace from the
/// initial one down to its own.
///
/// A function that the verifier follows once, and not for each program, call and way that leads there: with
/// its loop that took ten times as long. So its argument is a number, not a pointer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn offwake_pid_number(pid: u64) -> u32 {
    let numbers = pid + u64::from(PID_NUMBERS.load());
    for above in 0..MAX_LEVEL {
        let level = above + 1;
        // Asked again each time: if it were known before the loop, the compiler would count down from it,
        // and the verifier of 5.10 would not see an end.
        let deepest: u32 = read_at(pid, &PID_LEVEL);
        if level > deepest {
            break;
        }
        let number: Number = read(numbers + u64::from(level) * size_of::<Number>() as u64);
        let inum: u32 = read_at(number.namespace, &NAMESPACE_INUM);
        if inum == OWN_NAMESPACE.load() {
            return number.nr;
        }
    }
    0
}
