//! `offwake diff`: two saved profiles in, what changed out. Nothing here records.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn offwake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_offwake")).arg("diff").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sample.pb.gz");
    path.to_str().unwrap().into()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().into()
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// The names in the table, and their differences.
fn rows(output: &Output) -> Vec<(String, String)> {
    let table = text(&output.stdout).split_once("\n\n").unwrap().1;
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.last().unwrap().to_string(), words[2].to_owned())
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn a_profile_does_not_differ_from_itself() {
    for by in ["wait", "waker", "stack", "thread"] {
        let output = offwake(&[&sample(), &sample(), "--by", by, "--fail-above", "0"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with("no difference\n"), "{}", text(&output.stdout));
    }
}

#[test]
fn differences_of_folded_stacks() {
    let files = Files::new();
    let before = files.write("before", "a;f;schedule;--;x 1000\na;g;--;y 3000\na;h;--;z 5\n");
    let after = files.write("after", "a;f.isra.0;schedule;--;x 4000\nb;new;--;y 500\na;h;--;z 5\n");
    let diff = |more: &[&str]| rows(&offwake(&[&[before.as_str(), &after], more].concat()));
    let pair = |(name, delta): (&str, &str)| (name.to_owned(), delta.to_owned());
    let all = ("(all)", "+0.500");
    let expected = [all, ("f", "+3.000"), ("g", "-3.000"), ("new", "+0.500")].map(pair);
    assert_eq!(diff(&["--absolute"]), expected);
    let expected = [all, ("x", "+3.000"), ("y", "-2.500")].map(pair);
    assert_eq!(diff(&["--absolute", "--by", "waker"]), expected);
    // 1, 3 and 0.005 ms a request; 2, 0.25 and 0.0025.
    assert_eq!(diff(&["--per", "1,2"])[1], pair(("g", "-3.000")));
    assert_eq!(diff(&["--per", "1,2"])[2], pair(("f", "+1.000")));

    let output = offwake(&[&before, &after]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("before is not known: compare sums by --absolute"));
}

#[test]
fn outputs() {
    let files = Files::new();
    let (json, table) = (files.path("d.json"), files.path("d.txt"));
    let output = offwake(&[&sample(), &sample(), "-o", &json, "-o", &table]);
    assert!(output.status.success() && output.stdout.is_empty());
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((&json["unit"], &json["by"]), (&"ms/s".into(), &"wait".into()));
    assert!(fs::read_to_string(table).unwrap().starts_with("before: envoy"));
    let output = offwake(&[&sample(), &sample(), "-o", "x.folded"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("the name of a diff must end with .svg, .html, .txt or .json")
    );
}

#[test]
fn a_gate_for_wait_time() {
    let files = Files::new();
    let before = files.write("before", "a;f;--;x 1000\na;g;--;y 1000\n");
    let after = files.write("after", "a;f;--;x 1500\na;g;--;y 900\na;h;--;y 1\n");
    let gate = |more: &[&str]| {
        let output = offwake(&[&[before.as_str(), &after, "--absolute"], more].concat());
        let regression = text(&output.stderr).lines().find(|line| line.contains("regression"));
        (output.status.code().unwrap(), regression.unwrap_or_default().to_owned())
    };
    let longer = "offwake: regression: all waits got longer by 20.1 %, and 20 % are allowed";
    assert_eq!(gate(&["--fail-above", "20"]), (3, longer.into()));
    assert_eq!(gate(&["--fail-above", "21%"]), (0, String::new()));
    assert_eq!(gate(&["--fail-above", "20", "--path", "^g$"]), (0, String::new()));
    let f = gate(&["--fail-above", "20", "--path", "^g$", "--path", "^f$"]);
    assert!(f.0 == 3 && f.1.contains("waits through ^f$ got longer by 50.0 %"), "{f:?}");
    let h = gate(&["--fail-above", "1000", "--path", "^h$"]);
    assert!(h.0 == 3 && h.1.ends_with("waits through ^h$ are new"), "{h:?}");
    // A typo in a gate must not let everything pass.
    assert_eq!(gate(&["--fail-above", "20", "--path", "nowhere"]).0, 1);
    // Nor must a metric that nobody knows: folded stacks have one value.
    assert_eq!(gate(&["--fail-above", "20", "--metric", "count"]).0, 1);
}

/// Three runs of each side: `f` is slower, `g` is as noisy as it was.
#[test]
fn repeated_runs() {
    let files = Files::new();
    let write = |name: &str, f: [u32; 3], g: [u32; 3]| -> Vec<String> {
        let file = |run: usize| {
            let folded = format!("a;f;--;x {}\na;g;--;y {}\n", f[run], g[run]);
            files.write(&format!("{name}{run}"), &folded)
        };
        (0..3).map(file).collect()
    };
    let before = write("before", [1_000, 1_050, 980], [2_000, 4_000, 1_000]);
    let after = write("after", [1_500, 1_550, 1_480], [2_100, 900, 5_000]);
    let mut arguments = vec!["--absolute", "--before"];
    arguments.extend(before.iter().map(String::as_str));
    arguments.push("--after");
    arguments.extend(after.iter().map(String::as_str));
    let diff = |more: &[&str]| offwake(&[&arguments[..], more].concat());

    let output = diff(&[]);
    let table = text(&output.stdout);
    let line = |name: &str| table.lines().find(|line| line.ends_with(name)).unwrap();
    assert!(line("  f").contains("<0.001*") && line("  f").contains("+0.500"), "{table}");
    assert!(!line("  g").contains('*') && !line("(all)").contains('*'), "{table}");
    assert!(table.contains("significance: * where p <= 0.05, of 3 and 3 runs"), "{table}");

    let json: serde_json::Value =
        serde_json::from_slice(&diff(&["-F", "json", "-o", "-"]).stdout).unwrap();
    let row = |name: &str| {
        json["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    };
    assert_eq!((&row("f")["significant"], &row("g")["significant"]), (&true.into(), &false.into()));
    assert!(row("f")["p"].as_f64().unwrap() <= row("f")["p_adjusted"].as_f64().unwrap());
    assert_eq!(json["runs"], serde_json::json!({ "before": 3, "after": 3 }));

    // In sum and in g it is longer, too, but that is noise.
    let gate = |path: &str| diff(&["--fail-above", "10", "--path", path]).status.code().unwrap();
    assert_eq!((gate("^f$"), gate("^g$")), (3, 0));
    assert_eq!(diff(&["--fail-above", "0"]).status.code(), Some(0));
    assert_eq!(diff(&["--fail-above", "60", "--path", "^f$"]).status.code(), Some(0));
}

#[test]
fn wrong_usage() {
    for (arguments, expected) in [
        (&["x"][..], "the following required arguments were not provided: <AFTER>"),
        (&["--before", "x", "y"], "--after <FILE>..."),
        (
            &["--before", "x", "--after", "y", "z"],
            "--before has 1 and --after has 2: one run has no noise",
        ),
        (&["--before", "x", "y", "--after", "z", "-", "--per", "1,2,3"], "for each recording: 4"),
        (&["--before", "-", "y", "--after", "z", "-"], "standard input can be read only once"),
        (&["-", "-"], "standard input can be read only once"),
        (&["x", "y", "--per", "0,1"], "whole numbers from 1, separated by commas"),
        (&["x", "y", "--per", "1,2", "--absolute"], "cannot be used with"),
        (&["x", "y", "--fail-above=-1"], "a number of percent"),
        (&["x", "y", "--path", "f"], "--fail-above <PERCENT>"),
        (&["x", "y", "--by", "cpu"], "possible values: wait, waker, stack, thread"),
    ] {
        let output = offwake(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    let output = offwake(&[&sample(), "/no/such"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("offwake: error: cannot read '/no/such'"));
}
