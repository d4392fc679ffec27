use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use offwake_shared::WaitState;

use super::random::Random;
use super::*;
use crate::profile::{Metric, Wait, Waker};
use crate::render::{self, Format, RenderOptions};

fn load(text: &str) -> Profile {
    read("x", text.as_bytes()).unwrap().profile
}

fn one(line: &str) -> (Profile, Wait) {
    let profile = load(line);
    let [wait] = &profile.waits[..] else { panic!("{profile:?}") };
    let wait = wait.clone();
    (profile, wait)
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", read("x", bytes).unwrap_err())
}

fn folded(profile: &Profile, options: &RenderOptions) -> String {
    let mut out = Vec::new();
    render::write(Format::Folded, profile, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn labels(profile: &Profile, stack: &[u32]) -> Vec<String> {
    stack.iter().map(|id| profile.frames[*id as usize].label()).collect()
}

#[test]
fn folded_stacks_of_ours_stay_the_same() {
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let metric = random.one_of(&[Metric::Off, Metric::Blocked, Metric::Runqueue]);
        let delimited = random.below(2) == 0;
        let options = RenderOptions { metric, delimited, ..RenderOptions::default() };
        let written = folded(&random.profile(), &options);
        if written.is_empty() {
            continue;
        }
        let again = RenderOptions { delimited, ..RenderOptions::default() };
        assert_eq!(folded(&load(&written), &again), written, "seed {seed}");
    }
}

#[test]
fn what_is_too_large_to_be_read_again_is_told() {
    let (mut profile, wait) = one("w;a;b;--;c;x 12\n");
    assert_eq!(refusal(&profile), None);
    profile.waits = vec![wait; 2_000_000];
    let why = refusal(&profile).expect("it is too large");
    assert!(why.starts_with("reading it takes more than 408 MiB"), "{why}");
}

#[test]
fn both_halves_of_a_line() {
    let (profile, wait) = one("wrk;main;poll;ep_poll;--;wake;send;client 12\n");
    assert_eq!(labels(&profile, &wait.sleeper_stack), ["ep_poll", "poll", "main"]);
    assert_eq!(labels(&profile, &wait.waker_stack), ["wake", "send"]);
    assert_eq!((wait.sleeper.comm.as_str(), wait.waker.label().as_str()), ("wrk", "client"));
    assert_eq!((wait.blocked_ns, wait.runqueue_ns, wait.count), (12_000, 0, 0));
    assert_eq!(wait.state, WaitState::Other);
    assert_eq!(profile.meta.targets, ["x (folded stacks)"]);
    assert!(read("x", &b"a 1"[..]).unwrap().notes[0].contains("taken for µs"));
}

/// As BCC's offwaketime writes them with -f and -d.
#[test]
fn bcc_lines() {
    let (profile, wait) =
        one("sleep;_start;-;do_nanosleep;schedule;--;hrtimer_wakeup;-;idle;swapper/0 1000000");
    assert_eq!(labels(&profile, &wait.sleeper_stack), ["schedule", "do_nanosleep", "_start"]);
    let in_kernel = |id: &u32| profile.frames[*id as usize].kernel;
    assert_eq!(wait.sleeper_stack.iter().map(in_kernel).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(wait.waker_stack.iter().map(in_kernel).collect::<Vec<_>>(), [true, false]);
    let (profile, wait) =
        one("a;[Missed User Stack] -14;f;--;[Missed Kernel Stack];Web Content 3 7");
    assert_eq!(labels(&profile, &wait.sleeper_stack), ["f", "[Missed User Stack] -14"]);
    assert_eq!(wait.waker.label(), "Web Content 3");
}

/// As FlameGraph's scripts write them.
#[test]
fn lines_without_a_waker() {
    let (profile, wait) = one("# comment\n\njava;main;schedule_[k] 2.5\r\n");
    assert_eq!(wait.waker, Waker::Unknown);
    assert_eq!(labels(&profile, &wait.sleeper_stack), ["schedule_[k]", "main"]);
    assert_eq!(wait.blocked_ns, 2_500);
    assert!(one("java 1").1.sleeper_stack.is_empty());
}

#[test]
fn special_frames_are_what_they_stand_for() {
    let (profile, wait) = one(r"\x5birq];[envoy+0x1f];[unknown];a\x3bb\u{202e}\q;--;[preempted] 3");
    assert_eq!(wait.sleeper.comm, "[irq]");
    assert_eq!(
        labels(&profile, &wait.sleeper_stack),
        ["a;b\u{202e}\\q", "[unknown]", "[envoy+0x1f]"]
    );
    let named = |id: &u32| profile.frames[*id as usize].name.is_some();
    assert_eq!(wait.sleeper_stack.iter().map(named).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((wait.blocked_ns, wait.runqueue_ns), (0, 3_000));
    assert_eq!(wait.state, WaitState::Preempted);
    assert_eq!(one("a;--;[softirq:NET_RX] 1").1.waker, Waker::Softirq("NET_RX".into()));
    assert_eq!(one("a;--;[irq] 1").1.waker, Waker::Irq);
    assert_eq!(one("[unnamed];--;[unnamed] 1").1.sleeper.comm, "");
}

#[test]
fn errors_tell_the_line() {
    assert_eq!(error(b""), "it is empty");
    assert_eq!(error(b" \n\n"), "it is empty");
    assert_eq!(error(b"# only\n"), "there is no stack in it");
    assert_eq!(error(b"a;b 1\na;b\n"), "line 2: no value at its end");
    assert_eq!(error(b"a;b c"), r#"line 1: "c" is no number of µs"#);
    for value in ["-1", "1e3", "1.x", ".5", "+1", "99999999999999999999", "18446744073709552"] {
        let text = format!("a {value}");
        assert!(error(text.as_bytes()).starts_with("line 1: "), "{value}");
    }
    assert!(error(b"a 9000000000000000\n").starts_with("its times add up"));
    assert_eq!(error(&[b'x'; 5 << 20]), "line 1: more than 4 MiB");
    for other in ["{\"recording\":1}", "<?xml version", "<svg>"] {
        assert!(error(other.as_bytes()).starts_with("only pprof (.pb.gz) and folded"), "{other}");
    }
    assert!(error(b"\x7fELF\0\0").starts_with("as pprof, unpacked: byte "));
}

#[test]
fn gzip_holds_either() {
    let gzip = |bytes: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let whole = gzip(b"a;b 1\n");
    assert_eq!(read("x", &whole[..]).unwrap().profile, load("a;b 1"));
    for cut in 2..whole.len() {
        assert!(error(&whole[..cut]).starts_with("unpacking gzip: "), "{cut}");
    }
}

#[test]
fn damaged_lines_are_an_error_or_a_profile() {
    let mut random = Random(3);
    for seed in 0..500 {
        let mut bytes = folded(&Random(seed).profile(), &RenderOptions::default()).into_bytes();
        for _ in 0..20 {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] = random.one_of(b";\\-\n [](x0 9\xff\xc3");
            }
            match read("x", &bytes[..]) {
                Ok(loaded) => drop(folded(&loaded.profile, &RenderOptions::default())),
                Err(error) => assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}"),
            }
        }
    }
}
