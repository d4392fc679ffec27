//! The process of Envoy.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use offwake_examples::report::Thread;
use offwake_examples::sys;

use crate::config::{self, Listening};

/// How long Envoy may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

/// An Envoy that serves. It is killed when this is dropped.
pub(crate) struct Envoy {
    child: Child,
    address: SocketAddr,
}

impl Envoy {
    /// Starts it and waits until it serves.
    pub(crate) fn start(
        program: &Path,
        upstream: SocketAddr,
        concurrency: u32,
        listening: Listening,
    ) -> Result<Self> {
        // A port that was free a moment ago.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = config::config(address, upstream, listening).to_string();
        let mut command = Command::new(program);
        command
            .args(["--config-yaml", &config, "--concurrency", &concurrency.to_string()])
            .args(["--disable-hot-restart", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = sys::end_with_caller(&mut command, libc::SIGKILL)
            .spawn()
            .with_context(|| format!("{} did not start", program.display()))?;
        let mut envoy = Self { child, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = envoy.child.try_wait()? {
                bail!("Envoy ended before it served: {status}");
            }
            if start.elapsed() > START_LIMIT {
                bail!("Envoy does not serve after {START_LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(envoy)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> Result<Vec<Thread>> {
        let pid = self.pid();
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let tid =
                path.file_name().and_then(|name| name.to_str()?.parse().ok()).context("/proc")?;
            let comm = fs::read_to_string(path.join("comm"))?.trim_end().to_owned();
            threads.push(Thread { pid, tid, comm });
        }
        threads.sort_by_key(|thread| thread.tid);
        Ok(threads)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // A child that was not waited for. Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
