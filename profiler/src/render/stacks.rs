//! Merged stacks, as folded lines and graphs have them:
//!
//! ```text
//! sleeper;user root→leaf;kernel root→leaf;--;waker kernel leaf→root;waker user leaf→root;waker
//! ```
//!
//! A wait without a waker's stack ends with the label of its waker: `…;--;[preempted]`.
//!
//! There may be millions of stacks. None has a text of its own: frames are numbered in order of name,
//! stacks are sorted by these numbers where the profile has them, and are written one after the other.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::label::label;
use super::{RenderOptions, escape};
use crate::profile::{FrameId, Profile, Wait, Waker};

/// What a frame of a merged stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    SleeperThread,
    SleeperUser,
    SleeperKernel,
    /// `--`, and the `-` between user and kernel frames.
    Delimiter,
    WakerKernel,
    WakerUser,
    WakerThread,
    /// `[irq]` and `[softirq:…]`.
    Interrupt,
    /// `[preempted]`.
    Preempted,
    /// `[not woken]` and `[unknown waker]`.
    NoWaker,
}

/// What tells two frames apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Name,
    NameAndRole,
}

/// A frame of a merged stack: its role, and the number of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MergedFrame {
    pub(super) role: Role,
    name: u32,
}

/// The merged stacks of a profile, in order.
pub(super) struct MergedStacks<'a> {
    profile: &'a Profile,
    delimited: bool,
    identity: Identity,
    /// In order.
    names: Vec<String>,
    /// The name of each frame of the profile.
    frames: Vec<u32>,
    /// The names of `-` and `--`.
    delimiters: [u32; 2],
    stacks: Vec<MergedStack>,
}

/// One of them: that of a wait, and of all others that look the same.
#[derive(Clone, Copy)]
pub(super) struct MergedStack {
    /// The metric, in ns or as a number of intervals.
    pub(super) value: u64,
    wait: u32,
    sleeper: u32,
    waker: u32,
    /// How many frames of the sleeper and of the waker are in the kernel.
    kernel: [u32; 2],
}

impl<'a> MergedStacks<'a> {
    /// Stacks without any of the metric are left out. No name contains a `;` or a control character.
    pub(super) fn new(profile: &'a Profile, options: &RenderOptions, identity: Identity) -> Self {
        let mut names = Names::default();
        let mut frames: Vec<u32> = profile
            .frames
            .iter()
            .map(|frame| names.of(escape::frame(&label(frame, options))))
            .collect();
        let mut delimiters = ["-", "--"].map(|delimiter| names.of(delimiter.into()));
        let kernel = |stack: &[FrameId]| {
            split(stack, |id| profile.frames[*id as usize].kernel).0.len() as u32
        };
        let mut stacks = Vec::new();
        for (wait, number) in profile.waits.iter().zip(0..) {
            let value = options.metric.of(wait);
            if value > 0 {
                let mut sleeper = escape::thread(&wait.sleeper.comm);
                if options.per_thread {
                    sleeper += &format!("-{}", wait.sleeper.tid);
                }
                stacks.push(MergedStack {
                    value,
                    wait: number,
                    sleeper: names.of(sleeper),
                    waker: names.of(waker_label(&wait.waker)),
                    kernel: [kernel(&wait.sleeper_stack), kernel(&wait.waker_stack)],
                });
            }
        }
        let (ranks, names) = names.ranked();
        let rank = |name: &mut u32| *name = ranks[*name as usize];
        frames.iter_mut().chain(&mut delimiters).for_each(rank);
        for stack in &mut stacks {
            rank(&mut stack.sleeper);
            rank(&mut stack.waker);
        }
        let delimited = options.delimited;
        let mut merged =
            Self { profile, delimited, identity, names, frames, delimiters, stacks: Vec::new() };
        stacks.sort_unstable_by(|a, b| merged.compare(a, b));
        stacks.dedup_by(|stack, before| {
            let same = merged.compare(stack, before).is_eq();
            before.value += if same { stack.value } else { 0 };
            same
        });
        merged.stacks = stacks;
        merged
    }

    pub(super) fn stacks(&self) -> &[MergedStack] {
        &self.stacks
    }

    /// The frames of a stack, from the sleeper to the waker.
    pub(super) fn frames(&self, stack: &MergedStack) -> impl Iterator<Item = MergedFrame> {
        let wait: &Wait = &self.profile.waits[stack.wait as usize];
        let frame =
            |role| move |id: &FrameId| MergedFrame { role, name: self.frames[*id as usize] };
        let [thin, thick] = self.delimiters.map(|name| MergedFrame { role: Role::Delimiter, name });
        let between = |kernel: &[FrameId], user: &[FrameId]| {
            (self.delimited && !kernel.is_empty() && !user.is_empty()).then_some(thin)
        };
        let (kernel, user) = wait.sleeper_stack.split_at(stack.kernel[0] as usize);
        let (waker_kernel, waker_user) = wait.waker_stack.split_at(stack.kernel[1] as usize);
        [MergedFrame { role: Role::SleeperThread, name: stack.sleeper }]
            .into_iter()
            .chain(user.iter().rev().map(frame(Role::SleeperUser)))
            .chain(between(kernel, user))
            .chain(kernel.iter().rev().map(frame(Role::SleeperKernel)))
            .chain([thick])
            .chain(waker_kernel.iter().map(frame(Role::WakerKernel)))
            .chain(between(waker_kernel, waker_user))
            .chain(waker_user.iter().map(frame(Role::WakerUser)))
            .chain([MergedFrame { role: waker_role(&wait.waker), name: stack.waker }])
    }

    pub(super) fn name(&self, frame: MergedFrame) -> &str {
        &self.names[frame.name as usize]
    }

    /// How many frames two stacks have in common, from the sleeper.
    pub(super) fn common(&self, a: &MergedStack, b: &MergedStack) -> usize {
        self.frames(a).zip(self.frames(b)).take_while(|(a, b)| self.key(*a) == self.key(*b)).count()
    }

    fn compare(&self, a: &MergedStack, b: &MergedStack) -> Ordering {
        let keys = |stack| self.frames(stack).map(|frame| self.key(frame));
        keys(a).cmp(keys(b))
    }

    fn key(&self, frame: MergedFrame) -> (u32, Option<Role>) {
        (frame.name, (self.identity == Identity::NameAndRole).then_some(frame.role))
    }
}

/// A waker, as a frame.
pub(super) fn waker_label(waker: &Waker) -> String {
    match waker {
        Waker::Task(thread) => escape::thread(&thread.comm),
        Waker::Irq | Waker::Softirq(_) => escape::frame(&waker.label()),
        Waker::Preempted | Waker::NotWoken | Waker::Unknown => waker.label(),
    }
}

/// What kind of frame a waker is.
pub(super) const fn waker_role(waker: &Waker) -> Role {
    match waker {
        Waker::Task(_) => Role::WakerThread,
        Waker::Irq | Waker::Softirq(_) => Role::Interrupt,
        Waker::Preempted => Role::Preempted,
        Waker::NotWoken | Waker::Unknown => Role::NoWaker,
    }
}

/// Distinct names.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn of(&mut self, name: String) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(name).or_insert(next)
    }

    /// The rank of each, and all in order: as in a sorted text, where a `;` is behind each.
    fn ranked(self) -> (Vec<u32>, Vec<String>) {
        let mut names: Vec<(String, u32)> = self.0.into_iter().collect();
        names.sort_unstable_by(|(a, _), (b, _)| a.bytes().chain(*b";").cmp(b.bytes().chain(*b";")));
        let mut ranks = vec![0; names.len()];
        for ((_, number), rank) in names.iter().zip(0..) {
            ranks[*number as usize] = rank;
        }
        (ranks, names.into_iter().map(|(name, _)| name).collect())
    }
}

/// The kernel frames and the user frames of a stack, both innermost first.
pub(super) fn split(
    stack: &[FrameId],
    is_kernel: impl FnMut(&FrameId) -> bool,
) -> (&[FrameId], &[FrameId]) {
    stack.split_at(stack.partition_point(is_kernel))
}
