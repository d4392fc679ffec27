//! What waits have in common.

use super::normal;
use crate::profile::{Profile, Wait, Waker};

/// What makes one row of a diff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Where threads wait: the innermost function of the sleeper that is not the scheduler's.
    #[default]
    Wait,
    /// Who ends waits.
    Waker,
    /// Whole merged stacks.
    Stack,
    /// The name of the thread that waits.
    Thread,
}

impl By {
    /// The name in every output and in `--by`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Waker => "waker",
            Self::Stack => "stack",
            Self::Thread => "thread",
        }
    }
}

/// A part of a row's name, by what it may be mistaken for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A function, normalized.
    Frame(String),
    /// The name of a thread.
    Thread(String),
    /// What stands for a waker that is no thread, `--`, and `[no stack]`.
    Mark(String),
}

/// The labels of a profile's frames, and the grouping.
pub(super) struct Keys<'a> {
    profile: &'a Profile,
    labels: Vec<String>,
    by: By,
}

impl<'a> Keys<'a> {
    pub(super) fn new(profile: &'a Profile, by: By) -> Self {
        Self { profile, labels: profile.frames.iter().map(normal::label).collect(), by }
    }

    /// The group of a wait.
    pub(super) fn of(&self, wait: &Wait) -> Vec<Part> {
        match self.by {
            By::Wait => vec![self.leaf(wait)],
            By::Waker => vec![waker(wait)],
            By::Stack => self.stack(wait),
            By::Thread => vec![Part::Thread(wait.sleeper.comm.clone())],
        }
    }

    fn leaf(&self, wait: &Wait) -> Part {
        let labels = || wait.sleeper_stack.iter().map(|id| self.label(*id));
        let is_scheduler = |label: &&str| is_scheduler(label);
        match labels().find(|label| !is_scheduler(label)).or_else(|| labels().next()) {
            Some(label) => Part::Frame(label.into()),
            None => Part::Mark("[no stack]".into()),
        }
    }

    /// From the sleeper's name to the waker's, as in folded stacks.
    fn stack(&self, wait: &Wait) -> Vec<Part> {
        let frame = |id: &u32| Part::Frame(self.label(*id).into());
        let mut parts = vec![Part::Thread(wait.sleeper.comm.clone())];
        parts.extend(wait.sleeper_stack.iter().rev().map(frame));
        parts.push(Part::Mark("--".into()));
        parts.extend(wait.waker_stack.iter().map(frame));
        parts.push(waker(wait));
        parts
    }

    fn label(&self, id: u32) -> &str {
        debug_assert!((id as usize) < self.profile.frames.len());
        &self.labels[id as usize]
    }
}

fn waker(wait: &Wait) -> Part {
    match &wait.waker {
        Waker::Task(thread) => Part::Thread(thread.comm.clone()),
        waker => Part::Mark(waker.label()),
    }
}

/// Whether every wait goes through it, whatever for (kernel/sched/core.c, kernel/time/).
pub(crate) fn is_scheduler(label: &str) -> bool {
    let label = label.trim_start_matches('_');
    matches!(label, "io_schedule" | "preempt_schedule" | "cond_resched" | "traceiter_sched_switch")
        || label.starts_with("schedule")
        || label.starts_with("io_schedule")
        || label.starts_with("preempt_schedule")
}
