//! The server behind Envoy: a thread for each connection, HTTP/1.1 with keep-alive.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// The path of requests that the upstream thinks about.
pub(crate) const SLOW: &str = "/slow";

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

/// Serves on a free port, until the process ends.
pub(crate) fn start(think: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let name = || thread::Builder::new().name("upstream".into());
    name().spawn(move || {
        for connection in listener.incoming().flatten() {
            if let Err(error) = name().spawn(move || serve(&connection, think)) {
                eprintln!("upstream: {error}");
            }
        }
    })?;
    Ok(address)
}

/// Answers the requests of a connection until its other end closes it or fails.
fn serve(mut connection: &TcpStream, think: Duration) {
    let _ = connection.set_nodelay(true);
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        let slow = request.split(' ').nth(1) == Some(SLOW);
        // Requests have no body: an empty line ends each.
        if !lines.by_ref().any(|line| line.is_empty()) {
            return;
        }
        if slow {
            consider(think);
        }
        if connection.write_all(RESPONSE).is_err() {
            return;
        }
    }
}

/// What makes a request slow.
#[inline(never)]
fn consider(think: Duration) {
    thread::sleep(think);
    std::hint::black_box("consider");
}
