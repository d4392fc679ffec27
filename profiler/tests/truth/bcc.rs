//! Beside BCC's `offwaketime`, whose idea this is: both record the same play, at the same functions of the
//! scheduler. `cargo xtask vm --suite bcc` runs this where it can work: on a kernel with kprobes, with BCC
//! and the kernel's headers.
//!
//! What the two may disagree in, and why:
//! - **Time**: BCC cuts each sum to µs; each handler that runs first is part of what the other one measures.
//! - **Wakers**: BCC keeps the last call of `try_to_wake_up`, also if that found the thread running, and does not
//!   know interrupts: then the waker is whoever was interrupted. In these plays threads wake threads.
//! - **Kernel frames**: BCC looks up names by `/proc/kallsyms` and has no frames of its own to remove.
//!   offwake leaves out what tracing has put in: trampolines of ftrace, through which the kernel calls probes. BCC
//!   leaves out the innermost frame, which is the function that it probes: of a waker, offwake has it.
//! - **Open waits**: BCC has none; nor has this comparison. The wait at the start gate began before both.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::profile::{Frame, Profile, Wait, has, heaviest, sum};
use crate::support::recorder::Recorder;
use crate::support::signal;
use crate::support::target::{Side, Target, Truth, Waker};

/// It compiles its BPF first, which takes a minute on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A running `offwaketime`.
struct Bcc(Child);

impl Bcc {
    /// Starts it; all threads of programs are its targets. Returns once its probes are there.
    fn start() -> Self {
        let mut command = Command::new("offwaketime-bpfcc");
        command.args(["--folded", "--user-threads-only", "--stack-storage-size", "16384"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut bcc = Self(child.expect("bpfcc-tools is installed"));
        let start = Instant::now();
        // BCC attaches to the switch last.
        while !probed("finish_task_switch") {
            assert!(start.elapsed() < PATIENCE, "offwaketime did not attach");
            assert!(bcc.0.try_wait().expect("a child").is_none(), "offwaketime ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        bcc
    }

    /// Ends the recording as Ctrl-C does, and returns what it says.
    fn stop(mut self) -> String {
        signal(self.0.id(), libc::SIGINT);
        let mut folded = String::new();
        let stdout = self.0.stdout.as_mut().expect("a pipe");
        stdout.read_to_string(&mut folded).expect("text");
        self.0.wait().expect("a child");
        folded
    }
}

impl Drop for Bcc {
    fn drop(&mut self) {
        // What has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether there is a kprobe on a function, or on the part of it that is left.
fn probed(function: &str) -> bool {
    let list = fs::read_to_string("/sys/kernel/debug/kprobes/list").expect("debugfs, and root");
    list.contains(function)
}

/// A sum of waits: the frames of sleeper and waker, innermost first, and the time in µs.
struct Line {
    sleeper: String,
    sleeper_stack: Vec<String>,
    waker: String,
    waker_stack: Vec<String>,
    us: u64,
}

/// `sleeper;outermost…innermost;--;innermost…outermost;waker 123`.
fn parse(line: &str) -> Option<Line> {
    let (stack, us) = line.rsplit_once(' ')?;
    let frames: Vec<String> = stack.split(';').map(str::to_owned).collect();
    let middle = frames.iter().position(|frame| frame == "--")?;
    let (sleeper, waker) = (&frames[..middle], &frames[middle + 1..]);
    let [sleeper, sleeper_stack @ ..] = sleeper else { return None };
    let [waker_stack @ .., waker] = waker else { return None };
    Some(Line {
        sleeper: sleeper.clone(),
        sleeper_stack: sleeper_stack.iter().rev().cloned().collect(),
        waker: waker.clone(),
        waker_stack: waker_stack.to_vec(),
        us: us.parse().ok()?,
    })
}

/// Frames that only the one or the other shows.
fn is_of_tracing(name: &str) -> bool {
    ["ftrace", "kprobe", "bpf_", "trampoline"].iter().any(|part| name.contains(part))
}

/// The functions of the kernel in the heaviest of some stacks, innermost first.
fn heaviest_stack(stacks: impl Iterator<Item = (Vec<String>, u64)>) -> Vec<String> {
    let without_tracing = |stack: Vec<String>| -> Vec<String> {
        stack.into_iter().filter(|name| !is_of_tracing(name)).collect()
    };
    heaviest(stacks.map(|(stack, weight)| (without_tracing(stack), weight))).expect("a stack")
}

/// The kernel's frames of a stack of BCC's, which does not mark them: up to the entry of the system call.
fn kernel_part(stack: &[String]) -> Vec<String> {
    let is_entry = |name: &String| name.starts_with("entry_SYSCALL");
    let end = stack.iter().position(is_entry).map_or(stack.len(), |entry| entry + 1);
    stack[..end].to_vec()
}

fn kernel_frames(stack: &[Frame]) -> Vec<String> {
    let kernel = stack.iter().filter(|frame| frame.kernel);
    kernel.map(|frame| frame.name.clone().unwrap_or_default()).collect()
}

fn compare(target: &str) {
    let mut target = Target::start(target, &["--count", "300"]);
    let bcc = Bcc::start();
    let recorder = Recorder::start(&["-p", &target.players(), "--probe", "kprobe"]);
    let play = target.play();
    let profile = recorder.stop().profile;
    let folded = bcc.stop();
    let lines: Vec<Line> = folded.lines().filter_map(parse).collect();
    for truth in &play.truths {
        let Waker::Task(waker) = &truth.waker else { panic!("{truth:?}") };
        compare_pair(&profile, &lines, truth, waker);
    }
}

/// Compares the waits of one thread for another.
fn compare_pair(profile: &Profile, lines: &[Line], truth: &Truth, waker: &Side) {
    let sleeper = &truth.sleeper;
    let what = format!("{} by {}", sleeper.thread.comm, waker.thread.comm);
    let ours = || {
        profile.waits_in(sleeper.thread.tid, &sleeper.function).filter(|wait| {
            wait.waker.thread.as_ref() == Some(&waker.thread)
                && has(&wait.waker_stack, &waker.function)
        })
    };
    let sleeps = kernel_frames(&ours().max_by_key(|wait| wait.count).expect("waits").sleeper_stack);
    // BCC has no user functions without their names in its own symbolizer: the kernel's path tells these
    // waits from those at the gates.
    let theirs: Vec<&Line> = lines
        .iter()
        .filter(|line| line.sleeper == sleeper.thread.comm && line.waker == waker.thread.comm)
        .filter(|line| {
            let stack = kernel_part(&line.sleeper_stack);
            sleeps.iter().filter(|name| !is_of_tracing(name)).all(|name| stack.contains(name))
        })
        .collect();
    let (off, seen) =
        (sum(ours(), Wait::off_ns), theirs.iter().map(|line| line.us * 1000).sum::<u64>());
    let slack = off / 20;
    eprintln!("{what}: offwake {off} ns, BCC {seen} ns, {} waits", truth.count);
    assert!(
        off.abs_diff(seen) <= slack,
        "{what}: offwake {off} ns, BCC {seen} ns: over {slack} ns apart"
    );

    let stacks = |of: fn(&Wait) -> &[Frame]| {
        heaviest_stack(ours().map(|wait| (kernel_frames(of(wait)), wait.count)))
    };
    let their = |of: fn(&Line) -> &[String]| {
        heaviest_stack(theirs.iter().map(|line| (kernel_part(of(line)), line.us)))
    };
    assert_eq!(
        stacks(|wait| &wait.sleeper_stack),
        their(|line| &line.sleeper_stack),
        "{what}: sleeper"
    );
    let waker = [vec!["try_to_wake_up".to_owned()], their(|line| &line.waker_stack)].concat();
    assert_eq!(stacks(|wait| &wait.waker_stack), waker, "{what}: waker");
}

#[test]
#[ignore = "needs kprobes, BCC and the kernel's headers: `cargo xtask vm --suite bcc` runs this"]
fn a_condition() {
    let _turn = turn!();
    compare("condvar");
}

#[test]
#[ignore = "needs kprobes, BCC and the kernel's headers: `cargo xtask vm --suite bcc` runs this"]
fn pipes() {
    let _turn = turn!();
    compare("pipes");
}
