//! What the outputs make of one recording.

use std::collections::HashSet;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::support::check::{Floor, check, never};
use crate::support::profile::{Profile, Wait, names, sum};
use crate::support::recorder::Recorder;
use crate::support::target::Target;

/// The lines of folded stacks: frames and value.
fn lines(folded: &str) -> Vec<(Vec<&str>, u64)> {
    let lines = folded.lines().map(|line| {
        let (stack, value) = line.rsplit_once(' ').expect("a value");
        (stack.split(';').collect(), value.parse().expect("a number"))
    });
    lines.collect()
}

#[test]
fn folded_sums_are_those_of_each_metric() {
    let _turn = turn!();
    let mut target = Target::start("condvar", &["--count", "100"]);
    let mut spinners = Target::start("spinners", &["--seconds", "0.3"]);
    let players = format!("{},{}", target.players(), spinners.players());
    type Of = fn(&Wait) -> u64;
    let metrics: [(&str, Of, u64); 4] = [
        ("off", Wait::off_ns, 1000),
        ("blocked", |wait| wait.blocked_ns, 1000),
        ("runqueue", |wait| wait.runqueue_ns, 1000),
        ("count", |wait| wait.count, 1),
    ];
    let recorders = metrics.map(|(metric, of, unit)| {
        let args = ["-p", &players, "--metric", metric, "--per-thread"];
        (Recorder::start_with(&["out.folded"], &args), metric, of, unit)
    });
    target.play();
    spinners.play();
    for (recorder, metric, of, unit) in recorders {
        let recorded = recorder.stop();
        let folded = recorded.output("out.folded");
        let lines = lines(&folded);
        let seen: u64 = lines.iter().map(|(_, value)| value * unit).sum();
        let told = sum(&recorded.profile.waits, of);
        assert!(told > 0);
        // Each line is rounded, and none to 0.
        assert!(seen.abs_diff(told) <= (unit - 1) * lines.len() as u64, "{metric}: {seen}, {told}");
        let roots: HashSet<_> = lines.iter().map(|(frames, _)| frames[0].to_owned()).collect();
        let threads = recorded.profile.waits.iter().filter(|wait| of(wait) > 0);
        let threads = threads.map(|wait| format!("{}-{}", wait.sleeper.comm, wait.sleeper.tid));
        assert_eq!(roots, threads.collect(), "{metric}");
    }
}

#[test]
fn stacks_of_one_side_only() {
    let _turn = turn!();
    let mut target = Target::start("condvar", &["--count", "100"]);
    let user = Recorder::start(&["-p", &target.players(), "-U"]);
    let kernel = Recorder::start(&["-p", &target.players(), "-K"]);
    let play = target.play();
    let (user, kernel) = (user.stop().profile, kernel.stop().profile);
    check(&user, &play.truths, Floor::LOCAL, never);
    let frames = |profile: &Profile| -> (usize, usize) {
        let waits = profile.waits.iter();
        let frames = waits.flat_map(|wait| wait.sleeper_stack.iter().chain(&wait.waker_stack));
        frames.fold(
            (0, 0),
            |(kernel, user), frame| {
                if frame.kernel { (kernel + 1, user) } else { (kernel, user + 1) }
            },
        )
    };
    assert!(matches!(frames(&user), (0, 1..)), "{:?}", frames(&user));
    assert!(matches!(frames(&kernel), (1.., 0)), "{:?}", frames(&kernel));
    // The system call alone tells where the waits are.
    let truth = &play.truths[0];
    let in_futex =
        |wait: &Wait| names(&wait.sleeper_stack).iter().any(|name| name.contains("futex"));
    let woken = kernel.of(truth.sleeper.thread.tid).filter(|wait| {
        in_futex(wait) && wait.state != "preempted" && wait.waker.kind != "not_woken"
    });
    assert_eq!(sum(woken, |wait| wait.count), truth.count);
}

#[test]
fn hostile_names_stay_names() {
    let _turn = turn!();
    let mut target = Target::start("hostile_names", &[]);
    let outputs = ["out.folded", "out.svg", "out.txt"];
    let recorder = Recorder::start_with(&outputs, &["-p", &target.players()]);
    let play = target.play();
    let recorded = recorder.stop();
    recorded.profile.assert_nothing_lost();
    assert_eq!(play.truths.len(), 9);
    // In JSON every name is what it was.
    check(&recorded.profile, &play.truths, Floor::LOCAL, never);

    let folded = recorded.output("out.folded");
    for (frames, value) in lines(&folded) {
        assert_eq!(frames.iter().filter(|frame| **frame == "--").count(), 1, "{frames:?}");
        assert!(value > 0);
        // A name that looks like a label must not be one.
        assert!(!frames[0].starts_with('[') && !frames[0].is_empty(), "{frames:?}");
    }
    // One tower for each name of the cast and of the main thread.
    let roots: HashSet<_> = lines(&folded).iter().map(|(frames, _)| frames[0].to_owned()).collect();
    let comms: HashSet<_> =
        recorded.profile.waits.iter().map(|wait| wait.sleeper.comm.as_str()).collect();
    assert_eq!(roots.len(), comms.len(), "{roots:?}");

    let text = recorded.output("out.txt");
    for (name, output) in [("folded", &folded), ("text", &text)] {
        let control = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}');
        assert_eq!(output.chars().find(control), None, "{name}");
    }
    assert!(
        !text.lines().any(|line| line.trim_start().starts_with("lines 12345")),
        "a name broke a line"
    );
    assert_safe_svg(&recorded.output("out.svg"));
}

/// Asserts that a graph is well-formed XML with no script but the one of a graph without such names.
fn assert_safe_svg(svg: &str) {
    let mut reader = Reader::from_str(svg);
    reader.config_mut().check_end_names = true;
    let mut scripts = 0;
    let (mut depth, mut elements) = (0_usize, HashSet::new());
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                depth += 1;
                scripts += usize::from(element.name().as_ref() == b"script");
                elements.insert(String::from_utf8_lossy(element.name().as_ref()).into_owned());
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((depth, scripts), (0, 1), "{elements:?}");
    let known = [
        "svg",
        "style",
        "script",
        "defs",
        "linearGradient",
        "stop",
        "text",
        "g",
        "rect",
        "title",
        "a",
    ];
    for element in elements {
        assert!(known.contains(&element.as_str()), "{element}");
    }
    assert!(!svg.contains("</text><script>;"));
    assert!(
        svg.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')),
        "a control character"
    );
}
