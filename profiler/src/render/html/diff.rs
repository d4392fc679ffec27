//! Two profiles as one, with the values of both for each wait.
//!
//! Waits are the same when their names are: threads without their ids, functions as [`diff::label`]
//! has them.

use std::collections::HashMap;

use serde::Serialize;

use crate::diff::{self, Diff, Scale};
use crate::profile::{Estimate, Frame, Histogram, Losses, Meta, Profile, Thread, Wait, Waker};
use crate::render::html::payload;
use crate::render::human;

/// The columns of the waits before. Those of the payload itself are after.
#[derive(Serialize)]
pub(super) struct Before {
    count: Vec<u64>,
    blocked: Vec<u64>,
    runqueue: Vec<u64>,
    max: Vec<u64>,
    /// See [`payload::histogram`].
    histogram: Vec<Vec<u64>>,
    /// What values before and after are multiplied by.
    factors: (f64, f64),
    /// What stands behind a value then.
    unit: &'static str,
}

/// Both profiles: the waits of either, with the values after, and those before.
pub(super) fn combine(before: &Profile, after: &Profile, diff: &Diff) -> (Profile, Before) {
    let frames = [before, after].map(|profile| profile.frames.iter().map(normalize));
    let frames: Vec<Frame> = frames.into_iter().flatten().collect();
    let first = before.frames.len() as u32;
    let waits = |profile: &Profile, is_after: bool| -> Vec<Wait> {
        let mut waits = profile.waits.clone();
        for wait in &mut waits {
            // Which of the two it is in, until they are counted apart below.
            wait.sleeper = Thread { pid: is_after.into(), tid: 0, comm: wait.sleeper.comm.clone() };
            if let Waker::Task(thread) = &mut wait.waker {
                (thread.pid, thread.tid) = (0, 0);
            }
            if is_after {
                wait.sleeper_stack
                    .iter_mut()
                    .chain(&mut wait.waker_stack)
                    .for_each(|id| *id += first);
            }
        }
        waits
    };
    let waits = [waits(before, false), waits(after, true)].concat();
    let mut both = Profile::new(meta(before, after), losses(before, after), frames, waits);

    let (before_length, after_length) = diff.divisors();
    let factors = match diff.options.scale {
        Scale::Rate => (1e9 / before_length as f64, 1e9 / after_length as f64),
        Scale::Per(..) | Scale::Absolute => (1.0 / before_length as f64, 1.0 / after_length as f64),
    };
    let unit = match diff.options.scale {
        Scale::Rate => "/s",
        Scale::Per(..) => "/request",
        Scale::Absolute => "",
    };
    let mut sums = Before {
        count: vec![],
        blocked: vec![],
        runqueue: vec![],
        max: vec![],
        histogram: vec![],
        factors,
        unit,
    };
    let mut numbers = HashMap::new();
    let mut waits: Vec<Wait> = Vec::new();
    for wait in std::mem::take(&mut both.waits) {
        let is_after = wait.sleeper.pid == 1;
        let sleeper = Thread { pid: 0, ..wait.sleeper.clone() };
        let stacks = (wait.sleeper_stack.clone(), wait.waker_stack.clone());
        let key = (sleeper.clone(), wait.waker.clone(), wait.state, stacks);
        let number = *numbers.entry(key).or_insert_with(|| {
            waits.push(Wait {
                sleeper,
                count: 0,
                blocked_ns: 0,
                runqueue_ns: 0,
                max_ns: 0,
                histogram: Histogram::default(),
                estimate: Estimate::default(),
                ..wait.clone()
            });
            for column in [&mut sums.count, &mut sums.blocked, &mut sums.runqueue, &mut sums.max] {
                column.push(0);
            }
            sums.histogram.push(Vec::new());
            waits.len() - 1
        });
        let Wait { count, blocked_ns, runqueue_ns, max_ns, histogram, .. } = wait;
        if is_after {
            let sleeper = waits[number].sleeper.clone();
            waits[number] =
                Wait { sleeper, count, blocked_ns, runqueue_ns, max_ns, histogram, ..wait };
        } else {
            sums.count[number] = count;
            sums.blocked[number] = blocked_ns;
            sums.runqueue[number] = runqueue_ns;
            sums.max[number] = max_ns;
            sums.histogram[number] = payload::histogram(&histogram);
        }
    }
    both.waits = waits;
    (both, sums)
}

/// The facts of both recordings.
pub(super) fn facts(before: &Profile, after: &Profile) -> Vec<(&'static str, String)> {
    let of = |profile: &Profile| {
        let sampling = profile.describe_sampling().map(|text| format!(", {text}"));
        format!(
            "{}, {}{}",
            human::length(profile.meta.duration),
            profile.losses.describe(false),
            sampling.unwrap_or_default()
        )
    };
    vec![("before:", of(before)), ("after:", of(after))]
}

fn normalize(frame: &Frame) -> Frame {
    let name = Some(diff::label(frame).into_owned());
    Frame { name, offset: 0, file: None, line: None, inlined: false, ..frame.clone() }
}

fn meta(before: &Profile, after: &Profile) -> Meta {
    let targets = [before, after].map(|profile| profile.meta.targets.join(", "));
    let targets = if targets[0] == targets[1] {
        vec![targets[0].clone()]
    } else {
        vec![targets.join(" → ")]
    };
    Meta { targets, ..after.meta.clone() }
}

fn losses(before: &Profile, after: &Profile) -> Losses {
    let mut losses = before.losses;
    after.losses.iter().for_each(|(loss, count)| losses.add(loss, count));
    losses
}
