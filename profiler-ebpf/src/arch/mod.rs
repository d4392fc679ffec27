//! What the programs assume of the architecture of their machine: a file for each. Every build is for
//! one, which `cargo xtask bpf` names.
//!
//! Each has the same functions: where the registers of a thread are while it is in the kernel, how to get
//! from the registers of one frame to those of its caller, what of a return address is an address, and what the kernel's
//! unwinder misses or finds twice.

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64;
#[cfg(not(bpf_target_arch = "aarch64"))]
mod x86_64;

#[cfg(bpf_target_arch = "aarch64")]
pub use self::aarch64::{
    EPOLL_EVENT, FOUND_TWICE, WORDS, address, before_signal, by_frame_pointer, call, code_address,
    entry, of_caller, syscall, user_registers,
};
#[cfg(not(bpf_target_arch = "aarch64"))]
pub use self::x86_64::{
    EPOLL_EVENT, FOUND_TWICE, WORDS, address, before_signal, by_frame_pointer, call, code_address,
    entry, of_caller, syscall, user_registers,
};
