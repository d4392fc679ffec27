//! Which threads are recorded.

use offwake_shared::{Loss, Mark, comm_words, filter};

use crate::maps::{
    FILTER, FOLLOW, HAS_TYPES, ONLY_TGID, OWN_NAMESPACE, OWN_TGID, TARGET_CGROUP, TARGET_COMM_HIGH,
    TARGET_COMM_LOW, TARGET_COMM_MASK_HIGH, TARGET_COMM_MASK_LOW, TARGET_PIDS, TARGET_TIDS,
};
use crate::task::{self, Ids, Task};
use crate::{count, marks};

/// Whether a thread is recorded: the current one, or one that it is creating, which shares its
/// name and its cgroup.
#[inline(always)]
pub fn is_target(ids: Ids) -> bool {
    passes(ids, || Task::current().comm()) && is_in_cgroup()
}

/// As [`is_target`], of the current thread, `current`, without asking helpers for what its task tells.
#[inline(always)]
pub fn is_current_target(current: Task) -> bool {
    if HAS_TYPES.load() == 0 {
        return is_target(task::current_ids(current));
    }
    (FILTER.load() & filter::COMM == 0 || has_target_comm(current))
        && passes_ids(task::ids(current))
        && is_in_cgroup()
}

/// The process to record, if it is the only one and a task tells whether it is of it; else 0. No thread of another
/// one is ever known.
#[inline(always)]
pub fn only_process() -> u32 {
    if HAS_TYPES.load() != 0 && OWN_NAMESPACE.load() == 0 { ONLY_TGID.load() } else { 0 }
}

/// Whether the current thread is in the cgroup to record.
#[inline(always)]
pub fn is_in_cgroup() -> bool {
    FILTER.load() & filter::CGROUP == 0 || TARGET_CGROUP.current_task_under_cgroup(0) == Ok(true)
}

/// Whether a thread passes the filter, as far as its cgroup does not matter. `comm`: its name.
#[inline(always)]
pub fn passes(ids: Ids, comm: impl FnOnce() -> [u8; 16]) -> bool {
    passes_ids(ids) && (FILTER.load() & filter::COMM == 0 || is_target_comm(comm()))
}

#[inline(always)]
fn passes_ids(Ids { tgid, tid }: Ids) -> bool {
    let filter = FILTER.load();
    tid != 0
        && tgid != OWN_TGID.load()
        && (filter & filter::PIDS == 0 || is_target_process(tgid))
        && (filter & filter::TIDS == 0 || is_target_thread(tid))
}

/// A thread has got its ids from the process `creator`. Whoever had them before is gone.
#[inline(always)]
pub fn born(Ids { tgid, tid }: Ids, creator: u32) {
    let filter = FILTER.load();
    if filter & filter::TIDS != 0 {
        let _ = TARGET_TIDS.remove(tid);
    }
    if filter & filter::PIDS == 0 || tgid != tid {
        return;
    }
    if FOLLOW.load() != 0 && is_target_process(creator) {
        marks::set(tgid, Mark::Target);
        if TARGET_PIDS.insert(tgid, 1, 0).is_err() {
            count::lost(Loss::ThreadsFull);
        }
    } else {
        let _ = TARGET_PIDS.remove(tgid);
    }
}

/// Whether a process is among those to record.
#[inline(always)]
pub fn is_target_process(tgid: u32) -> bool {
    let only = ONLY_TGID.load();
    (if only != 0 { tgid == only } else { marks::has(tgid, Mark::Target) })
        && TARGET_PIDS.get_ptr(tgid).is_some()
}

#[inline(always)]
fn is_target_thread(tid: u32) -> bool {
    marks::has(tid, Mark::Target) && TARGET_TIDS.get_ptr(tid).is_some()
}

#[inline(always)]
fn is_target_comm(comm: [u8; 16]) -> bool {
    let [low, high] = comm_words(comm);
    low == TARGET_COMM_LOW.load() && high == TARGET_COMM_HIGH.load()
}

/// As [`is_target_comm`], of the task's own memory: behind the name there may be leftovers (up to 5.16).
#[inline(always)]
fn has_target_comm(task: Task) -> bool {
    let [low, high] = task.comm_words();
    low & TARGET_COMM_MASK_LOW.load() == TARGET_COMM_LOW.load()
        && high & TARGET_COMM_MASK_HIGH.load() == TARGET_COMM_HIGH.load()
}
