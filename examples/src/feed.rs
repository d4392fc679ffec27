//! Descriptors of each kind that a feeder makes ready, and epoll instances that wait for them.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;

use crate::sys::{self, check};

/// Makes something ready. Returns whether that worked.
pub type MakeReady = Box<dyn FnMut() -> bool + Send>;

/// How many waits a feed ends.
#[derive(Clone)]
pub enum Ends {
    /// One each time.
    One,
    /// One each time, and at most so many more.
    AndMore(Arc<AtomicU64>),
    /// Who waits counts them.
    Counted(Arc<Counts>),
}

/// What who waits counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Waits in which it slept.
    pub slept: AtomicU64,
    /// Waits that were over before it slept: it was woken on the way there, or not at all.
    pub did_not_sleep: AtomicU64,
}

/// What can become ready.
pub struct Feed {
    /// What it is, as offwake names it.
    pub kind: &'static str,
    /// Its descriptor; -1: none.
    pub fd: RawFd,
    /// The epoll instance through which another one waits for it.
    pub through: Option<RawFd>,
    /// See [`Ends`].
    pub ends: Ends,
    /// Makes it ready.
    pub make_ready: MakeReady,
}

impl Feed {
    /// Ends one wait each time.
    pub fn new(kind: &'static str, fd: RawFd, make_ready: MakeReady) -> Self {
        Self { kind, fd, through: None, ends: Ends::One, make_ready }
    }
}

fn owned(fd: libc::c_int) -> Result<OwnedFd> {
    let fd = check(fd, "a descriptor")? as RawFd;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that stays open to the end.
fn kept(fd: impl Into<OwnedFd>) -> RawFd {
    let fd: OwnedFd = fd.into();
    let raw = fd.as_raw_fd();
    std::mem::forget(fd);
    raw
}

fn write_to(fd: RawFd) -> MakeReady {
    Box::new(move || {
        let word = 1u64.to_ne_bytes();
        // SAFETY: the word is valid for reading.
        unsafe { libc::write(fd, word.as_ptr().cast(), 8) == 8 }
    })
}

/// A pipe.
pub fn pipe() -> Result<Feed> {
    let (read, write) = sys::pipe()?;
    Ok(Feed::new("pipe", kept(read), write_to(kept(write))))
}

/// An eventfd.
pub fn eventfd() -> Result<Feed> {
    // SAFETY: takes no pointers.
    let fd = kept(owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?);
    Ok(Feed::new("eventfd", fd, write_to(fd)))
}

/// A timer that expires at once.
pub fn timerfd() -> Result<Feed> {
    // SAFETY: takes no pointers.
    let fd = kept(owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?);
    let make_ready = Box::new(move || {
        // SAFETY: plain old data, for which zeros are valid.
        let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
        time.it_value.tv_nsec = 1000;
        // SAFETY: the time is valid for reading, and no old one is asked for.
        unsafe { libc::timerfd_settime(fd, 0, &time, ptr::null_mut()) == 0 }
    });
    Ok(Feed::new("timerfd", fd, make_ready))
}

/// A unix socket.
pub fn unix() -> Result<Feed> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok(Feed::new("unix", kept(ours), write_to(kept(theirs))))
}

/// A TCP connection to this address.
pub fn tcp(address: &str) -> Result<Feed> {
    let listener = TcpListener::bind(address)?;
    let theirs = TcpStream::connect(listener.local_addr()?)?;
    theirs.set_nodelay(true)?;
    let ours = listener.accept()?.0;
    Ok(Feed::new("tcp", kept(ours), write_to(kept(theirs))))
}

/// A UDP socket.
pub fn udp() -> Result<Feed> {
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    theirs.connect(ours.local_addr()?)?;
    Ok(Feed::new("udp", kept(ours), write_to(kept(theirs))))
}

/// One of each kind. IPv6 where the machine has it.
pub fn all() -> Result<Vec<Feed>> {
    let mut feeds =
        vec![pipe()?, eventfd()?, timerfd()?, unix()?, tcp("127.0.0.1:0")?, udp()?, pipe()?];
    feeds.extend(tcp("[::1]:0"));
    Ok(feeds)
}

/// An epoll instance.
pub fn epoll() -> Result<RawFd> {
    // SAFETY: takes no pointers.
    Ok(kept(owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?))
}

/// Has an epoll instance wait for input from a descriptor.
pub fn add(epoll: RawFd, fd: RawFd, how: libc::c_int) -> Result<()> {
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | how) as u32, u64: fd as u64 };
    // SAFETY: the event is valid for reading.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }, "epoll_ctl")?;
    Ok(())
}

/// Reads what a feed wrote. Returns whether there was something.
pub fn drain(fd: RawFd) -> bool {
    let mut word = [0u8; 8];
    // SAFETY: the word is valid for writing.
    unsafe { libc::read(fd, word.as_mut_ptr().cast(), 8) == 8 }
}

/// The descriptor of the next event; `None`: there was an error. All system calls that wait for one take turns.
pub fn epoll_wait(epoll: RawFd) -> Option<RawFd> {
    thread_local!(static TURN: Cell<u32> = const { Cell::new(0) });
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is valid for writing one event; there is no mask of signals, and no time.
    let count = unsafe {
        match TURN.replace(TURN.get() + 1) % 3 {
            0 => libc::epoll_wait(epoll, &mut event, 1, -1),
            1 => libc::epoll_pwait(epoll, &mut event, 1, -1, ptr::null()),
            _ => epoll_pwait2(epoll, &mut event),
        }
    };
    (count == 1).then_some(event.u64 as RawFd)
}

/// `epoll_pwait2` for one event; before Linux 5.11, which has none, `epoll_pwait`.
///
/// # Safety
/// `event` is valid for writing one event.
unsafe fn epoll_pwait2(epoll: RawFd, event: *mut libc::epoll_event) -> libc::c_int {
    let (no_time, no_mask) = (ptr::null::<libc::timespec>(), ptr::null::<libc::sigset_t>());
    // SAFETY: see above.
    unsafe {
        match libc::syscall(libc::SYS_epoll_pwait2, epoll, event, 1, no_time, no_mask, 0) {
            -1 if *libc::__errno_location() == libc::ENOSYS => {
                libc::epoll_pwait(epoll, event, 1, -1, no_mask)
            }
            count => count as libc::c_int,
        }
    }
}

/// A socket that listens and does not block.
pub fn listener(address: SocketAddr, shares_port: bool) -> Result<TcpListener> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind, 0) }, "socket")? as RawFd;
    // SAFETY: the call returned a new descriptor.
    let socket = unsafe { TcpListener::from_raw_fd(fd) };
    if shares_port {
        let on: libc::c_int = 1;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
        // SAFETY: `on` is valid for reading.
        let result = unsafe {
            libc::setsockopt(fd, level, name, (&raw const on).cast(), size_of_val(&on) as u32)
        };
        check(result, "setsockopt(SO_REUSEPORT)")?;
    }
    let bound = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the address is valid for reading and of this size.
            unsafe { libc::bind(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: as above.
            unsafe { libc::bind(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
    };
    check(bound, "bind")?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(fd, 128) }, "listen")?;
    Ok(socket)
}
