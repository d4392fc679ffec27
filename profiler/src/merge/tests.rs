use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use offwake_shared::{TaskId, WakerKind};

use super::*;
use crate::profile::{Losses, Meta, Module};
use crate::recording::MappedFile;
use crate::saved::random::Random;

const SLEEPER: TaskId = TaskId { tgid: 10, tid: 11, exec_id: 1, flags: 0, comm: comm(b"sleeper") };
const WAKER: TaskId = TaskId { tgid: 20, tid: 21, exec_id: 1, flags: 0, comm: comm(b"waker") };

const fn comm(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let (head, _) = comm.split_at_mut(name.len());
    head.copy_from_slice(name);
    comm
}

fn kernel(name: &str) -> Frame {
    Frame {
        name: Some(name.into()),
        module: None,
        offset: 0,
        kernel: true,
        file: None,
        line: None,
        inlined: false,
    }
}

/// Makes symbols of named stacks; frames in the order of their first use.
fn symbols(stacks: &[(StackId, &[&str])]) -> Symbols {
    let mut symbols = Symbols::default();
    for (id, names) in stacks {
        let stack = names.iter().map(|name| {
            let frame = Frame { kernel: !name.starts_with("user"), ..kernel(name) };
            let known = symbols.frames.iter().position(|other| *other == frame);
            known.unwrap_or_else(|| {
                symbols.frames.push(frame);
                symbols.frames.len() - 1
            }) as FrameId
        });
        let stack = stack.collect();
        symbols.stacks.insert(*id, stack);
    }
    symbols
}

fn recording(waits: impl IntoIterator<Item = (WaitKey, WaitStats)>) -> Recording {
    Recording {
        meta: Meta {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_secs(1),
            kernel: "6.1".into(),
            probe: "btf".into(),
            wake_source: None,
            targets: vec![],
            sampling: None,
        },
        waits: waits.into_iter().collect(),
        stacks: HashMap::new(),
        sources: Default::default(),
        images: HashMap::new(),
        files: vec![],
        losses: Losses::default(),
        bpf_bytes: 0,
        remembered_stacks: 0,
        unwind: None,
        warnings: vec![],
    }
}

fn key() -> WaitKey {
    WaitKey {
        sleeper: SLEEPER,
        waker: WAKER,
        state: WaitState::Interruptible as u32,
        waker_kind: WakerKind::Task as u32,
        ..WaitKey::default()
    }
}

fn stats(blocked_ns: u64) -> WaitStats {
    let mut stats = WaitStats::default();
    stats.add_interval(blocked_ns + 5, 5);
    stats
}

fn names(profile: &Profile, stack: &[FrameId]) -> Vec<String> {
    stack.iter().map(|id| profile.frames[*id as usize].label()).collect()
}

/// Merges one wait.
fn merge_one(key: WaitKey, stacks: &[(StackId, &[&str])]) -> (Profile, Wait) {
    let profile = merge(&recording([(key, stats(100))]), &symbols(stacks));
    let [wait] = &profile.waits[..] else { panic!("{profile:?}") };
    let wait = wait.clone();
    (profile, wait)
}

/// The waker of a wait that an interrupt ended from this kernel stack.
fn interrupted_by(stack: &[&str]) -> Waker {
    let key = WaitKey { waker_kind: WakerKind::Interrupt as u32, waker_kernel: 1, ..key() };
    merge_one(key, &[(1, stack)]).1.waker
}

#[test]
fn stacks_are_kernel_then_user_and_threads_have_names() {
    let key =
        WaitKey { sleeper_kernel: 1, sleeper_user: 2, waker_kernel: 3, waker_user: 4, ..key() };
    let stacks: &[(StackId, &[&str])] = &[
        (1, &["schedule", "ep_poll"]),
        (2, &["user_wait", "user_main"]),
        (3, &["try_to_wake_up", "tcp_v4_rcv"]),
        (4, &["user_send"]),
    ];
    let (profile, wait) = merge_one(key, stacks);
    assert_eq!(
        names(&profile, &wait.sleeper_stack),
        ["schedule", "ep_poll", "user_wait", "user_main"]
    );
    assert_eq!(names(&profile, &wait.waker_stack), ["try_to_wake_up", "tcp_v4_rcv", "user_send"]);
    assert_eq!(wait.sleeper, Thread { pid: 10, tid: 11, comm: "sleeper".into() });
    assert_eq!(wait.waker, Waker::Task(Thread { pid: 20, tid: 21, comm: "waker".into() }));
}

#[test]
fn a_name_can_fill_its_array_and_be_no_utf8() {
    let full = TaskId { comm: *b"0123456789abcdef", ..SLEEPER };
    assert_eq!(Thread::of(&full).comm, "0123456789abcdef");
    assert_eq!(Thread::of(&TaskId { comm: comm(b"a\xff\nb\0c"), ..SLEEPER }).comm, "a\u{fffd}\nb");
}

#[test]
fn a_lost_stack_is_said() {
    let key = WaitKey { sleeper_kernel: 77, waker_user: 78, ..key() };
    let (profile, wait) = merge_one(key, &[]);
    assert_eq!(names(&profile, &wait.sleeper_stack), [LOST_STACK]);
    assert_eq!(names(&profile, &wait.waker_stack), [LOST_STACK]);
    assert!(profile.frames[wait.sleeper_stack[0] as usize].kernel);
    assert!(!profile.frames[wait.waker_stack[0] as usize].kernel);
}

#[test]
fn broken_user_stacks_are_counted_for_each_interval_and_by_cause() {
    let mut symbols = symbols(&[(1, &["user_a"]), (2, &["user_b"]), (3, &["try_to_wake_up"])]);
    symbols.broken.extend([(1, StackEnd::Truncated), (2, StackEnd::Astray)]);
    let interrupt = WaitKey { waker_kind: WakerKind::Interrupt as u32, ..key() };
    let waits = [
        (WaitKey { sleeper_user: 1, waker_user: 2, ..key() }, WaitStats { count: 3, ..stats(1) }),
        (WaitKey { waker_user: 2, waker_kernel: 3, ..key() }, WaitStats { count: 4, ..stats(1) }),
        (WaitKey { sleeper_user: 3, ..key() }, WaitStats { count: 50, ..stats(1) }),
        // The program that was interrupted is not shown.
        (WaitKey { waker_user: 2, ..interrupt }, WaitStats { count: 600, ..stats(1) }),
    ];
    let profile = merge(&recording(waits), &symbols);
    assert_eq!(profile.losses.get(Loss::UserStackTruncated), 3);
    assert_eq!(profile.losses.get(Loss::UserStackBroken), 7);
}

#[test]
fn frames_of_bpf_go() {
    let stripped = |stack: &[&str]| {
        let frames: Vec<Frame> = stack.iter().map(|name| kernel(name)).collect();
        bpf_frames::count(&frames.iter().collect::<Vec<_>>())
    };
    let program = "bpf_prog_0123456789abcdef_on_switch";
    assert_eq!(stripped(&[program, "bpf_trace_run4", "__schedule", "schedule"]), 2);
    assert_eq!(
        stripped(&[
            "bpf_get_stack_raw_tp",
            program,
            "bpf_prog_0123456789abcdef",
            "bpf_trace_run1",
            "__bpf_trace_sched_wakeup_template",
            "__traceiter_sched_waking",
            "try_to_wake_up",
        ]),
        6
    );
    // A frame that nobody knows, inside of one that is known.
    assert_eq!(stripped(&["mystery", "bpf_trace_run4", "__schedule"]), 2);
    assert_eq!(stripped(&["bpf_trampoline_6442484001", "__schedule"]), 1);
    assert_eq!(stripped(&["trace_call_bpf", "perf_trace_sched_switch", "__schedule"]), 2);
    assert_eq!(stripped(&[]), 0);
}

#[test]
fn threads_that_wait_in_the_kernels_own_bpf_code_keep_it() {
    let stripped = |stack: &[&str]| {
        let frames: Vec<Frame> = stack.iter().map(|name| kernel(name)).collect();
        bpf_frames::count(&frames.iter().collect::<Vec<_>>())
    };
    assert_eq!(stripped(&["__schedule", "schedule", "perf_trace_init", "perf_event_open"]), 0);
    assert_eq!(stripped(&["__mutex_lock", "bpf_prog_load", "bpf_trampoline_link_prog"]), 0);
    assert_eq!(stripped(&["bpf_trace_run2", "__schedule", "bpf_prog_0123456789abcdef_x"]), 1);
}

#[test]
fn an_interrupt_has_the_name_of_its_softirq() {
    for (name, functions) in [
        ("NET_RX", &["tcp_v4_rcv", "net_rx_action", "handle_softirqs"][..]),
        ("NET_RX", &["tcp_v4_rcv", "net_rx_action.isra.0", "__do_softirq"]),
        ("NET_TX", &["net_tx_action", "__softirqentry_text_start"]),
        ("TIMER", &["process_timeout", "call_timer_fn", "run_timer_base", "handle_softirqs"]),
        ("HRTIMER", &["hrtimer_wakeup", "hrtimer_run_softirq", "handle_softirqs"]),
        ("TASKLET", &["tasklet_action_common.constprop.0", "handle_softirqs"]),
        ("HI", &["tasklet_action_common", "tasklet_hi_action", "handle_softirqs"]),
        ("BLOCK", &["blk_complete_reqs", "blk_done_softirq", "handle_softirqs"]),
        ("RCU", &["rcu_do_batch", "rcu_core", "rcu_core_si", "handle_softirqs"]),
        ("SCHED", &["sched_balance_softirq", "handle_softirqs"]),
        ("IRQ_POLL", &["irq_poll_softirq", "handle_softirqs"]),
        ("unknown", &["new_handler", "handle_softirqs", "irq_exit_rcu"]),
    ] {
        assert_eq!(interrupted_by(functions), Waker::Softirq(name.into()), "{functions:?}");
    }
    assert_eq!(interrupted_by(&["hrtimer_wakeup", "sysvec_apic_timer_interrupt"]), Waker::Irq);
    assert_eq!(interrupted_by(&[]), Waker::Irq);
}

#[test]
fn an_interrupts_victim_has_no_part_in_it() {
    let key = WaitKey {
        waker_kind: WakerKind::Interrupt as u32,
        waker_kernel: 1,
        waker_user: 2,
        ..key()
    };
    let (profile, wait) = merge_one(key, &[(1, &["hrtimer_wakeup"]), (2, &["user_victim"])]);
    assert_eq!(names(&profile, &wait.waker_stack), ["hrtimer_wakeup"]);
}

#[test]
fn a_softirq_on_the_tail_of_a_system_call_is_the_callers() {
    let key = WaitKey { waker_kernel: 1, ..key() };
    let stack: &[&str] = &["tcp_v4_rcv", "net_rx_action", "__do_softirq", "__x64_sys_write"];
    assert!(matches!(merge_one(key, &[(1, stack)]).1.waker, Waker::Task(_)));
}

#[test]
fn the_idle_thread_wakes_nobody_itself() {
    let idle = WaitKey {
        waker: TaskId {
            flags: offwake_shared::TASK_IDLE,
            comm: comm(b"swapper/0"),
            ..TaskId::default()
        },
        ..key()
    };
    let softirq = WaitKey { waker_kernel: 1, ..idle };
    let stack: &[&str] = &["net_rx_action", "do_softirq", "flush_smp_call_function_queue"];
    assert_eq!(merge_one(softirq, &[(1, stack)]).1.waker, Waker::Softirq("NET_RX".into()));
    assert_eq!(merge_one(idle, &[]).1.waker, Waker::Irq);
}

#[test]
fn without_a_wake_up_there_are_three_reasons() {
    let waker = |state: WaitState, kind: WakerKind| {
        let key = WaitKey { state: state as u32, waker_kind: kind as u32, ..key() };
        merge_one(key, &[]).1.waker
    };
    assert_eq!(waker(WaitState::Preempted, WakerKind::None), Waker::Preempted);
    assert_eq!(waker(WaitState::Preempted, WakerKind::NotWoken), Waker::Preempted);
    assert_eq!(waker(WaitState::Interruptible, WakerKind::NotWoken), Waker::NotWoken);
    assert_eq!(waker(WaitState::Interruptible, WakerKind::None), Waker::Unknown);
    assert!(matches!(waker(WaitState::New, WakerKind::Task), Waker::Task(_)));
}

#[test]
fn waits_that_differ_in_nothing_visible_become_one() {
    let a = WaitKey { sleeper_kernel: 1, ..key() };
    let b = WaitKey { sleeper_kernel: 2, sleeper: TaskId { exec_id: 2, ..SLEEPER }, ..key() };
    let symbols = symbols(&[
        (1, &["bpf_trace_run4", "__schedule"]),
        (2, &["__traceiter_sched_switch", "__schedule"]),
    ]);
    let profile = merge(&recording([(a, stats(100)), (b, stats(300))]), &symbols);
    let [wait] = &profile.waits[..] else { panic!("{profile:?}") };
    assert_eq!((wait.count, wait.blocked_ns, wait.runqueue_ns, wait.max_ns), (2, 400, 10, 305));
    assert_eq!(profile.frames, [kernel("__schedule")]);
}

#[test]
fn a_profile_depends_on_no_order_and_keeps_all_sums() {
    const FUNCTIONS: [&str; 8] =
        ["__schedule", "bpf_trace_run4", "a", "b", "c", "net_rx_action", "user_a", "user_b"];
    for seed in 0..50 {
        let mut random = Random(seed);
        let mut stacks: Vec<(StackId, Vec<&str>)> = (1..12)
            .map(|id| {
                let depth = random.below(5);
                (id, (0..depth).map(|_| FUNCTIONS[random.below(8) as usize]).collect())
            })
            .collect();
        let mut waits: Vec<(WaitKey, WaitStats)> = (0..60)
            .map(|_| {
                let key = WaitKey {
                    sleeper: TaskId { tid: random.below(3) as u32, ..SLEEPER },
                    waker: TaskId { tid: random.below(3) as u32, ..WAKER },
                    sleeper_kernel: random.below(14),
                    sleeper_user: random.below(14),
                    waker_kernel: random.below(14),
                    waker_user: random.below(14),
                    state: random.below(3) as u32,
                    waker_kind: random.below(4) as u32,
                    source: 0,
                };
                (key, stats(random.below(3)))
            })
            .collect();
        let merge_in_this_order = |stacks: &[(StackId, Vec<&str>)], waits: &[_]| {
            let stacks: Vec<(StackId, &[&str])> =
                stacks.iter().map(|(id, names)| (*id, &names[..])).collect();
            merge(&recording(waits.iter().copied()), &symbols(&stacks))
        };
        let first = merge_in_this_order(&stacks, &waits);
        let distinct: HashMap<WaitKey, WaitStats> = waits.iter().copied().collect();
        let sum = |of: fn(&WaitStats) -> u64| distinct.values().map(of).sum::<u64>();
        let profile_sum = |of: fn(&Wait) -> u64| first.waits.iter().map(of).sum::<u64>();
        assert_eq!(profile_sum(|wait| wait.count), sum(|stats| stats.count));
        assert_eq!(profile_sum(|wait| wait.blocked_ns), sum(|stats| stats.blocked_ns));
        assert_eq!(profile_sum(|wait| wait.runqueue_ns), sum(|stats| stats.runqueue_ns));
        assert!(first.waits.is_sorted_by_key(|wait| std::cmp::Reverse(wait.off_ns())));

        // Other numbers for the frames, another order of the waits.
        random.shuffle(&mut stacks);
        let mut waits_again: Vec<_> = distinct.into_iter().collect();
        random.shuffle(&mut waits_again);
        assert_eq!(merge_in_this_order(&stacks, &waits_again), first, "seed {seed}");
        waits.clear();
    }
}

#[test]
fn modules_are_those_that_user_frames_name() {
    let key = WaitKey { sleeper_kernel: 1, sleeper_user: 2, ..key() };
    let mut recording = recording([(key, stats(100))]);
    let file = |path: &str, build_id: Option<&[u8]>| MappedFile {
        path: path.into(),
        device: (0, 1),
        inode: 7,
        build_id: build_id.map(Into::into),
        handle: None,
    };
    recording.files = vec![
        file("/opt/b", None),
        file("/usr/bin/a", Some(&[1, 2])),
        file("/usr/bin/a", Some(&[1, 2])),
        file("/a", Some(&[3])),
        file("/lib/nvme", Some(&[4])),
        file("/unused", Some(&[5])),
    ];
    let mut symbols = symbols(&[(1, &["schedule"]), (2, &["user_a", "user_b"])]);
    for (frame, module) in symbols.frames.iter_mut().zip(["nvme", "a", "b"]) {
        frame.module = Some(module.into());
    }
    let module = |name: &str, path: &str, build_id: Option<&[u8]>| Module {
        name: name.into(),
        path: path.into(),
        build_id: build_id.map(Into::into),
    };
    assert_eq!(
        merge(&recording, &symbols).modules,
        [
            module("a", "/a", Some(&[3])),
            module("a", "/usr/bin/a", Some(&[1, 2])),
            module("b", "/opt/b", None),
        ]
    );
}
