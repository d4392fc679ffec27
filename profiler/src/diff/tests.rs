use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::profile::Estimate;
use crate::saved::random::Random;

const METRICS: [Metric; 4] = [Metric::Off, Metric::Blocked, Metric::Runqueue, Metric::Count];

fn options(random: &mut Random) -> Options {
    Options {
        by: random.one_of(&[By::Wait, By::Waker, By::Stack, By::Thread]),
        metric: random.one_of(&METRICS),
        scale: random.one_of(&[Scale::Rate, Scale::Absolute, Scale::Per(vec![3], vec![1 << 61])]),
        base: Base::default(),
    }
}

/// Two profiles that share some waits.
fn two(random: &mut Random) -> (Profile, Profile) {
    let mut make = || {
        let mut profile = random.profile();
        profile.meta.duration += Duration::from_nanos(1);
        profile
    };
    let (before, after, both) = (make(), make(), make());
    let with = |profile: Profile| {
        let meta = profile.meta.clone();
        let mut all = crate::report::combine(vec![profile, both.clone()]).unwrap();
        all.meta = meta;
        all
    };
    (with(before), with(after))
}

#[test]
fn a_profile_does_not_differ_from_itself() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (profile, _) = two(&mut random);
        let mut options = options(&mut random);
        if let Scale::Per(..) = options.scale {
            options.scale = Scale::Per(vec![7], vec![7]);
        }
        let diff = Diff::new(&profile, &profile, options).unwrap();
        assert_eq!((diff.rows.len(), diff.numerator(&diff.total)), (0, 0), "seed {seed}");
        assert_eq!(diff.percent(&diff.total), 0.0);
    }
}

#[test]
fn differences_add_up_to_that_of_the_totals() {
    let mut count = 0;
    for seed in 0..500 {
        let mut random = Random(seed);
        let (before, after) = two(&mut random);
        let diff = Diff::new(&before, &after, options(&mut random)).unwrap();
        let sum: i128 = rows(&diff).iter().map(|row| diff.numerator(row)).sum();
        assert_eq!(sum, diff.numerator(&diff.total), "seed {seed}");
        count += diff.rows.len();
    }
    assert!(count > 1_000);
}

#[test]
fn swapped_profiles_negate() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (before, after) = two(&mut random);
        let options = options(&mut random);
        let swapped = match options.clone() {
            Options { scale: Scale::Per(a, b), .. } => {
                Options { scale: Scale::Per(b, a), ..options.clone() }
            }
            options => options,
        };
        let there = Diff::new(&before, &after, options).unwrap();
        let back = Diff::new(&after, &before, swapped).unwrap();
        assert_eq!(names(&there), names(&back));
        for (row, other) in rows(&there).iter().zip(&rows(&back)) {
            assert_eq!((row.before, row.after), (other.after, other.before));
            assert_eq!(there.numerator(row), -back.numerator(other));
        }
    }
}

/// Each wait is in one row, and the rows have nothing else.
#[test]
fn rows_are_the_waits() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let (before, after) = two(&mut random);
        let options = Options { scale: Scale::Absolute, ..options(&mut random) };
        let diff = Diff::new(&before, &after, options.clone()).unwrap();
        let mut sums: HashMap<Vec<Part>, i128> = HashMap::new();
        for (profile, sign) in [(&before, -1), (&after, 1)] {
            let mut parts = Interner::default();
            let keys = Keys::new(profile, options.by, &mut parts);
            for wait in &profile.waits {
                let mut key = Vec::new();
                keys.of(wait, &mut parts, &mut key);
                let name = key.iter().map(|part| parts.parts()[*part as usize].clone()).collect();
                *sums.entry(name).or_default() += sign * i128::from(options.metric.of(wait));
            }
        }
        sums.retain(|_, sum| *sum != 0);
        assert_eq!(diff.rows.len(), sums.len());
        for name in &diff.rows {
            assert_eq!(sums[&parts(&diff, *name)], diff.numerator(&diff.row(*name)));
        }
    }
}

fn folded(text: &str) -> Profile {
    crate::saved::read("x", text.as_bytes()).unwrap().profile
}

fn parts(diff: &Diff, name: NameId) -> Vec<Part> {
    let numbers = diff.names.numbers(name).iter();
    numbers.map(|number| diff.names.parts()[*number as usize].clone()).collect()
}

fn rows(diff: &Diff) -> Vec<Row> {
    diff.rows.iter().map(|name| diff.row(*name)).collect()
}

fn names(diff: &Diff) -> Vec<String> {
    let name =
        |name: &NameId| parts(diff, *name).iter().map(Part::text).collect::<Vec<_>>().join(";");
    diff.rows.iter().map(name).collect()
}

#[test]
fn groups() {
    let before = folded("w;poll;ep_poll;schedule;__schedule;--;send;client 10\n");
    let after = folded("w;poll;ep_poll.isra.0;schedule;__schedule;--;send;other 30\n");
    let by = |by| {
        let options = Options { by, scale: Scale::Absolute, ..Options::default() };
        names(&Diff::new(&before, &after, options).unwrap())
    };
    assert_eq!(by(By::Wait), ["ep_poll"]);
    assert_eq!(by(By::Thread), ["w"]);
    assert_eq!(by(By::Waker), ["other", "client"]);
    let stack = "w;poll;ep_poll;schedule;__schedule;--;send";
    assert_eq!(by(By::Stack), [format!("{stack};other"), format!("{stack};client")]);
    let none = Diff::new(
        &folded("a 1"),
        &folded("a;schedule 1"),
        Options { scale: Scale::Absolute, ..Options::default() },
    );
    assert_eq!(names(&none.unwrap()), ["schedule", "[no stack]"]);
}

#[test]
fn rates_are_of_the_length() {
    let (mut before, mut after) = (folded("a;f 10"), folded("a;f 20"));
    let error = Diff::new(&before, &after, Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("the length of the recording before is not known"), "{error}");
    before.meta.duration = Duration::from_secs(1);
    after.meta.duration = Duration::from_secs(2);
    assert_eq!(Diff::new(&before, &after, Options::default()).unwrap().rows.len(), 0);
    let per = Options { scale: Scale::Per(vec![1], vec![1]), ..Options::default() };
    let diff = Diff::new(&before, &after, per).unwrap();
    assert_eq!((diff.percent(&diff.total), diff.rows.len()), (100.0, 1));
}

#[test]
fn paths_are_in_either_stack() {
    let before = folded("a;f;--;g;b 1\na;h;--;[irq] 2\n");
    let after = folded("a;f.isra.0;--;g;b 10\n");
    let value = |regex: &str| {
        let options = Options { scale: Scale::Absolute, ..Options::default() };
        let diff = Diff::new(&before, &after, options).unwrap();
        let row = &diff.paths(&[&before], &[&after], &[Regex::new(regex).unwrap()])[0];
        (row.before.value, row.after.value)
    };
    assert_eq!(value("^f$"), (1_000, 10_000));
    assert_eq!(value("^g$"), (1_000, 10_000));
    assert_eq!(value("^b$"), (1_000, 10_000));
    assert_eq!(value("irq"), (2_000, 0));
    assert_eq!(value("a"), (3_000, 10_000));
}

/// Runs of one side: three waits, with times that differ by some percent.
fn runs(random: &mut Random, slow: u64) -> Vec<Profile> {
    let mut run = || {
        let mut us = |base: u64| base * (950 + random.below(100) as u64) / 1000;
        let (a, b, c) = (us(300_000), us(200_000) * slow / 100, us(100_000));
        let mut profile = folded(&format!("w;f;--;x {a}\nw;g;--;x {b}\nv;h;--;y {c}\n"));
        profile.meta.duration = Duration::from_nanos(1_000_000_000 + random.below(1_000) as u64);
        profile.waits.iter_mut().for_each(|wait| wait.count = 10_000);
        profile
    };
    vec![run(), run(), run()]
}

fn of_runs(before: &[Profile], after: &[Profile]) -> Diff {
    let (before, after): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
    Diff::of_runs(&before, &after, Options::default()).unwrap()
}

fn significant(diff: &Diff) -> Vec<String> {
    let is_significant = |name: &NameId| diff.row(*name).significance.unwrap().is_significant();
    let mut some = diff.clone();
    some.rows.retain(is_significant);
    names(&some)
}

/// Two samples here and three there prove nothing, however many waits each stands for.
#[test]
fn few_samples_prove_nothing() {
    let runs = |samples: u64, weight: u64| -> Vec<Profile> {
        let count = samples * weight;
        let mut run = folded(&format!("w;f;--;x {count}\n"));
        run.meta.duration = Duration::from_secs(1);
        let wait = &mut run.waits[0];
        wait.count = count;
        let variance = samples * weight * (weight - 1);
        wait.estimate = Estimate { samples, count_error: variance.isqrt(), ..Estimate::default() };
        vec![run.clone(), run.clone(), run]
    };
    let p = |diff: &Diff| diff.total.significance.unwrap().p;
    assert!(p(&of_runs(&runs(400, 1), &runs(600, 1))) < 0.001);
    for weight in [1, 200] {
        let few = of_runs(&runs(2, weight), &runs(3, weight));
        assert!(p(&few) > 0.2, "{weight}: {}", p(&few));
        assert!(p(&of_runs(&runs(200, weight), &runs(300, weight))) < 0.01);
    }
}

#[test]
fn a_change_of_repeated_runs_is_told_from_noise() {
    let (mut found, mut wrong, mut noisy) = (0, 0, 0);
    for seed in 0..200 {
        let mut random = Random(seed);
        let (before, after) = (runs(&mut random, 100), runs(&mut random, 200));
        let there = of_runs(&before, &after);
        found += usize::from(significant(&there).contains(&"g".to_owned()));
        wrong += significant(&there).iter().filter(|name| *name != "g").count();
        let back = of_runs(&after, &before);
        assert_eq!(there.rows.len(), back.rows.len());
        assert_eq!(names(&there), names(&back));
        for (row, other) in rows(&there).iter().zip(&rows(&back)) {
            assert_eq!(row.significance, other.significance);
            assert_eq!(there.numerator(row), -back.numerator(other));
        }
        assert_eq!(there.total.significance, back.total.significance);
        let same = of_runs(&before, &before);
        assert_eq!((same.rows.len(), same.total.significance.unwrap().p), (0, 1.0));
        let noise = of_runs(&before, &runs(&mut random, 100));
        noisy += usize::from(!significant(&noise).is_empty());
    }
    // One in twenty, and three standard deviations more: of what is found, and of tables of noise.
    assert!(found >= 195 && wrong <= 20 && noisy <= 19, "{found} {wrong} {noisy} of 200");
}

#[test]
fn one_run_has_no_noise_to_compare_with() {
    let mut random = Random(1);
    let runs = runs(&mut random, 100);
    let one = Diff::new(&runs[0], &runs[1], Options::default()).unwrap();
    assert!(
        one.total.significance.is_none() && rows(&one).iter().all(|r| r.significance.is_none())
    );
    let refused = |before: &[&Profile], after: &[&Profile]| {
        Diff::of_runs(before, after, Options::default()).unwrap_err().to_string()
    };
    assert!(refused(&[&runs[0]], &[&runs[1], &runs[2]]).starts_with("one run has no noise"));
    assert_eq!(refused(&[], &[]), "there is nothing to compare");
    let per = Options { scale: Scale::Per(vec![1], vec![1, 2]), ..Options::default() };
    let both = [&runs[0], &runs[1]];
    let error = Diff::of_runs(&both, &both, per).unwrap_err().to_string();
    assert!(error.starts_with("--per takes one number"), "{error}");
}

/// Each frame has the significance of the waits through it, and the innermost that of its stack.
#[test]
fn frames_of_a_graph_are_tested() {
    let mut random = Random(1);
    let (before, after) = (runs(&mut random, 100), runs(&mut random, 200));
    let (before, after): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
    let diff = Diff::of_runs(&before, &after, Options::default()).unwrap();
    assert!(diff.frames.is_none());
    let frames = diff.with_frames(&before, &after).frames.unwrap();
    let significant = |stack: &[Part]| -> Vec<Option<bool>> {
        frames.along(stack.iter()).map(|one| Some(one?.significance?.is_significant())).collect()
    };
    let frame = |name: &str| Part::Frame(name.into());
    let thread = |name: &str| Part::Thread(name.into());
    let stack =
        |name, leaf, waker| [thread(name), frame(leaf), Part::Mark("--".into()), thread(waker)];
    assert_eq!(significant(&stack("w", "g", "x"))[1..], [Some(true); 3]);
    assert_eq!(significant(&stack("w", "f", "x"))[1..], [Some(false); 3]);
    assert_eq!(significant(&stack("v", "h", "y")), [Some(false); 4]);
    assert_eq!(significant(&[thread("v"), frame("g"), thread("x")]), [Some(false), None, None]);
    let one = Diff::new(before[0], after[0], Options::default()).unwrap();
    assert!(one.with_frames(&before[..1], &after[..1]).frames.is_none());
}
