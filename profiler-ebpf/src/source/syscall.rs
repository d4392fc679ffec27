//! In which system call a thread sleeps, and with which arguments.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use super::maps::SOURCE_SCRATCH;
use super::offsets::SYSCALL_ARGUMENT_0;
use crate::arch;
use crate::maps::{REGS_ARGUMENT_1, REGS_FROM_STACK, TASK_STACK};
use crate::memory::read_at;

/// The system calls that wait for something that has a name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Call {
    /// `epoll_wait` and its variants, on the descriptor in the first argument.
    Epoll,
    /// `poll`, `select` and their variants.
    Poll,
    /// One that waits for the descriptor in its first argument.
    Descriptor,
    /// `futex`: the address is the first argument, the operation the second.
    Futex,
    /// `futex_wait`: the address is the first argument.
    FutexWait,
    /// Another one, or none.
    Other,
}

/// Where the registers of a thread's program are on its kernel stack.
///
/// From 5.15 on the kernel tells of the current thread, in [`bpf_task_pt_regs`], and it is the same in all.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_registers(task: u64) -> u64 {
    let stack: u64 = read_at(task, &TASK_STACK);
    if REGS_FROM_STACK.load() != 0 {
        return stack.wrapping_add(u64::from(REGS_FROM_STACK.load()));
    }
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the helpers return the current task and its registers; the field is there. It is written and
    // read as memory, since the verifier does not let pointers be subtracted as numbers.
    let (current, registers) = unsafe {
        let current = bpf_get_current_task_btf();
        let field = &raw mut (*scratch).number;
        field.write_volatile(bpf_task_pt_regs(current.cast::<task_struct>()) as u64);
        let registers = field.read_volatile();
        field.write_volatile(current as u64);
        (field.read_volatile(), registers)
    };
    let from_stack = registers.wrapping_sub(read_at(current, &TASK_STACK));
    stack.wrapping_add(from_stack)
}

/// The [`Call`] that a thread with these registers is in.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_call(registers: u64) -> u32 {
    arch::call(registers) as u32
}

/// Whether a thread in [`Call::Futex`] waits, and does not wake others.
#[inline(always)]
pub fn waits_for_futex(registers: u64) -> bool {
    // FUTEX_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2 (include/uapi/linux/futex.h)
    matches!(argument_1(registers) & 0x7f, 0 | 6 | 9 | 11 | 13)
}

/// The first argument.
#[inline(always)]
pub fn argument_0(registers: u64) -> u64 {
    read_at(registers, &SYSCALL_ARGUMENT_0)
}

/// The second argument.
#[inline(always)]
pub fn argument_1(registers: u64) -> u64 {
    read_at(registers, &REGS_ARGUMENT_1)
}
