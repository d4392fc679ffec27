//! Telling what ends waits: where this kernel has what tells of files, sockets and epoll instances, and by
//! which functions it wakes threads.

use anyhow::{Context, Result};
use offwake_shared::SourceDetail;

use super::btf::KernelTypes;
use super::probe::{Hook, has_kprobes};
use super::{Config, ProbeChoice};
use crate::symbolize::kallsyms;

/// How it is known which of several descriptors of an epoll instance, or of `poll`, was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// By what the kernel has queued, and by the wait queue that is locked as the thread is woken.
    Tracepoints,
    /// By the arguments of `ep_poll_callback` and `pollwake`, and where those were not seen, as above.
    Kprobes,
}

impl Method {
    /// The one to use; `None`: nobody wants to know.
    pub(super) fn choose(config: &Config) -> Option<Self> {
        if config.wake_source == SourceDetail::Off {
            return None;
        }
        Some(match config.probe {
            ProbeChoice::Btf | ProbeChoice::Tracepoint => Self::Tracepoints,
            ProbeChoice::Auto | ProbeChoice::Kprobe => Self::of_kernel(),
        })
    }

    /// The best that this kernel has.
    pub(super) fn of_kernel() -> Self {
        if can_probe() { Self::Kprobes } else { Self::Tracepoints }
    }

    /// The programs that it takes, beside those that record wake-ups.
    pub(super) fn hooks(self) -> Vec<Hook> {
        match self {
            Self::Tracepoints => Vec::new(),
            Self::Kprobes => vec![
                Hook::at_function("callback_epoll", EPOLL_CALLBACK.into()),
                Hook::at_function("callback_poll", POLL_CALLBACK.into()),
            ],
        }
    }

    /// The name in every output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tracepoints => "tracepoints",
            Self::Kprobes => "kprobes",
        }
    }

    /// See [`crate::recording::Meta::wake_source`].
    pub(super) fn describe(self, detail: SourceDetail) -> String {
        format!("{} ({})", detail.name(), self.name())
    }
}

/// Called for each wait of an epoll instance, and of `poll` and `select`: by pointer, so that no compiler
/// makes them disappear.
const EPOLL_CALLBACK: &str = "ep_poll_callback";
const POLL_CALLBACK: &str = "pollwake";

/// Whether the functions can be probed: each is there, and whole.
fn can_probe() -> bool {
    let wanted = [EPOLL_CALLBACK, POLL_CALLBACK];
    let are_whole = |found: Vec<Option<String>>| {
        found.iter().zip(wanted).all(|(found, wanted)| found.as_deref() == Some(wanted))
    };
    has_kprobes() && kallsyms::find(&wanted).is_ok_and(are_whole)
}

/// Functions in the stack of who wakes a thread that tell why (profiler-ebpf/src/source/reason.rs): the
/// constants of each, and its names in the kernels that have it.
const FUNCTIONS: [([&str; 2], &[&str]); 13] = [
    (["TIMEOUT_START_0", "TIMEOUT_LEN_0"], &["hrtimer_wakeup"]),
    (["TIMEOUT_START_1", "TIMEOUT_LEN_1"], &["process_timeout"]),
    (["SIGNAL_START_0", "SIGNAL_LEN_0"], &["signal_wake_up_state"]),
    (["SIGNAL_START_1", "SIGNAL_LEN_1"], &["complete_signal"]),
    // Before 5.18 the other.
    (["SIGNAL_START_2", "SIGNAL_LEN_2"], &["__send_signal_locked", "__send_signal"]),
    (["SIGNAL_START_3", "SIGNAL_LEN_3"], &["zap_other_threads"]),
    (["WORK_START_0", "WORK_LEN_0"], &["task_work_add"]),
    (["EPOLL_START_0", "EPOLL_LEN_0"], &[EPOLL_CALLBACK]),
    (["POLL_START_0", "POLL_LEN_0"], &[POLL_CALLBACK]),
    (["WAKE_UP_START_0", "WAKE_UP_LEN_0"], &["try_to_wake_up"]),
    (["WAKE_UP_START_1", "WAKE_UP_LEN_1"], &["wake_up_process"]),
    // Where the first is inlined, the others.
    (["TIMER_START_0", "TIMER_LEN_0"], &["call_timer_fn", "expire_timers", "__run_timers"]),
    // Before 6.11 the other (and in some of the stable kernels before).
    (["SOFTIRQ_START", "SOFTIRQ_LEN"], &["handle_softirqs", "__do_softirq"]),
];

/// Where those functions are: constants of the BPF programs.
///
/// # Errors
/// When the table of symbols cannot be read, or lacks the end of a timer: without that a timeout would pass for
/// what the thread waited for.
pub(super) fn functions(detail: SourceDetail) -> Result<Vec<(&'static str, u64)>> {
    if detail == SourceDetail::Off {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = FUNCTIONS.iter().flat_map(|(_, names)| *names).copied().collect();
    let ranges = kallsyms::ranges(&names)?;
    let mut found = names.iter().zip(ranges);
    let mut constants = Vec::new();
    for ([start, len], names) in FUNCTIONS {
        // All of them: the next function's follow.
        let ranges: Vec<_> = found.by_ref().take(names.len()).collect();
        let range = ranges.into_iter().find_map(|(_, range)| range);
        // The rest may be inlined into the others.
        let needed = ["hrtimer_wakeup", "process_timeout", EPOLL_CALLBACK, POLL_CALLBACK];
        match range {
            Some(range) => {
                constants.push((start, range.start));
                constants.push((len, range.end - range.start));
            }
            None if needed.contains(&names[0]) => {
                return Err(anyhow::anyhow!("this kernel has no function {}", names[0]))
                    .context("--wake-source does not work here");
            }
            None => {}
        }
    }
    Ok(constants)
}

/// What the BPF programs have to know to tell sources apart this finely: constants of theirs.
///
/// # Errors
/// See [`offsets`].
pub(super) fn constants(
    detail: SourceDetail,
    types: &KernelTypes,
) -> Result<Vec<(&'static str, u32)>> {
    let mut constants = vec![("WAKE_SOURCE", detail as u32)];
    if detail != SourceDetail::Off {
        constants.extend(offsets(types).context("--wake-source does not work here")?);
        constants.extend(poll(types)?);
    }
    Ok(constants)
}

/// How to tell that a wait queue is locked: see `QUEUE_LOCK` in profiler-ebpf/src/source/offsets.rs.
fn queue_lock(types: &KernelTypes) -> Result<u32> {
    // With preempt-RT a lock has an owner.
    if let Ok(owner) = types.offset_of("wait_queue_head", &["lock", "lock", "owner"]) {
        return Ok(owner);
    }
    // With one CPU only there is no lock.
    Ok(u32::from(types.offset_of("wait_queue_head", &["head"])? >= 4))
}

/// Where `poll` and `select` keep what they wait for.
fn poll(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let of = |structure: &str, member: &str| types.offset_of(structure, &[member]);
    let task = of("poll_wqueues", "polling_task")?;
    let is_as_known = of("poll_wqueues", "triggered")? == task + 8
        && of("poll_wqueues", "error")? == task + 12
        && of("poll_table_page", "entry")? == 8
        && of("poll_table_page", "entries")? == 16;
    Ok(vec![
        ("POLL_TASK", if is_as_known { task } else { 0 }),
        ("POLL_PAGES", of("poll_wqueues", "table")?),
        ("POLL_LEN", of("poll_wqueues", "inline_index")?),
        ("POLL_ENTRIES", of("poll_wqueues", "inline_entries")?),
        ("POLL_ENTRY_SIZE", types.size_of("poll_table_entry")?),
        ("POLL_ENTRY_FILE", of("poll_table_entry", "filp")?),
        ("POLL_ENTRY_WAIT", of("poll_table_entry", "wait")?),
        ("POLL_ENTRY_QUEUE", of("poll_table_entry", "wait_address")?),
        ("WAIT_PRIVATE", of("wait_queue_entry", "private")?),
    ])
}

/// What the BPF programs read of a file, a socket, and an epoll instance with its items: constants of theirs.
///
/// # Errors
/// When this kernel lacks a member without which nothing can be told: which.
pub(super) fn offsets(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let of = |structure: &str, path: &[&str]| types.offset_of(structure, path);
    // Of what may be missing: IPv6, unix sockets (a module in some kernels).
    let optional = |structure: &str, path: &[&str]| of(structure, path).unwrap_or(0);
    let common = |member: &str| of("sock", &["__sk_common", member]);
    let reuse_port = types.bit_of("sock", &["__sk_common", "skc_reuseport"])?;
    Ok(vec![
        ("FILE_INODE", of("file", &["f_inode"])?),
        ("FILE_PRIVATE", of("file", &["private_data"])?),
        ("FILE_DENTRY", of("file", &["f_path", "dentry"])?),
        ("DENTRY_NAME", of("dentry", &["d_name", "name"])?),
        ("INODE_MODE", of("inode", &["i_mode"])?),
        ("INODE_NUMBER", of("inode", &["i_ino"])?),
        ("INODE_SUPER", of("inode", &["i_sb"])?),
        ("SUPER_MAGIC", of("super_block", &["s_magic"])?),
        ("SOCKET_SOCK", of("socket", &["sk"])?),
        ("SOCK_FAMILY", common("skc_family")?),
        ("SOCK_STATE", common("skc_state")?),
        ("SOCK_LOCAL_PORT", common("skc_num")?),
        ("SOCK_REMOTE_PORT", common("skc_dport")?),
        ("SOCK_LOCAL_V4", common("skc_rcv_saddr")?),
        ("SOCK_REMOTE_V4", common("skc_daddr")?),
        ("SOCK_LOCAL_V6", common("skc_v6_rcv_saddr").unwrap_or(0)),
        ("SOCK_REMOTE_V6", common("skc_v6_daddr").unwrap_or(0)),
        ("SOCK_PROTOCOL", of("sock", &["sk_protocol"])?),
        ("SOCK_REUSE_PORT", reuse_port / 8),
        ("SOCK_REUSE_PORT_BIT", reuse_port % 8),
        ("SOCK_BACKLOG", of("sock", &["sk_max_ack_backlog"])?),
        ("UNIX_ADDRESS", optional("unix_sock", &["addr"])),
        ("UNIX_PEER", optional("unix_sock", &["peer"])),
        ("UNIX_LEN", optional("unix_address", &["len"])),
        ("UNIX_NAME", optional("unix_address", &["name"])),
        ("ITEM_FILE", of("epitem", &["ffd", "file"])?),
        ("ITEM_FD", of("epitem", &["ffd", "fd"])?),
        ("ITEM_EVENTS", of("epitem", &["event", "events"])?),
        ("ITEM_EPOLL", of("epitem", &["ep"])?),
        ("ITEM_READY", of("epitem", &["rdllink"])?),
        ("ITEM_OVERFLOW", of("epitem", &["next"]).or_else(|_| of("epitem", &["ovflist_next"]))?),
        ("ITEM_QUEUES", of("epitem", &["pwqlist"])?),
        ("ENTRY_ITEM", of("eppoll_entry", &["base"])?),
        ("ENTRY_WAIT", of("eppoll_entry", &["wait"])?),
        ("ENTRY_QUEUE", of("eppoll_entry", &["whead"])?),
        ("ENTRY_NEXT", of("eppoll_entry", &["next"]).or_else(|_| of("eppoll_entry", &["llink"]))?),
        ("EPOLL_READY", of("eventpoll", &["rdllist"])?),
        ("EPOLL_OVERFLOW", of("eventpoll", &["ovflist"])?),
        ("TASK_FILES", of("task_struct", &["files"])?),
        ("FILES_TABLE", of("files_struct", &["fdt"])?),
        ("TABLE_FILES", of("fdtable", &["fd"])?),
        ("TABLE_LEN", of("fdtable", &["max_fds"])?),
        ("QUEUE_LOCK", queue_lock(types)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_member() {
        let types = KernelTypes::of_running_kernel().unwrap();
        let offsets = offsets(&types).unwrap();
        let of = |wanted: &str| offsets.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!(of("ITEM_FD"), of("ITEM_FILE") + 8);
        assert!(queue_lock(&types).unwrap() > 0);
        assert!(of("SOCK_LOCAL_PORT") > 0 && of("UNIX_ADDRESS") > 0 && of("SOCK_BACKLOG") > 0);
    }

    #[test]
    fn functions_that_tell_why_are_where_the_kernel_says() {
        let constants = functions(SourceDetail::Port).unwrap();
        let of = |wanted: &str| constants.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert!(of("EPOLL_START_0") > 1 << 63);
        assert!((16..65536).contains(&of("EPOLL_LEN_0")), "{:x}", of("EPOLL_LEN_0"));
        assert!(functions(SourceDetail::Off).unwrap().is_empty());
    }
}
