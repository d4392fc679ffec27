//! Where this kernel has the members of its structures.

use anyhow::Result;

use super::btf::KernelTypes;
use super::kernel;
use crate::arch::Architecture;

/// What the BPF programs read, but for registers: constants of theirs.
pub(super) fn of_members(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let task = |member: &str| types.offset_of("task_struct", &[member]);
    let has_prev_state = types.tracepoint_arguments("sched_switch") > Some(3);
    let registers = thread_size(task("kasan_depth").is_ok()) - types.size_of("pt_regs")?;
    let regs_from_stack = if kernel::version().has_task_registers() { 0 } else { registers };
    let remembers = Architecture::OWN.facts().kernel.code.is_some();
    Ok(vec![
        ("TASK_PID", task("pid")?),
        ("TASK_TGID", task("tgid")?),
        ("TASK_FLAGS", task("flags")?),
        ("TASK_EXEC_ID", task("self_exec_id")?),
        ("TASK_START_TIME", task("start_boottime")?),
        ("TASK_STATE", task("__state").or_else(|_| task("state"))?),
        ("TASK_COMM", task("comm")?),
        ("TASK_RUNTIME", types.offset_of("task_struct", &["se", "sum_exec_runtime"])?),
        ("TASK_RUNTIME_BEFORE", types.offset_of("task_struct", &["se", "prev_sum_exec_runtime"])?),
        ("TASK_ON_CPU", task("on_cpu")?),
        ("TASK_MM", task("mm")?),
        ("MM_START_STACK", types.offset_of("mm_struct", &["start_stack"])?),
        ("TASK_GROUP_LEADER", task("group_leader")?),
        ("TASK_THREAD_PID", task("thread_pid")?),
        ("PID_LEVEL", types.offset_of("pid", &["level"])?),
        ("PID_NUMBERS", types.offset_of("pid", &["numbers"])?),
        ("NAMESPACE_INUM", types.offset_of("pid_namespace", &["ns", "inum"])?),
        ("HAS_PREV_STATE", u32::from(has_prev_state)),
        ("TASK_STACK", task("stack")?),
        ("REGS_FROM_STACK", regs_from_stack),
        ("KERNEL_STACK_TOP", if remembers { registers } else { 0 }),
    ])
}

/// `THREAD_SIZE`, bytes of a kernel stack: 4 pages of 4 KiB, twice that with KASAN, and at least
/// a page (arch/x86/include/asm/page_64_types.h, arch/arm64/include/asm/memory.h). KASAN by tags of the
/// hardware needs no more; it has no `task_struct::kasan_depth` either (include/linux/sched.h, since 5.12).
fn thread_size(has_kasan: bool) -> u32 {
    // SAFETY: takes no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u32;
    page.max(16384) << u32::from(has_kasan)
}
