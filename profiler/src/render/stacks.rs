//! Merged stacks, as folded lines and graphs have them:
//!
//! ```text
//! sleeper;user root→leaf;kernel root→leaf;--;waker kernel leaf→root;waker user leaf→root;waker
//! ```
//!
//! A wait without a waker's stack ends with the label of its waker: `…;--;[preempted]`.

use std::collections::BTreeMap;

use super::label::label;
use super::{RenderOptions, escape};
use crate::profile::{FrameId, Profile, Wait, Waker};

/// What a frame of a merged stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The merged stacks of a profile, sorted, each with its metric in ns or as a number of intervals.
/// Stacks without any of the metric are left out.
///
/// `push_frame` appends one escaped frame to a stack; no frame contains a `;` or a control
/// character.
pub(super) fn merge_stacks(
    profile: &Profile,
    options: &RenderOptions,
    push_frame: fn(&mut String, Role, &str),
) -> BTreeMap<String, u64> {
    let names: Vec<String> =
        profile.frames.iter().map(|frame| escape::frame(&label(frame, options))).collect();
    let mut stacks = BTreeMap::new();
    for wait in &profile.waits {
        let value = options.metric.of(wait);
        if value == 0 {
            continue;
        }
        let mut stack = String::new();
        for_each_frame(profile, wait, options, &names, |role, name| {
            if !stack.is_empty() {
                stack.push(';');
            }
            push_frame(&mut stack, role, name);
        });
        *stacks.entry(stack).or_default() += value;
    }
    stacks
}

fn for_each_frame(
    profile: &Profile,
    wait: &Wait,
    options: &RenderOptions,
    names: &[String],
    mut push: impl FnMut(Role, &str),
) {
    let name = |id: &FrameId| names[*id as usize].as_str();
    let is_kernel = |id: &FrameId| profile.frames[*id as usize].kernel;

    let sleeper = escape::thread(&wait.sleeper.comm);
    if options.per_thread {
        push(Role::SleeperThread, &format!("{sleeper}-{}", wait.sleeper.tid));
    } else {
        push(Role::SleeperThread, &sleeper);
    }
    let (kernel, user) = split(&wait.sleeper_stack, is_kernel);
    user.iter().rev().for_each(|id| push(Role::SleeperUser, name(id)));
    if options.delimited && !kernel.is_empty() && !user.is_empty() {
        push(Role::Delimiter, "-");
    }
    kernel.iter().rev().for_each(|id| push(Role::SleeperKernel, name(id)));

    push(Role::Delimiter, "--");

    let (kernel, user) = split(&wait.waker_stack, is_kernel);
    kernel.iter().for_each(|id| push(Role::WakerKernel, name(id)));
    if options.delimited && !kernel.is_empty() && !user.is_empty() {
        push(Role::Delimiter, "-");
    }
    user.iter().for_each(|id| push(Role::WakerUser, name(id)));
    match &wait.waker {
        Waker::Task(thread) => push(Role::WakerThread, &escape::thread(&thread.comm)),
        waker @ (Waker::Irq | Waker::Softirq(_)) => {
            push(Role::Interrupt, &escape::frame(&waker.label()));
        }
        waker @ Waker::Preempted => push(Role::Preempted, &waker.label()),
        waker @ (Waker::NotWoken | Waker::Unknown) => push(Role::NoWaker, &waker.label()),
    }
}

/// The kernel frames and the user frames of a stack, both innermost first.
pub(super) fn split(
    stack: &[FrameId],
    is_kernel: impl FnMut(&FrameId) -> bool,
) -> (&[FrameId], &[FrameId]) {
    stack.split_at(stack.partition_point(is_kernel))
}
