//! offwake's books balance with the kernel's.

use std::process::{Child, Command, Stdio};

use crate::support::check::{hidden, is_spinlock};
use crate::support::kernel::{children, on_cpu_ns, state, stolen_ns, voluntary_switches};
use crate::support::profile::{Wait, has, names, sum};
use crate::support::recorder::Recorder;
use crate::support::speed::{amount, is_slow};
use crate::support::target::Target;
use crate::support::{signal, until};

/// A thread is on a CPU, blocked, or on the run queue: the three are all of the recording. The threads
/// sleep at both ends of it, so that the kernel's figures are exact, and waits that are open there are
/// part of the books.
#[test]
fn on_cpu_and_blocked_and_run_queue_are_the_wall_time() {
    let _turn = turn!();
    for (name, args) in [
        ("condvar", ["--seconds", "1"]),
        ("pipes", ["--seconds", "1"]),
        ("spinners", ["--seconds", "1"]),
    ] {
        let mut target = Target::start(name, &args);
        let read = |target: &Target| -> Vec<u64> {
            target.threads.iter().map(|thread| on_cpu_ns(thread.pid, thread.tid)).collect()
        };
        let before = read(&target);
        let recorder = Recorder::start(&["-p", &target.players()]);
        let not_stolen = stolen_ns();
        target.play();
        let stolen = (stolen_ns() - not_stolen) as f64;
        let profile = recorder.stop().profile;
        let after = read(&target);
        let wall = profile.recording.seconds * 1e9;
        for ((thread, before), after) in target.threads.iter().zip(before).zip(after) {
            let cpu = after - before;
            let blocked = sum(profile.of(thread.tid), |wait| wait.blocked_ns);
            let runqueue = sum(profile.of(thread.tid), |wait| wait.runqueue_ns);
            let all = (cpu + blocked + runqueue) as f64;
            let what = format!(
                "{name}: {}: on a CPU {cpu}, blocked {blocked}, run queue {runqueue}",
                thread.comm
            );
            // The kernel's clock of a thread that wakes an idle CPU runs from its wake-up, since that CPU does not read
            // the time again (`rq_clock_skip_update` in `check_preempt_curr`), offwake's from the switch. An emulated
            // CPU takes milliseconds from the one to the other.
            let twice = if is_slow() { runqueue as f64 } else { 0.0 };
            let balanced = all < wall * 1.02 + twice && all + stolen > wall * 0.98;
            assert!(balanced, "{what}, stolen {stolen}, wall {wall}: {:?}", profile.losses);

            // The wait at the start gate began before the recording, the one at the end gate goes on.
            let at_gates = profile.of(thread.tid).filter(|wait| {
                let reads = |name| has(&wait.sleeper_stack, name);
                (reads("anon_pipe_read") || reads("pipe_read")) && !is_of_the_play(wait)
            });
            let (ends, starts): (Vec<_>, Vec<_>) = at_gates
                .filter(|wait| wait.state != "preempted" && !is_spinlock(wait))
                .partition(|wait| wait.waker.kind == "not_woken");
            for (gate, waits) in [("start", starts), ("end", ends)] {
                assert_eq!(
                    sum(waits.iter().copied(), |wait| wait.count),
                    1,
                    "{what}: {gate}: {waits:?}"
                );
            }
        }
    }
}

/// Whether a wait is in a function of the play, and not at a gate.
fn is_of_the_play(wait: &Wait) -> bool {
    names(&wait.sleeper_stack).iter().any(|name| name.contains("::oracle_"))
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // What has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child of a [`Process`], which would outlive it.
struct Grandchild(u32);

impl Drop for Grandchild {
    fn drop(&mut self) {
        // SAFETY: takes no pointers. The pid is its own until its parent, which the owner drops later, ends.
        unsafe { libc::kill(self.0 as libc::pid_t, libc::SIGKILL) };
    }
}

/// Both processes are stopped while the probes are attached and before they are detached: so the kernel's
/// count and offwake's are of the same switches.
#[test]
fn partners_of_perf_bench_wake_each_other_as_often_as_the_kernel_counted() {
    let _turn = turn!();
    let mut bench = Command::new("perf");
    bench.args(["bench", "sched", "pipe", "-l", "100000000"]);
    let bench =
        bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("perf is installed");
    let bench = Process(bench);
    let first = bench.0.id();
    let second = until("perf to fork", || children(first).first().copied());
    let _second = Grandchild(second);
    let pids = [first, second];
    // Both play, and are no longer starting.
    for pid in pids {
        until("the play to begin", || (voluntary_switches(pid, pid) > amount(1_000)).then_some(()));
    }
    let stop = || {
        for pid in pids {
            signal(pid, libc::SIGSTOP);
            until("a process to stop", || (state(pid) == 'T').then_some(()));
        }
        pids.map(|pid| voluntary_switches(pid, pid))
    };
    let before = stop();
    let recorder = Recorder::start(&["-p", &format!("{first},{second}")]);
    for pid in pids {
        signal(pid, libc::SIGCONT);
    }
    for (pid, before) in pids.into_iter().zip(before) {
        until("the play", || {
            (voluntary_switches(pid, pid) > before + amount(20_000)).then_some(())
        });
    }
    let after = stop();
    let profile = recorder.stop().profile;
    profile.assert_nothing_lost();
    let own = std::process::id();
    for (index, pid) in pids.into_iter().enumerate() {
        let partner = pids[1 - index];
        // Only the second stop is a switch that both have counted.
        let told = after[index] - before[index] - 1;
        let (spinlocks, waits): (Vec<_>, Vec<_>) = profile
            .of(pid)
            .filter(|wait| !matches!(wait.state.as_str(), "preempted" | "stopped"))
            .partition(|wait| is_spinlock(wait));
        // These are sleeps as well, which whoever has the lock ends.
        let told = told - sum(spinlocks, |wait| wait.count);
        let count = |of: &dyn Fn(&Wait) -> bool| -> u64 {
            sum(waits.iter().copied().filter(|wait| of(wait)), |wait| wait.count)
        };
        assert_eq!(count(&|_| true), told, "{:?}", profile.losses);
        let waker = |wait: &Wait| wait.waker.thread.as_ref().map(|thread| thread.pid);
        let by_partner = count(&|wait| waker(wait) == Some(partner) && wait.waker.kind == "task");
        let unknown = count(&|wait| wait.waker.kind == "unknown");
        // The signal that stops ends the wait in which it finds the process.
        let by_signal = count(&|wait| waker(wait) == Some(own));
        assert!(by_signal <= 1, "{by_signal}");
        assert_eq!(by_partner + unknown + by_signal, told, "another waker than the partner");
        assert!(unknown <= hidden(told), "{unknown} of {told}: {:?}", profile.losses);
        // A reader waits for a write. Now and then one waits for the pipe's mutex, which a reader
        // may hold as well.
        let readers = |wait: &&&Wait| {
            waker(wait) == Some(partner) && !has(&wait.sleeper_stack, "schedule_preempt_disabled")
        };
        for wait in waits.iter().filter(readers) {
            let writes =
                ["anon_pipe_write", "pipe_write"].iter().any(|name| has(&wait.waker_stack, name));
            assert!(writes, "{wait:?}");
        }
    }
}
