//! Wait queues.

use super::offsets::QUEUE_LOCK;
use crate::memory::read;

/// Whether somebody holds the lock of a `wait_queue_head`, as whoever wakes a thread through it does
/// (`__wake_up_common_lock` in kernel/sched/wait.c, and the callers of `__wake_up_locked_key`): 1 if so. A
/// number, and a global function, so that the verifier has no paths to follow in those that ask in a loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_is_locked(queue: u64) -> u32 {
    let how = QUEUE_LOCK.load();
    if how == 1 {
        return u32::from(read::<u32>(queue) != 0);
    }
    // The lowest bit says that there are others who wait for the lock.
    u32::from(how != 0 && read::<u64>(queue.wrapping_add(u64::from(how))) & !1 != 0)
}
