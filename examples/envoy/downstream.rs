//! The client in front of Envoy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::upstream;

/// Every how many requests the upstream has to think.
const SLOW_EVERY: u64 = 10;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Requests a second, of all connections.
    pub(crate) rate: u32,
    /// Open at a time.
    pub(crate) connections: u32,
    /// After so many requests a connection is closed.
    pub(crate) requests_per_connection: u64,
    /// Of the load.
    pub(crate) length: Duration,
}

/// What the client saw.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Requests that were answered.
    requests: u64,
    /// Those of them that the upstream had to think about.
    slow: u64,
    /// Connections that were made.
    connections: u64,
    /// Requests that failed.
    errors: u64,
    /// How long the load lasted.
    seconds: f64,
}

/// A load that goes on. It ends early when this is dropped.
pub(crate) struct Load {
    threads: Vec<JoinHandle<Counts>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Starts the threads. Requests are sent on schedule, without hurry after a slow one.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let start = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let plan = *plan;
        let interval = Duration::from_secs(1) * plan.connections / plan.rate;
        let threads = (0..plan.connections).map(|index| {
            let first = start + interval * index / plan.connections;
            let stop = stop.clone();
            let client = move || play(&plan, first, interval, start + plan.length, &stop);
            Ok(thread::Builder::new().name("downstream".into()).spawn(client)?)
        });
        Ok(Self { threads: threads.collect::<Result<_>>()?, stop })
    }

    /// Waits for the end of the load.
    pub(crate) fn finish(mut self) -> Result<Counts> {
        let mut sum = Counts::default();
        for thread in self.threads.drain(..) {
            let Counts { requests, slow, connections, errors, seconds } =
                thread.join().ok().context("a thread of the client panicked")?;
            sum.requests += requests;
            sum.slow += slow;
            sum.connections += connections;
            sum.errors += errors;
            sum.seconds = sum.seconds.max(seconds);
        }
        ensure!(sum.requests > 0, "Envoy answered no request");
        Ok(sum)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The part of one thread.
fn play(
    plan: &Plan,
    first: Instant,
    interval: Duration,
    end: Instant,
    stop: &AtomicBool,
) -> Counts {
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut connection = None;
    let mut due = first;
    for number in 0_u64.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if Instant::now() >= end || stop.load(Relaxed) {
            break;
        }
        due = (due + interval).max(Instant::now());
        let slow = number % SLOW_EVERY == SLOW_EVERY - 1;
        match exchange(&mut connection, plan.address, slow, &mut counts.connections) {
            Ok(()) => {
                counts.requests += 1;
                counts.slow += u64::from(slow);
            }
            Err(error) => {
                if counts.errors == 0 {
                    eprintln!("downstream: {error:#}");
                }
                counts.errors += 1;
                connection = None;
            }
        }
        // At once, not when the next request is due: a connection that is done is no load.
        if (number + 1) % plan.requests_per_connection == 0 {
            connection = None;
        }
    }
    counts.seconds = start.elapsed().as_secs_f64();
    counts
}

/// One request and its answer.
fn exchange(
    slot: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    slow: bool,
    connections: &mut u64,
) -> Result<()> {
    let connection = match slot {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(address).context("connect")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            *connections += 1;
            slot.insert(BufReader::new(stream))
        }
    };
    let path = if slow { upstream::SLOW } else { "/" };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).context("send")?;
    let mut length = 0;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        ensure!(
            connection.read_line(&mut line).context("receive")? > 0,
            "the connection was closed"
        );
        let line = line.trim_end();
        ensure!(lines > 0 || line.starts_with("HTTP/1.1 200 "), "the answer was: {line}");
        lines += 1;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().context("content-length")?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).context("receive")
}
