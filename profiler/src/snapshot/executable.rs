//! A file that is going to be executed, as `/proc/PID/maps` will show it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::files::Files;
use super::maps::{self, Content};

/// The index of the file. It is mapped into this process for as long as its name takes: nothing else tells
/// which device and path the kernel will show.
pub(super) fn add(files: &mut Files, path: &Path) -> Option<usize> {
    let file = File::open(path).ok()?;
    // SAFETY: the call takes no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a new mapping, wherever the kernel puts it.
    let base = unsafe {
        let fd = file.as_raw_fd();
        libc::mmap(std::ptr::null_mut(), page, protection, libc::MAP_PRIVATE, fd, 0)
    };
    if base == libc::MAP_FAILED {
        return None;
    }
    let process = Path::new("/proc/self");
    let text = std::fs::read(process.join("maps")).unwrap_or_default();
    let line = maps::parse(&text).into_iter().find(|line| line.start == base as u64);
    let index = line.and_then(|line| match line.content {
        Content::File(key) => Some(files.add(process, line.start, line.end, &key)),
        Content::Vdso | Content::Anonymous => None,
    });
    // SAFETY: the mapping is this function's, and nothing points into it any more.
    unsafe { libc::munmap(base, page) };
    index
}
