//! A `struct sock` of the kernel's.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use offwake_shared::{SOURCE_NAME_LEN, Source, SourceKind};

use super::file::File;
use super::offsets::{
    SOCK_BACKLOG, SOCK_FAMILY, SOCK_LOCAL_PORT, SOCK_LOCAL_V4, SOCK_LOCAL_V6, SOCK_PROTOCOL,
    SOCK_REMOTE_PORT, SOCK_REMOTE_V4, SOCK_REMOTE_V6, SOCK_REUSE_PORT, SOCK_REUSE_PORT_BIT,
    SOCK_STATE, SOCKET_SOCK, UNIX_ADDRESS, UNIX_LEN, UNIX_NAME, UNIX_PEER,
};
use crate::memory::read_at;

// include/linux/socket.h
pub const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

// include/uapi/linux/in.h
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: u8 = 10;

/// IPv4 or IPv6.
#[inline(always)]
pub const fn is_internet(family: u16) -> bool {
    family == AF_INET || family == AF_INET6
}

/// TCP or MPTCP.
#[inline(always)]
pub const fn is_tcp(protocol: u16) -> bool {
    protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP
}

/// What a socket is connected by.
#[derive(Clone, Copy)]
pub struct Socket(pub u64);

impl Socket {
    /// That of a file, which is a socket.
    #[inline(always)]
    pub fn of_file(file: File) -> Self {
        Self(read_at(file.private(), &SOCKET_SOCK))
    }

    /// The address family (`AF_…`).
    #[inline(always)]
    pub fn family(self) -> u16 {
        read_at(self.0, &SOCK_FAMILY)
    }

    /// `IPPROTO_…`, of IPv4 and IPv6.
    #[inline(always)]
    pub fn protocol(self) -> u16 {
        read_at(self.0, &SOCK_PROTOCOL)
    }

    /// `TCP_…` (include/net/tcp_states.h), which other families use as well.
    #[inline(always)]
    pub fn state(self) -> u8 {
        read_at(self.0, &SOCK_STATE)
    }

    /// Its own port and the other end's, of IPv4 and IPv6.
    #[inline(always)]
    pub fn ports(self) -> (u16, u16) {
        let remote = u16::from_be(read_at(self.0, &SOCK_REMOTE_PORT));
        (read_at(self.0, &SOCK_LOCAL_PORT), remote)
    }

    /// Whether others may bind to the same port (`SO_REUSEPORT`).
    #[inline(always)]
    pub fn shares_port(self) -> bool {
        let bits = u32::from(read_at::<u8>(self.0, &SOCK_REUSE_PORT));
        bits >> (SOCK_REUSE_PORT_BIT.load() & 7) & 1 != 0
    }

    /// Its own address and the other end's, if it is of one of these families.
    #[inline(always)]
    pub fn addresses(self, family: u16, local: &mut [u8; 16], remote: &mut [u8; 16]) {
        if family == AF_INET {
            local[..4].copy_from_slice(&read_at::<[u8; 4]>(self.0, &SOCK_LOCAL_V4));
            remote[..4].copy_from_slice(&read_at::<[u8; 4]>(self.0, &SOCK_REMOTE_V4));
        } else if family == AF_INET6 && SOCK_LOCAL_V6.load() != 0 {
            *local = read_at(self.0, &SOCK_LOCAL_V6);
            *remote = read_at(self.0, &SOCK_REMOTE_V6);
        }
    }

    /// Fills in the kind and all that a socket tells. `source` is [`Source::NONE`] before, except for its
    /// kind and descriptor.
    #[inline(always)]
    pub fn describe(self, source: &mut Source) {
        source.kind = SourceKind::Socket as u32;
        let family = self.family();
        source.family = family;
        if family == AF_UNIX {
            source.kind = SourceKind::Unix as u32;
            return self.describe_unix(&mut source.name_len, &mut source.name);
        }
        if !is_internet(family) {
            return;
        }
        let protocol = self.protocol();
        (source.local_port, source.remote_port) = self.ports();
        if is_tcp(protocol) {
            source.kind = SourceKind::Tcp as u32;
            source.state = self.state();
            source.is_outgoing = u8::from(self.is_outgoing(source.state));
        } else if protocol == IPPROTO_UDP {
            source.kind = SourceKind::Udp as u32;
        }
        self.addresses(family, &mut source.local, &mut source.remote);
    }

    /// Whether a TCP socket was connected from here. What `accept` returns is a copy of its listener
    /// (`sk_clone_lock` in net/core/sock.c), with the length of its queue, and nothing else has one; a listener
    /// without a queue, `listen(fd, 0)`, accepts what looks like connected from here.
    #[inline(always)]
    pub fn is_outgoing(self, state: u8) -> bool {
        state != TCP_LISTEN && read_at::<u32>(self.0, &SOCK_BACKLOG) == 0
    }

    /// The path of a unix socket: its own, as listeners and what they accept have, or else that of its peer.
    #[inline(always)]
    pub fn describe_unix(self, name_len: &mut u32, name: &mut [u8; SOURCE_NAME_LEN]) {
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
        *name_len = len;
        // SAFETY: the field is there. Volatile: the compiler would drop the mask, which tells the verifier that
        // the length is within bounds.
        let len = unsafe { (&raw const *name_len).read_volatile() };
        let from = address + u64::from(UNIX_NAME.load()) + 2;
        // SAFETY: the helper checks the address, and writes at most as many bytes as there are.
        unsafe {
            bpf_probe_read_kernel(
                name.as_mut_ptr().cast::<c_void>(),
                len & (SOURCE_NAME_LEN as u32 - 1),
                from as *const c_void,
            );
        }
    }
}
