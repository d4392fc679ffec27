//! Sending events to user space.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use offwake_shared::{EpollCounters, EpollHead, EpollKind, EpollThread};

use super::maps::{EPOLL_COUNTERS, EPOLL_EVENTS};

/// `BPF_RB_NO_WAKEUP`: user space looks by itself, many times a second.
const NO_WAKEUP: u64 = 1;

/// Sends an event that `fill` writes, all of it.
#[inline(always)]
pub fn event<T: 'static>(fill: impl FnOnce(*mut T)) {
    match EPOLL_EVENTS.reserve_untyped::<T>(0) {
        Some(mut entry) => {
            let place: &mut MaybeUninit<T> = &mut entry;
            fill(place.as_mut_ptr());
            entry.submit(NO_WAKEUP);
            count(|counters| counters.events += 1);
        }
        None => count(|counters| counters.lost += 1),
    }
}

/// The beginning of an event that happens now.
#[inline(always)]
pub fn head(kind: EpollKind, thread: EpollThread) -> EpollHead {
    EpollHead {
        time: unsafe { bpf_ktime_get_ns() },
        kind: kind as u32,
        // SAFETY: the helper takes nothing.
        cpu: unsafe { bpf_get_smp_processor_id() },
        thread,
    }
}

/// Changes the counters of this CPU.
#[inline(always)]
pub fn count(change: impl FnOnce(&mut EpollCounters)) {
    if let Some(counters) = EPOLL_COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `crate::count::with`.
        change(unsafe { &mut *counters });
    }
}
