//! Open files: what a descriptor stands for.

use offwake_shared::{EPOLL_OUTGOING, EPOLL_REUSEPORT, EPOLL_SOCKET, EpollFile};

use super::maps::*;
use crate::memory::{read, read_at};

/// `S_IFMT` and `S_IFSOCK` (include/uapi/linux/stat.h).
const TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const REGULAR: u16 = 0o100_000;
const DIRECTORY: u16 = 0o040_000;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

/// `TCP_LISTEN` (include/net/tcp_states.h).
const LISTEN: u32 = 10;

/// The file that a descriptor of a task stands for; 0: none. Nothing keeps the table from being replaced
/// meanwhile, but then it is freed later (RCU), and tracing programs run within that time.
#[inline(always)]
pub fn of_descriptor(task: u64, fd: i32) -> u64 {
    let files: u64 = read_at(task, &EPOLL_TASK_FILES);
    let table: u64 = read_at(files, &EPOLL_FILES_FDT);
    let len: u32 = read_at(table, &EPOLL_FDT_MAX);
    if fd < 0 || fd as u32 >= len {
        return 0;
    }
    let array: u64 = read_at(table, &EPOLL_FDT_FD);
    read(array + 8 * u64::from(fd as u32))
}

/// The `struct eventpoll` of an epoll descriptor.
#[inline(always)]
pub fn instance(task: u64, epfd: i32) -> u64 {
    match of_descriptor(task, epfd) {
        0 => 0,
        file => read_at(file, &EPOLL_FILE_PRIVATE),
    }
}

/// Whether nobody waits for a file with epoll: it is on a disk.
#[inline(always)]
pub fn is_on_disk(file: u64) -> bool {
    let kind = mode(file) & TYPE;
    kind == REGULAR || kind == DIRECTORY
}

#[inline(always)]
fn mode(file: u64) -> u16 {
    let inode: u64 = read_at(file, &EPOLL_FILE_INODE);
    read_at(inode, &EPOLL_INODE_MODE)
}

/// Fills in all of `out`. `file`: 0 where there is none.
#[inline(always)]
pub fn describe(file: u64, fd: i32, events: u32, out: &mut EpollFile) {
    *out = EpollFile { fd, events, ..EpollFile::default() };
    if file == 0 {
        return;
    }
    let inode: u64 = read_at(file, &EPOLL_FILE_INODE);
    out.inode = read_at(inode, &EPOLL_INODE_INO);
    if read_at::<u16>(inode, &EPOLL_INODE_MODE) & TYPE != SOCKET {
        return;
    }
    let socket: u64 = read_at(file, &EPOLL_FILE_PRIVATE);
    let sk: u64 = read_at(socket, &EPOLL_SOCKET_SK);
    out.flags = EPOLL_SOCKET;
    if sk == 0 {
        return;
    }
    out.socket = sk;
    out.family = read_at(sk, &EPOLL_SK_FAMILY);
    out.state = u32::from(read_at::<u8>(sk, &EPOLL_SK_STATE));
    if out.family != AF_INET && out.family != AF_INET6 {
        return;
    }
    out.protocol = read_at(sk, &EPOLL_SK_PROTOCOL);
    out.local_port = read_at(sk, &EPOLL_SK_NUM);
    out.remote_port = u16::from_be(read_at(sk, &EPOLL_SK_DPORT));
    let bits: u8 = read_at(sk, &EPOLL_SK_REUSEPORT);
    if u32::from(bits) >> (EPOLL_SK_REUSEPORT_BIT.load() & 7) & 1 != 0 {
        out.flags |= EPOLL_REUSEPORT;
    }
    if out.protocol == IPPROTO_TCP && is_outgoing(sk, out.state) {
        out.flags |= EPOLL_OUTGOING;
    }
    if out.family == AF_INET {
        let (local, remote): (u32, u32) =
            (read_at(sk, &EPOLL_SK_LOCAL), read_at(sk, &EPOLL_SK_REMOTE));
        let first = |word: u32, bytes: &mut [u8; 16]| {
            bytes[0] = word as u8;
            bytes[1] = (word >> 8) as u8;
            bytes[2] = (word >> 16) as u8;
            bytes[3] = (word >> 24) as u8;
        };
        first(local, &mut out.local);
        first(remote, &mut out.remote);
    } else if EPOLL_SK_LOCAL_6.load() != 0 {
        out.local = read_at(sk, &EPOLL_SK_LOCAL_6);
        out.remote = read_at(sk, &EPOLL_SK_REMOTE_6);
    }
}

/// Whether the port was chosen by `connect`. The bucket of such ports is marked, so that nobody else binds to them
/// (`__inet_hash_connect` in net/ipv4/inet_hashtables.c sets `fastreuse` to -1); sockets of `accept` share the bucket
/// of their listener.
#[inline(always)]
fn is_outgoing(sk: u64, state: u32) -> bool {
    if EPOLL_SK_BUCKET.load() == 0 || state == LISTEN {
        return false;
    }
    let bucket: u64 = read_at(sk, &EPOLL_SK_BUCKET);
    bucket != 0 && read_at::<i8>(bucket, &EPOLL_BUCKET_REUSE) < 0
}
