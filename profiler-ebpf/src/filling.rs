//! Waking the thread of user space that drains the maps, before one is full.

use aya_ebpf::helpers::generated::bpf_ringbuf_query;

use crate::maps::{FILLING, STACKS, WAITS_MASK, pointer};

/// `BPF_RB_AVAIL_DATA` (include/uapi/linux/bpf.h).
const AVAILABLE: u64 = 0;

/// The ring of stacks was written to, which is half full at so many bytes.
#[inline(always)]
pub fn of_stacks(half: u64) {
    // SAFETY: the map is a ring buffer.
    if unsafe { bpf_ringbuf_query(pointer(&STACKS), AVAILABLE) } >= half {
        tell();
    }
}

/// This CPU has put so many waits into the maps.
#[inline(always)]
pub fn of_waits(count: u64) {
    if count & WAITS_MASK.load() == 0 {
        tell();
    }
}

#[inline(always)]
fn tell() {
    // SAFETY: the map is a ring buffer.
    if unsafe { bpf_ringbuf_query(pointer(&FILLING), AVAILABLE) } == 0 {
        let _ = FILLING.output(1, 0);
    }
}
