//! Which threads are recorded.

use aya_ebpf::helpers::bpf_get_current_comm;
use offwake_shared::{Loss, filter};

use crate::count;
use crate::maps::{
    FILTER, FOLLOW, ONLY_TGID, OWN_TGID, TARGET_CGROUP, TARGET_COMM_HIGH, TARGET_COMM_LOW,
    TARGET_PIDS, TARGET_TIDS,
};
use crate::task::Ids;

/// Whether a thread is recorded: the current one, or one that it is creating, which shares its
/// name and its cgroup.
#[inline(always)]
pub fn is_target(ids: Ids) -> bool {
    passes(ids, || bpf_get_current_comm().unwrap_or_default()) && is_in_cgroup()
}

/// Whether the current thread is in the cgroup to record.
#[inline(always)]
pub fn is_in_cgroup() -> bool {
    FILTER.load() & filter::CGROUP == 0 || TARGET_CGROUP.current_task_under_cgroup(0) == Ok(true)
}

/// Whether a thread passes the filter, as far as its cgroup does not matter. `comm`: its name.
#[inline(always)]
pub fn passes(Ids { tgid, tid }: Ids, comm: impl FnOnce() -> [u8; 16]) -> bool {
    let filter = FILTER.load();
    tid != 0
        && tgid != OWN_TGID.load()
        && (filter & filter::PIDS == 0 || is_target_process(tgid))
        && (filter & filter::TIDS == 0 || TARGET_TIDS.get_ptr(tid).is_some())
        && (filter & filter::COMM == 0 || is_target_comm(&comm()))
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
    (only == 0 || tgid == only) && TARGET_PIDS.get_ptr(tgid).is_some()
}

#[inline(always)]
fn is_target_comm(comm: &[u8; 16]) -> bool {
    let word = |from: usize| {
        u64::from_le_bytes([
            comm[from],
            comm[from + 1],
            comm[from + 2],
            comm[from + 3],
            comm[from + 4],
            comm[from + 5],
            comm[from + 6],
            comm[from + 7],
        ])
    };
    word(0) == TARGET_COMM_LOW.load() && word(8) == TARGET_COMM_HIGH.load()
}
