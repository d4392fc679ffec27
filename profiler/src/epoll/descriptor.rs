//! Descriptors and sockets, and how they are called.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use offwake_shared::{
    EPOLL_OUTGOING, EPOLL_REUSEPORT, EPOLL_SOCKET, EPOLL_UNCERTAIN, EpollFile, SourceKind,
};

use crate::unix_name::unix_name;

/// What a descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// `tcp`, `udp`, `unix`, `eventfd`, `pipe` and so on; `file` where that is not known.
    pub kind: &'static str,
    /// The number of its inode, which tells sockets apart.
    pub inode: u64,
    /// Of a socket.
    pub socket: Option<Socket>,
    /// What the epoll instance waits for, where that is known.
    pub interest: Option<Interest>,
    /// Whether it is certain that this descriptor is meant.
    pub is_certain: bool,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Address of the kernel's `struct sock`.
    pub address: u64,
    /// `AF_…`.
    pub family: u16,
    /// Own address, of IP.
    pub local: Option<SocketAddr>,
    /// The other end's, of IP, where there is one.
    pub remote: Option<SocketAddr>,
    /// Of a unix socket: its own path, or that of the other end. An abstract one begins with `@`. May hold anything.
    pub path: Option<String>,
    /// Whether it was connected from here.
    pub is_outgoing: bool,
    /// The state, a number of include/net/tcp_states.h.
    pub state: u32,
    /// Whether it has `SO_REUSEPORT`.
    pub reuse_port: bool,
}

/// The events that an epoll instance waits for: `EPOLLIN` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(pub u32);

impl Interest {
    /// `EPOLLEXCLUSIVE`: of several instances that wait, not all are woken.
    pub const fn is_exclusive(self) -> bool {
        self.0 & 1 << 28 != 0
    }

    /// `EPOLLET` or `EPOLLONESHOT`: of several threads that wait on one instance, one is woken.
    pub const fn wakes_one(self) -> bool {
        self.0 & (1 << 31 | 1 << 30) != 0
    }
}

/// The state of a socket that listens (`TCP_LISTEN`).
const LISTEN: u32 = 10;

impl Descriptor {
    /// From what BPF read; `None` where there was no descriptor.
    pub fn new(file: &EpollFile) -> Option<Self> {
        if file.fd < 0 {
            return None;
        }
        let is_socket = file.flags & EPOLL_SOCKET != 0;
        let kind = match is_socket {
            true => socket_kind(file.family, file.protocol),
            false => match SourceKind::from_u32(file.kind.into()) {
                Some(SourceKind::None) | None => "file",
                Some(kind) => kind.name(),
            },
        };
        Some(Self {
            fd: file.fd,
            kind,
            inode: file.inode,
            socket: is_socket.then(|| Socket::new(file)),
            interest: (file.events != 0).then_some(Interest(file.events)),
            is_certain: file.flags & EPOLL_UNCERTAIN == 0,
        })
    }

    /// Whether connections are accepted from it.
    pub fn is_listener(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.state == LISTEN)
    }

    /// Kind, addresses and state, such as `tcp 10.0.0.1:80 <- 10.0.0.2:4711 ESTAB`.
    pub fn describe(&self) -> String {
        self.describe_as(false)
    }

    /// The same with nothing but the port of the own address.
    pub fn describe_shortly(&self) -> String {
        self.describe_as(true)
    }

    fn describe_as(&self, is_short: bool) -> String {
        let mut text = self.kind.to_owned();
        let Some(socket) = &self.socket else { return text };
        // Writing to a string does not fail.
        if let Some(path) = &socket.path {
            let _ = write!(text, " {path}");
        }
        if let Some(local) = socket.local {
            let _ = match is_short {
                true => write!(text, " :{}", local.port()),
                false => write!(text, " {local}"),
            };
        }
        if let Some(remote) = socket.remote {
            let arrow = if socket.is_outgoing { "->" } else { "<-" };
            let _ = write!(text, " {arrow} {remote}");
        }
        if let Some(state) = socket.state_name() {
            let _ = write!(text, " {state}");
        }
        text
    }
}

impl Socket {
    fn new(file: &EpollFile) -> Self {
        let [local, remote] = [(file.local, file.local_port), (file.remote, file.remote_port)]
            .map(|(bytes, port)| Some(SocketAddr::new(ip(file.family, bytes)?, port)));
        Self {
            address: file.socket,
            family: file.family,
            local,
            remote: remote.filter(|remote| remote.port() != 0),
            path: unix_name(&file.name, file.name_len),
            is_outgoing: file.flags & EPOLL_OUTGOING != 0,
            state: file.state.into(),
            reuse_port: file.flags & EPOLL_REUSEPORT != 0,
        }
    }

    /// Keeps the addresses that the kernel forgets when a connection has ended. `before`: the same socket.
    pub(super) fn keep_names(&mut self, before: &Self) {
        let is_gone = self.local.is_none_or(|local| local.port() == 0);
        if is_gone && before.local.is_some() {
            (self.local, self.remote) = (before.local, self.remote.or(before.remote));
        }
        if self.path.is_none() {
            self.path.clone_from(&before.path);
        }
    }

    /// The state as `ss` calls it; `None` where the family has none.
    pub fn state_name(&self) -> Option<&'static str> {
        let is_ip = i32::from(self.family) == libc::AF_INET || self.is_ipv6();
        let has_state = is_ip || i32::from(self.family) == libc::AF_UNIX;
        has_state.then_some(match self.state {
            1 => "ESTAB",
            2 => "SYN-SENT",
            3 => "SYN-RECV",
            4 => "FIN-WAIT-1",
            5 => "FIN-WAIT-2",
            6 => "TIME-WAIT",
            7 => "UNCONN",
            8 => "CLOSE-WAIT",
            9 => "LAST-ACK",
            LISTEN => "LISTEN",
            11 => "CLOSING",
            12 => "NEW-SYN-RECV",
            _ => "?",
        })
    }

    fn is_ipv6(&self) -> bool {
        i32::from(self.family) == libc::AF_INET6
    }

    /// `inet`, `inet6`, `unix`, or the number.
    pub fn family_name(&self) -> String {
        match i32::from(self.family) {
            libc::AF_INET => "inet".into(),
            libc::AF_INET6 => "inet6".into(),
            libc::AF_UNIX => "unix".into(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

fn socket_kind(family: u16, protocol: u16) -> &'static str {
    match (i32::from(family), i32::from(protocol)) {
        (libc::AF_UNIX, _) => "unix",
        (libc::AF_NETLINK, _) => "netlink",
        (libc::AF_PACKET, _) => "packet",
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP) => "tcp",
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDP) => "udp",
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_MPTCP) => "mptcp",
        _ => "socket",
    }
}

/// `None` for families that are not IP.
fn ip(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}
