use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use offwake_shared::{Loss, WaitState};
use quick_xml::events::Event;

use smallvec::smallvec;

use super::*;
use crate::profile::{Estimate, Frame, Histogram, Losses, Meta, Module, Thread, Wait, Waker};
use crate::saved;

const HOSTILE_COMM: &str = "</text><script>;";
const HOSTILE_FUNCTION: &str = "evil;<script>alert(1)</script>\x1b[2J\n\u{202e}&]]>-- 42";

fn thread(pid: u32, tid: u32, comm: &str) -> Thread {
    Thread { pid, tid, comm: comm.into() }
}

fn frame(name: &str, module: Option<&str>, kernel: bool) -> Frame {
    Frame {
        name: Some(name.into()),
        module: module.map(Into::into),
        offset: 18,
        kernel,
        file: None,
        line: None,
        inlined: false,
    }
}

/// Of intervals of these lengths, in ns.
pub(super) fn histogram(lengths: &[u64]) -> Histogram {
    let mut buckets = offwake_shared::Histogram::default();
    lengths.iter().for_each(|ns| buckets.add_interval(*ns));
    Histogram::from(&buckets)
}

/// Every kind of waker, every kind of frame, hostile names, and one wait of a fraction of a µs.
pub(super) fn sample() -> Profile {
    let frames = vec![
        frame("schedule", None, true),                                // 0
        frame("ep_poll", None, true),                                 // 1
        frame("epoll_wait", Some("libc.so.6"), false),                // 2
        Frame { name: None, ..frame("", Some("envoy"), false) },      // 3
        frame("ep_poll_callback", None, true),                        // 4
        frame("tcp_v4_rcv", None, true),                              // 5
        frame("write", Some("libc.so.6"), false),                     // 6
        frame("hrtimer_wakeup", None, true),                          // 7
        Frame { name: None, module: None, ..frame("", None, false) }, // 8
        frame(HOSTILE_FUNCTION, Some("lib;\n.so"), false),            // 9
        Frame {
            file: Some("src/main.rs".into()),
            line: Some(7),
            inlined: true,
            ..frame("app::run(&mut [u8])", Some("app"), false)
        }, // 10
        frame("nvme_poll", Some("nvme"), true),                       // 11
    ];
    let wait = |sleeper: Thread, waker, state, ns: (u64, u64), stacks: (&[u32], &[u32])| Wait {
        sleeper,
        waker,
        state,
        count: 3,
        blocked_ns: ns.0,
        runqueue_ns: ns.1,
        max_ns: ns.0 + ns.1 - 2,
        histogram: histogram(&[1, 1, ns.0 + ns.1 - 2]),
        estimate: Estimate::default(),
        sleeper_stack: stacks.0.into(),
        waker_stack: stacks.1.into(),
    };
    use WaitState::{Interruptible, Preempted, Uninterruptible};
    let worker = |n: u32| thread(4182, 4449 + n, "wrk:worker_0");
    let waits = vec![
        wait(
            worker(0),
            Waker::Task(thread(5000, 5000, "client")),
            Interruptible,
            (201_092_000, 1_000_000),
            (&[0, 1, 2, 3], &[4, 5, 6]),
        ),
        // The same stacks in another thread of the same name.
        wait(
            worker(1),
            Waker::Task(thread(5000, 5001, "client")),
            Interruptible,
            (1_400, 0),
            (&[0, 1, 2, 3], &[4, 5, 6]),
        ),
        wait(
            worker(0),
            Waker::Softirq("NET_RX".into()),
            Interruptible,
            (90_000_000, 500),
            (&[0, 1, 2, 3], &[4, 5]),
        ),
        wait(worker(0), Waker::Irq, Uninterruptible, (50_000_000, 7), (&[0, 11, 10, 8], &[7])),
        wait(worker(0), Waker::Preempted, Preempted, (0, 40_000_000), (&[0, 10], &[])),
        wait(worker(0), Waker::NotWoken, Interruptible, (1_000_000_000, 0), (&[0, 1], &[])),
        wait(worker(0), Waker::Unknown, Interruptible, (30_000_000, 0), (&[0], &[])),
        wait(
            thread(7, 7, HOSTILE_COMM),
            Waker::Task(thread(8, 8, "[irq]\n 1")),
            Interruptible,
            (80_000_000, 9_000_000),
            (&[0, 9], &[4, 9]),
        ),
        wait(
            thread(9, 9, ""),
            Waker::Task(thread(8, 8, "a 1.5")),
            Interruptible,
            (399, 0),
            (&[], &[]),
        ),
    ];
    let mut losses = Losses::default();
    losses.add(Loss::UnknownWaker, 3);
    losses.add(Loss::UserStackTruncated, 12_345);
    let module = |name: &str, path: &str, build_id: &[u8]| Module {
        name: name.into(),
        path: path.into(),
        build_id: Some(build_id.into()),
    };
    let modules = [
        module("envoy", "/usr/local/bin/envoy", &[0xab, 0xcd, 0xef, 1, 2, 3, 4, 5]),
        module("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", &[0x12, 0x34]),
    ];
    Profile::new(meta(), losses, frames, waits).with_modules(modules)
}

fn meta() -> Meta {
    Meta {
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_750_000_000_250),
        duration: Duration::from_millis(30_500),
        kernel: "6.1.0-test".into(),
        probe: "btf".into(),
        wake_source: None,
        targets: vec!["envoy (pid 4182)".into(), "ev\x1bil\n<b> (pid 7)".into()],
        sampling: None,
    }
}

fn render(format: Format, profile: &Profile, options: &RenderOptions) -> String {
    let mut out = Vec::new();
    write(format, profile, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn is_blessed() -> bool {
    env::var_os("OFFWAKE_BLESS").is_some_and(|value| value == "1")
}

/// Compares with a file of tests/golden; writes it when `OFFWAKE_BLESS` is 1.
pub(crate) fn assert_golden(name: &str, actual: &str) {
    let path = golden(name);
    if is_blessed() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error} (OFFWAKE_BLESS=1 writes golden files)"));
    assert!(expected == actual, "{name} differs, now it is:\n{actual}");
}

fn all_options() -> RenderOptions {
    RenderOptions {
        metric: Metric::Count,
        per_thread: true,
        delimited: true,
        lines: true,
        annotate: true,
        title: Some("my <title>\n".into()),
    }
}

#[test]
fn folded_golden() {
    assert_golden("sample.folded", &render(Format::Folded, &sample(), &RenderOptions::default()));
    assert_golden("options.folded", &render(Format::Folded, &sample(), &all_options()));
}

#[test]
fn text_golden() {
    assert_golden("sample.txt", &render(Format::Text, &sample(), &RenderOptions::default()));
    assert_golden("options.txt", &render(Format::Text, &sample(), &all_options()));
}

#[test]
fn json_golden() {
    assert_golden("sample.json", &render(Format::Json, &sample(), &RenderOptions::default()));
}

/// The file of an earlier version reads as it was meant. What compresses it may change, so its bytes
/// are not compared.
#[test]
fn pprof_golden() {
    let path = golden("sample.pb.gz");
    if is_blessed() {
        let mut out = Vec::new();
        write(Format::Pprof, &sample(), &RenderOptions::default(), &mut out).unwrap();
        fs::write(&path, out).unwrap();
    }
    let file = fs::File::open(&path).expect("OFFWAKE_BLESS=1 writes golden files");
    assert_eq!(saved::read("x", file).unwrap().profile, sample());
}

/// Without inferno's program, which is not ours.
#[test]
fn svg_golden() {
    for (name, options) in
        [("sample.svg", RenderOptions::default()), ("options.svg", all_options())]
    {
        let svg = render(Format::Svg, &sample(), &options);
        let (start, rest) = svg.split_once("<script").unwrap();
        let (_, end) = rest.split_once("</script>").unwrap();
        // A line for each element, so that differences can be read.
        assert_golden(name, &format!("{start}{end}").replace("><", ">\n<"));
    }
}

#[test]
fn output_depends_on_nothing_but_the_profile() {
    for format in Format::ALL {
        let render = || {
            let mut out = Vec::new();
            write(format, &sample(), &RenderOptions::default(), &mut out).unwrap();
            out
        };
        assert_eq!(render(), render());
    }
}

#[test]
fn nothing_can_control_a_terminal() {
    for format in [Format::Svg, Format::Folded, Format::Text] {
        for options in [RenderOptions::default(), all_options()] {
            let output = render(format, &sample(), &options);
            // The program that inferno embeds has tabs.
            let control = output.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
            assert_eq!(control, None, "{}", format.name());
            assert!(!output.contains('\u{202e}'));
        }
    }
}

/// inferno takes every line, takes none for a differential one, and has the profile's sum.
#[test]
fn inferno_reads_folded_lines() {
    for metric in [Metric::Off, Metric::Blocked, Metric::Runqueue, Metric::Count] {
        let options = RenderOptions { metric, ..RenderOptions::default() };
        let folded = render(Format::Folded, &sample(), &options);
        let mut svg = Vec::new();
        let mut graph = inferno::flamegraph::Options::default();
        inferno::flamegraph::from_lines(&mut graph, folded.lines(), &mut svg).unwrap();
        let total = total_samples(&String::from_utf8(svg).unwrap());

        let exact: u64 = sample().waits.iter().map(|wait| metric.of(wait)).sum();
        let lines = folded.lines().count() as u64;
        match metric {
            Metric::Count => assert_eq!(total, exact),
            _ => assert!((total * 1000).abs_diff(exact) < lines * 1000, "{total} µs, {exact} ns"),
        }
        let values = folded.lines().map(|line| line.rsplit_once(' ').unwrap().1);
        assert_eq!(total, values.map(|value| value.parse::<u64>().unwrap()).sum::<u64>());
    }
}

fn total_samples(svg: &str) -> u64 {
    let (_, rest) = svg.split_once("total_samples=\"").unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

#[test]
fn a_folded_line_has_one_frame_for_each_frame() {
    let folded = render(Format::Folded, &sample(), &RenderOptions::default());
    let hostile = folded.lines().find(|line| line.contains("script")).unwrap();
    // sleeper; two frames; --; two frames; waker
    assert_eq!(hostile.split(';').count(), 7, "{hostile}");
}

#[test]
fn short_waits_are_not_lost_and_sums_are_rounded_once() {
    let thread = thread(1, 1, "t");
    let mut profile = sample();
    let wait = |tid, blocked_ns| Wait {
        sleeper: Thread { tid, ..thread.clone() },
        waker: Waker::Unknown,
        state: WaitState::Interruptible,
        count: 1,
        blocked_ns,
        runqueue_ns: 0,
        max_ns: blocked_ns,
        histogram: Histogram::default(),
        estimate: Estimate::default(),
        sleeper_stack: smallvec![],
        waker_stack: smallvec![],
    };
    profile.waits = vec![wait(1, 1)];
    let line = |profile: &Profile| render(Format::Folded, profile, &RenderOptions::default());
    assert_eq!(line(&profile), "t;--;[unknown waker] 1\n");
    profile.waits = (0..10).map(|tid| wait(tid, 140)).collect();
    assert_eq!(line(&profile), "t;--;[unknown waker] 1\n");
    profile.waits = (0..11).map(|tid| wait(tid, 140)).collect();
    assert_eq!(line(&profile), "t;--;[unknown waker] 2\n");
}

/// Percentiles are there when all lengths are known, and tell more than mean and longest do.
#[test]
fn text_has_percentiles_where_they_are_known() {
    let mut profile = sample();
    profile.waits.truncate(1);
    let mut text = |lengths: &[u64], count: u64| {
        let max = lengths.iter().copied().max().unwrap_or(7_000);
        let wait = &mut profile.waits[0];
        (wait.count, wait.max_ns, wait.histogram) = (count, max, histogram(lengths));
        let text = render(Format::Text, &profile, &RenderOptions::default());
        let line = text.lines().last().unwrap().to_owned();
        line.split_once("run queue, ").unwrap().1.to_owned()
    };
    let mut lengths = vec![1_500_000; 98];
    assert_eq!(text(&lengths, 98), "p50 ≤ 1.50 ms, max 1.50 ms");
    lengths.extend([9_000_000, 100_000_000]);
    assert_eq!(text(&lengths, 100), "p50 ≤ 2.10 ms, p99 ≤ 16.78 ms, max 100.00 ms");
    assert_eq!(text(&lengths, 101), "max 100.00 ms");
    assert_eq!(text(&[], 5), "max 7.0 µs");
    assert_eq!(text(&[3_000], 1), "max 3.0 µs");
}

/// What reads the same is one wait: frames differ in address, line and inlining, and the labels show
/// as much of that as is asked for.
#[test]
fn waits_that_look_the_same_are_one() {
    let frame = |line, inlined| Frame {
        file: Some("/src/a.c".into()),
        line: Some(line),
        inlined,
        offset: line.into(),
        ..frame("f", Some("app"), false)
    };
    let wait = |id| Wait {
        sleeper: thread(1, 1, "t"),
        waker: Waker::NotWoken,
        state: WaitState::Interruptible,
        count: 1,
        blocked_ns: 1000,
        runqueue_ns: 0,
        max_ns: 1000,
        histogram: histogram(&[1000]),
        estimate: Estimate::default(),
        sleeper_stack: smallvec![id],
        waker_stack: smallvec![],
    };
    let frames = vec![frame(1, false), frame(2, false), frame(2, true)];
    let profile = Profile::new(meta(), Losses::default(), frames, (0..3).map(wait).collect());
    let lines_of = |lines, annotate| {
        let options = RenderOptions { lines, annotate, ..RenderOptions::default() };
        let text = render(Format::Text, &profile, &options);
        let folded = render(Format::Folded, &profile, &options);
        assert_eq!(text.matches("target:").count() - meta().targets.len(), folded.lines().count());
        folded
    };
    let end = ";--;[not woken]";
    assert_eq!(lines_of(false, false), format!("t;f{end} 3\n"));
    assert_eq!(lines_of(false, true), format!("t;f{end} 2\nt;f_[i]{end} 1\n"));
    assert_eq!(lines_of(true, false), format!("t;f (a.c:1){end} 1\nt;f (a.c:2){end} 2\n"));
    assert_eq!(lines_of(true, true).lines().count(), 3);
}

/// Reads an SVG as XML and returns the names of its elements and all of its text.
pub(super) fn read_xml(svg: &str) -> (Vec<String>, String) {
    let mut reader = quick_xml::Reader::from_str(svg);
    reader.config_mut().check_comments = true;
    let (mut names, mut text) = (Vec::new(), String::new());
    let entities =
        HashMap::from([("lt", "<"), ("gt", ">"), ("amp", "&"), ("quot", "\""), ("apos", "'")]);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => {
                for attribute in element.attributes() {
                    attribute.unwrap();
                }
                names.push(String::from_utf8(element.name().as_ref().to_vec()).unwrap());
            }
            Event::Text(part) => text += std::str::from_utf8(&part).unwrap(),
            Event::GeneralRef(entity) => {
                text += entities.get(std::str::from_utf8(&entity).unwrap()).unwrap();
            }
            Event::Eof => return (names, text),
            _ => {}
        }
    }
}

#[test]
fn svg_is_well_formed_and_names_stay_text() {
    for options in [RenderOptions::default(), all_options()] {
        let svg = render(Format::Svg, &sample(), &options);
        let (names, text) = read_xml(&svg);
        assert_eq!(names.iter().filter(|name| *name == "script").count(), 1);
        assert!(text.contains("<script>alert(1)</script>"), "{text}");
        assert!(!svg.contains("<script>"));
        assert!(svg.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t')));
    }
}

#[test]
fn a_function_in_both_halves_has_two_colours() {
    let svg = render(Format::Svg, &sample(), &RenderOptions::default());
    let fills: Vec<&str> = svg
        .split("<title>")
        .filter(|part| part.starts_with("evil"))
        .map(|part| part.split_once("fill=\"").unwrap().1.split_once('"').unwrap().0)
        .collect();
    assert_eq!(fills.len(), 2);
    assert_ne!(fills[0], fills[1]);
}

#[test]
fn svg_widths_are_exact() {
    let svg = render(Format::Svg, &sample(), &RenderOptions::default());
    let exact: u64 = sample().waits.iter().map(Wait::off_ns).sum();
    assert_eq!(total_samples(&svg), exact);
}

#[test]
fn an_empty_profile_is_a_picture_too() {
    let empty = Profile::new(meta(), Losses::default(), vec![], vec![]);
    let svg = render(Format::Svg, &empty, &RenderOptions::default());
    let (_, text) = read_xml(&svg);
    assert!(text.contains("No waits"), "{text}");
    assert!(text.contains("lost 0"), "{text}");
    assert_eq!(render(Format::Folded, &empty, &RenderOptions::default()), "");
    let json: serde_json::Value =
        serde_json::from_str(&render(Format::Json, &empty, &RenderOptions::default())).unwrap();
    assert_eq!(json["waits"], serde_json::json!([]));
    assert!(render(Format::Text, &empty, &RenderOptions::default()).contains("waits: 0"));
}

#[test]
fn json_keeps_names_as_they_are() {
    let json: serde_json::Value =
        serde_json::from_str(&render(Format::Json, &sample(), &RenderOptions::default())).unwrap();
    let waits = json["waits"].as_array().unwrap();
    assert!(waits.iter().any(|wait| wait["sleeper"]["comm"] == HOSTILE_COMM));
    assert!(waits.iter().any(|wait| wait["sleeper_stack"][1]["name"] == HOSTILE_FUNCTION));
}

#[test]
fn every_output_has_every_loss() {
    for format in [Format::Svg, Format::Html, Format::Text, Format::Json] {
        let output = render(format, &sample(), &RenderOptions::default());
        for loss in Loss::ALL {
            assert!(output.contains(loss.name()), "{}: {}", format.name(), loss.name());
        }
    }
}

#[test]
fn formats_have_names_and_extensions() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        let file = format!("a.b.{}", format.extension());
        assert_eq!(Format::of_file(Path::new(&file)), Some(format));
    }
    assert_eq!(Format::from_name("png"), None);
    for name in ["", "svg", ".svg", "x.gz", "a.svg/b", "xsvg", ".pb.gz", "a.svg/.."] {
        assert_eq!(Format::of_file(Path::new(name)), None, "{name}");
    }
}
