//! `offwake epoll`: watch → join → tell, event by event.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, Result};
use offwake::epoll::{Raw, Registration, Tracker, json, text};
use offwake::record;
use offwake::record::epoll::{Config, Ended, METHOD, Observer};

use super::args::epoll::EpollArgs;
use super::{say, stop};

/// Watches, and writes what happens to standard output as it happens.
///
/// # Errors
/// When it cannot be watched, or standard output cannot be written. A reader that went away is no error: it has seen
/// enough.
pub(crate) fn run(args: EpollArgs) -> Result<ExitCode> {
    let stop = stop::on_signals().context("cannot handle signals")?;
    let EpollArgs { pid, duration, summary, json, callback } = args;
    let config = Config { pids: super::config::unique(&pid), duration, callbacks: callback };
    let mut log = Log {
        out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
        tracker: Tracker::default(),
        start: 0,
        has_log: !summary,
        is_json: json,
        error: None,
    };
    let ended = record::epoll::watch(&config, &stop, &mut log)?;
    let written = match log.error.take() {
        Some(error) => Err(error),
        None => log.finish(&ended),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes the log.
struct Log {
    out: BufWriter<StdoutLock<'static>>,
    tracker: Tracker,
    start: u64,
    has_log: bool,
    is_json: bool,
    /// The first one: nothing is written after it.
    error: Option<io::Error>,
}

impl Log {
    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.error.is_none() {
            self.error = write(&mut self.out).err();
        }
    }

    fn finish(mut self, ended: &Ended) -> io::Result<()> {
        for (fd, bytes) in &ended.bytes {
            self.tracker.add_bytes(fd.tgid, fd.fd, bytes.read, bytes.written);
        }
        let lost = lost(ended);
        let summary = self.tracker.finish();
        if self.is_json {
            json::summary(&summary, METHOD, &lost, &mut self.out)?;
        } else {
            if self.has_log {
                writeln!(self.out)?;
            }
            text::summary(&summary, METHOD, &lost, &mut self.out)?;
        }
        self.out.flush()?;
        if lost.iter().any(|(_, count)| *count > 0) {
            let lost: Vec<_> = lost.iter().map(|(name, count)| format!("{name} {count}")).collect();
            say(format_args!("warning: not everything was seen: {}", lost.join(", ")));
        }
        Ok(())
    }
}

impl Observer for Log {
    fn begin(&mut self, start: u64, functions: Vec<String>, registrations: Vec<Registration>) {
        self.start = start;
        self.tracker.begin(functions, registrations);
        if self.has_log && !self.is_json {
            self.write(|out| writeln!(out, "{}", text::heading()));
        }
    }

    fn event(&mut self, raw: &Raw) {
        let Some(event) = self.tracker.take(raw) else { return };
        if !self.has_log {
            return;
        }
        let (start, is_json) = (self.start, self.is_json);
        self.write(|out| match is_json {
            true => json::line(&event, out),
            false => writeln!(out, "{}", text::line(&event, start)),
        });
    }

    fn pause(&mut self) -> ControlFlow<()> {
        self.write(|out| out.flush());
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What was lost, by cause; the man page explains each.
fn lost(ended: &Ended) -> [(&'static str, u64); 4] {
    let counters = &ended.counters;
    [
        ("events_full", counters.lost),
        ("waiters_full", counters.waiters_full),
        ("bytes_full", counters.bytes_full),
        ("probe_misses", ended.misses),
    ]
}
