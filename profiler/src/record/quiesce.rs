//! Waiting until no program uses a map any more.

use std::io;
use std::time::Duration;

/// Waits until every BPF program that runs now has returned: they run in RCU read-side sections
/// (`bpf_trace_run` in kernel/trace/bpf_trace.c), which `membarrier(MEMBARRIER_CMD_GLOBAL)` waits
/// for (kernel/sched/membarrier.c).
pub(super) fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Refused where CPUs run without ticks (nohz_full). A program runs for microseconds.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until every program that runs now has returned.
///
/// Those that use the maps of waits run with preemption disabled: in `__schedule`, in `try_to_wake_up` under
/// `pi_lock`, or in a kprobe. So a CPU on which this thread has run since is done with them. On a machine with
/// many more threads than CPUs that takes milliseconds for a thread that comes before all others, where a
/// grace period of RCU, which is waited for if this thread may not run everywhere, takes a second.
pub(super) fn wait_for_users() {
    if visit_each_cpu().is_err() {
        wait_for_running_programs();
    }
}

/// Runs on each CPU once, and then wherever it may as before.
fn visit_each_cpu() -> io::Result<()> {
    let before = affinity()?;
    let result = online_cpus().and_then(|cpus| {
        for cpu in cpus {
            // SAFETY: plain data, for which zeros are the empty set.
            let mut only: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            if cpu >= libc::CPU_SETSIZE as usize {
                return Err(io::ErrorKind::Unsupported.into());
            }
            // SAFETY: the CPU is one that a set can have.
            unsafe { libc::CPU_SET(cpu, &mut only) };
            set_affinity(&only)?;
        }
        Ok(())
    });
    // It may do what it did a moment ago.
    let _ = set_affinity(&before);
    result
}

/// The numbers of the CPUs that run anything, of a list such as `0-3,5`.
fn online_cpus() -> io::Result<Vec<usize>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    parse(text.trim()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: plain data, for which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for writing and of this size; 0 is the calling thread.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the set is valid for reading and of this size; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse("0"), Some(vec![0]));
        assert_eq!(parse("0-3,5,7-8"), Some(vec![0, 1, 2, 3, 5, 7, 8]));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn every_cpu_is_visited_and_the_thread_may_run_where_it_could() {
        let cpus = |set: libc::cpu_set_t| {
            // SAFETY: the numbers are within the set.
            (0..64).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect::<Vec<_>>()
        };
        let before = cpus(affinity().unwrap());
        wait_for_users();
        assert_eq!(cpus(affinity().unwrap()), before);
    }
}
