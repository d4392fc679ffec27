//! The lines that a target prints.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::ledger::Sums;
use crate::task::Usage;

/// A thread.
#[derive(Clone, Debug, Serialize)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name; bytes that are not UTF-8 are replaced.
    pub comm: String,
}

/// Functions that must be in a stack, by their demangled names (see [`crate::oracle_fn!`]).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Function {
    /// Found by every way of walking stacks.
    #[serde(rename = "function")]
    pub outer: &'static str,
    /// Called by `outer`, calls libc: found only where libc can be walked through.
    #[serde(rename = "inner_function")]
    pub inner: &'static str,
}

/// One half of a wait.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Who.
    #[serde(flatten)]
    pub thread: Thread,
    /// Where.
    #[serde(flatten)]
    pub function: Function,
}

/// Who ends a wait.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Waker {
    /// A thread.
    Task(Side),
    /// An interrupt, or a softirq after one.
    Irq,
    /// Nobody: the sleeper was preempted.
    Preempted,
}

/// All waits of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Wait {
    /// Who waited, and where.
    pub sleeper: Side,
    /// Who ended the waits, and where.
    pub waker: Waker,
    /// `interruptible`, `uninterruptible` or `preempted`.
    pub state: &'static str,
    /// The system call in which the sleeper waited; nothing when preempted.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub syscall: &'static str,
    /// How often, how long.
    #[serde(flatten)]
    pub sums: Sums,
}

/// How often a thread slept.
#[derive(Debug, Serialize)]
pub struct Paths {
    /// The thread.
    pub tid: u32,
    /// Its own path, the waker's, and how often.
    pub counts: Vec<[u64; 3]>,
}

/// A line of standard output: an object with one member, which names its kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Line<'a> {
    /// All threads are there and wait for the start.
    Ready {
        /// The process that prints.
        pid: u32,
        /// The threads that play, in this and other processes.
        threads: Vec<Thread>,
    },
    /// A truth.
    Wait(&'a Wait),
    /// How long each wait of the only truth was, in ns: what it was meant to be, and up to when the
    /// sleeper was back.
    Lengths(&'a [(u64, u64)]),
    /// How often a thread slept, by paths that its target numbers.
    Paths(&'a Paths),
    /// What the kernel counted for one thread from the start gate to the end gate.
    Thread {
        /// Which.
        #[serde(flatten)]
        thread: Thread,
        /// How much.
        #[serde(flatten)]
        usage: Usage,
    },
    /// All is said.
    Done {
        /// How long the play took, in s.
        seconds: f64,
    },
}

impl Line<'_> {
    /// Prints the line at once.
    pub fn print(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }
}
