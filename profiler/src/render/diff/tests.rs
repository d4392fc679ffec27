use std::time::Duration;

use super::*;
use crate::diff::{Base, By, Options, stacks};
use crate::render::tests::{assert_golden, read_xml, sample};
use crate::saved::random::Random;

fn render(format: DiffFormat, before: &Profile, after: &Profile, options: Options) -> String {
    let diff = Diff::new(before, after, options).unwrap();
    let mut out = Vec::new();
    write_diff(format, before, after, &diff, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The sample, and it with other numbers: one wait is gone, one is new, one is as it was.
fn two() -> (Profile, Profile) {
    let (before, mut after) = (sample(), sample());
    after.meta.duration = Duration::from_secs(61);
    after.waits.remove(0);
    for (index, wait) in after.waits.iter_mut().enumerate() {
        wait.blocked_ns = wait.blocked_ns * index as u64 * 3 / 2;
        wait.count += index as u64;
    }
    let mut before = before;
    before.waits.pop();
    (before, after)
}

#[test]
fn golden() {
    let (before, after) = two();
    let text = |options| render(DiffFormat::Text, &before, &after, options);
    assert_golden("diff.txt", &text(Options::default()));
    let options = Options {
        by: By::Stack,
        metric: Metric::Count,
        scale: Scale::Per(vec![10], vec![30]),
        ..Options::default()
    };
    assert_golden("diff-options.txt", &text(options));
    let json = render(DiffFormat::Json, &before, &after, Options::default());
    assert_golden("diff.json", &json);
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

/// What rows are made by does not change how long all waits were.
#[test]
fn lengths_of_rows_add_up() {
    let (before, after) = two();
    let sum = |rows: &[serde_json::Value], member: &str| -> u64 {
        let buckets = rows.iter().flat_map(|row| row[member].as_array().unwrap());
        buckets.map(|bucket| bucket[1].as_u64().unwrap()).sum()
    };
    for by in [By::Stack, By::Thread, By::Wait, By::Waker] {
        let options = Options { by, scale: Scale::Absolute, ..Options::default() };
        let json = render(DiffFormat::Json, &before, &after, options);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (side, profile) in [("before_histogram", &before), ("after_histogram", &after)] {
            let known: u64 = profile.waits.iter().map(|wait| wait.histogram.total()).sum();
            assert!(known > 0);
            assert_eq!(sum(std::slice::from_ref(&json["total"]), side), known);
            // Rows that do not differ are left out.
            let rows = sum(json["rows"].as_array().unwrap(), side);
            assert!((1..=known).contains(&rows), "{rows} of {known}");
        }
    }
}

#[test]
fn nothing_is_no_difference() {
    let (profile, _) = two();
    let text = render(DiffFormat::Text, &profile, &profile, Options::default());
    assert!(text.ends_with("(all)\nno difference\n"), "{text}");
    let json = render(DiffFormat::Json, &profile, &profile, Options::default());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["total"]["delta"], &json["rows"]), (&0.0.into(), &serde_json::json!([])));
}

#[test]
fn hostile_names_stay_in_their_line() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let (before, after) = (random.profile(), random.profile());
        for by in [By::Stack, By::Thread, By::Wait, By::Waker] {
            let options = Options { by, scale: Scale::Absolute, ..Options::default() };
            let rows = Diff::new(&before, &after, options.clone()).unwrap().rows.len();
            let text = render(DiffFormat::Text, &before, &after, options.clone());
            let sampled = [&before, &after].iter().filter(|it| it.meta.sampling.is_some()).count();
            let lines = 7 + sampled + rows + usize::from(rows == 0);
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            let json = render(DiffFormat::Json, &before, &after, options);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["rows"].as_array().unwrap().len(), rows);
        }
    }
}

/// The picture as XML, and its text: inferno's program is not ours.
fn picture(before: &Profile, after: &Profile, options: Options) -> String {
    let svg = render(DiffFormat::Svg, before, after, options);
    let (names, text) = read_xml(&svg);
    let panels = svg.matches("<svg id=\"gone\"").count();
    assert!(names.iter().filter(|name| *name == "script").count() <= 1 + panels);
    assert!(svg.matches("<svg id=\"frames\"").count() <= 1);
    text
}

#[test]
fn what_is_gone_has_a_graph_of_its_own() {
    let (before, after) = two();
    for scale in [Scale::Rate, Scale::Absolute, Scale::Per(vec![10], vec![30])] {
        for metric in [Metric::Off, Metric::Count] {
            let options = Options { scale: scale.clone(), metric, ..Options::default() };
            let text = picture(&before, &after, options);
            let (there, gone) = text.split_once("Only before").unwrap();
            assert!(there.contains("[softirq:NET_RX]") && !gone.contains("[softirq:NET_RX]"));
            assert!(!there.contains("[not woken]") && gone.contains("[not woken]"));
        }
    }
    assert!(!picture(&before, &before, Options::default()).contains("Only before"));
}

#[test]
fn widths_of_a_graph_are_those_after() {
    let (before, after) = two();
    let options = Options { scale: Scale::Absolute, ..Options::default() };
    let svg = render(DiffFormat::Svg, &before, &after, options);
    let mut totals = svg.split("total_samples=\"").skip(1);
    let mut total = || totals.next().unwrap().split_once('"').unwrap().0.parse::<u64>().unwrap();
    let all: u64 = after.waits.iter().map(|wait| wait.off_ns()).sum();
    let gone: u64 = stacks(&before, &after, Metric::Off)
        .1
        .iter()
        .filter(|(_, row)| row.after.value == 0)
        .map(|(_, row)| row.before.value)
        .sum();
    assert_eq!((total(), total()), (all, gone));
}

/// What is gone is then the one graph, and it zooms like any other.
#[test]
fn nothing_after_is_a_picture_too() {
    let (before, mut after) = two();
    after.waits.clear();
    let svg = render(DiffFormat::Svg, &before, &after, Options::default());
    let (_, text) = read_xml(&svg);
    assert!(text.contains("Only before") && text.contains("[not woken]"), "{text}");
    assert!(svg.contains("onload=\"init(evt)\"") && !svg.contains("id=\"gone\""));
    let text = picture(&after, &before, Options { base: Base::Before, ..Options::default() });
    assert!(text.contains("Only after: what is new") && text.contains("[not woken]"), "{text}");
    let text = picture(&after, &after, Options::default());
    assert!(text.contains("No waits"), "{text}");
}

/// The same picture as with swapped profiles, but for the colors and the titles.
#[test]
fn widths_before() {
    let (before, after) = two();
    let options = Options { scale: Scale::Absolute, base: Base::Before, ..Options::default() };
    let svg = render(DiffFormat::Svg, &before, &after, options.clone());
    let swapped =
        render(DiffFormat::Svg, &after, &before, Options { base: Base::After, ..options });
    let widths = |svg: &str| -> Vec<String> {
        svg.split("total_samples=\"")
            .skip(1)
            .map(|rest| rest[..rest.find('"').unwrap()].into())
            .collect()
    };
    assert_eq!(widths(&svg), widths(&swapped));
    assert!(svg.contains("Only after: what is new") && !svg.contains("Only before"));
    // What only the second side has is new, whichever is drawn.
    let rects = |svg: &str| {
        let rects = svg.split("<rect ").skip(2).filter(|rect| rect.contains("fill=\"rgb("));
        rects.map(|rect| rect.split("fill=\"").nth(1).unwrap()[..16].to_owned()).collect::<Vec<_>>()
    };
    assert_ne!(rects(&svg), rects(&swapped));
}

#[test]
fn tooltips_tell_the_significance_of_repeated_runs() {
    let (mut before, mut after) = two();
    // More than a handful.
    for wait in before.waits.iter_mut().chain(&mut after.waits) {
        wait.count *= 10_000;
    }
    let svg = |before: &[&Profile], after: &[&Profile]| {
        let diff = Diff::of_runs(before, after, Options::default()).unwrap();
        let mut out = Vec::new();
        let diff = diff.with_frames(before, after);
        write_diff(DiffFormat::Svg, before[0], after[0], &diff, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let titles = |svg: &str| -> Vec<String> {
        let titles = svg.split("<title>").skip(1);
        titles.map(|rest| rest.split("</title>").next().unwrap().to_owned()).collect()
    };
    let (once, twice) = (svg(&[&before], &[&after]), svg(&[&before, &before], &[&after, &after]));
    let (once, twice) = (titles(&once), titles(&twice));
    assert!(once.iter().all(|title| !title.contains(", p ")));
    assert!(twice.iter().any(|title| title.ends_with(", p <0.001*)")), "{twice:?}");
    let frames = twice.iter().filter(|title| !title.starts_with("all ("));
    assert!(
        frames.clone().all(|title| title.contains("%, p ") || title.contains("new, p ")),
        "{twice:?}"
    );
    assert!(!twice.iter().any(|title| title.contains(|c: char| c.is_control())));
}
