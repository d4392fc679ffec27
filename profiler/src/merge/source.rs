//! What a thread waited for, as a frame.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use offwake_shared::{Source, SourceKind};

use crate::profile::{Frame, SOURCE_MODULE};
use crate::unix_name::unix_name;

/// The frame of a source; `None` for one that no version of the BPF programs writes.
pub(super) fn frame(source: &Source) -> Option<Frame> {
    Some(Frame {
        name: Some(name(source)?),
        module: Some(SOURCE_MODULE.into()),
        offset: 0,
        kernel: true,
        file: None,
        line: None,
        inlined: false,
    })
}

/// Such as `[tcp 10.0.0.1:80 <- 10.0.0.2:38590 ESTABLISHED fd 7]`. What was not to be told apart is 0, and
/// not shown.
fn name(source: &Source) -> Option<String> {
    let kind = SourceKind::from_u32(source.kind)?;
    let mut name = format!("[{}", kind.name());
    let rest = match kind {
        // A file of a kind that nobody knows: to say no more than that would be a guess.
        SourceKind::None | SourceKind::File => return None,
        SourceKind::Tcp => join([endpoints(source), tcp_state(source.state).into()]),
        SourceKind::Udp => endpoints(source),
        SourceKind::Unix => unix_name(&source.name, source.name_len).unwrap_or_default(),
        SourceKind::Socket => {
            name = format!("[{}", family(source.family));
            endpoints(source)
        }
        SourceKind::Futex if source.id != 0 => format!("{:#x}", source.id),
        SourceKind::Pipe if source.id != 0 => source.id.to_string(),
        _ => String::new(),
    };
    if !rest.is_empty() {
        name.push(' ');
        name += &rest;
    }
    if source.fd >= 0 {
        write!(name, " fd {}", source.fd).expect("a string grows");
    }
    name.push(']');
    Some(name)
}

fn join(parts: [String; 2]) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// The local end, and which way to the remote one, as far as they are told apart.
fn endpoints(source: &Source) -> String {
    let local = endpoint(source.family, &source.local, source.local_port);
    let remote = endpoint(source.family, &source.remote, source.remote_port);
    // Nobody knows who began to talk on a UDP socket that has a peer.
    let connects = source.is_outgoing != 0 || source.kind != SourceKind::Tcp as u32;
    match (local.is_empty(), remote.is_empty()) {
        (_, true) => local,
        (true, false) => format!("-> {remote}"),
        (false, false) => format!("{local} {} {remote}", if connects { "->" } else { "<-" }),
    }
}

/// An address and a port; only the port where the address is any.
fn endpoint(family: u16, address: &[u8; 16], port: u16) -> String {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    if port == 0 {
        return String::new();
    }
    let address = match family {
        AF_INET => {
            let [a, b, c, d, ..] = *address;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(),
        _ => return format!(":{port}"),
    };
    match address {
        address if address.is_unspecified() => format!(":{port}"),
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// include/net/tcp_states.h
const fn tcp_state(state: u8) -> &'static str {
    match state {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        12 => "NEW_SYN_RECV",
        _ => "",
    }
}

/// include/linux/socket.h
fn family(family: u16) -> String {
    match family {
        2 | 10 => "raw".into(),
        16 => "netlink".into(),
        17 => "packet".into(),
        38 => "alg".into(),
        40 => "vsock".into(),
        44 => "xdp".into(),
        0 => "socket".into(),
        other => format!("socket family {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: SourceKind) -> Source {
        Source { kind: kind as u32, ..Source::NONE }
    }

    fn v4(bytes: [u8; 4]) -> [u8; 16] {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&bytes);
        address
    }

    #[test]
    fn sockets_at_each_detail() {
        let connection = Source {
            family: 2,
            local: v4([172, 21, 206, 207]),
            local_port: 15006,
            remote: v4([172, 30, 207, 163]),
            remote_port: 38590,
            state: 1,
            ..source(SourceKind::Tcp)
        };
        let cases = [
            (source(SourceKind::Tcp), "[tcp]"),
            (
                Source { local_port: 15006, state: 10, ..source(SourceKind::Tcp) },
                "[tcp :15006 LISTEN]",
            ),
            (
                Source { remote_port: 80, state: 1, is_outgoing: 1, ..source(SourceKind::Tcp) },
                "[tcp -> :80 ESTABLISHED]",
            ),
            (connection, "[tcp 172.21.206.207:15006 <- 172.30.207.163:38590 ESTABLISHED]"),
            (
                Source { is_outgoing: 1, fd: 0, ..connection },
                "[tcp 172.21.206.207:15006 -> 172.30.207.163:38590 ESTABLISHED fd 0]",
            ),
            (
                Source {
                    family: 10,
                    local: Ipv6Addr::LOCALHOST.octets(),
                    local_port: 53,
                    ..source(SourceKind::Udp)
                },
                "[udp [::1]:53]",
            ),
            (
                Source {
                    family: 10,
                    local: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
                    local_port: 80,
                    state: 10,
                    ..source(SourceKind::Tcp)
                },
                "[tcp 127.0.0.1:80 LISTEN]",
            ),
            (Source { family: 16, ..source(SourceKind::Socket) }, "[netlink]"),
        ];
        for (source, expected) in cases {
            assert_eq!(name(&source).unwrap(), expected);
        }
    }

    #[test]
    fn names_of_unix_sockets() {
        let named = |bytes: &[u8]| {
            let mut source = source(SourceKind::Unix);
            source.name[..bytes.len()].copy_from_slice(bytes);
            source.name_len = bytes.len() as u32;
            name(&source).unwrap()
        };
        assert_eq!(named(b"/run/x.sock\0"), "[unix /run/x.sock]");
        assert_eq!(named(b"\0envoy\0a"), "[unix @envoy@a]");
        assert_eq!(named(b""), "[unix]");
    }

    #[test]
    fn what_is_no_descriptor() {
        assert_eq!(name(&source(SourceKind::Timeout)).unwrap(), "[timeout]");
        let futex = Source { id: 0x7f00_1234, ..source(SourceKind::Futex) };
        assert_eq!(name(&futex).unwrap(), "[futex 0x7f001234]");
        assert_eq!(name(&source(SourceKind::None)), None);
        assert_eq!(name(&Source { kind: 999, ..Source::NONE }), None);
    }
}
