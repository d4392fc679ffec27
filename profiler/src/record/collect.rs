//! Reading what the probes have aggregated.

use anyhow::{Context, Result};
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use offwake_shared::{
    ExistingThread, Sampling, Source, Stack, StackContext, StackEnd, StackRecord, TaskId,
    ThreadState, WaitKey, WaitState, WaitStats, WaitSum, WakerKind,
};

use super::batch::{Buffers, Plain};
use super::load::Probes;
use super::probe::Probe;
use super::unwind::Unwinder;
use super::{Config, existing};
use crate::recording::{ImageId, RawStack, StackId, Waits};

// SAFETY: ABI types: plain data without padding.
unsafe impl Plain for WaitSum {}
// SAFETY: as above.
unsafe impl Plain for ThreadState {}
// SAFETY: every bit pattern is a number.
unsafe impl Plain for u32 {}
// SAFETY: every bit pattern is a number.
unsafe impl Plain for u64 {}
// SAFETY: an ABI type: plain data without padding.
unsafe impl Plain for Source {}

/// All that was read so far of what the probes have aggregated.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) waits: Waits,
    pub(super) stacks: HashMap<StackId, RawStack>,
    /// What threads have waited for in all, where intervals are sampled.
    pub(super) accounts: HashMap<TaskId, WaitStats>,
    /// Intervals that were read, also those that are not recorded.
    pub(super) intervals: u64,
    /// See [`Self::take_seen`].
    seen: HashSet<ImageId>,
}

impl Collected {
    /// Adds a finished sum of waits.
    pub(super) fn add_wait(&mut self, key: &WaitKey, stats: &WaitStats) {
        if key.waker_kind == WakerKind::Account as u32 {
            return self.accounts.entry(key.sleeper).or_default().add(stats);
        }
        self.intervals += stats.count;
        self.waits.add(key, stats);
    }

    /// Adds a stack: a record of the ring buffer. What is none is ignored.
    pub(super) fn add_stack(&mut self, record: &[u8]) {
        let Some((id, Some(stack))) = stack_of(record).map(|(id, stack)| (id, raw_stack(&stack)))
        else {
            return;
        };
        if let Entry::Vacant(entry) = self.stacks.entry(id) {
            self.seen.extend(stack.image);
            entry.insert(stack);
        }
    }

    /// The programs with new stacks since the last call. They may have loaded a library since.
    pub(super) fn take_seen(&mut self) -> HashSet<ImageId> {
        std::mem::take(&mut self.seen)
    }
}

/// What was found of threads rather than recorded.
#[derive(Default)]
pub(super) struct Found {
    /// A program whose waits are not recorded: the command's process before its `execve`.
    pub(super) ignored: Option<ImageId>,
    /// The stacks of the waits that were found.
    pub(super) stacks: HashMap<StackId, RawStack>,
    /// The waits that were found rather than seen to begin: `off_since`, by tid.
    pub(super) added: HashMap<u32, u64>,
    /// How many more were found, for which the map of threads had no room.
    pub(super) not_added: u64,
    /// Threads that sleep at the end, with their stacks; see [`Self::take_stacks`].
    at_end: HashMap<u32, ThreadState>,
}

impl Found {
    /// Takes the stacks of threads that are `asleep`, for intervals that have none. While the programs are attached:
    /// the interval of a thread that goes on meanwhile is seen to end, and what was taken of it is not used.
    pub(super) fn take_stacks(
        &mut self,
        asleep: Option<&HashMap<u32, ExistingThread>>,
        config: &Config,
        unwinder: Option<&Unwinder>,
        now: u64,
    ) {
        for (&key, thread) in asleep.into_iter().flatten() {
            let wait = existing::wait_of(thread, config, now, unwinder, &mut self.stacks);
            self.at_end.extend(wait.map(|wait| (key, wait)));
        }
    }

    /// Adds the intervals that had begun `now`, in ns, and have not ended since, as far as they were recorded. Of those
    /// that have begun since, the ones are counted that ended before the programs were detached.
    ///
    /// `asleep`: threads that did not run right after `now`, while the programs were attached, and pass the filter. Any other
    /// thread with a wait from [`Self::added`] woke before the programs knew of it, and has not been
    /// switched out since, or has ended.
    pub(super) fn add_open_intervals(
        &self,
        waits: &mut Waits,
        accounts: &mut HashMap<TaskId, WaitStats>,
        probes: &Probes,
        config: &Config,
        asleep: Option<&HashMap<u32, ExistingThread>>,
        now: u64,
    ) -> Result<()> {
        let Self { added, at_end, .. } = self;
        let limits =
            config.min_off.as_nanos()..=config.max_off.map_or(u128::MAX, |max| max.as_nanos());
        let mut buffers = Buffers::new();
        let samples = config.overhead_ppm.is_some();
        // Others are asked for their cgroup as they are switched out.
        let is_asked_at_end = probes.probe() == Probe::Kprobe && config.filter.cgroup.is_some();
        let visit = |&tid: &u32, thread: &ThreadState| {
            if samples {
                accounts.entry(thread.sleeper).or_default().add(&account_of(thread));
            }
            let is_elsewhere = asleep.is_some_and(|asleep| !asleep.contains_key(&tid));
            let is_stale = is_asked_at_end || added.get(&tid) == Some(&thread.off_since);
            let is_open = (1..=now).contains(&thread.off_since);
            if !is_open || is_elsewhere && is_stale {
                return;
            }
            let is_recorded = !samples || thread.sampling.weight > 0;
            let (mut key, mut stats) = open_interval(thread, is_recorded, now);
            stats.variance.samples = samples.into();
            if let (0, 0, Some(at_end)) = (key.sleeper_kernel, key.sleeper_user, at_end.get(&tid)) {
                key.sleeper_kernel = at_end.sleeper_kernel;
                key.sleeper_user = at_end.sleeper_user;
            }
            if limits.contains(&u128::from(stats.max_ns)) {
                // One of each, whether or not it would have been recorded.
                waits.add(&key, &stats);
                if samples {
                    accounts.entry(thread.sleeper).or_default().add(&stats);
                }
            }
        };
        buffers
            .for_each(probes.hash_map("THREADS"), visit)
            .context("cannot read the BPF map of threads")
    }

    /// Whether a thread is of a program that is not recorded.
    pub(super) fn ignores(&self, sleeper: &TaskId) -> bool {
        self.ignored == Some(ImageId::of(sleeper))
    }
}

/// The id and the stack of a record.
fn stack_of(record: &[u8]) -> Option<(StackId, Stack)> {
    let mut whole = [0u8; size_of::<StackRecord>()];
    whole.get_mut(..record.len())?.copy_from_slice(record);
    // SAFETY: plain data, for which any bytes are a value; the array has its size.
    let StackRecord { id, stack } =
        unsafe { whole.as_ptr().cast::<StackRecord>().read_unaligned() };
    (record.len() == StackRecord::HEAD + 8 * usize::from(stack.len)).then_some((id, stack))
}

/// The frames of a stack, as far as the kernel set them.
fn raw_stack(stack: &Stack) -> Option<RawStack> {
    let Stack { tgid, exec_id, len, end, context, frames } = stack;
    let user = Some(ImageId { tgid: *tgid, exec_id: *exec_id });
    let (context, image) = match *context {
        c if c == StackContext::User as u32 => (StackContext::User, user),
        c if c == StackContext::Kernel as u32 => (StackContext::Kernel, None),
        c if c == StackContext::Interrupt as u32 => (StackContext::Interrupt, None),
        _ => return None,
    };
    let frames = frames.get(..usize::from(*len))?.into();
    Some(RawStack { context, image, frames, end: StackEnd::from_u16(*end)? })
}

/// What a thread has waited for that is in no sum yet.
fn account_of(thread: &ThreadState) -> WaitStats {
    let Sampling { count, off_ns, runqueue_ns, .. } = thread.sampling;
    WaitStats { count, blocked_ns: off_ns - runqueue_ns, runqueue_ns, ..WaitStats::default() }
}

/// An interval that has begun, as if it ended now. One that is not recorded has no stacks: those of the thread are of one
/// before it.
fn open_interval(thread: &ThreadState, is_recorded: bool, now: u64) -> (WaitKey, WaitStats) {
    let off_ns = now.saturating_sub(thread.off_since);
    let mut key = WaitKey {
        sleeper: thread.sleeper,
        sleeper_kernel: if is_recorded { thread.sleeper_kernel } else { 0 },
        sleeper_user: if is_recorded { thread.sleeper_user } else { 0 },
        state: thread.state,
        waker_kind: WakerKind::NotWoken as u32,
        ..WaitKey::default()
    };
    let runqueue_ns = if thread.state == WaitState::Preempted as u32 {
        key.waker_kind = WakerKind::None as u32;
        off_ns
    } else if thread.woken_at >= thread.off_since {
        // One that had raced the switch-out would have the thread running by now.
        key.waker_kind = WakerKind::None as u32;
        if is_recorded {
            key.set_waker(thread);
        }
        now.saturating_sub(thread.woken_at)
    } else {
        0
    };
    let mut stats = WaitStats::default();
    stats.add_interval(off_ns, runqueue_ns);
    (key, stats)
}

/// What waits ended by, by the key that each has.
pub(super) fn sources(probes: &Probes) -> Result<HashMap<u64, Source>> {
    let mut sources = HashMap::new();
    Buffers::new()
        .for_each(probes.hash_map("SOURCES"), |&id: &u64, source: &Source| {
            sources.insert(id, *source);
        })
        .context("cannot read the BPF map of sources")?;
    sources.retain(|id, _| *id != 0);
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(state: WaitState, woken_at: u64) -> ThreadState {
        ThreadState { off_since: 100, state: state as u32, woken_at, ..Default::default() }
    }

    #[test]
    fn a_thread_that_still_sleeps_is_blocked_until_now() {
        let (key, stats) = open_interval(&thread(WaitState::Interruptible, 0), true, 150);
        assert_eq!(key.waker_kind, WakerKind::NotWoken as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns, stats.max_ns), (50, 0, 50));
    }

    #[test]
    fn a_woken_thread_that_has_not_run_is_on_the_run_queue() {
        let (_, stats) = open_interval(&thread(WaitState::Interruptible, 130), true, 150);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (30, 20));
    }

    #[test]
    fn a_wake_up_from_before_is_of_a_sleep_that_was_called_off() {
        let (key, stats) = open_interval(&thread(WaitState::Interruptible, 90), true, 150);
        assert_eq!(key.waker_kind, WakerKind::NotWoken as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (50, 0));
    }

    #[test]
    fn what_is_not_recorded_has_no_stacks_of_before() {
        let mut before = thread(WaitState::Interruptible, 130);
        (before.sleeper_kernel, before.sleeper_user, before.waker_kernel) = (1, 2, 3);
        let (key, stats) = open_interval(&before, false, 150);
        assert_eq!([key.sleeper_kernel, key.sleeper_user, key.waker_kernel], [0; 3]);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (30, 20));
    }

    #[test]
    fn a_preempted_thread_has_no_waker() {
        let (key, stats) = open_interval(&thread(WaitState::Preempted, 130), true, 150);
        assert_eq!(key.waker_kind, WakerKind::None as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (0, 50));
    }

    #[test]
    fn a_stack_with_an_impossible_length_is_dropped() {
        let stack = Stack { tgid: 1, exec_id: 0, len: 128, end: 0, context: 0, frames: [0; 127] };
        assert_eq!(raw_stack(&stack), None);
    }
}
