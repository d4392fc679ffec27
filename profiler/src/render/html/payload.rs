//! What the script gets: tables of what occurs, each once, and columns of numbers that lead to them.
//!
//! Times are ns. Stacks are nodes of one tree of frames, in which a node's number is higher than its
//! parent's; node 0 is the empty stack.

use std::collections::HashMap;
use std::hash::Hash;

use offwake_shared::WaitState;
use serde::Serialize;

use super::super::label::label;
use super::super::stacks::{Role, waker_label, waker_role};
use super::super::{RenderOptions, colors, escape, human, json};
use super::diff::Before;
use crate::diff::{self, Diff};
use crate::profile::{FrameId, Histogram, Profile, Thread, Wait, Waker};

/// In the order in which the script numbers them (tree.js).
const ROLES: [Role; 10] = [
    Role::SleeperThread,
    Role::SleeperUser,
    Role::SleeperKernel,
    Role::Delimiter,
    Role::WakerKernel,
    Role::WakerUser,
    Role::WakerThread,
    Role::Interrupt,
    Role::Preempted,
    Role::NoWaker,
];

#[derive(Serialize)]
pub(super) struct Payload {
    title: String,
    /// Name and value of each fact about the recording.
    facts: Vec<(&'static str, String)>,
    /// Seconds since 1970; 0 if unknown.
    started: f64,
    /// Name, count, and whether the intervals are missing as a whole.
    losses: Vec<(&'static str, u64, bool)>,
    /// The metric to begin with.
    metric: &'static str,
    per_thread: bool,
    delimited: bool,
    /// Red, green and blue of each role, and of the frame of everything.
    palette: Vec<[u8; 3]>,
    states: Vec<&'static str>,
    /// Where each bucket of a histogram begins, in ns.
    buckets: Vec<u64>,
    frames: Frames,
    nodes: Nodes,
    threads: Threads,
    wakers: Wakers,
    waits: Waits,
    /// Of a diff only.
    before: Option<Before>,
}

#[derive(Default, Serialize)]
struct Frames {
    label: Vec<String>,
    /// An index into `modules`; 0 is none.
    module: Vec<u32>,
    modules: Vec<String>,
    /// 0 user, 1 kernel, 2 scheduler: what every wait goes through.
    kind: Vec<u8>,
}

#[derive(Serialize)]
struct Nodes {
    parent: Vec<u32>,
    frame: Vec<FrameId>,
}

#[derive(Default, Serialize)]
struct Threads {
    name: Vec<String>,
    pid: Vec<u32>,
    tid: Vec<u32>,
}

#[derive(Default, Serialize)]
struct Wakers {
    label: Vec<String>,
    /// An index into `ROLES`.
    role: Vec<u8>,
    /// 0 unless it is a thread.
    tid: Vec<u32>,
}

/// The columns of the waits.
#[derive(Default, Serialize)]
struct Waits {
    sleeper: Vec<u32>,
    waker: Vec<u32>,
    state: Vec<u8>,
    count: Vec<u64>,
    blocked: Vec<u64>,
    runqueue: Vec<u64>,
    max: Vec<u64>,
    /// See [`histogram`].
    histogram: Vec<Vec<u64>>,
    sleeper_stack: Vec<u32>,
    waker_stack: Vec<u32>,
}

impl Payload {
    pub(super) fn new(profile: &Profile, options: &RenderOptions) -> Self {
        let mut stacks = Stacks::new();
        let (mut sleepers, mut wakers) = (Numbers::default(), Numbers::default());
        let mut waits = Waits::default();
        for wait in &profile.waits {
            let Wait {
                sleeper,
                waker,
                state,
                count,
                blocked_ns,
                runqueue_ns,
                max_ns,
                histogram,
                estimate: _,
                sleeper_stack,
                waker_stack,
            } = wait;
            waits.sleeper.push(sleepers.of(sleeper));
            waits.waker.push(wakers.of(waker));
            let state = WaitState::ALL.iter().position(|other| other == state);
            waits.state.push(state.unwrap_or_default() as u8);
            waits.count.push(*count);
            waits.blocked.push(*blocked_ns);
            waits.runqueue.push(*runqueue_ns);
            waits.max.push(*max_ns);
            waits.histogram.push(self::histogram(histogram));
            waits.sleeper_stack.push(stacks.node(sleeper_stack));
            waits.waker_stack.push(stacks.node(waker_stack));
        }
        let (started, facts) = facts(profile);
        Self {
            title: options.title.as_deref().map_or_else(|| title(profile), escape::name),
            facts,
            started,
            losses: profile
                .losses
                .iter()
                .map(|(loss, count)| (loss.name(), count, loss.takes_interval()))
                .collect(),
            metric: options.metric.name(),
            per_thread: options.per_thread,
            delimited: options.delimited,
            palette: ROLES.map(colors::base).into_iter().chain([colors::ROOT_RGB]).collect(),
            states: WaitState::ALL.map(WaitState::name).into(),
            buckets: (0..Histogram::BUCKETS).map(Histogram::lower_ns).collect(),
            frames: frames(profile, options),
            nodes: stacks.nodes,
            threads: threads(&sleepers.values),
            wakers: self::wakers(&wakers.values),
            waits,
            before: None,
        }
    }

    /// Of two profiles as one.
    pub(super) fn of_diff(before: &Profile, after: &Profile, diff: &Diff) -> Self {
        let (both, sums) = super::diff::combine(before, after, diff);
        let options = RenderOptions { metric: diff.options.metric, ..RenderOptions::default() };
        Self {
            title: format!("Diff: {}", title(&both)),
            facts: super::diff::facts(before, after),
            started: 0.0,
            before: Some(sums),
            ..Self::new(&both, &options)
        }
    }
}

fn title(profile: &Profile) -> String {
    escape::name(&profile.meta.targets.join(", "))
}

fn facts(profile: &Profile) -> (f64, Vec<(&'static str, String)>) {
    let meta = &profile.meta;
    let mut facts = vec![
        ("recorded", human::length(meta.duration)),
        ("kernel", escape::name(&meta.kernel)),
        ("probe", escape::name(&meta.probe)),
    ];
    facts.extend(profile.describe_sampling().map(|text| ("sampling", text)));
    (json::started(meta), facts)
}

fn frames(profile: &Profile, options: &RenderOptions) -> Frames {
    let mut frames = Frames::default();
    let mut modules = Numbers::default();
    modules.of(&String::new());
    for frame in &profile.frames {
        frames.label.push(escape::frame(&label(frame, options)));
        let module = frame.module.as_deref().map(escape::name).unwrap_or_default();
        frames.module.push(modules.of(&module));
        frames.kind.push(match frame.kernel {
            false => 0,
            true if diff::is_scheduler(&frame.label()) => 2,
            true => 1,
        });
    }
    frames.modules = modules.values;
    frames
}

fn threads(sleepers: &[Thread]) -> Threads {
    let mut threads = Threads::default();
    for Thread { pid, tid, comm } in sleepers {
        threads.name.push(escape::thread(comm));
        threads.pid.push(*pid);
        threads.tid.push(*tid);
    }
    threads
}

fn wakers(values: &[Waker]) -> Wakers {
    let mut wakers = Wakers::default();
    for waker in values {
        let role = waker_role(waker);
        let role = ROLES.iter().position(|other| *other == role);
        wakers.label.push(waker_label(waker));
        wakers.role.push(role.unwrap_or_default() as u8);
        wakers.tid.push(if let Waker::Task(thread) = waker { thread.tid } else { 0 });
    }
    wakers
}

/// The number of each bucket that is not empty, and its count.
pub(super) fn histogram(histogram: &Histogram) -> Vec<u64> {
    let buckets = histogram.counts().iter().enumerate().filter(|(_, count)| **count > 0);
    buckets.flat_map(|(bucket, count)| [bucket as u64, *count]).collect()
}

/// Values, numbered in the order of their first use.
struct Numbers<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    fn of(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.numbers.insert(value.clone(), number);
        self.values.push(value.clone());
        number
    }
}

/// The tree of stacks, from the outermost frame.
struct Stacks {
    children: HashMap<(u32, FrameId), u32>,
    nodes: Nodes,
}

impl Stacks {
    fn new() -> Self {
        Self { children: HashMap::new(), nodes: Nodes { parent: vec![0], frame: vec![0] } }
    }

    /// The node of a stack, which has its innermost frame first.
    fn node(&mut self, stack: &[FrameId]) -> u32 {
        let Nodes { parent: parents, frame: frames } = &mut self.nodes;
        stack.iter().rev().fold(0, |parent, frame| {
            *self.children.entry((parent, *frame)).or_insert_with(|| {
                parents.push(parent);
                frames.push(*frame);
                (frames.len() - 1) as u32
            })
        })
    }
}
