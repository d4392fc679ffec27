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
    Ids { tgid: number(leader), tid: number(task) }
}

/// Every pid has a number in each namespace from the initial one down to its own.
#[inline(never)]
fn number(task: u64) -> u32 {
    let pid: u64 = read_at(task, &TASK_THREAD_PID);
    let level: u32 = read_at(pid, &PID_LEVEL);
    let numbers = pid + u64::from(PID_NUMBERS.load());
    for above in 0..MAX_LEVEL {
        if above >= level {
            break;
        }
        let number: Number = read(numbers + u64::from(above + 1) * size_of::<Number>() as u64);
        let inum: u32 = read_at(number.namespace, &NAMESPACE_INUM);
        if inum == OWN_NAMESPACE.load() {
            return number.nr;
        }
    }
    0
}
