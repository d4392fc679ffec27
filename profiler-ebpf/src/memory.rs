//! Reading the kernel's memory.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// The value at an address; 0 where it cannot be read. An `Option` would be more honest, but the compiler
/// then copies values that were never written, which the verifier forbids.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address, and writes as many bytes as the value has: zeros
    // where it fails.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast::<c_void>(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
    }
    value
}

/// The value at an offset that user space has set, from `base` on; see [`read`].
#[inline(always)]
pub fn read_at<T: Copy + Default>(base: u64, offset: &Global<u32>) -> T {
    read(base + u64::from(offset.load()))
}
