//! An epoll server as proxies have it: two workers, each with its own epoll instance and connections,
//! and a client that sends requests over loopback TCP. A worker sleeps in `epoll_wait` and is woken by the
//! client's `write`, through the softirq at the end of that system call; the client sleeps in `read` and is
//! woken by the worker's `write`. (Not `send` and `recv`: those of glibc use the frame pointer's register for
//! other things, and a walk by frame pointers ends there.)

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::{busy, pause};
use offwake_examples::ledger::Ledger;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::watch::Watch;
use offwake_examples::{feed, oracle_fn, oracle_name};

/// A request: which wait of the client the reply ends, and [`ON`] or [`LAST`].
type Request = [u64; 2];
const ON: u64 = 1;
const LAST: u64 = 0;

const CONNECTIONS: usize = 3;

oracle_fn! {
    fn oracle_epoll_wait / oracle_epoll_wait_inner(epoll: RawFd) -> Option<RawFd> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is valid for writing one event.
        let mut wait = || unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) };
        let mut ready = wait();
        // A debugger that stops the process ends the call.
        while ready == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            ready = wait();
        }
        (ready == 1).then_some(event.u64 as RawFd)
    }
}

oracle_fn! {
    fn oracle_reply / oracle_reply_inner(fd: RawFd, request: &Request) -> bool { send(fd, request) }
}

oracle_fn! {
    fn oracle_request / oracle_request_inner(fd: RawFd, request: &Request) -> bool { send(fd, request) }
}

oracle_fn! {
    fn oracle_await_reply / oracle_await_reply_inner(fd: RawFd) -> Option<Request> { receive(fd) }
}

#[inline(always)]
fn send(fd: RawFd, request: &Request) -> bool {
    let size = size_of::<Request>();
    // SAFETY: `request` is valid for reading.
    unsafe { libc::write(fd, request.as_ptr().cast(), size) == size as isize }
}

#[inline(always)]
fn receive(fd: RawFd) -> Option<Request> {
    let mut request: Request = [0; 2];
    let size = size_of::<Request>();
    // SAFETY: `request` is valid for writing.
    let length = unsafe { libc::read(fd, request.as_mut_ptr().cast(), size) };
    (length == size as isize).then_some(request)
}

/// The two ends of the connections of one worker, and its epoll instance.
struct Connections {
    epoll: RawFd,
    server: Vec<TcpStream>,
    client: Vec<TcpStream>,
}

impl Connections {
    fn new() -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").context("no port of loopback to listen on")?;
        let epoll = feed::epoll()?;
        let (mut server, mut client) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            client.push(TcpStream::connect(listener.local_addr()?)?);
            let connection = listener.accept()?.0;
            feed::add(epoll, connection.as_raw_fd(), 0)?;
            server.push(connection);
        }
        Ok(Self { epoll, server, client })
    }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let downstream = Stage::role();
    let mut stage = Stage::new()?;
    let mut workers = Vec::new();
    let mut clients = Vec::new();
    for index in 0..2 {
        let (role, requests, replies) = (Stage::role(), Ledger::new(), Ledger::new());
        let Connections { epoll, server, client } = Connections::new()?;
        let mut rng = Rng::new(length.seed + 1 + index);
        stage.thread(role, format!("wrk:worker_{index}"), move || {
            let _open = server;
            let mut watch = Watch::new(downstream)?;
            loop {
                let since = requests.announce_sleep(role);
                let fd = oracle_epoll_wait(epoll).context("epoll_wait failed")?;
                requests.slept(since);
                let request @ [wait, more] = receive(fd).context("read failed")?;
                busy(rng.micros(300, 2_500));
                watch.asleep_in(wait)?;
                replies.wake();
                ensure!(oracle_reply(fd, &request), "write failed");
                if more == LAST {
                    return Ok(());
                }
            }
        })?;
        workers.push((role, requests, replies));
        clients.push((role, requests, replies, client));
    }
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(500));
    stage.thread(downstream, "downstream", move || {
        let mut watches =
            clients.iter().map(|(role, ..)| Watch::new(role)).collect::<Result<Vec<_>>>()?;
        let mut exchange = |worker: usize, more: u64| {
            let (_, requests, replies, connections) = &clients[worker];
            let fd = connections[rng.between(0, CONNECTIONS as u64) as usize].as_raw_fd();
            watches[worker].asleep()?;
            pause(rng.micros(200, 2_000));
            let request = [downstream.announced() + 1, more];
            requests.wake();
            ensure!(oracle_request(fd, &request), "write failed");
            let since = replies.announce_sleep(downstream);
            let reply = oracle_await_reply(fd);
            replies.slept(since);
            ensure!(reply == Some(request), "read failed");
            Ok(())
        };
        let mut choice = Rng::new(length.seed + 3);
        while budget.spend() {
            exchange(choice.between(0, 2) as usize, ON)?;
        }
        exchange(0, LAST)?;
        exchange(1, LAST)
    })?;
    let played = stage.perform()?;
    let waits = oracle_name!(oracle_epoll_wait / oracle_epoll_wait_inner);
    let sends = oracle_name!(oracle_request / oracle_request_inner);
    let receives = oracle_name!(oracle_await_reply / oracle_await_reply_inner);
    let answers = oracle_name!(oracle_reply / oracle_reply_inner);
    for (role, requests, replies) in workers {
        played.tell(requests, "epoll_wait", (role, waits), (downstream, sends))?;
        played.tell(replies, "read", (downstream, receives), (role, answers))?;
    }
    played.finish()
}
