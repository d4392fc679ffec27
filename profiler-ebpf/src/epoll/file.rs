//! What the log tells of an open file.

use offwake_shared::{EPOLL_OUTGOING, EPOLL_REUSEPORT, EPOLL_SOCKET, EpollFile, SourceKind};

use crate::source::file::File;
use crate::source::socket::{self, Socket};

/// Fills in all of `out`.
#[inline(always)]
pub fn describe(file: File, fd: i32, events: u32, out: &mut EpollFile) {
    *out = EpollFile { fd, events, ..EpollFile::default() };
    if file.0 == 0 {
        return;
    }
    out.inode = file.inode_number();
    let kind = file.kind();
    out.kind = kind as u16;
    if kind != SourceKind::Socket {
        return;
    }
    out.flags = EPOLL_SOCKET;
    let socket = Socket::of_file(file);
    if socket.0 == 0 {
        return;
    }
    out.socket = socket.0;
    out.family = socket.family();
    let state = socket.state();
    out.state = u16::from(state);
    if out.family == socket::AF_UNIX {
        return socket.describe_unix(&mut out.name_len, &mut out.name);
    }
    if !socket::is_internet(out.family) {
        return;
    }
    out.protocol = socket.protocol();
    (out.local_port, out.remote_port) = socket.ports();
    if socket.shares_port() {
        out.flags |= EPOLL_REUSEPORT;
    }
    // UDP is connected from here alone.
    if !socket::is_tcp(out.protocol) || socket.is_outgoing(state) {
        out.flags |= EPOLL_OUTGOING;
    }
    socket.addresses(out.family, &mut out.local, &mut out.remote);
}
