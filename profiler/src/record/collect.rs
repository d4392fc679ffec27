//! Reading what the probes have aggregated.

use anyhow::{Context, Result};
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use offwake_shared::{
    Counters, ExistingThread, Stack, StackContext, StackEnd, TaskId, ThreadState, WaitKey,
    WaitState, WaitStats, WakerKind,
};

use super::batch::{self, Plain};
use super::load::Probes;
use super::unwind::Unwinder;
use super::{Capacity, Config, existing};
use crate::recording::{ImageId, RawStack, StackId};

// SAFETY: ABI types: plain data without padding.
unsafe impl Plain for WaitKey {}
// SAFETY: as above.
unsafe impl Plain for WaitStats {}
// SAFETY: as above.
unsafe impl Plain for Stack {}
// SAFETY: as above.
unsafe impl Plain for ThreadState {}
// SAFETY: every bit pattern is a number.
unsafe impl Plain for u32 {}
// SAFETY: every bit pattern is a number.
unsafe impl Plain for u64 {}

const WAITS: [&str; 2] = ["WAITS_0", "WAITS_1"];

/// All that was read so far.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) waits: HashMap<WaitKey, WaitStats>,
    pub(super) stacks: HashMap<StackId, RawStack>,
    /// A program whose waits are not recorded: the command's process before its `execve`.
    pub(super) ignored: Option<ImageId>,
    /// Intervals that were read, also those that are not recorded.
    pub(super) intervals: u64,
    /// See [`Self::take_seen`].
    seen: HashSet<ImageId>,
    /// The waits that were found rather than seen to begin: `off_since`, by tid.
    pub(super) added: HashMap<u32, u64>,
    /// How many more were found, for which the map of threads had no room.
    pub(super) not_added: u64,
    /// Threads that sleep at the end, with their stacks; see [`Self::take_stacks`].
    at_end: HashMap<u32, ThreadState>,
    /// How often the maps were emptied. The lowest bit says which of the two maps of waits the programs use.
    drains: u32,
    /// What the counters of new entries said at the last drain.
    drained: (u64, u64),
}

impl Collected {
    /// Empties the maps if they are a quarter full, so that they never fill.
    pub(super) fn drain_if_needed(
        &mut self,
        probes: &mut Probes,
        counters: &Counters,
        capacity: &Capacity,
    ) -> Result<()> {
        let (waits, stacks) = self.drained;
        if counters.new_waits - waits > u64::from(capacity.waits / 4)
            || counters.new_stacks - stacks > u64::from(capacity.stacks / 4)
        {
            self.drained = (counters.new_waits, counters.new_stacks);
            self.drain(probes)?;
        }
        Ok(())
    }

    /// Empties the maps of waits and stacks while the programs go on.
    pub(super) fn drain(&mut self, probes: &mut Probes) -> Result<()> {
        let inactive = (self.drains & 1) as usize;
        self.drains = self.drains.wrapping_add(1);
        probes.switch_waits(self.drains)?;
        let Self { waits, ignored, intervals, .. } = self;
        batch::drain(probes.hash_map(WAITS[inactive]), |key: &WaitKey, stats: &WaitStats| {
            *intervals += stats.count;
            let TaskId { tgid, exec_id, .. } = key.sleeper;
            if *ignored != Some(ImageId { tgid, exec_id }) {
                waits.entry(*key).or_default().add(stats);
            }
        })
        .context("cannot read the BPF map of waits")?;
        let Self { stacks, seen, .. } = self;
        batch::drain(probes.hash_map("STACKS"), |&id: &u64, stack: &Stack| {
            if let (Entry::Vacant(entry), Some(stack)) = (stacks.entry(id), raw_stack(stack)) {
                seen.extend(stack.image);
                entry.insert(stack);
            }
        })
        .context("cannot read the BPF map of stacks")
    }

    /// Takes the stacks of threads that are `asleep`, for intervals that have none.
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

    /// Adds the intervals that have not ended, as far as they were recorded: up to `now`, in ns.
    ///
    /// `asleep`: threads that did not run a moment ago, while the programs were attached. Any other
    /// thread with a wait from [`Self::added`] woke before the programs knew of it, and has not been
    /// switched out since, or has ended.
    pub(super) fn add_open_intervals(
        &mut self,
        probes: &Probes,
        config: &Config,
        asleep: Option<&HashMap<u32, ExistingThread>>,
        now: u64,
    ) -> Result<()> {
        let Self { waits, added, at_end, .. } = self;
        let limits =
            config.min_off.as_nanos()..=config.max_off.map_or(u128::MAX, |max| max.as_nanos());
        batch::for_each(probes.hash_map("THREADS"), |&tid: &u32, thread: &ThreadState| {
            let stale = asleep.is_some_and(|asleep| !asleep.contains_key(&tid))
                && added.get(&tid) == Some(&thread.off_since);
            if thread.off_since == 0 || stale {
                return;
            }
            let (mut key, stats) = open_interval(thread, now);
            if let (0, 0, Some(at_end)) = (key.sleeper_kernel, key.sleeper_user, at_end.get(&tid)) {
                key.sleeper_kernel = at_end.sleeper_kernel;
                key.sleeper_user = at_end.sleeper_user;
            }
            if limits.contains(&u128::from(stats.max_ns)) {
                waits.entry(key).or_default().add(&stats);
            }
        })
        .context("cannot read the BPF map of threads")
    }

    /// The programs with new stacks since the last call. They may have loaded a library since.
    pub(super) fn take_seen(&mut self) -> HashSet<ImageId> {
        std::mem::take(&mut self.seen)
    }
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

/// An interval that has begun, as if it ended now.
fn open_interval(thread: &ThreadState, now: u64) -> (WaitKey, WaitStats) {
    let off_ns = now.saturating_sub(thread.off_since);
    let mut key = WaitKey {
        sleeper: thread.sleeper,
        waker: Default::default(),
        sleeper_kernel: thread.sleeper_kernel,
        sleeper_user: thread.sleeper_user,
        waker_kernel: 0,
        waker_user: 0,
        state: thread.state,
        waker_kind: WakerKind::NotWoken as u32,
    };
    let runqueue_ns = if thread.state == WaitState::Preempted as u32 {
        key.waker_kind = WakerKind::None as u32;
        off_ns
    } else if thread.woken_at >= thread.off_since {
        // One that had raced the switch-out would have the thread running by now.
        key.waker = thread.waker;
        key.waker_kernel = thread.waker_kernel;
        key.waker_user = thread.waker_user;
        key.waker_kind = thread.waker_kind;
        now.saturating_sub(thread.woken_at)
    } else {
        0
    };
    let mut stats = WaitStats::default();
    stats.add_interval(off_ns, runqueue_ns);
    (key, stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(state: WaitState, woken_at: u64) -> ThreadState {
        ThreadState { off_since: 100, state: state as u32, woken_at, ..Default::default() }
    }

    #[test]
    fn a_thread_that_still_sleeps_is_blocked_until_now() {
        let (key, stats) = open_interval(&thread(WaitState::Interruptible, 0), 150);
        assert_eq!(key.waker_kind, WakerKind::NotWoken as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns, stats.max_ns), (50, 0, 50));
    }

    #[test]
    fn a_woken_thread_that_has_not_run_is_on_the_run_queue() {
        let (_, stats) = open_interval(&thread(WaitState::Interruptible, 130), 150);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (30, 20));
    }

    #[test]
    fn a_wake_up_from_before_is_of_a_sleep_that_was_called_off() {
        let (key, stats) = open_interval(&thread(WaitState::Interruptible, 90), 150);
        assert_eq!(key.waker_kind, WakerKind::NotWoken as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (50, 0));
    }

    #[test]
    fn a_preempted_thread_has_no_waker() {
        let (key, stats) = open_interval(&thread(WaitState::Preempted, 130), 150);
        assert_eq!(key.waker_kind, WakerKind::None as u32);
        assert_eq!((stats.blocked_ns, stats.runqueue_ns), (0, 50));
    }

    #[test]
    fn a_stack_with_an_impossible_length_is_dropped() {
        let stack = Stack { tgid: 1, exec_id: 0, len: 128, end: 0, context: 0, frames: [0; 127] };
        assert_eq!(raw_stack(&stack), None);
    }
}
