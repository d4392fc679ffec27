//! What waits have in common.

use super::names::{Interner, PartRef};
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

/// The labels of a profile's frames, and the grouping.
pub(super) struct Keys {
    labels: Vec<Label>,
    by: By,
}

struct Label {
    part: u32,
    is_scheduler: bool,
}

impl Keys {
    pub(super) fn new(profile: &Profile, by: By, parts: &mut Interner) -> Self {
        let label = |frame| {
            let label = normal::label(frame);
            Label { part: parts.part(PartRef::Frame(&label)), is_scheduler: is_scheduler(&label) }
        };
        Self { labels: profile.frames.iter().map(label).collect(), by }
    }

    /// Puts the group of a wait into `key`.
    pub(super) fn of(&self, wait: &Wait, parts: &mut Interner, key: &mut Vec<u32>) {
        key.clear();
        match self.by {
            By::Wait => key.push(self.leaf(wait, parts)),
            By::Waker => key.push(waker(wait, parts)),
            By::Stack => self.stack(wait, parts, key),
            By::Thread => key.push(parts.part(PartRef::Thread(&wait.sleeper.comm))),
        }
    }

    fn leaf(&self, wait: &Wait, parts: &mut Interner) -> u32 {
        let labels = || wait.sleeper_stack.iter().map(|id| &self.labels[*id as usize]);
        match labels().find(|label| !label.is_scheduler).or_else(|| labels().next()) {
            Some(label) => label.part,
            None => parts.part(PartRef::Mark("[no stack]")),
        }
    }

    /// From the sleeper's name to the waker's, as in folded stacks.
    fn stack(&self, wait: &Wait, parts: &mut Interner, key: &mut Vec<u32>) {
        let part = |id: &u32| self.labels[*id as usize].part;
        key.push(parts.part(PartRef::Thread(&wait.sleeper.comm)));
        key.extend(wait.sleeper_stack.iter().rev().map(part));
        key.push(parts.part(PartRef::Mark("--")));
        key.extend(wait.waker_stack.iter().map(part));
        key.push(waker(wait, parts));
    }
}

fn waker(wait: &Wait, parts: &mut Interner) -> u32 {
    match &wait.waker {
        Waker::Task(thread) => parts.part(PartRef::Thread(&thread.comm)),
        waker => parts.part(PartRef::Mark(&waker.label())),
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
