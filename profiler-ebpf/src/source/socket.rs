//! A `struct sock` of the kernel's.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use offwake_shared::{SOURCE_NAME_LEN, Source, SourceKind};

use super::file::File;
use super::offsets::{
    BIND_BUCKET, BUCKET_REUSE, SOCK_FAMILY, SOCK_LOCAL_PORT, SOCK_LOCAL_V4, SOCK_LOCAL_V6,
    SOCK_PROTOCOL, SOCK_REMOTE_PORT, SOCK_REMOTE_V4, SOCK_REMOTE_V6, SOCK_STATE, SOCKET_SOCK,
    UNIX_ADDRESS, UNIX_LEN, UNIX_NAME, UNIX_PEER,
};
use crate::memory::read_at;

// include/linux/socket.h
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

// include/uapi/linux/in.h
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: u8 = 10;

/// What a socket is connected by.
#[derive(Clone, Copy)]
pub struct Socket(pub u64);

impl Socket {
    /// That of a file, which is a socket.
    #[inline(always)]
    pub fn of_file(file: File) -> Self {
        Self(read_at(file.private(), &SOCKET_SOCK))
    }

    /// Fills in the kind and all that a socket tells. `source` is [`Source::NONE`] before, except for its
    /// kind and descriptor.
    #[inline(always)]
    pub fn describe(self, source: &mut Source) {
        source.kind = SourceKind::Socket as u32;
        let family: u16 = read_at(self.0, &SOCK_FAMILY);
        source.family = family;
        if family == AF_UNIX {
            source.kind = SourceKind::Unix as u32;
            return self.describe_unix(source);
        }
        if family != AF_INET && family != AF_INET6 {
            return;
        }
        let protocol: u16 = read_at(self.0, &SOCK_PROTOCOL);
        source.local_port = read_at(self.0, &SOCK_LOCAL_PORT);
        source.remote_port = u16::from_be(read_at(self.0, &SOCK_REMOTE_PORT));
        if protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP {
            source.kind = SourceKind::Tcp as u32;
            source.state = read_at(self.0, &SOCK_STATE);
            source.is_outgoing = self.is_outgoing(source.state);
        } else if protocol == IPPROTO_UDP {
            source.kind = SourceKind::Udp as u32;
        }
        if family == AF_INET {
            source.local[..4].copy_from_slice(&read_at::<[u8; 4]>(self.0, &SOCK_LOCAL_V4));
            source.remote[..4].copy_from_slice(&read_at::<[u8; 4]>(self.0, &SOCK_REMOTE_V4));
        } else if SOCK_LOCAL_V6.load() != 0 {
            source.local = read_at(self.0, &SOCK_LOCAL_V6);
            source.remote = read_at(self.0, &SOCK_REMOTE_V6);
        }
    }

    /// 1: its port was chosen by `connect`. The bucket of such ports is marked, so that nobody else binds
    /// to them (`__inet_hash_connect` in net/ipv4/inet_hashtables.c sets `fastreuse` to -1); sockets of
    /// `accept` share the bucket of their listener.
    #[inline(always)]
    fn is_outgoing(self, state: u8) -> u8 {
        if BIND_BUCKET.load() == 0 || state == TCP_LISTEN {
            return 0;
        }
        let bucket: u64 = read_at(self.0, &BIND_BUCKET);
        u8::from(bucket != 0 && read_at::<i8>(bucket, &BUCKET_REUSE) < 0)
    }

    /// A path: its own, as listeners and what they accept have, or else that of its peer.
    #[inline(always)]
    fn describe_unix(self, source: &mut Source) {
        if UNIX_ADDRESS.load() == 0 {
            return;
        }
        let mut address: u64 = read_at(self.0, &UNIX_ADDRESS);
        if address == 0 {
            let peer: u64 = read_at(self.0, &UNIX_PEER);
            address = if peer == 0 { 0 } else { read_at(peer, &UNIX_ADDRESS) };
        }
        if address == 0 {
            return;
        }
        // Behind the two bytes of the family; with the 0 that ends a path.
        let len = read_at::<u32>(address, &UNIX_LEN).wrapping_sub(2);
        if len >= SOURCE_NAME_LEN as u32 {
            return;
        }
        source.name_len = len;
        // SAFETY: the field is there. Volatile: the compiler would drop the mask, which tells the verifier that
        // the length is within bounds.
        let len = unsafe { (&raw const source.name_len).read_volatile() };
        let from = address + u64::from(UNIX_NAME.load()) + 2;
        // SAFETY: the helper checks the address, and writes at most as many bytes as there are.
        unsafe {
            bpf_probe_read_kernel(
                source.name.as_mut_ptr().cast::<c_void>(),
                len & (SOURCE_NAME_LEN as u32 - 1),
                from as *const c_void,
            );
        }
    }
}
