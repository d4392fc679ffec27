//! What processes do with epoll: what instances wait for, which threads wait on them, and what descriptors are.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::folder;
use crate::epoll::{Interest, Registration};

/// A thread in `epoll_wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// What it waits on.
    pub(crate) epfd: i32,
    /// Where the events go.
    pub(crate) events: u64,
}

/// Whether a thread sleeps in `epoll_wait` or one of its like.
pub(crate) fn wait_of(tid: u32) -> Option<Wait> {
    parse_call(&fs::read_to_string(folder(tid).join("syscall")).ok()?)
}

/// The number of the system call and its arguments: `232 0x5 0x7ffd0 0x40 …`.
fn parse_call(text: &str) -> Option<Wait> {
    #[cfg(target_arch = "x86_64")]
    const PLAIN: i64 = libc::SYS_epoll_wait;
    #[cfg(not(target_arch = "x86_64"))]
    const PLAIN: i64 = libc::SYS_epoll_pwait;
    /// `epoll_pwait2`, the same for all.
    const PWAIT_2: i64 = 441;
    let mut words = text.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    if ![PLAIN, libc::SYS_epoll_pwait, PWAIT_2].contains(&number) {
        return None;
    }
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some(Wait { epfd: argument()? as i32, events: argument()? })
}

/// What all epoll instances of a process wait for.
pub(crate) fn registrations(pid: u32) -> Vec<Registration> {
    let entries = fs::read_dir(folder(pid).join("fd")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        let Some(epfd) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if fs::read_link(entry.path()).is_ok_and(|target| is_instance(&target)) {
            let path = folder(pid).join("fdinfo").join(epfd.to_string());
            let text = fs::read_to_string(path).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| parse_registration(pid, epfd, line)));
        }
    }
    found
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:61 sdev:8` (`ep_show_fdinfo` in fs/eventpoll.c).
fn parse_registration(pid: u32, epfd: i32, line: &str) -> Option<Registration> {
    let mut words = line.split_whitespace();
    let mut field = |name: &str| (words.next()? == name).then(|| words.next())?;
    let fd = field("tfd:")?.parse().ok()?;
    let interest = Interest(u32::from_str_radix(field("events:")?, 16).ok()?);
    let data = u64::from_str_radix(field("data:")?, 16).ok()?;
    Some(Registration { pid, epfd, fd, interest, data })
}

/// Whether the link of a descriptor is that of an epoll instance (`anon_inode_getfile` in fs/eventpoll.c).
fn is_instance(target: &Path) -> bool {
    target == Path::new("anon_inode:[eventpoll]")
}

/// A file as a process sees it, by its path, or by its name if the process has it mapped.
pub(crate) fn binary(pid: u32, name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        let path = folder(pid).join("root").join(name.trim_start_matches('/'));
        return path.is_file().then_some(path);
    }
    let program = folder(pid).join("exe");
    let is_program =
        fs::read_link(&program).is_ok_and(|path| path.file_name() == Some(name.as_ref()));
    if is_program {
        return Some(program);
    }
    let text = fs::read(folder(pid).join("maps")).ok()?;
    super::maps::parse(&text).into_iter().find_map(|line| match line.content {
        super::maps::Content::File(key) if key.path.file_name() == Some(name.as_ref()) => {
            super::root::below(&folder(pid), &key.path)
        }
        _ => None,
    })
}

/// A piece of a file that a process maps as code.
pub(crate) struct Code {
    start: u64,
    end: u64,
    offset: u64,
    pub(crate) inode: u64,
}

impl Code {
    /// Where in the file the byte at an address is, if it is here.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        (self.start..self.end).contains(&address).then(|| address - self.start + self.offset)
    }
}

/// What a process maps of files as code; nothing if it is gone.
pub(crate) fn code(pid: u32) -> Vec<Code> {
    let text = fs::read(folder(pid).join("maps")).unwrap_or_default();
    let lines = super::maps::parse(&text).into_iter();
    let code = lines.filter_map(|line| match line.content {
        super::maps::Content::File(key) => {
            Some(Code { start: line.start, end: line.end, offset: line.offset, inode: key.inode })
        }
        _ => None,
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let number = libc::SYS_epoll_pwait;
        let call = format!("{number} 0x5 0x7ffd10 0x40 0xffffffff 0x0 0x8 0x7ffd00 0x7f00\n");
        assert_eq!(parse_call(&call), Some(Wait { epfd: 5, events: 0x007f_fd10 }));
        assert_eq!(parse_call("0 0x5 0x7ffd10"), None);
        assert_eq!(parse_call("running\n"), None);
        let line = "tfd:        5 events: 80000019 data:   deadbeef00000005  pos:0 ino:61 sdev:8";
        let expected = Registration {
            pid: 1,
            epfd: 3,
            fd: 5,
            interest: Interest(0x8000_0019),
            data: 0xdead_beef_0000_0005,
        };
        assert_eq!(parse_registration(1, 3, line), Some(expected));
        assert_eq!(parse_registration(1, 3, "pos:	0"), None);
        for (target, is_epoll) in [
            ("anon_inode:[eventfd]", false),
            ("anon_inode:[eventpoll]", true),
            ("anon_inode:inotify", false),
            ("pipe:[12]", false),
            ("socket:[12]", false),
            ("/tmp/a:[b", false),
        ] {
            assert_eq!(is_instance(Path::new(target)), is_epoll);
        }
    }
}
