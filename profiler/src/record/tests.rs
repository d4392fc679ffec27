//! Every loss, forced to happen. What is not lost must still be right.
//!
//! Most tests use the probes without a session, so that nothing empties a map that is to fill.

mod child;
#[macro_use]
mod privileged;
mod recursing;
mod unwinding;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashSet;
use offwake_shared::{
    Counters, Loss, StackContext, StackEnd, ThreadState, WaitKey, WaitState, WaitStats, WakerKind,
};

use self::child::{Child, Shared};
use self::privileged::MaxStack;
use super::batch::Buffers;
use super::collect::Collected;
use super::drain::Drain;
use super::load::Probes;
use super::notices::NoticeReader;
use super::probe::Candidates;
use super::program::recursion_misses;
use super::{Capacity, Config, Filter, record};
use crate::merge::{LOST_STACK, merge};
use crate::profile::{Frame, Losses, Profile, Wait, Waker};
use crate::recording::{ImageId, Meta, Recording};
use crate::snapshot::process;
use crate::symbolize::{self, symbolize};

const SLEEP: Duration = Duration::from_millis(2);
/// Far longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn sleepers(count: usize) -> Vec<Child> {
    sleepers_for(SLEEP, count)
}

fn sleepers_for(duration: Duration, count: usize) -> Vec<Child> {
    let sleep_for_ever = || {
        loop {
            std::thread::sleep(duration);
        }
    };
    (0..count).map(|_| Child::start(sleep_for_ever)).collect()
}

fn config(targets: &[Child], capacity: Capacity) -> Config {
    let pids = targets.iter().map(|child| child.pid).collect();
    Config { filter: Filter { pids, ..Filter::default() }, capacity, ..Config::default() }
}

fn loaded(config: &Config) -> Probes {
    Probes::load(&mut Candidates::of(config.probe), config, &config.filter, true).unwrap()
}

fn attached(config: &Config) -> Probes {
    let mut probes = loaded(config);
    probes.attach().unwrap();
    probes
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "not reached: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_loss(probes: &Probes, loss: Loss) {
    wait_until(loss.name(), || probes.counters().unwrap().losses[loss as usize] > 0);
}

fn wait_for_intervals(probes: &Probes, count: u64) {
    let target = probes.counters().unwrap().intervals + count;
    wait_until("intervals", || probes.counters().unwrap().intervals >= target);
}

/// What empties the maps of a recording.
fn drain(probes: &mut Probes) -> Drain {
    Drain::new(probes.take_drained_maps().unwrap(), Capacity::default())
}

/// Ends the recording. Returns what is in the maps, and what was counted.
fn finish(probes: &mut Probes) -> (Collected, Counters) {
    probes.detach();
    let mut collected = Collected::default();
    drain(probes).all(&mut collected).unwrap();
    (collected, probes.counters().unwrap())
}

fn sum(collected: &Collected) -> WaitStats {
    let mut sum = WaitStats::default();
    collected.waits.iter().for_each(|(_, stats)| sum.add(stats));
    sum
}

fn profile(collected: Collected) -> Profile {
    let recording = Recording {
        meta: Meta {
            started: SystemTime::now(),
            duration: Duration::from_secs(1),
            kernel: String::new(),
            probe: "btf".into(),
            wake_source: None,
            targets: Vec::new(),
            sampling: None,
        },
        waits: collected.waits,
        stacks: collected.stacks,
        sources: Default::default(),
        images: Default::default(),
        files: Vec::new(),
        losses: Losses::default(),
        bpf_bytes: 0,
        remembered_stacks: 0,
        unwind: None,
        warnings: Vec::new(),
    };
    let symbols = symbolize(&recording, &symbolize::Options::default(), &mut |_, _| {});
    merge(&recording, &symbols)
}

fn sleeps(collected: &Collected) -> impl Iterator<Item = (&WaitKey, &WaitStats)> {
    let asleep = WaitState::Interruptible as u32;
    collected.waits.iter().filter(move |(key, _)| key.state == asleep)
}

#[test]
fn threads_full() {
    let _turn = turn!();
    let children = sleepers(8);
    let config = config(&children, Capacity { threads: 2, ..Capacity::default() });
    let mut probes = attached(&config);
    wait_for_loss(&probes, Loss::ThreadsFull);
    wait_for_intervals(&probes, 20);
    let (collected, counters) = finish(&mut probes);
    let mut seen: Vec<_> = collected.waits.iter().map(|(key, _)| key.sleeper.tid).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!((1..=2).contains(&seen.len()), "{seen:?}");
    assert_eq!(sum(&collected).count, counters.intervals);
}

#[test]
fn threads_full_of_threads_that_exist() {
    let _turn = turn!();
    let sleep_long = || std::thread::sleep(2 * PATIENCE);
    let children: Vec<_> = (0..8).map(|_| Child::start(sleep_long)).collect();
    children.iter().for_each(Child::wait_until_asleep);
    let mut config = config(&children, Capacity { threads: 2, ..Capacity::default() });
    config.duration = Some(Duration::from_millis(100));
    let recording = record(&config, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(recording.waits.len(), 2);
    assert_eq!(recording.losses.get(Loss::ThreadsFull), 6);
}

/// The kernel tells the stack of a thread that sleeps without the scheduler's functions.
#[test]
fn a_thread_found_asleep_has_the_stack_of_its_later_sleeps() {
    let _turn = turn!();
    let children = sleepers_for(20 * SLEEP, 8);
    children.iter().for_each(Child::wait_until_asleep);
    let mut config = config(&children, Capacity::default());
    config.duration = Some(Duration::from_secs(1));
    let recording = record(&config, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let symbols = symbolize(&recording, &symbolize::Options::default(), &mut |_, _| {});
    let profile = merge(&recording, &symbols);
    let asleep = profile.waits.iter().filter(|wait| wait.state == WaitState::Interruptible);
    let kernel = |wait: &Wait| -> Vec<String> {
        let frames = wait.sleeper_stack.iter().map(|&id| &profile.frames[id as usize]);
        frames.take_while(|frame| frame.kernel).map(Frame::label).collect()
    };
    let stacks: HashSet<_> = asleep.map(kernel).collect();
    assert_eq!(stacks.len(), 1, "{stacks:?}");
    assert!(stacks.iter().all(|stack| stack[0] == "__schedule"), "{stacks:?}");
}

#[test]
fn waits_full() {
    let _turn = turn!();
    let children = sleepers(16);
    let mut probes = attached(&config(&children, Capacity { waits: 4, ..Capacity::default() }));
    wait_for_loss(&probes, Loss::WaitsFull);
    wait_for_intervals(&probes, 20);
    let (collected, counters) = finish(&mut probes);
    assert!((1..=4).contains(&collected.waits.len()), "{}", collected.waits.len());
    let WaitStats { count, .. } = sum(&collected);
    assert_eq!((count, sum(&collected).off_ns()), (counters.intervals, counters.off_ns));
}

/// The session empties maps before they are full, however small they are, unless a burst of new
/// waits is faster than it looks: then it says so, and records what comes after.
#[test]
fn a_full_map_does_not_end_a_recording() {
    let _turn = turn!();
    let children = sleepers_for(5 * SLEEP, 64);
    let tiny = Capacity {
        threads: 32,
        waits: 4,
        stacks: 4,
        stack_bytes: 4096,
        notices: 4096,
        ..Capacity::default()
    };
    let mut config = config(&children, tiny);
    config.duration = Some(Duration::from_millis(500));
    let recording = record(&config, &AtomicBool::new(false), &mut |_| {}).unwrap();
    for loss in [Loss::ThreadsFull, Loss::WaitsFull] {
        assert!(recording.losses.get(loss) > 0, "{}: {:?}", loss.name(), recording.losses);
    }
    assert!(recording.waits.len() > 4, "{}", recording.waits.len());
}

#[test]
fn stacks_full() {
    let _turn = turn!();
    /// A page has room for no more, each of which has at least ten frames.
    const ROOM: usize = 4096 / (24 + 8 * 10);
    let children = sleepers(4 * ROOM);
    let mut probes =
        attached(&config(&children, Capacity { stack_bytes: 4096, ..Capacity::default() }));
    wait_for_loss(&probes, Loss::StacksFull);
    wait_for_intervals(&probes, 40 * ROOM as u64);
    let (collected, counters) = finish(&mut probes);
    assert!((1..=ROOM).contains(&collected.stacks.len()), "{}", collected.stacks.len());
    assert_eq!(sum(&collected).count, counters.intervals, "the intervals count");

    let profile = profile(collected);
    let lost = profile.waits.iter().filter(|wait| {
        let names = wait.sleeper_stack.iter().map(|id| profile.frames[*id as usize].label());
        names.into_iter().any(|name| name == LOST_STACK)
    });
    assert!(lost.count() >= 3 * ROOM, "the user stacks of most children");
}

#[test]
fn kernel_stack_unreadable() {
    let _turn = turn!();
    let children = sleepers(1);
    // Dropped last: nothing can be changed while the programs are loaded.
    let _limit = MaxStack::set(0);
    let mut probes = attached(&config(&children, Capacity::default()));
    wait_for_loss(&probes, Loss::KernelStackUnreadable);
    wait_for_intervals(&probes, 5);
    let (collected, counters) = finish(&mut probes);
    assert_eq!(sum(&collected).count, counters.intervals, "the intervals count");
    assert!(sleeps(&collected).count() > 0);
    for (key, _) in collected.waits.iter() {
        assert_eq!(key.sleeper_kernel, 0);
        assert_eq!(collected.stacks[&key.sleeper_user].context, StackContext::User);
    }
}

#[test]
fn user_stack_broken() {
    let _turn = turn!();
    /// Sleeps with a frame pointer that leads nowhere, as code does that uses the register freely.
    fn sleep_without_frame_pointer() {
        let time = libc::timespec { tv_sec: 0, tv_nsec: SLEEP.as_nanos() as libc::c_long };
        // SAFETY: nanosleep reads the time and writes to no memory; the register is restored.
        unsafe {
            std::arch::asm!(
                "push rbp",
                "mov rbp, 16",
                "syscall",
                "pop rbp",
                inlateout("rax") libc::SYS_nanosleep => _,
                in("rdi") &raw const time,
                in("rsi") 0,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
    }
    let children = [Child::start(|| {
        loop {
            sleep_without_frame_pointer();
        }
    })];
    let mut probes = attached(&config(&children, Capacity::default()));
    wait_for_intervals(&probes, 5);
    let (collected, counters) = finish(&mut probes);
    assert_eq!(sum(&collected).count, counters.intervals, "the intervals count");
    let count: u64 = sleeps(&collected).map(|(_, stats)| stats.count).sum();
    assert!(count > 0);
    for (key, _) in sleeps(&collected) {
        let stack = &collected.stacks[&key.sleeper_user];
        assert_eq!(
            (stack.frames.len(), stack.end),
            (1, StackEnd::Astray),
            "the innermost is there"
        );
    }
    assert!(profile(collected).losses.get(Loss::UserStackBroken) >= count);
}

#[test]
fn kernel_stack_truncated() {
    const LIMIT: usize = 3;
    let _turn = turn!();
    let children = sleepers(1);
    // Dropped last: nothing can be changed while the programs are loaded.
    let _limit = MaxStack::set(LIMIT);
    let mut probes = attached(&config(&children, Capacity::default()));
    wait_for_loss(&probes, Loss::KernelStackTruncated);
    wait_for_intervals(&probes, 5);
    let (collected, counters) = finish(&mut probes);
    assert_eq!(sum(&collected).count, counters.intervals, "the intervals count");
    assert!(sleeps(&collected).count() > 0);
    for (key, _) in sleeps(&collected) {
        let frames = &collected.stacks[&key.sleeper_kernel].frames;
        assert_eq!(frames.len(), LIMIT, "the innermost frames are there");
    }
}

#[test]
fn a_deep_user_stack_keeps_its_innermost_frames() {
    let _turn = turn!();
    #[inline(never)]
    fn descend(depth: usize) -> usize {
        if depth == 0 {
            loop {
                std::thread::sleep(SLEEP);
            }
        }
        // Not a tail call: each frame stays.
        std::hint::black_box(descend(depth - 1)) + 1
    }
    let children = [Child::start(|| {
        descend(200);
    })];
    let mut probes = attached(&config(&children, Capacity::default()));
    wait_for_intervals(&probes, 5);
    let (collected, _) = finish(&mut probes);
    let longest = collected.stacks.values().map(|stack| stack.frames.len()).max();
    assert_eq!(longest, Some(offwake_shared::MAX_FRAMES));
    assert!(profile(collected).losses.get(Loss::UserStackTruncated) >= 5);
}

#[test]
fn unknown_waker() {
    let _turn = turn!();
    let children = sleepers(1);
    let config = config(&children, Capacity::default());
    let mut probes = loaded(&config);
    probes.attach_if(|program| program == "sched_switch").unwrap();
    wait_for_loss(&probes, Loss::UnknownWaker);
    wait_for_intervals(&probes, 5);
    let (collected, counters) = finish(&mut probes);
    let unknown: u64 = sleeps(&collected).map(|(_, stats)| stats.count).sum();
    assert_eq!(counters.losses[Loss::UnknownWaker as usize], unknown, "each sleep is one");
    for (key, stats) in sleeps(&collected) {
        assert_eq!(key.waker_kind, WakerKind::None as u32);
        assert_eq!(stats.runqueue_ns, 0);
        assert!(stats.blocked_ns >= stats.count * SLEEP.as_nanos() as u64, "{stats:?}");
    }
    let profile = profile(collected);
    let asleep = profile.waits.iter().filter(|wait| wait.state == WaitState::Interruptible);
    assert!(asleep.into_iter().all(|wait| wait.waker == Waker::Unknown));
}

/// The child sleeps, and is woken while the programs are detached; they are attached again while
/// it runs, and see it switched out for the second time in a row.
#[test]
fn switch_in_missed() {
    const ASLEEP: Duration = Duration::from_millis(20);
    let _turn = turn!();
    // 2n: the child is about to sleep for the nth time; 2n + 1: it was woken, and runs until told.
    let shared = Shared::new();
    let child = Child::start(|| {
        for sleep in 0.. {
            shared.progress.store(2 * sleep, Ordering::Relaxed);
            shared.wait_for_wake_up();
            shared.progress.store(2 * sleep + 1, Ordering::Relaxed);
            while shared.may_sleep.load(Ordering::Relaxed) <= sleep {
                std::hint::spin_loop();
            }
        }
    });
    let children = [child];
    let config = config(&children, Capacity::default());
    let mut probes = loaded(&config);
    let reached = |progress| {
        wait_until("progress", || shared.progress.load(Ordering::Relaxed) == progress);
    };
    // Again where the child was not running when the programs were attached: then its switch-in
    // was seen after all.
    for sleep in (0..).step_by(2) {
        assert!(sleep < 200, "the child was never seen to be switched out twice");
        // With the programs detached up to here, the child runs, goes to sleep and is seen to.
        reached(2 * sleep);
        children[0].wait_until_asleep();
        shared.wake_up();
        reached(2 * sleep + 1);
        probes.attach().unwrap();
        shared.may_sleep.store(sleep + 1, Ordering::Relaxed);
        reached(2 * sleep + 2);
        children[0].wait_until_asleep();
        std::thread::sleep(ASLEEP);
        probes.detach();

        shared.wake_up();
        reached(2 * sleep + 3);
        probes.attach().unwrap();
        shared.may_sleep.store(sleep + 2, Ordering::Relaxed);
        reached(2 * sleep + 4);
        children[0].wait_until_asleep();
        let lost = probes.counters().unwrap().losses[Loss::SwitchInMissed as usize];
        probes.detach();
        if lost > 0 {
            break;
        }
    }
    let (collected, counters) = finish(&mut probes);
    assert_eq!(sum(&collected).count, counters.intervals);
    let longest = sleeps(&collected).map(|(_, stats)| stats.max_ns).max();
    assert!(longest.is_some_and(|ns| ns >= ASLEEP.as_nanos() as u64), "it counts: {longest:?}");
}

/// A page of notices, which nobody reads at first.
#[test]
fn notices_full() {
    const PAGE: u32 = 4096;
    /// 16 bytes and a header of 8 each fill the page twice.
    const PROGRAMS: usize = 2 * PAGE as usize / 24;
    let _turn = turn!();
    // They are many: more work for each would be too much for the machine.
    let children = sleepers_for(20 * SLEEP, PROGRAMS);
    let mut probes =
        attached(&config(&children, Capacity { notices: PAGE, ..Capacity::default() }));
    wait_for_loss(&probes, Loss::NoticesFull);

    // From now on somebody reads. A stack whose program could not be announced is as new when it is
    // seen again.
    let mut notices = NoticeReader::start(probes.take_notices().unwrap()).unwrap();
    let mut collected = Collected::default();
    let mut drain = drain(&mut probes);
    wait_until("all programs are known", || {
        std::thread::sleep(Duration::from_millis(100));
        drain.all(&mut collected).unwrap();
        let images: Vec<ImageId> =
            collected.waits.iter().map(|(key, _)| ImageId::of(&key.sleeper)).collect();
        let mut known: Vec<u32> = notices.with(|snapshots| {
            images.iter().filter(|id| snapshots.image(**id).is_some()).map(|id| id.tgid).collect()
        });
        known.sort_unstable();
        known.dedup();
        known.len() == PROGRAMS
    });
    notices.finish();
}

/// Nobody reads the notices until the process is gone.
#[test]
fn process_gone() {
    let _turn = turn!();
    let children = sleepers(1);
    let mut probes = attached(&config(&children, Capacity::default()));
    wait_for_intervals(&probes, 5);
    drop(children);
    let mut notices = NoticeReader::start(probes.take_notices().unwrap()).unwrap();
    notices.finish();
    assert_eq!(notices.gone(), 1);
    let (collected, counters) = finish(&mut probes);
    assert_eq!(sum(&collected).count, counters.intervals, "the intervals count");
}

#[test]
fn a_thread_is_forgotten_when_it_dies_under_another_name() {
    let _turn = turn!();
    let rename = |name: &std::ffi::CStr| {
        // SAFETY: the name is a string with an end.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    };
    let filter = Filter { comm: Some("offwake_target".into()), ..Filter::default() };
    let config = Config { filter, ..Config::default() };
    let mut probes = attached(&config);
    let may_end = Shared::new();
    let child = Child::start(|| {
        rename(c"offwake_target");
        for _ in 0..5 {
            std::thread::sleep(SLEEP);
        }
        may_end.wait_for_wake_up();
        rename(c"another");
    });
    let known = || {
        let mut known = false;
        let visit = |&tid: &u32, _: &ThreadState| known |= tid == child.pid;
        Buffers::new().for_each(probes.hash_map("THREADS"), visit).unwrap();
        known
    };
    wait_until("five sleeps", || probes.counters().unwrap().intervals >= 5 && known());
    may_end.wake_up();
    wait_until("the child to end", || process::state(child.pid) == Some(b'Z'));
    wait_until("it to be forgotten", || !known());
    probes.detach();
}

/// A reader of notices that are never sent.
fn notice_reader() -> NoticeReader {
    let mut probes = loaded(&Config::default());
    NoticeReader::start(probes.take_notices().unwrap()).unwrap()
}

#[test]
fn a_process_that_is_gone_counts_once() {
    let gone = Child::start(|| {});
    let pid = gone.pid;
    drop(gone);
    let _turn = turn!();
    let notices = notice_reader();
    for _thread in 0..3 {
        notices.read(ImageId { tgid: pid, exec_id: 0 }, 1);
    }
    assert_eq!(notices.gone(), 1);
}

#[test]
fn a_program_that_was_announced_too_early_is_read_when_it_is_announced_again() {
    let _turn = turn!();
    let notices = notice_reader();
    let id = ImageId { tgid: std::process::id(), exec_id: 0 };
    let start_stack = process::start_stack(id.tgid).unwrap();
    notices.read(id, start_stack - 4096);
    assert_eq!(notices.gone(), 1);
    notices.read(id, start_stack);
    assert_eq!(notices.gone(), 0);
    assert!(notices.with(|snapshots| snapshots.has(id, start_stack)));
}

#[test]
fn a_program_that_was_read_too_early_is_read_again() {
    let _turn = turn!();
    let notices = notice_reader();
    let id = ImageId { tgid: std::process::id(), exec_id: 0 };
    let start_stack = process::start_stack(id.tgid).unwrap();
    // Within `execve`, when it was not set yet.
    notices.read(id, 0);
    assert!(notices.with(|snapshots| !snapshots.has(id, start_stack)));
    notices.read(id, start_stack);
    assert!(notices.with(|snapshots| snapshots.has(id, start_stack)));
}

/// Our own programs do not interrupt themselves on request; one that does shows that the kernel's
/// counter is read.
#[test]
fn probe_misses() {
    let _turn = turn!();
    let program = recursing::Program::load().unwrap();
    assert_eq!(recursion_misses(program.fd()), 0);
    let _attached = program.attach().unwrap();
    program.run().unwrap();
    assert!(recursion_misses(program.fd()) > 0);
}

#[test]
fn max_stack_is_left_as_it_was() {
    let _turn = turn!();
    let before = MaxStack::get();
    let result = std::panic::catch_unwind(|| {
        let _limit = MaxStack::set(5);
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(result.is_err());
    assert_eq!(MaxStack::get(), before.max(127));
}
