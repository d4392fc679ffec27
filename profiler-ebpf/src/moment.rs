//! The time of an event, which is read only if somebody wants to know it.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// When the program began, or a few ns later.
pub struct Moment(u64);

impl Moment {
    /// Not read yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// In ns; the same each time.
    #[inline(always)]
    pub fn ns(&mut self) -> u64 {
        if self.0 == 0 {
            self.0 = unsafe { bpf_ktime_get_ns() };
        }
        self.0
    }
}
