//! Where `offwake epoll` stands: at tracepoints alone, which every kernel has that has BTF.

use anyhow::{Result, ensure};

use super::hooks::{Hook, Point};
use crate::record::btf::KernelTypes;

/// The programs and their tracepoints, in the order in which to attach them.
const TRACEPOINTS: [(&str, &str); 6] = [
    ("epoll_softirq_entry", "softirq_entry"),
    ("epoll_softirq_exit", "softirq_exit"),
    ("epoll_exit", "sys_exit"),
    ("epoll_switch", "sched_switch"),
    ("epoll_waking", "sched_waking"),
    // Last: a wait that is seen to begin must be seen to end.
    ("epoll_enter", "sys_enter"),
];

/// What to attach.
///
/// # Errors
/// When this kernel lacks a tracepoint.
pub(in crate::record) fn hooks(types: &KernelTypes) -> Result<Vec<Hook>> {
    for (_, name) in TRACEPOINTS {
        ensure!(
            types.tracepoint_arguments(name).is_some(),
            "this kernel has no tracepoint {name}, which offwake epoll needs"
        );
    }
    Ok(TRACEPOINTS.map(|(program, name)| Hook { program, point: Point::Btf(name) }).into())
}
