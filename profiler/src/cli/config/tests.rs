use clap::{CommandFactory, Parser};
use offwake::profile::Metric;
use offwake::record::{ProbeChoice, UnwindChoice};

use super::super::args::Cli;
use super::super::one_line;
use super::*;

/// What the command line `arguments` gives, split at spaces, with standard output going to a file.
fn parse(arguments: &str) -> Result<Job, String> {
    parse_list(&arguments.split_whitespace().collect::<Vec<_>>(), false)
}

fn parse_list(arguments: &[&str], stdout_is_terminal: bool) -> Result<Job, String> {
    let cli = Cli::try_parse_from([&["offwake"], arguments].concat()).map_err(|e| one_line(&e))?;
    assert!(cli.subcommand.is_none());
    Job::new(cli.record, stdout_is_terminal)
}

fn file(path: &str, format: Format) -> Output {
    Output { destination: Destination::File(path.into()), format }
}

fn stdout(format: Format) -> Output {
    Output { destination: Destination::Stdout, format }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn defaults() {
    let job = parse("-p 1").unwrap();
    let record::Config {
        filter,
        command,
        follow,
        duration,
        min_off,
        max_off,
        states,
        user_stacks,
        kernel_stacks,
        unwind,
        remember,
        probe,
        overhead_ppm,
        wake_source,
        capacity,
    } = job.record;
    assert_eq!(filter, Filter { pids: vec![1], ..Filter::default() });
    assert_eq!((command, follow, duration, max_off), (None, false, None, None));
    assert_eq!(min_off, Duration::ZERO);
    assert_eq!(states.count_ones() as usize, WaitState::COUNT);
    assert!(user_stacks && kernel_stacks);
    assert!(remember);
    assert_eq!(unwind, UnwindChoice::Auto);
    assert_eq!(probe, ProbeChoice::Auto);
    assert_eq!((overhead_ppm, wake_source), (None, SourceDetail::Off));
    assert_eq!(capacity, record::Capacity::default());
    let symbolize::Options { debug_dirs, lines } = job.symbolize;
    assert_eq!((debug_dirs, lines), (vec![], false));
    assert_eq!(job.render, RenderOptions::default());
    assert_eq!(job.outputs, [stdout(Format::Svg)]);
}

#[test]
fn targets() {
    let none = Filter::default();
    let cases = [
        ("-p 4182", Filter { pids: vec![4182], ..none.clone() }),
        ("-p 3,1 -p 2,1", Filter { pids: vec![3, 1, 2], ..none.clone() }),
        ("--pid=3", Filter { pids: vec![3], ..none.clone() }),
        ("-t 7,8", Filter { tids: vec![7, 8], ..none.clone() }),
        ("--cgroup /a/b", Filter { cgroup: Some("/a/b".into()), ..none.clone() }),
        ("--comm 123456789012345", Filter { comm: Some("123456789012345".into()), ..none.clone() }),
        ("-a", none.clone()),
        (
            "-p 1 -t 2 --cgroup c --comm d",
            Filter {
                pids: vec![1],
                tids: vec![2],
                cgroup: Some("c".into()),
                comm: Some("d".into()),
            },
        ),
        ("--comm make -- make", Filter { comm: Some("make".into()), ..none }),
    ];
    for (arguments, filter) in cases {
        assert_eq!(parse(arguments).unwrap().record.filter, filter, "{arguments}");
    }
}

#[test]
fn everything_behind_the_dashes_is_the_command() {
    let cases: [(&str, &[&str]); 4] = [
        ("-- sleep 1", &["sleep", "1"]),
        ("-d 5 --follow -- make -j4 -d --", &["make", "-j4", "-d", "--"]),
        ("-- check", &["check"]),
        ("-- generate man", &["generate", "man"]),
    ];
    for (arguments, command) in cases {
        let found = parse(arguments).unwrap().record.command.unwrap();
        assert_eq!(found, command, "{arguments}");
    }
}

#[test]
fn recording_options() {
    let record = |arguments: &str| parse(&format!("-p 1 {arguments}")).unwrap().record;
    assert_eq!(record("-d 0.25").duration, Some(Duration::from_millis(250)));
    assert_eq!(record("-d 1e9").duration, Some(Duration::from_secs(1_000_000_000)));
    let job = record("-m 100 -M 100");
    assert_eq!(job.min_off, Duration::from_micros(100));
    assert_eq!(job.max_off, Some(Duration::from_micros(100)));
    assert_eq!(record("-m 5").max_off, None);
    assert_eq!(
        record("--min-block-time 1 --max-block-time 2").max_off,
        Some(Duration::from_micros(2))
    );
    assert_eq!(
        record("--state preempted,killable --state new").states,
        WaitState::Preempted.bit() | WaitState::Killable.bit() | WaitState::New.bit()
    );
    let stacks = |config: record::Config| (config.user_stacks, config.kernel_stacks);
    assert_eq!(stacks(record("-U")), (true, false));
    assert_eq!(stacks(record("-K")), (false, true));
    assert_eq!(stacks(record("--user-stacks-only")), (true, false));
    assert_eq!(stacks(record("--kernel-stacks-only")), (false, true));
    assert_eq!(record("--probe btf").probe, ProbeChoice::Btf);
    assert_eq!(record("--probe auto").probe, ProbeChoice::Auto);
    assert!(record("--follow").follow);
}

#[test]
fn rendering_options() {
    let metrics = [
        ("off", Metric::Off),
        ("blocked", Metric::Blocked),
        ("runqueue", Metric::Runqueue),
        ("count", Metric::Count),
    ];
    for (name, metric) in metrics {
        assert_eq!(parse(&format!("-a --metric {name}")).unwrap().render.metric, metric);
    }
    let job = parse("-a --per-thread --title x --debug-dir /d --debug-dir e").unwrap();
    assert!(job.render.per_thread && !job.render.delimited);
    assert_eq!(job.render.title.as_deref(), Some("x"));
    assert_eq!(job.symbolize.debug_dirs, [Path::new("/d"), Path::new("e")]);
    let job = parse("-a --lines").unwrap();
    assert!(job.symbolize.lines && job.render.lines && !job.render.annotate);
    let job = parse("-a --annotate").unwrap();
    assert!(!job.symbolize.lines && !job.render.lines && job.render.annotate);
    let job = parse("-a --delimited").unwrap();
    assert!(job.render.delimited && !job.render.per_thread);
}

#[test]
fn outputs_and_their_formats() {
    use Format::{Folded, Json, Svg, Text};
    let cases: [(&str, bool, &[Output]); 11] = [
        ("", false, &[stdout(Svg)]),
        ("", true, &[stdout(Text)]),
        ("-F json", true, &[stdout(Json)]),
        ("-F text", false, &[stdout(Text)]),
        ("-f", true, &[stdout(Folded)]),
        ("--folded", false, &[stdout(Folded)]),
        ("-o a.svg", true, &[file("a.svg", Svg)]),
        (
            "-o d/a.folded -o b.txt -o c.tar.json",
            false,
            &[file("d/a.folded", Folded), file("b.txt", Text), file("c.tar.json", Json)],
        ),
        ("-o a.svg -o b -F text", false, &[file("a.svg", Text), file("b", Text)]),
        ("-o a.svg -f", false, &[file("a.svg", Folded)]),
        ("-o - -o a.json", true, &[stdout(Text), file("a.json", Json)]),
    ];
    for (arguments, terminal, outputs) in cases {
        let list = [&["-p", "1"], &arguments.split_whitespace().collect::<Vec<_>>()[..]].concat();
        assert_eq!(parse_list(&list, terminal).unwrap().outputs, outputs, "{arguments}");
    }
}

#[test]
fn errors_are_one_line_that_says_what_is_wrong() {
    let cases = [
        ("", "nothing to record: name a target with -p, -t, --cgroup or --comm"),
        ("-d 3 -o a.svg", "nothing to record"),
        ("--", "nothing to record"),
        ("-p", "a value is required for '--pid <PID,...>'"),
        ("-p 0", "invalid value '0' for '--pid <PID,...>': ids are whole numbers from 1"),
        ("-p -5", "invalid value '-5' for '--pid <PID,...>': ids are whole numbers from 1"),
        ("-p 12x", "invalid value '12x' for '--pid"),
        ("-p 1,,2", "for '--pid <PID,...>'"),
        ("-p 1,", "for '--pid <PID,...>'"),
        ("-p 4294967297", "invalid value '4294967297' for '--pid"),
        ("-t 1.5", "invalid value '1.5' for '--tid"),
        (
            "--comm 1234567890123456",
            "the kernel keeps 15 bytes of a thread's name, and this one has 16",
        ),
        ("--comm=", "for '--comm <NAME>'"),
        ("-a -p 1", "'--all' cannot be used with '--pid <PID,...>'"),
        ("-a -t 1", "'--all' cannot be used with '--tid <TID,...>'"),
        ("-a --cgroup d", "'--all' cannot be used with '--cgroup <DIR>'"),
        ("-a --comm d", "'--all' cannot be used with '--comm <NAME>'"),
        ("-p 1 -- true", "cannot be used with"),
        ("-t 1 -- true", "cannot be used with"),
        ("-a -- true", "cannot be used with"),
        ("--follow -t 1", "--follow takes the children of processes along: name the processes"),
        ("--follow -a", "--follow takes the children"),
        ("-p 1 -d 0", "must be more than 0"),
        ("-p 1 -d=-1", "must be more than 0"),
        ("-p 1 -d -1", "must be more than 0"),
        ("-p 1 -d inf", "must be more than 0"),
        ("-p 1 -d nan", "must be more than 0"),
        ("-p 1 -d 1e10", "at most 1000000000 seconds"),
        ("-p 1 -d 1e-12", "must be at least a nanosecond"),
        ("-p 1 -d 30s", "invalid value '30s' for '--duration <SECS>': not a number of seconds"),
        ("-p 1 -m x", "invalid value 'x' for '--min-block-time <US>'"),
        ("-p 1 -m 1.5", "invalid value '1.5' for '--min-block-time <US>'"),
        ("-p 1 -m 18446744073709552", "invalid value '18446744073709552'"),
        ("-p 1 -M 0", "invalid value '0' for '--max-block-time <US>'"),
        ("-p 1 -m 2 -M 1", "no interval can be both longer than -m 2 and shorter than -M 1"),
        (
            "-p 1 --state asleep",
            "invalid value 'asleep' for '--state <STATE,...>' [possible values: preempted, interruptible",
        ),
        ("-p 1 --state preempted,", "for '--state <STATE,...>'"),
        ("-p 1 -U -K", "'--user-stacks-only' cannot be used with '--kernel-stacks-only'"),
        ("-p 1 --probe magic", "invalid value 'magic' for '--probe <KIND>'"),
        ("-p 1 --metric wall", "invalid value 'wall' for '--metric <METRIC>'"),
        (
            "-p 1 -F png",
            "invalid value 'png' for '--format <FORMAT>' [possible values: svg, html, folded, text, json, pprof]",
        ),
        ("-p 1 -F svg -f", "cannot be used with"),
        ("-p 1 -o a.png", "unknown format of -o 'a.png': its name must end with .svg"),
        ("-p 1 -o svg", "unknown format of -o 'svg'"),
        ("-p 1 -o a.svg -o dir/.svg", "unknown format of -o 'dir/.svg'"),
        ("-p 1 -o a.svg -o b.svg -o a.svg", "-o 'a.svg' is given twice"),
        ("-p 1 -o - -o -", "-o '-' is given twice"),
        (
            "-p 1 --folow",
            "unexpected argument '--folow' found; tip: a similar argument exists: '--follow'",
        ),
        ("-p 1 check", "unexpected argument 'check' found"),
        ("sleep 1", "unexpected argument 'sleep' found; a command to record goes after --"),
        ("generate tcsh", "invalid value 'tcsh' for '<WHAT>'"),
        ("generate", "required arguments were not provided: <WHAT>"),
    ];
    for (arguments, expected) in cases {
        let error = parse(arguments).expect_err(arguments);
        assert!(error.contains(expected), "{arguments}: {error}");
        assert!(!error.contains('\n') && !error.contains("Usage"), "{arguments}: {error}");
    }
}

#[test]
fn a_ceiling_is_a_share_in_percent() {
    assert_eq!(parse("-p 1 --overhead 1").unwrap().record.overhead_ppm, Some(10_000));
    assert_eq!(parse("-p 1 --overhead 0.5").unwrap().record.overhead_ppm, Some(5_000));
    for bad in ["0", "-1", "101", "x", "nan"] {
        assert!(parse(&format!("-p 1 --overhead={bad}")).is_err(), "{bad}");
    }
}
