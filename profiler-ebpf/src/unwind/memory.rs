//! Reading the stack that is walked.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use super::Walk;

/// How many words are read where one is wanted: the next frames are mostly small, and to ask the helper for each takes
/// longer. A power of two.
const AHEAD: usize = 64;

/// Words of the stack that is walked.
#[repr(C)]
pub struct Ahead {
    /// Where the first one is; 0: nothing was read.
    start: u64,
    words: [u64; AHEAD],
}

impl Ahead {
    /// A walk begins.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.start = 0;
    }
}

/// Reads `N` words into the first ones, not more than there are.
#[inline(always)]
pub fn read<const N: usize>(walk: &mut Walk, address: u64) -> bool {
    let mut at = address.wrapping_sub(walk.ahead.start);
    if walk.ahead.start == 0 || at > 8 * (AHEAD - N) as u64 || at & 7 != 0 {
        walk.ahead.start = 0;
        // SAFETY: the helper checks the address, and writes as many bytes as the value has.
        let error = unsafe {
            let words = (&raw mut walk.ahead.words).cast::<c_void>();
            bpf_probe_read_user(words, 8 * AHEAD as u32, address as *const c_void)
        };
        if error != 0 {
            // The end of the stack may be near.
            return read_exactly::<N>(walk, address);
        }
        walk.ahead.start = address;
        at = 0;
    }
    let at = black_box(at as usize >> 3);
    for i in 0..N {
        walk.words[i] = walk.ahead.words[(at + i) & (AHEAD - 1)];
    }
    true
}

#[inline(always)]
fn read_exactly<const N: usize>(walk: &mut Walk, address: u64) -> bool {
    const { assert!(N <= crate::arch::WORDS) };
    // SAFETY: the helper checks the address, and there is room for as many words.
    let error = unsafe {
        let words = walk.words.as_mut_ptr().cast::<c_void>();
        bpf_probe_read_user(words, 8 * N as u32, address as *const c_void)
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
