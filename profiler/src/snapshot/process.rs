//! Processes and threads: whether they are there, what they are called.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why something of a process or thread cannot be told.
#[derive(Debug)]
pub enum ProcessError {
    /// There is no process or thread with this id.
    Missing(u32),
    /// It is there, but its files in `/proc` cannot be read.
    Unreadable(u32, io::Error),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(id) => {
                write!(f, "no process or thread has the id {id}: `ps -eL` lists those that exist")
            }
            Self::Unreadable(id, error) => write!(f, "cannot read /proc/{id}: {error}"),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(_) => None,
            Self::Unreadable(_, error) => Some(error),
        }
    }
}

impl ProcessError {
    fn new(id: u32, error: io::Error) -> Self {
        // ESRCH: it ended between open and read.
        if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) {
            Self::Missing(id)
        } else {
            Self::Unreadable(id, error)
        }
    }
}

/// What `/proc/ID/status` says of a process or a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Its pid in the innermost pid namespace that it is in.
    pub(super) namespace_pid: u32,
    /// Its effective user.
    pub(super) user: u32,
}

/// Whether there is a process or a thread with this id.
pub(crate) fn exists(id: u32) -> bool {
    folder(id).exists()
}

/// Whether there is a thread with this id that has not ended. (A process's first thread that has
/// ended stays in `/proc` until the process has.)
pub fn is_alive(tid: u32) -> bool {
    exists(tid) && !matches!(state(tid), Some(b'Z' | b'X'))
}

/// The state of a thread, the letter that `ps` shows; `None` where it cannot be read.
pub(crate) fn state(tid: u32) -> Option<u8> {
    parse_state(&read(tid, "stat").ok()?)
}

/// Whether a thread is the kernel's own.
pub(crate) fn is_kernel_thread(tid: u32) -> bool {
    /// `PF_KTHREAD` (include/linux/sched.h).
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let flags = read(tid, "stat").ok().and_then(|stat| parse_flags(&stat));
    flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

/// Where a thread sleeps in the kernel, innermost first: function and offset in it, without the functions
/// of the scheduler. Empty where it cannot be read: it needs `CAP_SYS_ADMIN`.
pub(crate) fn kernel_stack(tid: u32) -> Vec<(String, u64)> {
    let text = read(tid, "stack").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse_kernel_frame).collect()
}

/// Every process.
pub(crate) fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The threads of a process, in ascending order.
///
/// # Errors
/// When there is no such process, or `/proc` cannot be read.
pub fn threads(pid: u32) -> Result<Vec<u32>, ProcessError> {
    let entries = std::fs::read_dir(folder(pid).join("task"));
    let entries = entries.map_err(|error| ProcessError::new(pid, error))?;
    let mut threads: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    threads.sort_unstable();
    Ok(threads)
}

/// The name of a thread, or of the main thread of a process. Invalid UTF-8 is replaced.
///
/// # Errors
/// When there is no such process or thread, or `/proc` cannot be read.
pub fn comm(id: u32) -> Result<String, ProcessError> {
    let comm = read(id, "comm")?;
    // Only the last newline is the kernel's.
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    Ok(String::from_utf8_lossy(comm).into_owned())
}

/// The same as the kernel keeps it, whatever bytes it has.
///
/// # Errors
/// As [`comm`].
pub(crate) fn comm_bytes(id: u32) -> Result<[u8; 16], ProcessError> {
    let name = read(id, "comm")?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    // That of a worker of the kernel is longer here.
    let len = name.len().min(15);
    let mut comm = [0; 16];
    comm[..len].copy_from_slice(&name[..len]);
    Ok(comm)
}

/// Where the stack of the process's first thread begins: an address that every `execve` chooses
/// anew, and the same that the kernel has in `mm_struct::start_stack`.
///
/// # Errors
/// When there is no such process or thread, or `/proc` cannot be read.
pub(crate) fn start_stack(id: u32) -> Result<u64, ProcessError> {
    let stat = read(id, "stat")?;
    parse_start_stack(&stat).ok_or_else(|| {
        ProcessError::Unreadable(id, io::Error::new(io::ErrorKind::InvalidData, "stat"))
    })
}

pub(super) fn status(id: u32) -> Result<Status, ProcessError> {
    let text = read(id, "status")?;
    parse_status(&text).ok_or_else(|| {
        ProcessError::Unreadable(id, io::Error::new(io::ErrorKind::InvalidData, "status"))
    })
}

/// The folder of a process or thread. (The folder of a thread that is not its process's first is
/// not listed in `/proc`, but it is there.)
pub(super) fn folder(id: u32) -> PathBuf {
    Path::new("/proc").join(id.to_string())
}

fn read(id: u32, name: &str) -> Result<Vec<u8>, ProcessError> {
    std::fs::read(folder(id).join(name)).map_err(|error| ProcessError::new(id, error))
}

fn parse_status(text: &[u8]) -> Option<Status> {
    let numbers = |key: &[u8]| -> Option<Vec<u32>> {
        // The name of the thread comes first, but newlines in it are escaped.
        let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(key))?;
        str::from_utf8(line).ok()?.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    let tgid = *numbers(b"Tgid:")?.first()?;
    let user = *numbers(b"Uid:")?.get(1)?;
    // Missing in a kernel without pid namespaces.
    let namespace_pid = numbers(b"NStgid:").and_then(|pids| pids.last().copied()).unwrap_or(tgid);
    Some(Status { namespace_pid, user })
}

/// Field 3.
fn parse_state(stat: &[u8]) -> Option<u8> {
    behind_name(stat)?.trim_start().bytes().next()
}

/// Field 9.
fn parse_flags(stat: &[u8]) -> Option<u64> {
    behind_name(stat)?.split_whitespace().nth(6)?.parse().ok()
}

/// `[<0>] do_epoll_wait+0x64/0x160`.
fn parse_kernel_frame(line: &str) -> Option<(String, u64)> {
    let (_, place) = line.split_once("] ")?;
    let (name, offset) = place.split_once("+0x")?;
    let offset = u64::from_str_radix(offset.split('/').next()?, 16).ok()?;
    Some((name.to_owned(), offset))
}

/// Field 28.
fn parse_start_stack(stat: &[u8]) -> Option<u64> {
    behind_name(stat)?.split_whitespace().nth(25)?.parse().ok()
}

/// The fields from the third on. The name, field 2, is in parentheses and may contain some.
fn behind_name(stat: &[u8]) -> Option<&str> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    str::from_utf8(&stat[name_end + 1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_shift_fields() {
        let stat = b"42 (a) S 1 (b) R 0) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3 4 5 140722 6";
        assert_eq!(parse_start_stack(stat), Some(140722));
        assert_eq!(parse_flags(stat), Some(4_194_560));
        let frame = parse_kernel_frame("[<0>] do_epoll_wait+0x64/0x160");
        assert_eq!(frame, Some(("do_epoll_wait".into(), 0x64)));
        assert_eq!(parse_kernel_frame("[<0>] 0xffffffffc0"), None);
        assert_eq!(parse_state(stat), Some(b'S'));
        assert_eq!(parse_start_stack(b""), None);
        assert_eq!(parse_start_stack(b"42 (x"), None);
        assert_eq!(parse_start_stack(b"42 (x) S 1"), None);

        let status = b"Name:\tTgid:\\n7\nTgid:\t42\nUid:\t1\t1000\t2\t3\nNStgid:\t42\t9\t3\n";
        assert_eq!(parse_status(status), Some(Status { namespace_pid: 3, user: 1000 }));
        let plain = b"Tgid:\t42\nUid:\t1\t1000\t2\t3\n";
        assert_eq!(parse_status(plain), Some(Status { namespace_pid: 42, user: 1000 }));
        assert_eq!(parse_status(b"Tgid:\tx\n"), None);
    }

    #[test]
    fn this_process() {
        let pid = std::process::id();
        // SAFETY: no arguments, and it cannot fail.
        let tid = unsafe { libc::gettid() }.unsigned_abs();
        assert!(threads(pid).unwrap().contains(&tid));
        assert!(is_alive(tid));
        assert!(!comm(tid).unwrap().is_empty());
        assert!(start_stack(pid).unwrap() > 0);
    }

    #[test]
    fn a_missing_process_is_a_clear_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // A zombie is still there, but not alive.
        while is_alive(pid) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!comm(pid).unwrap().is_empty());
        child.wait().unwrap();
        assert!(!is_alive(pid));
        for error in
            [threads(pid).unwrap_err(), comm(pid).unwrap_err(), start_stack(pid).unwrap_err()]
        {
            assert!(matches!(error, ProcessError::Missing(_)));
            assert_eq!(
                error.to_string(),
                format!("no process or thread has the id {pid}: `ps -eL` lists those that exist")
            );
        }
    }
}
