//! What the kernel says of threads and processes.

use std::fs;

/// Whether an offwake records: it has attached its programs, looked at the threads that exist, and waits
/// for what happens, which its main thread does at no other time. A look that does not wait is none.
pub(crate) fn is_recording(pid: u32) -> bool {
    let syscall = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = syscall.split_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    let waits = words.nth(2).is_some_and(|timeout| timeout != "0x0");
    #[cfg(target_arch = "x86_64")]
    let polls = number == Some(libc::SYS_poll);
    #[cfg(not(target_arch = "x86_64"))]
    let polls = number == Some(libc::SYS_ppoll);
    polls && waits
}

/// Version and patch level of the kernel.
pub(crate) fn version() -> (u32, u32) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).expect("a number");
    (next(), next())
}

/// Whether it is one with preempt-RT, as `uname -v` says.
pub(crate) fn is_realtime() -> bool {
    read("/proc/sys/kernel/version").split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// On a CPU, in ns (`schedstat`).
pub(crate) fn on_cpu_ns(pid: u32, tid: u32) -> u64 {
    let text = read(&format!("/proc/{pid}/task/{tid}/schedstat"));
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// What interrupts and the hypervisor have taken from the threads on all CPUs, in ns: kernels that
/// account for it leave it out of `schedstat` (`update_rq_clock_task` in kernel/sched/core.c).
pub(crate) fn stolen_ns() -> u64 {
    let stat = read("/proc/stat");
    let cpu =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).expect("a sum of CPUs");
    // user nice system idle iowait irq softirq steal
    let ticks: u64 =
        cpu.split_whitespace().skip(5).take(3).map(|n| n.parse::<u64>().expect("a number")).sum();
    // SAFETY: takes no pointers.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks * 1_000_000_000 / ticks_per_second as u64
}

/// How often a thread was switched out to wait.
pub(crate) fn voluntary_switches(pid: u32, tid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/task/{tid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a number")
}

/// The state of a process, as `ps` shows it.
pub(crate) fn state(pid: u32) -> char {
    stat(pid).0
}

/// The processes that a process has started and that live.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Processes come and go.
    pids.filter(|&other| fs::exists(format!("/proc/{other}/stat")).unwrap_or(false))
        .filter(|&other| try_stat(other).is_some_and(|(_, parent)| parent == pid))
        .collect()
}

fn stat(pid: u32) -> (char, u32) {
    try_stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"))
}

/// The state and the parent.
fn try_stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
