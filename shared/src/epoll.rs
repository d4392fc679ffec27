//! What `offwake epoll` is told of: the events in its ring buffer, each of which begins with an
//! [`EpollHead`] that tells which one it is.

use crate::{SOURCE_NAME_LEN, assert_packed};

/// How many of the events that `epoll_wait` returned one [`EpollReturn`] holds.
pub const EPOLL_READY: usize = 8;

/// How many [`EpollReturn`]s are sent at most of one return.
pub const EPOLL_PARTS: usize = 16;

/// [`EpollFile::flags`]: a socket with `SO_REUSEPORT`.
pub const EPOLL_REUSEPORT: u32 = 1;

/// [`EpollFile::flags`]: several descriptors of the instance are ready, and this is the one that was queued
/// last: which one woke is likely, not certain.
pub const EPOLL_UNCERTAIN: u32 = 2;

/// [`EpollFile::flags`]: a socket.
pub const EPOLL_SOCKET: u32 = 4;

/// [`EpollFile::flags`]: a socket that was connected from here.
pub const EPOLL_OUTGOING: u32 = 8;

/// Which event it is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpollKind {
    /// [`EpollWake`]: a thread that waits for events is woken.
    Wake = 1,
    /// [`EpollReturn`] with `len` 0: a thread that was woken found no event and sleeps again, still in the
    /// same system call.
    Empty = 2,
    /// [`EpollReturn`]: the system call returns.
    Return = 3,
    /// [`EpollCall`]: `accept`; `fd` is the listener, `file` the new connection, or the listener where
    /// there is none.
    Accept = 4,
    /// [`EpollCall`]: `close`, before it is done.
    Close = 5,
    /// [`EpollCall`]: `epoll_ctl` has changed what an instance waits for.
    Control = 6,
    /// [`EpollCall`]: the function of `--callback` is called.
    Callback = 7,
    /// [`EpollCall`]: a descriptor that was open when the programs were attached.
    Open = 8,
}

/// The beginning of every event.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EpollHead {
    /// When.
    pub time: u64,
    /// An [`EpollKind`].
    pub kind: u32,
    /// On which CPU.
    pub cpu: u32,
    /// Whose event it is: of a wake-up, the woken thread.
    pub thread: EpollThread,
}
assert_packed!(EpollHead, 8 + 4 + 4 + 24);

/// A thread.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EpollThread {
    /// The process, in offwake's pid namespace; 0 if that does not show it.
    pub tgid: u32,
    /// The thread, likewise.
    pub tid: u32,
    /// Its name, ended by a 0 unless it fills the array. Any bytes.
    pub comm: [u8; 16],
}
assert_packed!(EpollThread, 24);

/// An open file and, if it is a socket, what that is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollFile {
    /// The number of the inode; sockets have one each.
    pub inode: u64,
    /// Address of the `struct sock`, 0 without.
    pub socket: u64,
    /// Own address, as on the wire; of IPv4 the first four bytes.
    pub local: [u8; 16],
    /// The other end's address.
    pub remote: [u8; 16],
    /// Own port.
    pub local_port: u16,
    /// The other end's port.
    pub remote_port: u16,
    /// `AF_…`.
    pub family: u16,
    /// `IPPROTO_…`.
    pub protocol: u16,
    /// The descriptor; -1 where there is none.
    pub fd: i32,
    /// Of a socket its state (`TCP_…` in include/net/tcp_states.h, which other families use as well).
    pub state: u16,
    /// A [`crate::SourceKind`]; of every socket `Socket`.
    pub kind: u16,
    /// `EPOLL_REUSEPORT` and so on.
    pub flags: u32,
    /// What the epoll instance waits for (`EPOLLIN` and so on, also `EPOLLEXCLUSIVE`); 0 where that is not
    /// known.
    pub events: u32,
    /// The length of `name`.
    pub name_len: u32,
    /// 0.
    pub reserved: u32,
    /// The path of a unix socket; it begins with a 0 if it is abstract.
    pub name: [u8; SOURCE_NAME_LEN],
}
assert_packed!(EpollFile, 8 + 8 + 32 + 8 + 24 + SOURCE_NAME_LEN);

impl Default for EpollFile {
    #[inline(always)]
    fn default() -> Self {
        Self {
            inode: 0,
            socket: 0,
            local: [0; 16],
            remote: [0; 16],
            local_port: 0,
            remote_port: 0,
            family: 0,
            protocol: 0,
            fd: 0,
            state: 0,
            kind: 0,
            flags: 0,
            events: 0,
            name_len: 0,
            reserved: 0,
            name: [0; SOURCE_NAME_LEN],
        }
    }
}

/// A thread in `epoll_wait` is woken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EpollWake {
    /// Of the woken thread.
    pub head: EpollHead,
    /// Whoever ran then.
    pub waker: EpollThread,
    /// A [`crate::WakerKind`]: whether the waker did it itself, or was interrupted.
    pub waker_kind: u32,
    /// The softirq that ran then, plus 1; 0: none.
    pub softirq: u32,
    /// The descriptor that the thread waits on.
    pub epfd: i32,
    /// 0.
    pub reserved: u32,
    /// What became ready; `fd` is -1 where nothing did: a timeout or a signal.
    pub file: EpollFile,
}
assert_packed!(EpollWake, 40 + 24 + 16 + 208);

/// One of the events that `epoll_wait` returns.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EpollReady {
    /// What the program gave `epoll_ctl` to know it by.
    pub data: u64,
    /// `EPOLLIN` and so on.
    pub events: u32,
    /// 0.
    pub reserved: u32,
}
assert_packed!(EpollReady, 16);

/// A thread returns from `epoll_wait`, or sleeps on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EpollReturn {
    /// Of the thread.
    pub head: EpollHead,
    /// When it was woken; 0: it did not sleep.
    pub woken_at: u64,
    /// When it ran again; 0: it had not stopped to.
    pub running_at: u64,
    /// What the system call returned: the number of events, or an error below 0.
    pub result: i32,
    /// The descriptor that it waited on.
    pub epfd: i32,
    /// How many events came before those here.
    pub first: u32,
    /// How many events are here.
    pub len: u32,
    /// The events.
    pub ready: [EpollReady; EPOLL_READY],
}
assert_packed!(EpollReturn, 40 + 16 + 16 + 16 * EPOLL_READY);

/// What a thread did with a descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EpollCall {
    /// Of the thread.
    pub head: EpollHead,
    /// What the system call returned. Of [`EpollKind::Callback`] the address of the function.
    pub result: i64,
    /// Of `close` how many bytes were read from it; of `epoll_ctl` what the program will know it by; of a
    /// callback its third argument.
    pub data: u64,
    /// Of `close` how many bytes were written to it.
    pub written: u64,
    /// The descriptor: of `epoll_ctl` that of the instance; of a callback its first argument.
    pub fd: i32,
    /// Of `epoll_ctl` the operation; of a callback its second argument.
    pub operation: u32,
    /// The file.
    pub file: EpollFile,
}
assert_packed!(EpollCall, 40 + 8 + 16 + 8 + 208);

/// A thread in `epoll_wait`: a value of the map `EPOLL_WAITERS`, whose key is the tid in the initial
/// pid namespace.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct EpollWaiter {
    /// The thread.
    pub thread: EpollThread,
    /// Where the events go.
    pub events: u64,
    /// Address of the `struct eventpoll`; 0: not looked up yet.
    pub instance: u64,
    /// When it was woken; 0: not since it last slept.
    pub woken_at: u64,
    /// When it ran again; 0: not yet.
    pub running_at: u64,
    /// The descriptor that it waits on.
    pub epfd: i32,
    /// 0.
    pub reserved: u32,
}
assert_packed!(EpollWaiter, 24 + 32 + 8);

/// A descriptor of a process: a key of the map `EPOLL_BYTES`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub struct EpollFd {
    /// The process, in offwake's pid namespace.
    pub tgid: u32,
    /// The descriptor.
    pub fd: i32,
}
assert_packed!(EpollFd, 8);

/// How much went through a descriptor.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EpollBytes {
    /// Read from it.
    pub read: u64,
    /// Written to it.
    pub written: u64,
}
assert_packed!(EpollBytes, 16);

/// What the programs of `offwake epoll` have counted, on each CPU.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct EpollCounters {
    /// Events that were sent.
    pub events: u64,
    /// Events that were lost: the ring buffer was full.
    pub lost: u64,
    /// Waits that were not followed: the map of waiting threads was full.
    pub waiters_full: u64,
    /// Bytes that were not counted: the map of descriptors was full.
    pub bytes_full: u64,
}
assert_packed!(EpollCounters, 32);
