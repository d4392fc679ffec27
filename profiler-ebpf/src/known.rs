//! Sending stacks to user space, each once.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use offwake_shared::{Loss, MAX_FRAMES, StackRecord};

use crate::maps::{KNOWN_STACKS, REFUSED, STACKS, STACKS_HALF, Scratch, pointer};
use crate::{count, filling};

/// Leaves it to somebody else to wake user space.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Whether user space has a stack after [`tell`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Since this moment.
    Now,
    /// Since before, or another CPU is about to send it.
    Before,
    /// There was no room.
    Not,
}

/// Sends the stack in the scratch memory, which has this id, unless user space knows it.
#[inline(always)]
pub fn tell(scratch: *mut Scratch, id: u64) -> Told {
    if KNOWN_STACKS.get_ptr(id).is_some() {
        return Told::Before;
    }
    // -EEXIST: another CPU was faster. Any other error: it is sent each time, and user space sees that it
    // has it.
    let is_noted = match KNOWN_STACKS.insert(id, 1, u64::from(BPF_NOEXIST)) {
        Ok(()) => true,
        Err(-17) => return Told::Before,
        Err(_) => false,
    };
    // SAFETY: see `Scratch`.
    let (record, frames) = unsafe {
        (*scratch).stack_id = id;
        ((&raw const (*scratch).stack_id).cast::<c_void>(), u64::from((*scratch).stack.len))
    };
    let frames = if frames > MAX_FRAMES as u64 { MAX_FRAMES as u64 } else { frames };
    let size = StackRecord::HEAD as u64 + 8 * frames;
    // SAFETY: the record begins with the id, and what is behind it is as long as the size says.
    let sent = unsafe {
        bpf_ringbuf_output(pointer(&STACKS), record.cast_mut(), size, BPF_RB_NO_WAKEUP) == 0
    };
    if !sent {
        count::lost(Loss::StacksFull);
        refused();
        if is_noted {
            forget(id);
        }
    }
    filling::of_stacks(STACKS_HALF.load());
    if sent { Told::Now } else { Told::Not }
}

/// How often a stack could not be sent, here or on other CPUs.
#[inline(always)]
pub fn refusals() -> u32 {
    // SAFETY: whoever writes it at the same time writes a u32 as well.
    REFUSED.get_ptr(0).map_or(0, |count| unsafe { count.read_volatile() })
}

/// A stack could not be sent: other CPUs may have taken it for sent.
#[inline(always)]
fn refused() {
    if let Some(count) = REFUSED.get_ptr_mut(0) {
        // SAFETY: the value is in the map. Where two CPUs count at the same time, it changes all the same.
        unsafe { count.write_volatile(count.read_volatile().wrapping_add(1)) };
    }
}

/// The next stack with this id is sent again.
#[inline(always)]
pub fn forget(id: u64) {
    let _ = KNOWN_STACKS.remove(id);
}
