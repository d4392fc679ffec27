//! What identifies programs where the kernel's types are not known.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use offwake_shared::Loss;

use crate::maps::EXEC_IDS;
use crate::{count, task};

/// See [`offwake_shared::TaskId::exec_id`]. 0: the program that the process has run since before the
/// recording.
#[inline(always)]
pub fn exec_id(tgid: u32) -> u32 {
    // SAFETY: the value is in the map; whoever writes it at the same time writes a u32 as well.
    EXEC_IDS.get_ptr(tgid).map_or(0, |id| unsafe { *id })
}

/// The process runs another program from now on, or is another one.
#[inline(always)]
pub fn new_exec_id(tgid: u32) -> u32 {
    let now = unsafe { bpf_ktime_get_ns() };
    let id = task::exec_id_of(now) | 1;
    if EXEC_IDS.insert(tgid, id, 0).is_err() {
        count::lost(Loss::ThreadsFull);
    }
    id
}

/// The process has ended.
#[inline(always)]
pub fn forget(tgid: u32) {
    let _ = EXEC_IDS.remove(tgid);
}
