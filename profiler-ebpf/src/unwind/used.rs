//! What a walk has used: of the stack, and of the registers that it began with.

use core::hint::black_box;

use crate::remember::{MAX_DEPTH, MAX_WORDS};

/// The words, and the registers. A saved register counts once it leads on: what a function has saved of registers
/// that its callers use for anything else changes all the time.
#[repr(C)]
pub struct Used {
    /// The stack pointer at the start.
    start: u64,
    /// Where the present frame pointer was read: [`AT_START`], [`Self::COUNTED`], or an address.
    fp_at: u64,
    /// The same of the other register that is followed.
    other_at: u64,
    /// All bits are set if the frame pointer at the start was used.
    pub fp_mask: u64,
    /// The same of the other register.
    pub other_mask: u64,
    /// How many words.
    pub len: u32,
    /// 1: the same words need not give the same stack.
    pub is_uncertain: u32,
    /// Bytes up to the last of the words.
    pub bytes: u32,
    reserved: u32,
    pub values: [u64; MAX_WORDS],
    /// In bytes from the start.
    pub offsets: [u16; MAX_WORDS],
}

/// A register still has the value that the walk began with.
const AT_START: u64 = 0;

impl Used {
    /// A register has a value that is counted already, or that depends on nothing.
    pub const COUNTED: u64 = 1;

    /// A walk begins.
    #[inline(always)]
    pub fn begin(&mut self, sp: u64) {
        self.start = sp;
        self.fp_at = AT_START;
        self.other_at = AT_START;
        self.fp_mask = 0;
        self.other_mask = 0;
        self.len = 0;
        self.is_uncertain = 0;
        self.bytes = 0;
    }

    /// Counts a word of the stack.
    #[inline(always)]
    pub fn word(&mut self, address: u64, value: u64) {
        let offset = address.wrapping_sub(self.start);
        // The last one of those that can be looked at is left out: see `offwake_compare_user`.
        let is_far = offset & 7 != 0 || offset >= 8 * (MAX_DEPTH as u64 - 1);
        let is_full = self.len as usize >= MAX_WORDS - 1;
        if is_far || is_full {
            self.is_uncertain = 1;
            return;
        }
        let to = black_box(self.len as usize) & (MAX_WORDS - 1);
        self.values[to] = value;
        self.offsets[to] = offset as u16;
        self.len += 1;
        let behind = offset as u32 + 8;
        if behind > self.bytes {
            self.bytes = behind;
        }
    }

    /// The frame pointer, with this value, leads on.
    #[inline(always)]
    pub fn fp(&mut self, value: u64) {
        let at = self.fp_at;
        if at == AT_START {
            self.fp_mask = u64::MAX;
        } else if at != Self::COUNTED {
            self.word(at, value);
        }
        self.fp_at = Self::COUNTED;
    }

    /// The same of the other register.
    #[inline(always)]
    pub fn other(&mut self, value: u64) {
        let at = self.other_at;
        if at == AT_START {
            self.other_mask = u64::MAX;
        } else if at != Self::COUNTED {
            self.word(at, value);
        }
        self.other_at = Self::COUNTED;
    }

    /// From here on the frame pointer is the one that was read at this address. `None`: it stays what it was.
    #[inline(always)]
    pub fn fp_at(&mut self, address: Option<u64>) {
        if let Some(at) = address {
            self.fp_at = at;
        }
    }

    /// The same of the other register.
    #[cfg(not(bpf_target_arch = "aarch64"))]
    #[inline(always)]
    pub fn other_at(&mut self, address: Option<u64>) {
        if let Some(at) = address {
            self.other_at = at;
        }
    }

    /// What cannot be told by words.
    #[inline(always)]
    pub fn uncertain(&mut self) {
        self.is_uncertain = 1;
    }
}
