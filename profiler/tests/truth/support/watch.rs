//! Running `offwake epoll`.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::kernel::{is_recording, version};
use super::{offwake, signal, until};

/// How many events may be missing, as the summary says: from 6.13 on threads are preempted within programs at system
/// calls (`__DECLARE_TRACE_SYSCALL` in include/linux/tracepoint.h), and the kernel then skips those of others on that
/// CPU.
pub(crate) fn missed(summary: &Value) -> u64 {
    summary["lost"]["probe_misses"].as_u64().expect("a number")
}

/// A running `offwake epoll --json`.
pub(crate) struct Watch {
    child: Child,
    /// Reads what it writes, as it does: a pipe that is full would hold it up.
    reader: JoinHandle<String>,
}

impl Watch {
    /// Returns once it watches.
    pub(crate) fn start(pid: u32, args: &[&str]) -> Self {
        let mut command = Command::new(offwake());
        command.args(["epoll", "--json", "-p", &pid.to_string()]).args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("offwake starts");
        let mut stdout = child.stdout.take().expect("a pipe");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            text
        });
        until("offwake to watch", || {
            if child.try_wait().expect("a child").is_some() {
                let mut told = String::new();
                let _ = child.stderr.take().expect("a pipe").read_to_string(&mut told);
                panic!("offwake epoll has ended: {told}");
            }
            is_recording(child.id()).then_some(())
        });
        Self { child, reader }
    }

    /// Ends it as Ctrl-C does, and returns all that it told, and the summary.
    pub(crate) fn stop(self) -> (Vec<Value>, Value) {
        signal(self.child.id(), libc::SIGINT);
        let output = self.child.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = self.reader.join().expect("it reads");
        let mut events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let summary = events.pop().expect("a summary");
        assert_eq!(summary["event"], "summary");
        for (cause, count) in summary["lost"].as_object().expect("an object") {
            // See `missed`.
            if cause != "probe_misses" || version() < (6, 13) {
                assert_eq!(count, 0, "{cause}");
            }
        }
        (events, summary)
    }
}
