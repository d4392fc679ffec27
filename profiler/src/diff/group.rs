//! What waits have in common.

use hashbrown::HashMap;

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

impl Part {
    /// As it is.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Frame(text) | Self::Thread(text) | Self::Mark(text) => text,
        }
    }
}

/// Each part once, by number: whole stacks are compared as numbers.
#[derive(Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    frames: HashMap<String, u32>,
    threads: HashMap<String, u32>,
    marks: HashMap<String, u32>,
}

impl Parts {
    fn frame(&mut self, text: &str) -> u32 {
        number(&mut self.frames, &mut self.parts, text, Part::Frame)
    }

    fn thread(&mut self, text: &str) -> u32 {
        number(&mut self.threads, &mut self.parts, text, Part::Thread)
    }

    fn mark(&mut self, text: &str) -> u32 {
        number(&mut self.marks, &mut self.parts, text, Part::Mark)
    }

    fn waker(&mut self, wait: &Wait) -> u32 {
        match &wait.waker {
            Waker::Task(thread) => self.thread(&thread.comm),
            waker => self.mark(&waker.label()),
        }
    }

    /// All that were numbered, in order of number.
    pub(super) fn all(&self) -> &[Part] {
        &self.parts
    }

    /// What a key of [`Keys`] stands for.
    pub(super) fn name(&self, key: &[u32]) -> Vec<Part> {
        key.iter().map(|number| self.parts[*number as usize].clone()).collect()
    }
}

fn number(
    numbers: &mut HashMap<String, u32>,
    parts: &mut Vec<Part>,
    text: &str,
    make: fn(String) -> Part,
) -> u32 {
    *numbers.entry_ref(text).or_insert_with(|| {
        parts.push(make(text.into()));
        // A profile has no more frames and waits than that, and neither do two.
        (parts.len() - 1) as u32
    })
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
    pub(super) fn new(profile: &Profile, by: By, parts: &mut Parts) -> Self {
        let label = |frame| {
            let label = normal::label(frame);
            Label { part: parts.frame(&label), is_scheduler: is_scheduler(&label) }
        };
        Self { labels: profile.frames.iter().map(label).collect(), by }
    }

    /// Puts the group of a wait into `key`.
    pub(super) fn of(&self, wait: &Wait, parts: &mut Parts, key: &mut Vec<u32>) {
        key.clear();
        match self.by {
            By::Wait => key.push(self.leaf(wait, parts)),
            By::Waker => key.push(parts.waker(wait)),
            By::Stack => self.stack(wait, parts, key),
            By::Thread => key.push(parts.thread(&wait.sleeper.comm)),
        }
    }

    fn leaf(&self, wait: &Wait, parts: &mut Parts) -> u32 {
        let labels = || wait.sleeper_stack.iter().map(|id| &self.labels[*id as usize]);
        match labels().find(|label| !label.is_scheduler).or_else(|| labels().next()) {
            Some(label) => label.part,
            None => parts.mark("[no stack]"),
        }
    }

    /// From the sleeper's name to the waker's, as in folded stacks.
    fn stack(&self, wait: &Wait, parts: &mut Parts, key: &mut Vec<u32>) {
        let part = |id: &u32| self.labels[*id as usize].part;
        key.push(parts.thread(&wait.sleeper.comm));
        key.extend(wait.sleeper_stack.iter().rev().map(part));
        key.push(parts.mark("--"));
        key.extend(wait.waker_stack.iter().map(part));
        key.push(parts.waker(wait));
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
