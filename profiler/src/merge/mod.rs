//! Merging: a recording and its symbols become a profile.
//!
//! Here the two halves of a wait come together: the frames of BPF itself go, the waker gets its
//! kind ([`Waker`]), and kernel and user frames become one stack.

mod bpf_frames;
mod source;
#[cfg(test)]
mod tests;
mod waker;

use hashbrown::HashMap;
use offwake_shared::{Loss, Source, StackEnd, Variance, WaitKey, WaitState, WaitStats};

use crate::profile::{
    Estimate, Frame, FrameId, Histogram, Losses, Module, Profile, Stack, Thread, Wait, Waker,
};
use crate::recording::{Recording, StackId};
use crate::symbolize::Symbols;

/// The name of the only frame of a stack whose frames were lost ([`offwake_shared::Loss`] says why).
pub const LOST_STACK: &str = "[lost stack]";

/// Merges each sleeper with its waker. Waits that differ only in what a profile does not show
/// (such as the frames of BPF) become one.
///
/// Adds to the losses what symbolization found missing: the user stacks without an outermost frame,
/// by cause. An interval counts for its sleeper's stack, and for its waker's.
pub fn merge(recording: &Recording, symbols: &Symbols) -> Profile {
    let merger = Merger::new(symbols, &recording.sources);
    let mut losses = recording.losses;
    let waits =
        recording.waits.iter().map(|(key, stats)| merger.wait(key, stats, &mut losses)).collect();
    let modules = recording.files.iter().map(|file| Module {
        name: file.name(),
        path: file.path.to_string_lossy().into_owned(),
        build_id: file.build_id.clone(),
    });
    Profile::new(recording.meta.clone(), losses, merger.frames, waits).with_modules(modules)
}

struct Merger<'a> {
    symbols: &'a Symbols,
    /// The frames of `symbols`, and behind them the two of lost stacks and those of sources.
    frames: Vec<Frame>,
    lost_kernel: FrameId,
    lost_user: FrameId,
    /// The frame of each source.
    sources: HashMap<u64, FrameId>,
}

impl<'a> Merger<'a> {
    fn new(symbols: &'a Symbols, sources: &HashMap<u64, Source>) -> Self {
        let mut frames = symbols.frames.clone();
        let mut add_lost = |kernel| {
            frames.push(Frame {
                name: Some(LOST_STACK.into()),
                module: None,
                offset: 0,
                kernel,
                file: None,
                line: None,
                inlined: false,
            });
            (frames.len() - 1) as FrameId
        };
        let (lost_kernel, lost_user) = (add_lost(true), add_lost(false));
        let sources = sources.iter().filter_map(|(&id, source)| {
            frames.push(source::frame(source)?);
            Some((id, (frames.len() - 1) as FrameId))
        });
        let sources = sources.collect();
        Self { symbols, frames, lost_kernel, lost_user, sources }
    }

    fn wait(&self, key: &WaitKey, stats: &WaitStats, losses: &mut Losses) -> Wait {
        let WaitKey {
            sleeper,
            waker: waker_task,
            sleeper_kernel,
            sleeper_user,
            waker_kernel,
            waker_user,
            source,
            state,
            waker_kind,
        } = key;
        let WaitStats { count, blocked_ns, runqueue_ns, max_ns, histogram, variance } = *stats;

        // Numbers that no version of the BPF programs writes.
        let state = WaitState::from_u32(*state).unwrap_or(WaitState::Other);
        let waker_frames = self.kernel_stack(*waker_kernel);
        let waker = waker::classify(*waker_kind, waker_task, state, &self.names(waker_frames));
        self.count_if_broken(*sleeper_user, count, losses);
        let mut waker_stack: Stack = match waker {
            Waker::Preempted | Waker::NotWoken => Stack::new(),
            _ => self.sources.get(source).copied().into_iter().collect(),
        };
        match waker {
            Waker::Task(_) => {
                self.count_if_broken(*waker_user, count, losses);
                waker_stack.extend_from_slice(waker_frames);
                waker_stack.extend_from_slice(self.user_stack(*waker_user));
            }
            // The program that was interrupted has no part in it.
            Waker::Irq | Waker::Softirq(_) => waker_stack.extend_from_slice(waker_frames),
            Waker::Preempted | Waker::NotWoken | Waker::Unknown => {}
        }
        Wait {
            sleeper: Thread::of(sleeper),
            waker,
            state,
            count,
            blocked_ns,
            runqueue_ns,
            max_ns,
            histogram: Histogram::from(&histogram),
            estimate: estimate(&variance),
            sleeper_stack: [self.kernel_stack(*sleeper_kernel), self.user_stack(*sleeper_user)]
                .concat()
                .into(),
            waker_stack,
        }
    }

    /// Counts the intervals of a user stack that has no outermost frame.
    fn count_if_broken(&self, user_stack: StackId, count: u64, losses: &mut Losses) {
        let loss = match self.symbols.broken.get(&user_stack) {
            None | Some(StackEnd::Complete) => return,
            Some(StackEnd::Truncated) => Loss::UserStackTruncated,
            Some(StackEnd::Astray | StackEnd::Unmapped) => Loss::UserStackBroken,
            Some(StackEnd::Unreadable) => Loss::UserStackUnreadable,
            Some(StackEnd::Unsupported) => Loss::UserStackUnsupported,
        };
        losses.add(loss, count);
    }

    fn kernel_stack(&self, id: StackId) -> &[FrameId] {
        let stack = self.stack(id, &self.lost_kernel);
        &stack[bpf_frames::count(&self.names(stack))..]
    }

    fn user_stack(&self, id: StackId) -> &[FrameId] {
        self.stack(id, &self.lost_user)
    }

    fn stack<'b>(&'b self, id: StackId, lost: &'b FrameId) -> &'b [FrameId] {
        match self.symbols.stacks.get(&id) {
            _ if id == 0 => &[],
            Some(stack) => stack,
            None => std::slice::from_ref(lost),
        }
    }

    fn names(&self, stack: &[FrameId]) -> Vec<&Frame> {
        stack.iter().map(|id| &self.frames[*id as usize]).collect()
    }
}

fn estimate(variance: &Variance) -> Estimate {
    Estimate {
        samples: variance.samples,
        count_error: variance.count.isqrt(),
        off_error_ns: u64::try_from(variance.off().isqrt()).unwrap_or(u64::MAX),
    }
}
