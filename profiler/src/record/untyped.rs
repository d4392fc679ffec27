//! The threads that exist, by `/proc`: where the kernel's types are not known, BPF cannot tell.

use hashbrown::HashMap;
use offwake_shared::{
    ExistingThread, MAX_FRAMES, Stack, StackContext, TASK_KERNEL_THREAD, TaskId, UserRegisters,
};

use super::Filter;
use crate::snapshot::process;
use crate::symbolize::kallsyms;

/// The threads that pass the filter, except for its cgroup. They have no registers, and thus no user
/// stacks.
pub(super) fn existing_threads(filter: &Filter) -> Vec<ExistingThread> {
    let own = std::process::id();
    let pids = match filter.pids.is_empty() {
        true => process::all(),
        false => filter.pids.clone(),
    };
    let mut found = Vec::new();
    for pid in pids.into_iter().filter(|&pid| pid != own) {
        for tid in process::threads(pid).unwrap_or_default() {
            if filter.tids.is_empty() || filter.tids.contains(&tid) {
                found.extend(existing_thread(pid, tid, filter));
            }
        }
    }
    add_kernel_stacks(&mut found);
    found
}

fn existing_thread(pid: u32, tid: u32, filter: &Filter) -> Option<ExistingThread> {
    // A thread that ends meanwhile does not wait.
    let name = process::comm(tid).ok()?;
    if filter.comm.as_ref().is_some_and(|comm| *comm != name) {
        return None;
    }
    let comm = process::comm_bytes(tid).ok()?;
    let letter = process::state(tid)?;
    let flags = if process::is_kernel_thread(tid) { TASK_KERNEL_THREAD } else { 0 };
    let (context, frames) = (StackContext::Kernel as u32, [0; MAX_FRAMES]);
    Some(ExistingThread {
        task: TaskId { tgid: pid, tid, exec_id: 0, flags, comm },
        start_stack: 0,
        registers: UserRegisters::default(),
        state: state_bits(letter),
        on_cpu: u32::from(letter == b'R'),
        key: tid,
        reserved: 0,
        kernel: Stack { tgid: 0, exec_id: 0, len: 0, end: 0, context, frames },
    })
}

/// `/proc` names the functions of a kernel stack; a recording has addresses.
fn add_kernel_stacks(threads: &mut [ExistingThread]) {
    let stacks: Vec<_> = threads.iter().map(|thread| process::kernel_stack(thread.key)).collect();
    let mut addresses: HashMap<&str, u64> =
        stacks.iter().flatten().map(|(name, _)| (name.as_str(), 0)).collect();
    // Without the table there are no stacks.
    let _ = kallsyms::for_each_function(|address, name| {
        if let Some(known) = addresses.get_mut(name) {
            *known = address;
        }
    });
    for (thread, stack) in threads.iter_mut().zip(&stacks) {
        let frames = stack.iter().map(|(name, offset)| (addresses[name.as_str()], offset));
        // Functions of modules are not in the table's first part.
        let known = frames.filter(|&(address, _)| address != 0);
        for (frame, (address, offset)) in thread.kernel.frames.iter_mut().zip(known) {
            *frame = address + offset;
            thread.kernel.len += 1;
        }
    }
}

/// The bits of the task state that `ps` shows as this letter (`task_state_array` in fs/proc/array.c).
const fn state_bits(letter: u8) -> u32 {
    match letter {
        b'R' => 0,
        b'S' => 0x1,
        b'D' => 0x2,
        b'T' => 0x4,
        b't' => 0x8,
        b'P' => 0x40,
        b'I' => 0x402,
        // Dead, or a zombie.
        _ => 0x80,
    }
}
