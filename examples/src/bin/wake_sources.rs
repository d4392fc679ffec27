//! Waits that end for every reason that has a name: descriptors of each kind, in `epoll` (level- and
//! edge-triggered, nested, shared by threads, exclusive), `poll`, `select` and blocking calls; futexes, timeouts
//! and signals. A feeder makes one thing ready at a time, in a seeded order, when all who may wait for it
//! sleep. Prints for each thread, or threads that share their descriptors, what ended how many waits.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, check};
use offwake_examples::task::Role;
use offwake_examples::watch::Watch;

/// What can become ready: its kind, its descriptor (-1: none), and how.
struct Feed {
    kind: &'static str,
    fd: RawFd,
    make_ready: Box<dyn FnMut() -> bool + Send>,
}

type Wait = Box<dyn FnMut() -> bool + Send>;

/// Threads that wait for the same things.
struct Group {
    name: &'static str,
    waits: Vec<Wait>,
    feeds: Vec<Feed>,
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

fn write_to(fd: RawFd) -> Box<dyn FnMut() -> bool + Send> {
    Box::new(move || {
        let word = 1u64.to_ne_bytes();
        // SAFETY: the word is valid for reading.
        unsafe { libc::write(fd, word.as_ptr().cast(), 8) == 8 }
    })
}

fn pipe() -> Result<Feed> {
    let (read, write) = sys::pipe()?;
    Ok(Feed { kind: "pipe", fd: kept(read), make_ready: write_to(kept(write)) })
}

fn eventfd() -> Result<Feed> {
    // SAFETY: takes no pointers.
    let fd = kept(owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?);
    Ok(Feed { kind: "eventfd", fd, make_ready: write_to(fd) })
}

fn timerfd() -> Result<Feed> {
    // SAFETY: takes no pointers.
    let fd = kept(owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?);
    let make_ready = Box::new(move || {
        // SAFETY: plain old data, for which zeros are valid.
        let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
        time.it_value.tv_nsec = 1000;
        // SAFETY: the time is valid for reading, and no old one is asked for.
        unsafe { libc::timerfd_settime(fd, 0, &time, std::ptr::null_mut()) == 0 }
    });
    Ok(Feed { kind: "timerfd", fd, make_ready })
}

fn unix() -> Result<Feed> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok(Feed { kind: "unix", fd: kept(ours), make_ready: write_to(kept(theirs)) })
}

fn tcp(address: &str) -> Result<Feed> {
    let listener = TcpListener::bind(address)?;
    let theirs = TcpStream::connect(listener.local_addr()?)?;
    theirs.set_nodelay(true)?;
    let ours = listener.accept()?.0;
    Ok(Feed { kind: "tcp", fd: kept(ours), make_ready: write_to(kept(theirs)) })
}

fn udp() -> Result<Feed> {
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    theirs.connect(ours.local_addr()?)?;
    Ok(Feed { kind: "udp", fd: kept(ours), make_ready: write_to(kept(theirs)) })
}

/// One of each kind. IPv6 where the machine has it.
fn all() -> Result<Vec<Feed>> {
    let mut feeds =
        vec![pipe()?, eventfd()?, timerfd()?, unix()?, tcp("127.0.0.1:0")?, udp()?, pipe()?];
    feeds.extend(tcp("[::1]:0"));
    Ok(feeds)
}

fn epoll() -> Result<RawFd> {
    // SAFETY: takes no pointers.
    Ok(kept(owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?))
}

fn add(epoll: RawFd, fd: RawFd, how: libc::c_int) -> Result<()> {
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | how) as u32, u64: fd as u64 };
    // SAFETY: the event is valid for reading.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }, "epoll_ctl")?;
    Ok(())
}

/// Reads what a feed wrote.
fn drain(fd: RawFd) -> bool {
    let mut word = [0u8; 8];
    // SAFETY: the word is valid for writing.
    unsafe { libc::read(fd, word.as_mut_ptr().cast(), 8) == 8 }
}

fn epoll_wait(epoll: RawFd) -> Option<RawFd> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is valid for writing one event.
    (unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) } == 1).then_some(event.u64 as RawFd)
}

fn on_epoll(epoll: RawFd) -> Wait {
    Box::new(move || epoll_wait(epoll).is_some_and(drain))
}

/// One thread on an epoll instance of everything.
fn epoll_of_all(name: &'static str, how: libc::c_int) -> Result<Group> {
    let (feeds, epoll) = (all()?, epoll()?);
    for feed in &feeds {
        add(epoll, feed.fd, how)?;
    }
    Ok(Group { name, waits: vec![on_epoll(epoll)], feeds })
}

/// An epoll instance in another one; both have descriptors.
fn nested() -> Result<Group> {
    let (mut feeds, outer, inner) = (vec![eventfd()?, unix()?], epoll()?, epoll()?);
    for feed in &feeds {
        add(inner, feed.fd, 0)?;
    }
    let beside = pipe()?;
    add(outer, beside.fd, 0)?;
    add(outer, inner, 0)?;
    feeds.push(beside);
    let wait = move || match epoll_wait(outer) {
        Some(fd) if fd == inner => epoll_wait(inner).is_some_and(drain),
        fd => fd.is_some_and(drain),
    };
    Ok(Group { name: "nested", waits: vec![Box::new(wait)], feeds })
}

/// Two threads on one epoll instance; edges, so that one wake-up is one wait.
fn shared() -> Result<Group> {
    let (feeds, epoll) = (vec![eventfd()?, unix()?, pipe()?], epoll()?);
    for feed in &feeds {
        add(epoll, feed.fd, libc::EPOLLET)?;
    }
    Ok(Group { name: "shared", waits: vec![on_epoll(epoll), on_epoll(epoll)], feeds })
}

/// Two threads with an epoll instance each, of which one is woken.
fn exclusive() -> Result<Group> {
    let (feeds, epolls) = (vec![eventfd()?, unix()?, pipe()?], [epoll()?, epoll()?]);
    for feed in &feeds {
        for epoll in epolls {
            add(epoll, feed.fd, libc::EPOLLEXCLUSIVE | libc::EPOLLET)?;
        }
    }
    Ok(Group { name: "exclusive", waits: epolls.map(on_epoll).into(), feeds })
}

fn polls() -> Result<Group> {
    let feeds = all()?;
    let mut fds: Vec<_> = feeds
        .iter()
        .map(|feed| libc::pollfd { fd: feed.fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let wait = move || {
        // SAFETY: as many as it says.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        ready == 1 && fds.iter().find(|fd| fd.revents != 0).is_some_and(|fd| drain(fd.fd))
    };
    Ok(Group { name: "poll", waits: vec![Box::new(wait)], feeds })
}

fn selects() -> Result<Group> {
    let feeds = all()?;
    let fds: Vec<RawFd> = feeds.iter().map(|feed| feed.fd).collect();
    let wait = move || {
        let none = std::ptr::null_mut();
        let forever = std::ptr::null_mut();
        // SAFETY: a set that is valid for writing; descriptors below its size.
        unsafe {
            let mut set: libc::fd_set = std::mem::zeroed();
            fds.iter().for_each(|&fd| libc::FD_SET(fd, &mut set));
            let max = fds.iter().max().expect("one") + 1;
            let ready = libc::select(max, &mut set, none, none, forever);
            ready == 1
                && fds.iter().find(|&&fd| libc::FD_ISSET(fd, &set)).is_some_and(|&fd| drain(fd))
        }
    };
    Ok(Group { name: "select", waits: vec![Box::new(wait)], feeds })
}

/// A thread in a blocking call on one descriptor.
fn blocking(name: &'static str, feed: Feed) -> Group {
    let fd = feed.fd;
    Group { name, waits: vec![Box::new(move || drain(fd))], feeds: vec![feed] }
}

fn accepts() -> Result<Group> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (fd, address) = (listener.as_raw_fd(), listener.local_addr()?);
    let make_ready = Box::new(move || TcpStream::connect(address).is_ok());
    let feeds = vec![Feed { kind: "tcp", fd, make_ready }];
    Ok(Group { name: "accept", waits: vec![Box::new(move || listener.accept().is_ok())], feeds })
}

fn futex() -> Group {
    let word = Arc::new(AtomicU32::new(0));
    let waker = word.clone();
    let make_ready = Box::new(move || sys::futex_wake(&waker));
    let feeds = vec![Feed { kind: "futex", fd: -1, make_ready }];
    Group { name: "futex", waits: vec![Box::new(move || sys::futex_wait(&word, 0))], feeds }
}

/// A wait that nothing ends but time. Its feed only sees it sleep.
fn timeout() -> Result<Group> {
    let (epoll, feed) = (epoll()?, pipe()?);
    add(epoll, feed.fd, 0)?;
    let wait = move || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is valid for writing one event.
        unsafe { libc::epoll_wait(epoll, &mut event, 1, 2) == 0 }
    };
    let feeds = vec![Feed { kind: "timeout", fd: -1, make_ready: Box::new(|| true) }];
    Ok(Group { name: "timeout", waits: vec![Box::new(wait)], feeds })
}

/// A wait in `poll` that a signal interrupts.
fn signals(role: &'static Role) -> Result<Group> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    let mut fd = libc::pollfd { fd: pipe()?.fd, events: libc::POLLIN, revents: 0 };
    let wait = move || {
        // SAFETY: one descriptor.
        let result = unsafe { libc::poll(&mut fd, 1, -1) };
        result == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    };
    let make_ready = Box::new(move || {
        // SAFETY: takes no pointers.
        unsafe { libc::syscall(libc::SYS_tgkill, role.pid(), role.tid(), libc::SIGUSR1) == 0 }
    });
    let feeds = vec![Feed { kind: "signal", fd: -1, make_ready }];
    Ok(Group { name: "signal", waits: vec![Box::new(wait)], feeds })
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let mut stage = Stage::new()?;
    let signalled = Stage::role();
    let groups = vec![
        epoll_of_all("epoll_level", 0)?,
        epoll_of_all("epoll_edge", libc::EPOLLET)?,
        nested()?,
        shared()?,
        exclusive()?,
        polls()?,
        selects()?,
        blocking("read_pipe", pipe()?),
        blocking("read_eventfd", eventfd()?),
        blocking("read_timerfd", timerfd()?),
        blocking("read_unix", unix()?),
        blocking("recv_tcp", tcp("127.0.0.1:0")?),
        blocking("recv_udp", udp()?),
        accepts()?,
        futex(),
        timeout()?,
        signals(signalled)?,
    ];
    let over = Arc::new(AtomicBool::new(false));
    let mut fed = Vec::new();
    for Group { name, waits, feeds } in groups {
        let mut roles: Vec<&'static Role> = Vec::new();
        for mut wait in waits {
            let role = if name == "signal" { signalled } else { Stage::role() };
            let over = over.clone();
            stage.thread(role, name, move || {
                while !over.load(Ordering::Acquire) {
                    role.announce();
                    let is_right = wait();
                    ensure!(is_right || over.load(Ordering::Acquire), "{name}: a wait failed");
                }
                Ok(())
            })?;
            roles.push(role);
        }
        fed.push((name, roles, feeds, Vec::<u64>::new()));
    }
    let feeder = Stage::role();
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(2_000));
    let (told, tell) = std::sync::mpsc::channel();
    stage.thread(feeder, "feeder", move || {
        let mut watches = Vec::new();
        for (_, roles, feeds, counts) in &mut fed {
            watches.push(roles.iter().map(|role| Watch::new(role)).collect::<Result<Vec<_>>>()?);
            counts.resize(feeds.len(), 0);
        }
        let mut is_last = false;
        while !is_last {
            is_last = !budget.spend();
            let index = rng.between(0, fed.len() as u64) as usize;
            feed(&mut fed[index], &mut watches[index], &mut rng)?;
        }
        let mut lines = String::new();
        for (name, roles, feeds, counts) in &fed {
            let tids: Vec<u32> = roles.iter().map(|role| role.tid()).collect();
            // What nobody feeds counts its waits itself.
            let own = roles[0].announced().saturating_sub(1);
            for (Feed { kind, fd, .. }, count) in feeds.iter().zip(counts) {
                let count = if *name == "timeout" { own } else { *count };
                let line = serde_json::json!({"source": {
                    "name": name, "tids": tids, "kind": kind, "fd": fd, "count": count,
                }});
                lines += &format!("{line}\n");
            }
        }
        // All sleep, and each feed ends a wait of a thread: until none is left.
        over.store(true, Ordering::Release);
        for (name, roles, feeds, _) in &mut fed {
            for _ in 0..roles.len() {
                (feeds[0].make_ready)();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let _ = name;
        }
        told.send(lines)?;
        Ok(())
    })?;
    let played = stage.perform()?;
    print!("{}", tell.recv()?);
    played.finish()
}

/// Makes one thing ready once all threads of a group sleep.
fn feed(
    (_, roles, feeds, counts): &mut (&'static str, Vec<&'static Role>, Vec<Feed>, Vec<u64>),
    watches: &mut [Watch],
    rng: &mut Rng,
) -> Result<()> {
    let waits = counts.iter().sum::<u64>() + roles.len() as u64;
    while roles.iter().map(|role| role.announced()).sum::<u64>() < waits {
        std::hint::spin_loop();
    }
    for (role, watch) in roles.iter().zip(watches) {
        watch.asleep_in(role.announced())?;
    }
    let index = rng.between(0, feeds.len() as u64) as usize;
    ensure!((feeds[index].make_ready)(), "cannot make {} ready", feeds[index].kind);
    counts[index] += 1;
    Ok(())
}
