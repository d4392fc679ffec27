//! Several profiles → one.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::profile::{FrameId, Losses, Meta, Profile, Sampling, ThreadTotal};
use crate::saved::check_sums;

/// All waits of all profiles as one profile. One alone stays as it is.
///
/// It lasts as long as all of them together, one after the other, and began with the first: rates are
/// then the mean of all recordings. Losses are added; kernels and probes that differ are all named.
///
/// # Errors
/// When the sums of what the profiles hold are too large.
pub fn combine(profiles: Vec<Profile>) -> Result<Profile> {
    let is_sampled = profiles.iter().any(|profile| profile.meta.sampling.is_some());
    let mut profiles = profiles.into_iter().map(|profile| match is_sampled {
        true => with_sampling(profile),
        false => profile,
    });
    let mut all = profiles.next().context("no profile")?;
    let mut rest = profiles.peekable();
    if rest.peek().is_none() {
        return Ok(all);
    }
    for profile in rest {
        let Profile { meta, losses, frames, mut waits, modules } = profile;
        let first = FrameId::try_from(all.frames.len()).context("too many frames")?;
        FrameId::try_from(all.frames.len() + frames.len()).context("too many frames")?;
        for wait in &mut waits {
            wait.sleeper_stack.iter_mut().chain(&mut wait.waker_stack).for_each(|id| *id += first);
        }
        add_meta(&mut all.meta, meta);
        add_losses(&mut all.losses, &losses);
        all.frames.extend(frames);
        all.waits.extend(waits);
        all.modules.extend(modules);
    }
    check_sums(&all).context("all together")?;
    let Profile { meta, losses, frames, waits, modules } = all;
    Ok(Profile::new(meta, losses, frames, waits).with_modules(modules))
}

/// A profile with all that is told of one whose intervals were sampled. Where they were not, each was.
fn with_sampling(mut profile: Profile) -> Profile {
    if profile.meta.sampling.is_none() {
        for wait in &mut profile.waits {
            wait.estimate.samples = wait.count;
        }
        let totals = profile.waits.iter().map(|wait| ThreadTotal {
            thread: wait.sleeper.clone(),
            count: wait.count,
            blocked_ns: wait.blocked_ns,
            runqueue_ns: wait.runqueue_ns,
        });
        let mut sampling = Sampling { threads: totals.collect(), ..Sampling::default() };
        sampling.normalize();
        profile.meta.sampling = Some(sampling);
    }
    profile
}

fn add_meta(all: &mut Meta, meta: Meta) {
    let Meta { started, duration, kernel, probe, wake_source, targets, sampling } = meta;
    // All have it, or none: `with_sampling`.
    if let (Some(all), Some(sampling)) = (&mut all.sampling, sampling) {
        all.add(sampling);
    }
    all.started = match (all.started, started) {
        // Not known.
        (SystemTime::UNIX_EPOCH, started) => started,
        (all, SystemTime::UNIX_EPOCH) => all,
        (all, started) => all.min(started),
    };
    all.duration = Duration::checked_add(all.duration, duration).unwrap_or(Duration::MAX);
    add_name(&mut all.kernel, &kernel);
    add_name(&mut all.probe, &probe);
    match (&mut all.wake_source, wake_source) {
        (Some(all), Some(how)) => add_name(all, &how),
        (all @ None, how) => *all = how,
        (Some(_), None) => {}
    }
    for target in targets {
        if !all.targets.contains(&target) {
            all.targets.push(target);
        }
    }
}

fn add_name(all: &mut String, name: &str) {
    if !all.split(", ").any(|other| other == name) {
        all.push_str(", ");
        all.push_str(name);
    }
}

fn add_losses(all: &mut Losses, losses: &Losses) {
    losses.iter().for_each(|(loss, count)| all.add(loss, count));
}
