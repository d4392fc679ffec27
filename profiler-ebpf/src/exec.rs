//! The entry point that all flavours share.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::HAS_TYPES;
use crate::{notice, untyped};

/// `sched_process_exec(p, old_pid, bprm)` at the end of `execve` (`exec_binprm` in fs/exec.c); the current thread is
/// `p`, and has its new program mapped.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn raw_exec(_ctx: RawTracePointContext) -> i32 {
    if HAS_TYPES.load() == 0 {
        untyped::new_exec_id((bpf_get_current_pid_tgid() >> 32) as u32);
    }
    notice::executed();
    0
}
