use std::collections::HashMap;
use std::time::Duration;

use offwake_shared::Loss;
use regex::Regex;

use super::*;
use crate::profile::{Estimate, Frame, Histogram, Profile, Sampling, ThreadTotal, Wait};
use crate::saved::random::Random;

/// What a wait is, with its frames themselves, and what it adds up to.
fn sums(profiles: &[Profile]) -> HashMap<String, (u64, u64, u64, u64, Histogram)> {
    let mut sums = HashMap::new();
    for profile in profiles {
        for wait in &profile.waits {
            let Wait { count, blocked_ns, runqueue_ns, max_ns, histogram, .. } = wait;
            let frames = |ids: &[u32]| -> Vec<&Frame> {
                ids.iter().map(|id| &profile.frames[*id as usize]).collect()
            };
            let stacks = (frames(&wait.sleeper_stack), frames(&wait.waker_stack));
            let key = format!("{:?}", (&wait.sleeper, &wait.waker, wait.state, stacks));
            let sum: &mut (u64, u64, u64, u64, Histogram) = sums.entry(key).or_default();
            sum.0 += count;
            sum.1 += blocked_ns;
            sum.2 += runqueue_ns;
            sum.3 = sum.3.max(*max_ns);
            sum.4.add(histogram);
        }
    }
    sums
}

#[test]
fn nothing_is_lost_when_profiles_become_one() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let profiles: Vec<Profile> = (0..=random.below(4)).map(|_| random.profile()).collect();
        let all = combine(profiles.clone()).unwrap();
        assert_eq!(sums(std::slice::from_ref(&all)), sums(&profiles), "seed {seed}");
        let durations: Duration = profiles.iter().map(|profile| profile.meta.duration).sum();
        assert_eq!(all.meta.duration, durations);
        for loss in Loss::ALL {
            let count: u64 = profiles.iter().map(|profile| profile.losses.get(loss)).sum();
            assert_eq!(all.losses.get(loss), count);
        }
        if let [one] = &profiles[..] {
            assert_eq!(all, *one);
        }
    }
}

#[test]
fn what_was_not_sampled_counts_in_full_beside_what_was() {
    let mut random = Random(7);
    let (mut sampled, mut full) = (random.profile(), random.profile());
    let total = ThreadTotal {
        thread: sampled.waits[0].sleeper.clone(),
        count: 5,
        blocked_ns: 5,
        runqueue_ns: 0,
    };
    sampled.meta.sampling =
        Some(Sampling { ceiling_ppm: 10_000, threads: vec![total], ..Sampling::default() });
    sampled.waits.iter_mut().for_each(|wait| wait.estimate.samples = 1);
    full.meta.sampling = None;
    full.waits.iter_mut().for_each(|wait| wait.estimate = Estimate::default());
    let (waits, count) =
        (sampled.waits.len() as u64, full.waits.iter().map(|wait| wait.count).sum::<u64>());
    assert!(waits > 0 && count > 0);
    let all = combine(vec![sampled, full]).unwrap();
    assert_eq!(all.estimate().samples, waits + count);
    assert_eq!(all.meta.sampling.as_ref().unwrap().totals().0, count + 5);
    // The threads' exact sums are not those of some of their waits.
    let some = Filter { min_us: 1, ..Filter::default() }.apply(all);
    let told = some.describe_sampling().unwrap();
    assert!(told.starts_with("sampled 1 of ") && !told.contains("exact"), "{told}");
    // Nor are those of another recording those of both.
    let both = combine(vec![some, random.profile()]).unwrap();
    assert!(both.meta.sampling.unwrap().threads.is_empty());
}

#[test]
fn the_order_of_profiles_changes_no_wait() {
    let mut random = Random(5);
    let (a, b) = (random.profile(), random.profile());
    let (ab, ba) = (combine(vec![a.clone(), b.clone()]).unwrap(), combine(vec![b, a]).unwrap());
    assert_eq!((ab.frames, ab.waits, ab.modules), (ba.frames, ba.waits, ba.modules));
}

#[test]
fn what_differs_is_all_named() {
    let mut a = Random(1).profile();
    (a.meta.kernel, a.meta.probe, a.meta.targets) = ("6.1".into(), "btf".into(), vec!["x".into()]);
    let mut b = a.clone();
    b.meta.kernel = "6.12".into();
    b.meta.targets = vec!["y".into(), "x".into()];
    let all = combine(vec![a.clone(), b, a]).unwrap();
    assert_eq!((all.meta.kernel.as_str(), all.meta.probe.as_str()), ("6.1, 6.12", "btf"));
    assert_eq!(all.meta.targets, ["x", "y"]);
}

#[test]
fn sums_that_overflow_are_refused() {
    let mut profile =
        (0..).map(|seed| Random(seed).profile()).find(|it| !it.waits.is_empty()).unwrap();
    profile.waits.truncate(1);
    profile.waits[0].blocked_ns = 1 << 61;
    let error = combine(vec![profile; 3]).unwrap_err();
    assert!(format!("{error:#}").starts_with("all together: its times add up"), "{error:#}");
}

fn label(profile: &Profile, wait: &Wait, matches: impl Fn(&str) -> bool) -> bool {
    let mut ids = wait.sleeper_stack.iter().chain(&wait.waker_stack);
    ids.any(|id| matches(&profile.frames[*id as usize].label()))
}

/// Each filter and its opposite share the waits between them.
#[test]
fn filters_keep_what_they_say() {
    let regex = |text: &str| vec![Regex::new(text).unwrap()];
    let name = |text: &str| Some(NamePattern::new(text).unwrap());
    let count = |profile: &Profile| profile.waits.len();
    let mut kept = 0;
    for seed in 0..300 {
        let profile = Random(seed).profile();
        assert_eq!(Filter::default().apply(profile.clone()), profile);

        let with = Filter { include: regex("a"), ..Filter::default() }.apply(profile.clone());
        let without = Filter { exclude: regex("a"), ..Filter::default() }.apply(profile.clone());
        assert_eq!(count(&with) + count(&without), count(&profile));
        assert!(with.waits.iter().all(|wait| label(&with, wait, |label| label.contains('a'))));
        assert_eq!(with.meta.targets.last().unwrap(), "only with a");

        let long = Filter { min_us: 1000, ..Filter::default() }.apply(profile.clone());
        assert!(long.waits.iter().all(|wait| wait.off_ns() >= 1_000_000));
        assert!(long.modules.len() <= profile.modules.len());

        // A name, which as an expression would match any `i`.
        let irq = Filter { waker: name("[irq]"), ..Filter::default() }.apply(profile.clone());
        if profile.waits.iter().any(|wait| wait.waker.label() == "[irq]") {
            assert!(irq.waits.iter().all(|wait| wait.waker.label() == "[irq]"));
            kept += count(&irq);
        }
        let workers = Filter { sleeper: name("^w.k:"), ..Filter::default() }.apply(profile.clone());
        assert!(workers.waits.iter().all(|wait| wait.sleeper.comm == "wrk:worker_0"));
        kept += count(&workers);
    }
    assert!(kept > 100);
}
