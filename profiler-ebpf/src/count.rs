//! Counters.

use offwake_shared::{Counters, Loss};

use crate::maps::COUNTERS;

/// Changes the counters of this CPU.
#[inline(always)]
pub fn with(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's; a program that interrupts this one may change it too,
        // which can cost a count only where the kernel lets tracing programs nest.
        change(unsafe { &mut *counters });
    }
}

/// Counts a loss.
#[inline(always)]
pub fn lost(loss: Loss) {
    with(|counters| counters.losses[loss as usize] += 1);
}
