use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::saved::random::Random;

const METRICS: [Metric; 4] = [Metric::Off, Metric::Blocked, Metric::Runqueue, Metric::Count];

fn options(random: &mut Random) -> Options {
    Options {
        by: random.one_of(&[By::Wait, By::Waker, By::Stack, By::Thread]),
        metric: random.one_of(&METRICS),
        scale: random.one_of(&[Scale::Rate, Scale::Absolute, Scale::Per(3, 1 << 61)]),
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
            options.scale = Scale::Per(7, 7);
        }
        let diff = Diff::new(&profile, &profile, options).unwrap();
        assert_eq!((diff.rows.len(), diff.numerator(&diff.total)), (0, 0), "seed {seed}");
        assert_eq!(diff.percent(&diff.total), 0.0);
    }
}

#[test]
fn differences_add_up_to_that_of_the_totals() {
    let mut rows = 0;
    for seed in 0..500 {
        let mut random = Random(seed);
        let (before, after) = two(&mut random);
        let diff = Diff::new(&before, &after, options(&mut random)).unwrap();
        let sum: i128 = diff.rows.iter().map(|row| diff.numerator(row)).sum();
        assert_eq!(sum, diff.numerator(&diff.total), "seed {seed}");
        rows += diff.rows.len();
    }
    assert!(rows > 1_000);
}

#[test]
fn swapped_profiles_negate() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (before, after) = two(&mut random);
        let options = options(&mut random);
        let swapped = match options.scale {
            Scale::Per(a, b) => Options { scale: Scale::Per(b, a), ..options },
            Scale::Rate | Scale::Absolute => options,
        };
        let there = Diff::new(&before, &after, options).unwrap();
        let back = Diff::new(&after, &before, swapped).unwrap();
        let names: Vec<_> = there.rows.iter().map(|row| &row.name).collect();
        assert_eq!(names, back.rows.iter().map(|row| &row.name).collect::<Vec<_>>());
        for (row, other) in there.rows.iter().zip(&back.rows) {
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
        let diff = Diff::new(&before, &after, options).unwrap();
        let mut sums: HashMap<Vec<Part>, i128> = HashMap::new();
        for (profile, sign) in [(&before, -1), (&after, 1)] {
            let keys = Keys::new(profile, options.by);
            for wait in &profile.waits {
                *sums.entry(keys.of(wait)).or_default() +=
                    sign * i128::from(options.metric.of(wait));
            }
        }
        sums.retain(|_, sum| *sum != 0);
        assert_eq!(diff.rows.len(), sums.len());
        for row in &diff.rows {
            assert_eq!(sums[&row.name], diff.numerator(row));
        }
    }
}

fn folded(text: &str) -> Profile {
    crate::saved::read("x", text.as_bytes()).unwrap().profile
}

fn names(diff: &Diff) -> Vec<String> {
    let name = |part: &Part| match part {
        Part::Frame(name) | Part::Thread(name) | Part::Mark(name) => name.clone(),
    };
    diff.rows.iter().map(|row| row.name.iter().map(name).collect::<Vec<_>>().join(";")).collect()
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
    assert_eq!(Diff::new(&before, &after, Options::default()).unwrap().rows, []);
    let per = Options { scale: Scale::Per(1, 1), ..Options::default() };
    let diff = Diff::new(&before, &after, per).unwrap();
    assert_eq!((diff.percent(&diff.total), diff.rows.len()), (100.0, 1));
}

#[test]
fn paths_are_in_either_stack() {
    let before = folded("a;f;--;g;b 1\na;h;--;[irq] 2\n");
    let after = folded("a;f.isra.0;--;g;b 10\n");
    let value = |regex: &str| {
        let row = path(&before, &after, Metric::Off, &Regex::new(regex).unwrap());
        (row.before.value, row.after.value)
    };
    assert_eq!(value("^f$"), (1_000, 10_000));
    assert_eq!(value("^g$"), (1_000, 10_000));
    assert_eq!(value("^b$"), (1_000, 10_000));
    assert_eq!(value("irq"), (2_000, 0));
    assert_eq!(value("a"), (3_000, 10_000));
}
