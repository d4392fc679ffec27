//! The BPF programs of offwake.
//!
//! An interval begins when a thread is switched out ([`wait::begin`]), is given its waker while
//! the thread sleeps ([`wake::record`]), and ends when the thread is switched in ([`wait::end`]),
//! which adds it to the waits of its key. User space reads the sums.

#![no_std]
#![no_main]

mod arch;
mod btf;
mod context;
mod count;
mod epoll;
mod exec;
mod existing;
mod filling;
mod known;
mod kprobe;
mod maps;
mod marks;
mod memory;
mod namespace;
mod notice;
mod remember;
mod sample;
mod source;
mod stack;
mod target;
mod task;
mod tracepoint;
mod untyped;
mod unwind;
mod wait;
mod wake;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that no panic is reachable.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
