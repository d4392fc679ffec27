//! Facts about the machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The inode number of this process's pid namespace; 0 for the initial one.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn pid_namespace() -> io::Result<u32> {
    /// `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
    const INITIAL: u64 = 0xefff_fffc;
    let inode = fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(if inode == INITIAL { 0 } else { inode as u32 })
}

/// Whether `/proc` shows the pid namespace that this process is in.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn proc_is_of_own_namespace() -> io::Result<bool> {
    Path::new("/proc/self").symlink_metadata()?;
    // Which leads nowhere if the process is not in the namespace that is shown (`proc_self_get_link` in fs/proc/self.c).
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(false) };
    // The process's pids, from the namespace that is shown to its own (`task_state` in fs/proc/array.c).
    let pids = status.lines().find_map(|line| line.strip_prefix("NStgid:"));
    Ok(pids.is_some_and(|pids| pids.split_whitespace().count() == 1))
}

/// How many CPUs there are, also such as are off.
pub fn cpus() -> u64 {
    // SAFETY: the call takes no pointers.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u64::try_from(cpus).unwrap_or(1)
}

/// Whether the CPUs have a flag, and the kernel uses what it stands for.
pub fn has_cpu_flag(flag: &str) -> bool {
    let Ok(file) = File::open("/proc/cpuinfo") else { return false };
    // Those of the first CPU: the kernel takes its time to tell of all.
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    let flags = lines.find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|found| found == flag)
}

/// Whether this process is in another user namespace than the initial one.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn is_in_user_namespace() -> io::Result<bool> {
    /// `PROC_USER_INIT_INO` (include/linux/proc_ns.h).
    const INITIAL: u64 = 0xefff_fffd;
    Ok(fs::metadata("/proc/self/ns/user")?.ino() != INITIAL)
}

/// Whether the kernel tells of itself in `/sys`.
pub fn is_sys_mounted() -> bool {
    Path::new("/sys/kernel").exists()
}

/// The kernel's lockdown mode: `none`, `integrity` or `confidentiality`; `None` if it does not tell.
pub fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, mode) = modes.split_once('[')?;
    Some(mode.split_once(']')?.0.to_owned())
}

/// The most frames that the kernel takes of one stack; `None` if it does not tell.
pub fn max_stack_frames() -> Option<u32> {
    let value = fs::read_to_string("/proc/sys/kernel/perf_event_max_stack").ok()?;
    value.trim().parse().ok()
}

/// One more than the highest tid that there can be; that of 64-bit kernels (`PID_MAX_LIMIT` in
/// include/linux/threads.h) if the kernel does not tell.
pub fn max_threads() -> u32 {
    let value = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(1 << 22)
}

/// Who may use perf events: the greater, the fewer (`kernel.perf_event_paranoid`); `None` if the kernel does
/// not tell.
pub fn perf_event_paranoid() -> Option<i32> {
    let value = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    value.trim().parse().ok()
}

/// Whether the file is in the cgroup v2 hierarchy.
///
/// # Errors
/// When its file system does not tell.
pub fn is_cgroup2(file: &File) -> io::Result<bool> {
    // SAFETY: the type is plain data, for which zeros are valid; the kernel fills it.
    let (result, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(file.as_raw_fd(), &raw mut found), found)
    };
    match result {
        0 => Ok(found.f_type == libc::CGROUP2_SUPER_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mounts").ok()?;
    mounts.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == b"cgroup2").then(|| PathBuf::from(OsStr::from_bytes(path)))
    })
}

/// Raises this process's soft limit of open files to the hard one. Returns the limit that holds
/// then.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a valid rlimit that the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to a valid rlimit that the kernel only reads.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => raised.rlim_cur,
        _ => limit.rlim_cur,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        pid_namespace().unwrap();
        assert!(proc_is_of_own_namespace().unwrap());
        assert!(cpus() > 0);
        is_in_user_namespace().unwrap();
        if let Some(path) = cgroup2_mount() {
            assert!(is_cgroup2(&File::open(&path).unwrap()).unwrap());
            assert!(path.join("cgroup.procs").exists());
        }
        assert!(!is_cgroup2(&File::open("/proc").unwrap()).unwrap());
    }
}
