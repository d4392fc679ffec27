//! What offwake itself takes.

/// The most memory that this process had, in bytes (`VmHWM` in proc_pid_status(5)); `None` where `/proc`
/// does not tell.
pub fn peak() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_in(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_high_water_mark() {
        let status = "Name:\toffwake\nVmPeak:\t  999 kB\nVmHWM:\t   51200 kB\nVmRSS:\t 100 kB\n";
        assert_eq!(peak_in(status), Some(51_200 * 1024));
        assert_eq!(peak_in("VmHWM:\tmuch\n"), None);
        assert!(peak().is_some_and(|peak| peak > 0));
    }
}
