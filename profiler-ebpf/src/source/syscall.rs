//! In which system call a thread sleeps, and with which arguments.

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;

use super::maps::SourceScratch;
use super::offsets::SYSCALL_ARGUMENT_0;
use crate::maps::{REGS_ARGUMENT_1, REGS_FROM_STACK, TASK_STACK};
use crate::memory::read_at;

/// The system calls that wait for something that has a name.
#[derive(Clone, Copy, PartialEq, Eq)]
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
#[inline(always)]
pub fn registers(task: u64, scratch: &mut SourceScratch) -> u64 {
    let stack: u64 = read_at(task, &TASK_STACK);
    if REGS_FROM_STACK.load() != 0 {
        return stack.wrapping_add(u64::from(REGS_FROM_STACK.load()));
    }
    // SAFETY: the helpers return the current task and its registers; the field is there. It is written and
    // read as memory, since the verifier does not let pointers be subtracted as numbers.
    let (current, registers) = unsafe {
        let current = bpf_get_current_task_btf();
        let field = &raw mut scratch.number;
        field.write_volatile(bpf_task_pt_regs(current.cast::<task_struct>()) as u64);
        let registers = field.read_volatile();
        field.write_volatile(current as u64);
        (field.read_volatile(), registers)
    };
    let from_stack = registers.wrapping_sub(read_at(current, &TASK_STACK));
    stack.wrapping_add(from_stack)
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
