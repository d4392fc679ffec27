//! Waits that end for every reason that has a name: descriptors of each kind, in `epoll` (level- and
//! edge-triggered, nested, shared by threads, exclusive), `poll`, `select` and blocking calls; futexes, timeouts
//! and signals. A feeder makes one thing ready at a time, or two in a burst, in a seeded order, when all who may
//! wait for it sleep. Prints for each thread, or threads that share their descriptors, what ended how many waits, and
//! which descriptors they wait for before and after the play.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::feed::{
    Counts, Ends, Feed, MakeReady, add, all, drain, epoll, epoll_wait, eventfd, listener, pipe,
    tcp, timerfd, udp, unix,
};
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, check};
use offwake_examples::task::{Role, own_voluntary_switches};
use offwake_examples::watch::Watch;

type Wait = Box<dyn FnMut() -> bool + Send>;

/// Threads that wait for the same things.
struct Group {
    name: &'static str,
    waits: Vec<Wait>,
    feeds: Vec<Feed>,
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
    for feed in &mut feeds {
        add(inner, feed.fd, 0)?;
        feed.through = Some(inner);
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

/// Two threads on one epoll instance with levels: the one that is woken wakes the other, as what it was woken by
/// is still ready.
fn shared_level() -> Result<Group> {
    let (mut feeds, epoll) = (vec![eventfd()?, unix()?, pipe()?], epoll()?);
    for feed in &mut feeds {
        let more = Arc::new(AtomicU64::new(0));
        feed.ends = Ends::AndMore(more.clone());
        let mut make_ready = std::mem::replace(&mut feed.make_ready, Box::new(|| false));
        feed.make_ready = Box::new(move || {
            more.fetch_add(1, Ordering::Relaxed);
            make_ready()
        });
        // SAFETY: takes no pointers.
        check(unsafe { libc::fcntl(feed.fd, libc::F_SETFL, libc::O_NONBLOCK) }, "fcntl")?;
        add(epoll, feed.fd, 0)?;
    }
    let wait = move || {
        loop {
            match epoll_wait(epoll) {
                Some(fd) if drain(fd) => return true,
                // The other thread was faster.
                Some(_) => {}
                None => return false,
            }
        }
    };
    Ok(Group { name: "shared_level", waits: vec![Box::new(wait), Box::new(wait)], feeds })
}

/// A thread for which two descriptors become ready, one right after the other.
fn burst() -> Result<Group> {
    let (mut feeds, epoll) = (vec![eventfd()?, unix()?, pipe()?], epoll()?);
    let more: Vec<_> = feeds.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    let ready: Vec<_> = feeds
        .iter_mut()
        .map(|feed| std::mem::replace(&mut feed.make_ready, Box::new(|| false)))
        .map(|make_ready| Arc::new(Mutex::new(make_ready)))
        .collect();
    for (index, feed) in feeds.iter_mut().enumerate() {
        add(epoll, feed.fd, 0)?;
        feed.ends = Ends::AndMore(more[index].clone());
        let next = (index + 1) % ready.len();
        let (first, second, more) = (ready[index].clone(), ready[next].clone(), more[next].clone());
        feed.make_ready = Box::new(move || {
            more.fetch_add(1, Ordering::Relaxed);
            let make = |ready: &Mutex<MakeReady>| (ready.lock().expect("nobody panics"))();
            make(&first) && make(&second)
        });
    }
    let wait = move || (0..2).all(|_| epoll_wait(epoll).is_some_and(drain));
    Ok(Group { name: "burst", waits: vec![Box::new(wait)], feeds })
}

/// Standard input. It is what a play begins with: only then it can be something else.
fn fd_zero() -> Result<Group> {
    let (Feed { kind, fd, make_ready, .. }, epoll) = (pipe()?, epoll()?);
    let mut is_there = false;
    let wait = move || {
        if !is_there {
            // SAFETY: takes no pointers.
            is_there = unsafe { libc::dup2(fd, 0) } == 0 && add(epoll, 0, 0).is_ok();
        }
        is_there && epoll_wait(epoll).is_some_and(drain)
    };
    let feeds = vec![Feed::new(kind, 0, make_ready)];
    Ok(Group { name: "fd_zero", waits: vec![Box::new(wait)], feeds })
}

/// Two threads with a listener each, on the same port (`SO_REUSEPORT`): the kernel chooses one for each connection.
fn reuse_port() -> Result<Group> {
    let first = listener("127.0.0.1:0".parse()?, true)?;
    let address = first.local_addr()?;
    let (mut waits, mut feeds): (Vec<Wait>, Vec<Feed>) = (Vec::new(), Vec::new());
    for listener in [first, listener(address, true)?] {
        let epoll = epoll()?;
        add(epoll, listener.as_raw_fd(), 0)?;
        let make_ready = Box::new(move || TcpStream::connect(address).is_ok());
        let mut feed = Feed::new("tcp", listener.as_raw_fd(), make_ready);
        let counts = counted(&mut feed);
        waits.push(Box::new(move || {
            let is_accepted = epoll_wait(epoll).is_some() && listener.accept().is_ok();
            counts.slept.fetch_add(1, Ordering::Relaxed);
            is_accepted
        }));
        feeds.push(feed);
    }
    Ok(Group { name: "reuse_port", waits, feeds })
}

/// What a thread counts the waits with that a feed ended.
fn counted(feed: &mut Feed) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    feed.ends = Ends::Counted(counts.clone());
    counts
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
    let feeds = vec![Feed::new("tcp", fd, make_ready)];
    Ok(Group { name: "accept", waits: vec![Box::new(move || listener.accept().is_ok())], feeds })
}

fn futex() -> Group {
    let word = Arc::new(AtomicU32::new(0));
    let waker = word.clone();
    let make_ready = Box::new(move || sys::futex_wake(&waker));
    let feeds = vec![Feed::new("futex", -1, make_ready)];
    Group { name: "futex", waits: vec![Box::new(move || sys::futex_wait(&word, 0))], feeds }
}

/// A wait for an event that nothing ends but time.
fn timeout() -> Result<Group> {
    let (epoll, feed) = (epoll()?, pipe()?);
    add(epoll, feed.fd, 0)?;
    let wait = move || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is valid for writing one event.
        unsafe { libc::epoll_wait(epoll, &mut event, 1, 2) == 0 }
    };
    Ok(timed("timeout", wait))
}

/// The same of a blocking call (`SO_RCVTIMEO`): another kind of timer.
fn receive_timeout() -> Result<Group> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(2)))?;
    let wait = move || {
        let error = socket.recv(&mut [0]).err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    Ok(timed("receive_timeout", wait))
}

/// A thread whose wait, which tells whether it was, is ended by time alone. Its feed only sees it sleep.
fn timed(name: &'static str, wait: impl Fn() -> bool + Send + 'static) -> Group {
    let mut feed = Feed::new("timeout", -1, Box::new(|| true));
    let counts = counted(&mut feed);
    let wait = move || {
        let before = own_voluntary_switches();
        let is_over = wait();
        let slept = own_voluntary_switches() > before;
        let count = if slept { &counts.slept } else { &counts.did_not_sleep };
        count.fetch_add(1, Ordering::Relaxed);
        is_over
    };
    Group { name, waits: vec![Box::new(wait)], feeds: vec![feed] }
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
    let feeds = vec![Feed::new("signal", -1, make_ready)];
    Ok(Group { name: "signal", waits: vec![Box::new(wait)], feeds })
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let mut stage = Stage::new()?;
    let signalled = Stage::role();
    // SAFETY: takes no pointers.
    let stdin = check(unsafe { libc::dup(0) }, "dup")? as RawFd;
    let groups = vec![
        epoll_of_all("epoll_level", 0)?,
        epoll_of_all("epoll_edge", libc::EPOLLET)?,
        nested()?,
        shared()?,
        shared_level()?,
        exclusive()?,
        burst()?,
        fd_zero()?,
        reuse_port()?,
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
        receive_timeout()?,
        signals(signalled)?,
    ];
    let over = Arc::new(AtomicBool::new(false));
    let mut fed = Vec::new();
    for Group { name, waits, feeds } in groups {
        let mut roles: Vec<&'static Role> = Vec::new();
        let left = Arc::new(AtomicUsize::new(waits.len()));
        for mut wait in waits {
            let role = if name == "signal" { signalled } else { Stage::role() };
            let (over, left) = (over.clone(), left.clone());
            stage.thread(role, name, move || {
                while !over.load(Ordering::Acquire) {
                    role.announce();
                    let is_right = wait();
                    ensure!(is_right || over.load(Ordering::Acquire), "{name}: a wait failed");
                }
                left.fetch_sub(1, Ordering::Release);
                Ok(())
            })?;
            roles.push(role);
        }
        let counts = vec![0; feeds.len()];
        fed.push(Fed { name, roles, feeds, counts, watches: Vec::new(), left });
    }
    let feeder = Stage::role();
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(2_000));
    let (told, tell) = std::sync::mpsc::channel();
    stage.thread(feeder, "feeder", move || {
        for group in &mut fed {
            let watches = group.roles.iter().map(|role| Watch::new(role));
            group.watches = watches.collect::<Result<_>>()?;
        }
        let mut is_last = false;
        while !is_last {
            is_last = !budget.spend();
            let index = rng.between(0, fed.len() as u64) as usize;
            fed[index].feed(&mut rng)?;
        }
        over.store(true, Ordering::Release);
        let lines: String = fed.iter().map(Fed::truth).collect();
        for group in &mut fed {
            group.end();
        }
        told.send(lines)?;
        Ok(())
    })?;
    let gates = stage.gates();
    let played = stage.perform()?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::dup2(stdin, 0) }, "dup2")?;
    println!("{}", serde_json::json!({"gates": gates}));
    print!("{}", tell.recv()?);
    played.finish()
}

/// A group on the stage.
struct Fed {
    name: &'static str,
    roles: Vec<&'static Role>,
    feeds: Vec<Feed>,
    /// How often each was made ready.
    counts: Vec<u64>,
    watches: Vec<Watch>,
    /// How many threads are not at the end.
    left: Arc<AtomicUsize>,
}

impl Fed {
    /// Makes one thing ready once all threads sleep.
    fn feed(&mut self, rng: &mut Rng) -> Result<()> {
        let waits = self.counts.iter().sum::<u64>() + self.roles.len() as u64;
        while self.roles.iter().map(|role| role.announced()).sum::<u64>() < waits {
            std::hint::spin_loop();
        }
        for (role, watch) in self.roles.iter().zip(&mut self.watches) {
            watch.asleep_in(role.announced())?;
        }
        // One may have been woken for nothing since it announced its wait.
        if self.feeds.iter().any(|feed| matches!(feed.ends, Ends::AndMore(_))) {
            Watch::at_rest(&self.watches)?;
        }
        let index = rng.between(0, self.feeds.len() as u64) as usize;
        let feed = &mut self.feeds[index];
        ensure!((feed.make_ready)(), "cannot make {} ready", feed.kind);
        self.counts[index] += 1;
        Ok(())
    }

    /// What ended the waits, a line for each feed.
    fn truth(&self) -> String {
        let tids: Vec<u32> = self.roles.iter().map(|role| role.tid()).collect();
        let mut lines = String::new();
        for (Feed { kind, fd, through, ends, .. }, fed) in self.feeds.iter().zip(&self.counts) {
            let (count, more) = match ends {
                Ends::One => (*fed, 0),
                Ends::AndMore(more) => (*fed, more.load(Ordering::Relaxed)),
                Ends::Counted(counts) => (
                    counts.slept.load(Ordering::Relaxed),
                    counts.did_not_sleep.load(Ordering::Relaxed),
                ),
            };
            let line = serde_json::json!({"source": {
                "name": self.name, "tids": tids, "kind": kind, "fd": fd, "through": through,
                "count": count, "more": more,
            }});
            lines += &format!("{line}\n");
        }
        lines
    }

    /// Ends the waits of all threads, with the first feed.
    fn end(&mut self) {
        while self.left.load(Ordering::Acquire) > 0 {
            (self.feeds[0].make_ready)();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
