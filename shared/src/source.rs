use crate::assert_packed;

/// What a thread waited for, or what became ready.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// Nobody knows.
    None = 0,
    /// A TCP (or MPTCP) socket, IPv4 or IPv6.
    Tcp = 1,
    /// A UDP socket, IPv4 or IPv6.
    Udp = 2,
    /// A unix socket.
    Unix = 3,
    /// Another socket; [`Source::family`] tells which.
    Socket = 4,
    /// A pipe or a FIFO.
    Pipe = 5,
    /// An `eventfd`.
    Eventfd = 6,
    /// A `timerfd`.
    Timerfd = 7,
    /// A `signalfd`.
    Signalfd = 8,
    /// An `inotify` instance.
    Inotify = 9,
    /// An epoll instance in another one.
    Epoll = 10,
    /// A `pidfd`.
    Pidfd = 11,
    /// A character device, such as a terminal.
    Device = 12,
    /// Another file.
    File = 13,
    /// No descriptor: a signal.
    Signal = 14,
    /// No descriptor: the time that the thread wanted to wait at most.
    Timeout = 15,
    /// No descriptor: a futex; [`Source::id`] is its address.
    Futex = 16,
}

impl SourceKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::None,
        Self::Tcp,
        Self::Udp,
        Self::Unix,
        Self::Socket,
        Self::Pipe,
        Self::Eventfd,
        Self::Timerfd,
        Self::Signalfd,
        Self::Inotify,
        Self::Epoll,
        Self::Pidfd,
        Self::Device,
        Self::File,
        Self::Signal,
        Self::Timeout,
        Self::Futex,
    ];

    /// The kind with this number, as found in a [`Source`].
    pub const fn from_u32(value: u32) -> Option<Self> {
        if (value as usize) < Self::ALL.len() { Some(Self::ALL[value as usize]) } else { None }
    }

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::Eventfd => "eventfd",
            Self::Timerfd => "timerfd",
            Self::Signalfd => "signalfd",
            Self::Inotify => "inotify",
            Self::Epoll => "epoll",
            Self::Pidfd => "pidfd",
            Self::Device => "device",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Futex => "futex",
        }
    }
}

/// How finely sources are told apart. What is too fine is 0 (and [`Source::fd`] -1) in a [`Source`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceDetail {
    /// Not at all: there are no sources.
    #[default]
    Off = 0,
    /// By kind only.
    Kind = 1,
    /// By port: the local one of who is connected to, the remote one of who connects. Unix sockets by path,
    /// futexes by address.
    Port = 2,
    /// By both addresses.
    Socket = 3,
    /// By descriptor, too.
    Fd = 4,
}

impl SourceDetail {
    /// The name in every output and in `--wake-source`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Kind => "kind",
            Self::Port => "port",
            Self::Socket => "socket",
            Self::Fd => "fd",
        }
    }
}

/// The length of [`Source::name`]: a unix socket's path has at most 108 bytes (`UNIX_PATH_MAX`), and a power of
/// two can mask a length.
pub const SOURCE_NAME_LEN: usize = 128;

/// A descriptor or whatever else a thread waited for. All zero but for `fd` where it does not apply.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// A [`SourceKind`].
    pub kind: u32,
    /// The descriptor; -1: unknown, or none.
    pub fd: i32,
    /// The address family of a socket (`AF_INET`, …).
    pub family: u16,
    /// The local port, in the byte order of the host.
    pub local_port: u16,
    /// The remote port, in the byte order of the host.
    pub remote_port: u16,
    /// The TCP state (`TCP_ESTABLISHED` is 1, `TCP_LISTEN` 10: include/net/tcp_states.h).
    pub state: u8,
    /// 1: this side connected, and its own port says nothing.
    pub is_outgoing: u8,
    /// The local address: 4 or 16 bytes, in network order.
    pub local: [u8; 16],
    /// The remote address, likewise.
    pub remote: [u8; 16],
    /// The address of a futex; of a file the number of its inode.
    pub id: u64,
    /// How many bytes of `name` there are.
    pub name_len: u32,
    /// 0.
    pub reserved: u32,
    /// The path of a unix socket: any bytes. One that begins with 0 is abstract, and none at all is of an
    /// unnamed one.
    pub name: [u8; SOURCE_NAME_LEN],
}
assert_packed!(Source, 16 + 2 * 16 + 8 + 8 + SOURCE_NAME_LEN);

impl Source {
    /// Nothing.
    pub const NONE: Self = Self {
        kind: SourceKind::None as u32,
        fd: -1,
        family: 0,
        local_port: 0,
        remote_port: 0,
        state: 0,
        is_outgoing: 0,
        local: [0; 16],
        remote: [0; 16],
        id: 0,
        name_len: 0,
        reserved: 0,
        name: [0; SOURCE_NAME_LEN],
    };
}
