//! The course of a play: everybody to the start gate, play, everybody to the end gate, the truth.

use std::os::fd::RawFd;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::gate::{Gate, await_end, await_start, wait_for_line};
use crate::ledger::{Ledger, Sums};
use crate::report::{Function, Line, Side, Thread, Wait, Waker};
use crate::shared::shared;
use crate::sys;
use crate::task::{Role, Usage};
use crate::watch::Watch;

/// How long everybody rests at the start gate after the line on standard input.
const SETTLE: Duration = Duration::from_millis(50);

/// Where threads and processes are put before the play.
#[derive(Debug)]
pub struct Stage {
    start: Arc<Gate>,
    end: Arc<Gate>,
    cast: Vec<(&'static Role, Vec<u8>)>,
    children: Vec<libc::pid_t>,
}

/// A play that is over: tells the truth about it.
#[derive(Debug)]
pub struct Played {
    cast: Vec<(&'static Role, Vec<u8>)>,
    usages: Vec<Usage>,
    children: Vec<libc::pid_t>,
    seconds: f64,
}

impl Stage {
    /// An empty stage.
    pub fn new() -> Result<Self> {
        Ok(Self {
            start: Arc::new(Gate::new()?),
            end: Arc::new(Gate::new()?),
            cast: Vec::new(),
            children: Vec::new(),
        })
    }

    /// The descriptors that everybody waits at before and after the play.
    pub fn gates(&self) -> [RawFd; 2] {
        [self.start.descriptor(), self.end.descriptor()]
    }

    /// A role to be given to [`Self::thread`] or [`Self::process`].
    pub fn role() -> &'static Role {
        shared()
    }

    /// Puts a new thread on the stage. It plays `part` once the gate opens.
    pub fn thread(
        &mut self,
        role: &'static Role,
        comm: impl AsRef<[u8]>,
        part: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let comm = comm.as_ref().to_vec();
        self.cast.push((role, comm.clone()));
        let (start, end) = (self.start.clone(), self.end.clone());
        std::thread::Builder::new().spawn(move || play(role, &comm, &start, &end, part))?;
        Ok(())
    }

    /// Puts a new process of one thread on the stage. To be called before any [`Self::thread`], as a
    /// forked process has only the thread that forked.
    pub fn process(
        &mut self,
        role: &'static Role,
        comm: &'static str,
        part: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // SAFETY: no other thread exists that could hold a lock now.
        let pid = sys::check(unsafe { libc::fork() }, "fork")?;
        if pid == 0 {
            let _unreachable: Result<()> = sys::die_with_parent()
                .map(|()| play(role, comm.as_bytes(), &self.start, &self.end, part));
            process::exit(1);
        }
        self.cast.push((role, comm.into()));
        self.children.push(pid as libc::pid_t);
        Ok(())
    }

    /// Prints who is there, waits for the line on standard input, and lets all play to their end.
    pub fn perform(self) -> Result<Played> {
        let Self { start, end: _, cast, children } = self;
        for (role, _) in &cast {
            arrived(role, AT_START, &children)?;
        }
        let threads = cast.iter().map(|(role, comm)| thread(role, comm)).collect();
        Line::Ready { pid: process::id(), threads }.print()?;
        wait_for_line()?;
        std::thread::sleep(SETTLE);

        let before = cast.iter().map(|(role, _)| Usage::read(role)).collect::<Result<Vec<_>>>()?;
        let since = clock::now();
        start.let_pass(cast.len())?;
        let mut usages = Vec::new();
        for ((role, _), before) in cast.iter().zip(&before) {
            arrived(role, AT_END, &children)?;
            let mut usage = Usage::read(role)?.since(before);
            // The wait at the end gate, in which it is now.
            usage.voluntary_switches -= 1;
            usages.push(usage);
        }
        let seconds = (clock::now() - since) as f64 / 1e9;
        Ok(Played { cast, usages, children, seconds })
    }
}

const AT_START: u32 = 1;
const AT_END: u32 = 2;

/// Waits until a role is played by a thread that sleeps at this gate.
fn arrived(role: &'static Role, gate: u32, children: &[libc::pid_t]) -> Result<()> {
    while role.gate() < gate {
        for &child in children {
            // SAFETY: no status is asked for.
            let ended =
                unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } == child;
            ensure!(!ended, "a process of the play has failed");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Watch::new(role)?.off_cpu()
}

fn play(role: &Role, comm: &[u8], start: &Gate, end: &Gate, part: impl FnOnce() -> Result<()>) {
    let result = role.assume(comm).and_then(|()| {
        role.set_gate(AT_START);
        await_start(start);
        part()
    });
    if let Err(error) = result {
        eprintln!("{}: {error:#}", comm.escape_ascii());
        process::exit(1);
    }
    role.set_gate(AT_END);
    await_end(end)
}

fn thread(role: &Role, comm: &[u8]) -> Thread {
    Thread { pid: role.pid(), tid: role.tid(), comm: String::from_utf8_lossy(comm).into_owned() }
}

impl Played {
    /// A role and where its thread was.
    pub fn side(&self, role: &Role, function: Function) -> Side {
        let comm = self
            .cast
            .iter()
            .find(|(other, _)| std::ptr::eq(*other, role))
            .map(|(_, comm)| comm.as_slice());
        Side { thread: thread(role, comm.unwrap_or_default()), function }
    }

    /// What the kernel counted for the thread of a role.
    pub fn usage(&self, role: &Role) -> Usage {
        let index = self.cast.iter().position(|(other, _)| std::ptr::eq(*other, role));
        self.usages[index.expect("the role is on the stage")]
    }

    /// Tells of the waits of one kind that a thread ended.
    pub fn tell(
        &self,
        ledger: &Ledger,
        syscall: &'static str,
        (sleeper, sleeps_in): (&Role, Function),
        (waker, wakes_in): (&Role, Function),
    ) -> Result<()> {
        let sums = ledger.sums().context("not as many wakes as sleeps: this target has a fault")?;
        self.tell_sums(
            sums,
            syscall,
            (sleeper, sleeps_in),
            Waker::Task(self.side(waker, wakes_in)),
            "interruptible",
        )
    }

    /// Tells of the waits of one kind.
    pub fn tell_sums(
        &self,
        sums: Sums,
        syscall: &'static str,
        (sleeper, function): (&Role, Function),
        waker: Waker,
        state: &'static str,
    ) -> Result<()> {
        let sleeper = self.side(sleeper, function);
        Line::Wait(&Wait { sleeper, waker, state, syscall, sums }).print()
    }

    /// Prints what the kernel counted, stays for another line, and ends all processes.
    pub fn finish(self) -> Result<()> {
        for ((role, comm), &usage) in self.cast.iter().zip(&self.usages) {
            Line::Thread { thread: thread(role, comm), usage }.print()?;
        }
        Line::Done { seconds: self.seconds }.print()?;
        wait_for_line()?;
        for &child in &self.children {
            // SAFETY: a child that was not waited for yet, so that the id is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
        process::exit(0)
    }
}
