//! The threads that exist when the recording begins: an iterator over all tasks (5.8+).

use core::ffi::c_void;

use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::{bpf_get_task_stack, bpf_seq_write};
use offwake_shared::{ExistingThread, MAX_FRAMES, StackContext};

use crate::maps::EXISTING;
use crate::task::Task;
use crate::{target, task};

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
struct Context {
    /// To a `struct bpf_iter_meta` (include/linux/bpf.h), which begins with a pointer to a `seq_file`. Not a
    /// type of its own: LLVM writes those that only pointers name into the BTF in the order of their
    /// addresses in its memory, and with two of them no build would be as the last.
    meta: *const *mut c_void,
    /// Null behind the last task.
    task: *const task_struct,
}

/// Writes a thread that passes the filter, but for its cgroup.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn existing(ctx: *const Context) -> i32 {
    // SAFETY: the kernel passes a context, and a task in it until the end.
    let task = unsafe { (*ctx).task };
    if task.is_null() {
        return 0;
    }
    let task = Task::new(task);
    let (ids, comm) = (task::ids(task), task.comm());
    if !target::passes(ids, || comm) {
        return 0;
    }
    let Some(value) = EXISTING.get_ptr_mut(0) else { return 0 };
    // SAFETY: one iterator runs at a time.
    let value = unsafe { &mut *value };
    value.key = task.tid();
    value.task = task.id_named(ids, comm);
    value.start_stack = task.start_stack();
    value.state = task.state();
    value.on_cpu = u32::from(task.is_on_cpu());
    value.kernel.tgid = 0;
    value.kernel.exec_id = 0;
    value.kernel.context = StackContext::Kernel as u32;
    let frames = value.kernel.frames.as_mut_ptr().cast::<c_void>();
    value.registers = task.user_registers();
    // SAFETY: the task is the kernel's, and the buffer has the size that is passed.
    unsafe {
        let task = task.as_ptr().cast_mut();
        let bytes = bpf_get_task_stack(task, frames, (8 * MAX_FRAMES) as u32, 0);
        value.kernel.len = if bytes > 0 { (bytes >> 3) as u16 } else { 0 };
        // What does not fit is asked for again by the kernel.
        bpf_seq_write(
            (*(*ctx).meta).cast(),
            (value as *const ExistingThread).cast::<c_void>(),
            size_of::<ExistingThread>() as u32,
        );
    }
    0
}
