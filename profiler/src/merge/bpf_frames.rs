//! The frames of BPF itself, which are the innermost of every kernel stack that BPF takes.

use crate::profile::Frame;

/// No known way from a traced function into a BPF helper is deeper.
const MAX_DEPTH: usize = 8;

/// How many frames at the innermost end of a kernel stack belong to tracing. `stack` is
/// innermost first.
///
/// Frames without a name (programs that kallsyms does not show) are counted when a known one is
/// outside of them.
pub(super) fn count(stack: &[&Frame]) -> usize {
    let frames = stack
        .iter()
        .take(MAX_DEPTH)
        // A thread can also sleep *in* the kernel's BPF or perf code: that is outside of these.
        .take_while(|frame| !frame.name.as_deref().is_some_and(is_traced))
        .enumerate()
        .filter(|(_, frame)| is_tracing(frame))
        .last()
        .map_or(0, |(index, _)| index + 1);
    // Where a kprobe stands. The other kinds of probe stand in its caller: with all of them a wait has the
    // same stack.
    let stands_in = stack.get(frames).and_then(|frame| frame.name.as_deref());
    frames + usize::from(stands_in.is_some_and(|name| base(name) == "finish_task_switch"))
}

/// A function of the scheduler in which a probe can stand.
fn is_traced(name: &str) -> bool {
    matches!(
        base(name),
        "__schedule"
            | "schedule"
            | "finish_task_switch"
            | "schedule_tail"
            | "try_to_wake_up"
            | "ttwu_do_activate"
            | "wake_up_new_task"
    )
}

/// A function's name without the suffixes of its compiler: `finish_task_switch.isra.0`.
fn base(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn is_tracing(frame: &Frame) -> bool {
    let Some(name) = &frame.name else { return false };
    is_program(name)
        || numbered(name, "bpf_trampoline_")
        || numbered(name, "bpf_trace_run")
        || [
            "__bpf_trace_",
            "__traceiter_",
            "__probestub_",
            "perf_trace_",
            "trace_call_bpf",
            "perf_call_bpf",
            "bpf_dispatcher_",
            "bpf_get_stack",
            "__bpf_get_stack",
            "____bpf_get_stack",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// `bpf_prog_TAG` or `bpf_prog_TAG_NAME` with a tag of 16 hexadecimal digits, as `bpf_get_prog_name`
/// (kernel/bpf/core.c, 5.10 to 6.18) makes it; not a function of the kernel such as `bpf_prog_load`.
fn is_program(name: &str) -> bool {
    name.strip_prefix("bpf_prog_").is_some_and(|rest| {
        let tag = rest.split('_').next().unwrap_or(rest);
        tag.len() == 16 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// `prefix` and then a number; not a function of the kernel such as `bpf_trampoline_link_prog`.
fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}
