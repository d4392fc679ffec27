//! Reading the stack that is walked.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use super::Walk;

/// Reads `bytes` bytes into the first words, not more than there are.
#[inline(always)]
pub fn read(walk: &mut Walk, address: u64, bytes: u32) -> bool {
    // SAFETY: the helper checks the address, and no caller wants more than there is room for.
    let error = unsafe {
        let words = walk.words.as_mut_ptr().cast::<c_void>();
        bpf_probe_read_user(words, bytes, address as *const c_void)
    };
    error == 0
}

/// Reads a word.
#[inline(always)]
pub fn read_word(address: u64) -> Option<u64> {
    let mut word = 0u64;
    // SAFETY: the helper checks the address, and writes as many bytes as the value has.
    let error = unsafe {
        bpf_probe_read_user((&raw mut word).cast::<c_void>(), 8, address as *const c_void)
    };
    (error == 0).then_some(word)
}
