//! What happens: as BPF tells it, and as people want it told.

use offwake_shared::{EpollCall, EpollReturn, EpollThread, EpollWake};

use super::Descriptor;
use super::summary::ERESTARTSYS;

/// An event as BPF sent it.
#[derive(Clone, Copy, Debug)]
pub enum Raw {
    /// A thread in `epoll_wait` is woken.
    Wake(EpollWake),
    /// It returns, or sleeps on.
    Return(EpollReturn),
    /// It did something with a descriptor.
    Call(EpollCall),
}

impl Raw {
    /// When, in ns of `CLOCK_MONOTONIC`.
    pub fn time(&self) -> u64 {
        match self {
            Self::Wake(wake) => wake.head.time,
            Self::Return(returned) => returned.head.time,
            Self::Call(call) => call.head.time,
        }
    }
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its process; 0 where offwake's pid namespace does not show it.
    pub pid: u32,
    /// Its id; 0 likewise.
    pub tid: u32,
    /// Its name. May hold anything.
    pub comm: String,
}

impl From<&EpollThread> for Thread {
    fn from(thread: &EpollThread) -> Self {
        let end = thread.comm.iter().position(|&byte| byte == 0).unwrap_or(thread.comm.len());
        let comm = String::from_utf8_lossy(&thread.comm[..end]).into_owned();
        Self { pid: thread.tgid, tid: thread.tid, comm }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in ns of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Whose event it is: of a wake-up, the woken thread.
    pub thread: Thread,
    /// What.
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A thread in `epoll_wait` is woken.
    Woken(Woken),
    /// A thread that was woken found nothing, and sleeps on.
    Empty(Latency),
    /// `epoll_wait` returns.
    Returned(Returned),
    /// `accept` returns.
    Accepted(Accepted),
    /// A descriptor is closed.
    Closed {
        /// It.
        descriptor: Descriptor,
        /// Bytes that were read from it since offwake watches.
        read: u64,
        /// Bytes that were written to it since then.
        written: u64,
    },
    /// The function of `--callback` is called.
    Callback {
        /// Its name.
        function: String,
        /// Its first argument.
        fd: i32,
        /// What that is, where it is known.
        descriptor: Option<Descriptor>,
        /// Its second argument: libevent's event bits.
        events: u32,
        /// Its third argument.
        argument: u64,
    },
}

/// A wake-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken {
    /// Whoever ran then.
    pub waker: Thread,
    /// On whose behalf.
    pub context: Context,
    /// On which CPU.
    pub cpu: u32,
    /// The descriptor that the thread waits on.
    pub epfd: i32,
    /// What became ready; `None`: nothing, a timeout or a signal.
    pub source: Option<Descriptor>,
}

/// On whose behalf a thread is woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// On the waker's own.
    Task,
    /// On the waker's own, in a softirq at the end of its system call: loopback.
    TaskSoftirq(&'static str),
    /// Of a softirq that came at the end of an interrupt: the waker was just there.
    Softirq(&'static str),
    /// Of an interrupt: the waker was just there.
    Irq,
    /// It is not known.
    Unknown,
}

/// Times of one way from a wake-up to a return, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// From the wake-up until the thread ran; `None`: it had not stopped running.
    pub to_running: Option<u64>,
    /// From the wake-up until `epoll_wait` returned, or until the thread slept again.
    pub total: u64,
}

/// A return of `epoll_wait`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The descriptor that the thread waited on.
    pub epfd: i32,
    /// The number of events, or an error below 0.
    pub result: i32,
    /// `None`: the thread did not sleep.
    pub latency: Option<Latency>,
    /// The events; fewer than `result` where there are very many.
    pub ready: Vec<Ready>,
}

/// One of the events that are returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The descriptor, where it is known.
    pub fd: Option<i32>,
    /// What the program knows it by.
    pub data: u64,
    /// `EPOLLIN` and so on.
    pub events: u32,
}

/// A return of `accept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The descriptor of the listener.
    pub listener: i32,
    /// The new descriptor, or an error below 0.
    pub result: i32,
    /// The new connection; of an error the listener.
    pub descriptor: Option<Descriptor>,
}

/// The names of bits, and of what is left its number.
pub(super) fn bits(value: u32, names: &[(u32, &str)]) -> Vec<String> {
    let mut found: Vec<String> = names
        .iter()
        .filter(|(bit, _)| value & bit != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let rest = names.iter().fold(value, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        found.push(format!("{rest:#x}"));
    }
    found
}

/// `EPOLLIN` and so on (include/uapi/linux/eventpoll.h).
pub(super) const EPOLL_BITS: [(u32, &str); 15] = [
    (0x001, "IN"),
    (0x002, "PRI"),
    (0x004, "OUT"),
    (0x008, "ERR"),
    (0x010, "HUP"),
    (0x020, "NVAL"),
    (0x040, "RDNORM"),
    (0x080, "RDBAND"),
    (0x100, "WRNORM"),
    (0x200, "WRBAND"),
    (0x400, "MSG"),
    (0x2000, "RDHUP"),
    (1 << 28, "EXCLUSIVE"),
    (1 << 30, "ONESHOT"),
    (1 << 31, "ET"),
];

/// `EV_READ` and so on of libevent (event2/event.h).
pub(super) const LIBEVENT_BITS: [(u32, &str); 7] = [
    (0x01, "EV_TIMEOUT"),
    (0x02, "EV_READ"),
    (0x04, "EV_WRITE"),
    (0x08, "EV_SIGNAL"),
    (0x10, "EV_PERSIST"),
    (0x20, "EV_ET"),
    (0x80, "EV_CLOSED"),
];

/// The name of an error that `accept` or `epoll_wait` is expected to return, or its number.
pub(super) fn error_name(result: i32) -> String {
    match -result {
        ERESTARTSYS => "ERESTARTSYS".into(),
        libc::EAGAIN => "EAGAIN".into(),
        libc::EINTR => "EINTR".into(),
        libc::EBADF => "EBADF".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EMFILE => "EMFILE".into(),
        libc::ENFILE => "ENFILE".into(),
        libc::ECONNABORTED => "ECONNABORTED".into(),
        libc::ENOBUFS => "ENOBUFS".into(),
        libc::ENOMEM => "ENOMEM".into(),
        libc::ENOTSOCK => "ENOTSOCK".into(),
        libc::EOPNOTSUPP => "EOPNOTSUPP".into(),
        libc::EPERM => "EPERM".into(),
        libc::EPROTO => "EPROTO".into(),
        number => format!("error {number}"),
    }
}
