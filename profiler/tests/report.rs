//! `offwake report`: saved profiles in, every format out. Nothing here records.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn offwake(arguments: &[&str]) -> Output {
    with_input(arguments, b"")
}

fn with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_offwake"))
        .arg("report")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a report that succeeds.
fn report(arguments: &[&str]) -> String {
    let output = offwake(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that a report fails with one line on stderr, and nothing on stdout.
fn assert_fails(output: &Output, expected: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(output.stdout, b"", "{error}");
    assert!(error.starts_with("offwake: error: ") && error.lines().count() == 1, "{error}");
    assert!(error.contains(expected), "{error} has no {expected}");
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn sample() -> String {
    golden("sample.pb.gz").to_str().unwrap().into()
}

#[test]
fn every_format_is_as_if_just_recorded() {
    for (format, file) in
        [("folded", "sample.folded"), ("text", "sample.txt"), ("json", "sample.json")]
    {
        assert_eq!(report(&[&sample(), "-F", format]), fs::read_to_string(golden(file)).unwrap());
    }
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (again, svg) = (path("again.pb.gz"), path("x.svg"));
    report(&[&sample(), "-o", &again, "-o", &svg]);
    assert_eq!(report(&[&again, "-F", "json"]), report(&[&sample(), "-F", "json"]));
    assert!(fs::read_to_string(&svg).unwrap().contains("wrk:worker_0"));
    let metric = [
        "--metric",
        "count",
        "--per-thread",
        "--delimited",
        "--lines",
        "--annotate",
        "--title",
        "x",
    ];
    let options = report(&[&[sample().as_str(), "-f"][..], &metric].concat());
    assert_eq!(options, fs::read_to_string(golden("options.folded")).unwrap());
}

#[test]
fn probe_and_losses_are_on_stderr() {
    let output = offwake(&[&sample(), "-f"]);
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    let [probe, losses] = lines[..] else { panic!("{lines:?}") };
    assert_eq!(probe, "offwake: probe: btf");
    assert!(losses.starts_with("offwake: lost 0 ("), "{losses}");
    assert!(losses.contains("unknown_waker 3"), "{losses}");
}

#[test]
fn folded_stacks_from_standard_input() {
    let lines = "a;f;--;g;b 1500\nc;f;--;[irq] 2\n";
    let output = with_input(&["-", "-f"], lines.as_bytes());
    assert_eq!(text(&output.stdout), lines);
    let note = "offwake: standard input: folded stacks: their values are taken for µs off-CPU";
    assert!(text(&output.stderr).starts_with(note), "{}", text(&output.stderr));
    let output = with_input(&["-", "-F", "text"], lines.as_bytes());
    assert!(text(&output.stdout).contains("recorded: an unknown time, kernel unknown"));
}

#[test]
fn several_files_add_up() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    fs::write(&a, "x;f 1\ny 2\n").unwrap();
    fs::write(&b, "x;f 10\n").unwrap();
    let all = "x;f;--;[unknown waker] 11\ny;--;[unknown waker] 2\n";
    assert_eq!(report(&[&a, &b, "-f"]), all);
    let twice = report(&[&sample(), &sample(), "-F", "json"]);
    assert!(twice.contains(r#""seconds":61.0"#), "{twice}");
    assert!(twice.contains(r#""user_stack_truncated":24690"#), "{twice}");
}

#[test]
fn conditions_choose() {
    let count = |conditions: &[&str]| {
        report(&[&[sample().as_str(), "-f"], conditions].concat()).lines().count()
    };
    let all = count(&[]);
    assert_eq!(count(&["--sleeper", "worker"]), all - 2);
    assert_eq!(count(&["--waker", "[irq]"]), 1);
    assert_eq!(count(&["--waker", "client", "--include", "^tcp_", "--include", "x"]), 1);
    assert_eq!(count(&["--exclude", "ep_poll", "--min-us", "50000"]), 1);
    assert!(report(&[&sample(), "-F", "text", "--waker", "client"]).contains("target: only waker"));
    assert_fails(&offwake(&[&sample(), "--include", "nowhere"]), "none of the 9 waits meets all");
}

#[test]
fn files_that_are_no_profiles() {
    let directory = TempDir::new().unwrap();
    let file = |content: &[u8]| {
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let assert_bad = |content: &[u8], expected: &str| {
        assert_fails(&offwake(&[&file(content)]), &format!("/file': {expected}"));
    };
    let saved = fs::read(sample()).unwrap();
    assert_bad(b"", "it is empty");
    assert_bad(&saved[..saved.len() / 2], "unpacking gzip: ");
    assert_bad(b"a;b 1\na;b c\n", r#"line 2: "c" is no number of"#);
    assert_bad(&fs::read(golden("sample.json")).unwrap(), "only pprof (.pb.gz) and folded stacks");
    assert_bad(&fs::read(golden("sample.svg")).unwrap(), "only pprof (.pb.gz) and folded stacks");
    assert_bad(&fs::read("/bin/true").unwrap(), "as pprof, unpacked: byte ");
    assert_fails(&offwake(&["/no/such"]), "cannot read '/no/such': No such file");
    assert_fails(&offwake(&["/"]), "cannot read '/': it is a directory");
    assert_fails(&with_input(&["-"], b"\n"), "cannot read standard input: it is empty");
    // A bad one among good ones, and nothing is written.
    let out = directory.path().join("out.svg");
    let bad = file(b"x");
    assert_fails(&offwake(&[&sample(), &bad, "-o", out.to_str().unwrap()]), "line 1: no value");
    assert!(!out.exists());
}
