//! A target, and what it says of itself. The protocol is that of `examples/README.md`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use super::{example, preferred};

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) comm: String,
}

/// A thread, and a function that is in its stack.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Side {
    #[serde(flatten)]
    pub(crate) thread: Thread,
    pub(crate) function: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Waker {
    Task(Side),
    Irq,
    Preempted,
}

/// All waits of one kind.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) sleeper: Side,
    pub(crate) waker: Waker,
    pub(crate) state: String,
    pub(crate) count: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) off_ns: u64,
    pub(crate) sleeper_stacks: Option<u64>,
}

/// How often a thread slept: its own path, the waker's, and how often.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Paths {
    pub(crate) tid: u32,
    pub(crate) counts: Vec<[u64; 3]>,
}

#[derive(Deserialize)]
struct Done {
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Ready { threads: Vec<Thread> },
    Wait(Truth),
    Lengths(Vec<(u64, u64)>),
    Herd(Herd),
    Paths(Paths),
    Thread(serde::de::IgnoredAny),
    Done(Done),
}

/// What `herd` counted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Herd {
    pub(crate) port: u16,
    pub(crate) connections: u64,
    pub(crate) wakes: u64,
    pub(crate) accepted: u64,
    pub(crate) returned: u64,
    pub(crate) lost: u64,
}

/// A play as its target tells it.
#[derive(Debug, Default)]
pub(crate) struct Play {
    pub(crate) truths: Vec<Truth>,
    /// How long each wait was meant to be and at most was, in ns, where the target tells it.
    pub(crate) lengths: Vec<(u64, u64)>,
    pub(crate) herd: Option<Herd>,
    /// What a target tells of paths that it numbers.
    pub(crate) paths: Vec<Paths>,
    pub(crate) seconds: f64,
}

impl Play {
    /// Reads the truths up to the end of the play.
    pub(crate) fn read(lines: impl BufRead) -> Self {
        let mut play = Self::default();
        for line in lines.lines() {
            match parse(&line.expect("the target speaks")) {
                Line::Ready { .. } | Line::Thread(_) => {}
                Line::Herd(herd) => play.herd = Some(herd),
                Line::Lengths(lengths) => play.lengths = lengths,
                Line::Paths(paths) => play.paths.push(paths),
                Line::Wait(truth) => play.truths.push(truth),
                Line::Done(done) => {
                    play.seconds = done.seconds;
                    let is_told =
                        !play.truths.is_empty() || !play.paths.is_empty() || play.herd.is_some();
                    assert!(is_told, "a play without a truth");
                    return play;
                }
            }
        }
        panic!("the target failed during its play");
    }

    /// The truths of the sleeper of this name.
    pub(crate) fn of(&self, comm: &str) -> Vec<&Truth> {
        let truths: Vec<_> =
            self.truths.iter().filter(|truth| truth.sleeper.thread.comm == comm).collect();
        assert!(!truths.is_empty(), "nothing is told of {comm}");
        truths
    }
}

fn parse(line: &str) -> Line {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"))
}

/// A running target. Ends with its owner.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    input: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    /// Those that will play.
    pub(crate) threads: Vec<Thread>,
}

impl Target {
    /// Starts a target in Rust; all its threads wait for the play.
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        Self::start_program(&example(name), args)
    }

    /// Starts a target by its path.
    pub(crate) fn start_program(path: &Path, args: &[&str]) -> Self {
        Self::spawn(preferred(Command::new(path).args(args)))
    }

    /// Starts a target that has no preference over others.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("the target speaks");
        let Line::Ready { threads } = parse(&line) else { panic!("not ready: {line}") };
        Self { child, input, lines, threads }
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of those that will play, as `-p` takes them.
    pub(crate) fn players(&self) -> String {
        let mut pids: Vec<_> = self.threads.iter().map(|thread| thread.pid).collect();
        pids.dedup();
        pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    /// The thread of this name.
    pub(crate) fn thread(&self, comm: &str) -> &Thread {
        self.threads.iter().find(|thread| thread.comm == comm).expect("a thread of the target")
    }

    /// Lets the target play to the end of the play, and returns what it says. It lives on.
    pub(crate) fn play(&mut self) -> Play {
        self.begin();
        Play::read(&mut self.lines)
    }

    /// Lets the target play to the end of the play, and returns its lines as they are.
    #[allow(dead_code, reason = "for the tests of sources")]
    pub(crate) fn play_values(&mut self) -> Vec<serde_json::Value> {
        self.begin();
        let mut values = Vec::new();
        for line in (&mut self.lines).lines() {
            let line = line.expect("the target speaks");
            let value: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
            let is_last = value.get("done").is_some();
            values.push(value);
            if is_last {
                return values;
            }
        }
        panic!("the target failed during its play");
    }

    /// Lets the target play, and returns at once.
    pub(crate) fn begin(&mut self) {
        let input = self.input.as_mut().expect("it has not ended");
        writeln!(input).expect("the target listens");
    }

    /// Lets the target end.
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().expect("a child").success());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // What has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
