//! The interactive report in a browser: headless Chromium loads it, and the page tells what it shows
//! (`data-ready` of its root element).

#[macro_use]
#[path = "support/skip.rs"]
mod skip;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use offwake::profile::Histogram;
use offwake::render::{self, Format, RenderOptions};
use offwake::saved;
use serde_json::Value;
use tempfile::TempDir;

/// Far more than it takes, on a machine that does much else.
const TIME: Duration = Duration::from_secs(120);

/// Ends the test that it stands in where there is no browser.
macro_rules! needs_browser {
    () => {
        if Command::new("chromium").arg("--version").stdout(Stdio::null()).status().is_err() {
            return skip::skip(this_test!(), "it needs chromium");
        }
    };
}

/// Makes the report of a profile.
fn report(profile: &Path, directory: &TempDir) -> PathBuf {
    make(&["report".as_ref(), profile], directory)
}

/// Makes a page.
fn make(arguments: &[&Path], directory: &TempDir) -> PathBuf {
    let page = directory.path().join("report.html");
    let output = Command::new(env!("CARGO_BIN_EXE_offwake"))
        .args(arguments)
        .args(["-o".as_ref(), page.as_path()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    page
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The document as it is after the page's script has run.
fn load(page: &Path, fragment: &str, directory: &TempDir) -> String {
    visit(&format!("file://{}#{fragment}", page.display()), directory)
}

/// The document at an address after all that its scripts put off for less than two seconds.
fn visit(address: &str, directory: &TempDir) -> String {
    let dump = directory.path().join("dump");
    let log = directory.path().join("log");
    let data = TempDir::new_in(directory.path()).unwrap();
    let child = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1400,1000"])
        .arg(format!("--user-data-dir={}", data.path().display()))
        .args(["--dump-dom", "--virtual-time-budget=2000"])
        .arg(address)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&dump).unwrap())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut child = KilledOnDrop(child);
    let start = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < TIME, "{}", fs::read_to_string(&log).unwrap());
        thread::sleep(Duration::from_millis(20));
    }
    let log = fs::read_to_string(&log).unwrap();
    // Errors of the script, and whatever the content security policy refused.
    let complaint = log.lines().find(|line| line.contains("CONSOLE"));
    assert_eq!(complaint, None, "{log}");
    fs::read_to_string(&dump).unwrap()
}

/// What the page says that it shows.
fn ready(document: &str) -> Value {
    let (start, _) = document.split_once("<head>").unwrap();
    assert!(!start.contains("data-error"), "{start}");
    let (_, rest) = start.split_once("data-ready=\"").expect(start);
    let (value, _) = rest.split_once('"').unwrap();
    serde_json::from_str(&value.replace("&quot;", "\"")).unwrap()
}

#[test]
fn a_small_profile_with_hostile_names() {
    needs_browser!();
    let directory = TempDir::new().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sample.pb.gz");
    let page = report(&sample, &directory);

    let document = load(&page, "", &directory);
    let all = ready(&document);
    assert_eq!(all["waits"], 9);
    assert_eq!(all["rows"], 9);
    assert_eq!(all["total"], 1_501_094_306_u64);
    assert_eq!(all["matched"], all["total"]);
    // `--dump-dom` escapes text, so a `<script` is an element: the payload's, and the script's.
    assert_eq!(document.matches("<script").count(), 2, "{document}");
    assert!(document.contains("&lt;/text&gt;&lt;script&gt;"), "the hostile thread is shown");
    assert!(document.contains("user_stack_truncated 12,345"));

    let found = ready(&load(&page, "q=epoll_wait&metric=count", &directory));
    assert_eq!(found["rows"], 3);
    assert_eq!(found["total"], 27);
    assert_eq!(found["matched"], 9);
    let by_regex = ready(&load(&page, "q=/%5Eep_poll$/", &directory));
    assert_eq!(by_regex["rows"], 4);
    let nothing = ready(&load(&page, "q=no%20such%20function", &directory));
    assert_eq!(nothing["rows"], 0);
    // A search marks frames and hides none.
    assert_eq!(nothing["frames"], all["frames"]);

    assert_eq!(histogram(&document), None, "nothing is chosen");
    let of_all = load(&page, "zoom=0", &directory);
    assert!(of_all.contains("<h2>all</h2>"), "{of_all}");
    assert!(histogram(&of_all).unwrap().starts_with("below 1.0 µs: "), "{of_all}");
    let chosen = load(&page, "wait=0", &directory);
    let lengths = histogram(&chosen).unwrap();
    assert!(lengths.starts_with("below 1.0 µs: 2 waits (66.67 %); 1.0 µs to 2.0 µs: 0 waits"));
    assert!(lengths.ends_with("; 536.87 ms to 1.074 s: 1 wait (33.33 %)"), "{lengths}");
    assert_eq!(lengths.split(';').count(), 21, "{lengths}");
    assert!(chosen.contains("p50 ≤ 1.0 µs · longest 1.000 s"));
}

/// What the histogram on a page shows, in words.
fn histogram(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once("<div class=\"histogram\" role=\"img\" aria-label=\"")?;
    Some(rest.split_once('"').unwrap().0)
}

#[test]
fn a_profile_with_50_000_stacks() {
    needs_browser!();
    let directory = TempDir::new().unwrap();
    let folded = directory.path().join("big.folded");
    fs::write(&folded, many_stacks(50_000)).unwrap();
    let saved = directory.path().join("big.pb.gz");
    fs::write(&saved, with_lengths(&folded)).unwrap();
    let page = report(&saved, &directory);
    let size = fs::metadata(&page).unwrap().len();
    let folded_size = fs::metadata(&folded).unwrap().len();
    assert!(size * 2 < folded_size, "{size} bytes of HTML for {folded_size} of folded stacks");

    let start = Instant::now();
    let document = load(&page, "q=handler_7", &directory);
    eprintln!("loaded {size} bytes in {:.1} s", start.elapsed().as_secs_f64());
    let shown = ready(&document);
    assert_eq!(shown["waits"], 50_000);
    assert_eq!(shown["rows"], 5_000);
    assert!(shown["nodes"].as_u64().unwrap() > 500_000, "{shown}");
    assert!((1..100_000).contains(&shown["frames"].as_u64().unwrap()), "{shown}");
    assert_eq!(shown["matched"].as_u64().unwrap() * 10, shown["total"].as_u64().unwrap());
    // Elements for what is visible only: beside the payload, the document is small.
    let (_, rest) = document.split_once("id=\"profile\">").unwrap();
    let (payload, _) = rest.split_once("</script>").unwrap();
    assert!(document.len() - payload.len() < 200_000);

    // The first frame is that of the first thread: one of 64 threads.
    let document = load(&page, "zoom=1", &directory);
    assert_eq!(ready(&document)["rows"], 782);
    let (half, whole, none) = ("782 waits (33.33 %)", "1,564 waits (66.67 %)", "0 waits (0.00 %)");
    let expected = format!(
        "524.3 µs to 1.05 ms: {half}; 1.05 ms to 2.10 ms: {none}; 2.10 ms to 4.19 ms: {whole}"
    );
    assert_eq!(histogram(&document), Some(expected.as_str()));
    assert!(document.contains("p50 ≤ 4.19 ms · p99 ≤ 4.19 ms · longest 5.00 ms"), "{document}");
}

/// A saved profile of folded stacks, each of three waits: one of about 1 ms, two of about 3 ms.
fn with_lengths(folded: &Path) -> Vec<u8> {
    let mut profile = saved::read("big", fs::File::open(folded).unwrap()).unwrap().profile;
    let mut counts = [0; 13];
    (counts[10], counts[12]) = (1, 2);
    for wait in &mut profile.waits {
        wait.histogram = Histogram::new(counts).unwrap();
        (wait.count, wait.max_ns) = (3, 5_000_000);
    }
    let mut bytes = Vec::new();
    render::write(Format::Pprof, &profile, &RenderOptions::default(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_diff() {
    needs_browser!();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (before, after) = (path("before.folded"), path("after.folded"));
    fs::write(&before, "t;</script>;f;--;g;w 300\nt;gone;--;w 50\nu;same;--;w 7\n").unwrap();
    fs::write(&after, "t;</script>;f;--;g;w 1000\nt;new;--;w 20\nu;same;--;w 7\n").unwrap();
    let arguments = ["diff".as_ref(), before.as_path(), &after, "--absolute".as_ref()];
    let page = make(&arguments, &directory);
    let document = load(&page, "", &directory);
    let shown = ready(&document);
    assert_eq!(shown["waits"], 4);
    assert_eq!(shown["rows"], 4);
    assert_eq!(shown["total"], 1_027_000);
    assert_eq!(document.matches("<script").count(), 2, "{document}");
    for text in
        ["+700.0 µs", "−50.0 µs", "+20.0 µs", "off-CPU 357.0 µs → 1.03 ms, +670.0 µs (+187.7 %)"]
    {
        assert!(document.contains(text), "{text}: {document}");
    }
    assert_eq!(ready(&load(&page, "q=gone", &directory))["rows"], 1);
    // Folded stacks do not tell how long each wait was.
    assert_eq!(histogram(&load(&page, "wait=0", &directory)), None);

    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sample.pb.gz");
    let page = make(&["diff".as_ref(), &sample, &sample, "--absolute".as_ref()], &directory);
    let document = load(&page, "wait=0", &directory);
    let lengths = histogram(&document).unwrap();
    assert!(lengths.starts_with("below 1.0 µs: 2.00 (66.67 %) → 2.00 (66.67 %); "), "{lengths}");
    assert!(document.contains("p50 ≤ 1.0 µs → ≤ 1.0 µs"), "{document}");
    let document = load(&page, "zoom=0", &directory);
    let lengths = histogram(&document).unwrap();
    assert!(lengths.starts_with("below 1.0 µs: ") && lengths.contains(" → "), "{lengths}");
}

/// What is gone has a picture of its own below: each zooms by itself, and a search is for both.
#[test]
fn both_pictures_of_a_diff() {
    needs_browser!();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (before, after) = (path("before.folded"), path("after.folded"));
    fs::write(&before, "t;gone;f;--;w 50\nt;gone;g;--;w 30\nu;lost;--;w 7\nu;f;--;w 1\n").unwrap();
    fs::write(&after, "t;here;f;--;w 50\nt;here;g;--;w 30\nu;f;--;w 7\n").unwrap();
    let picture = path("diff.svg");
    let output = Command::new(env!("CARGO_BIN_EXE_offwake"))
        .args(["diff", "--absolute"])
        .args([before.as_path(), &after, "-o".as_ref(), &picture])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = fs::read_to_string(&picture).unwrap();

    // Clicks, a second after the picture is there.
    let with = |script: &str| {
        let script = format!(
            "<script><![CDATA[setTimeout(() => {{\n\
             const frame = (id, name) => [...document.getElementById(id).children]\n\
             .find((g) => g.querySelector('title').textContent.startsWith(name + ' '));\n\
             const send = (e, name) => e.dispatchEvent(new MouseEvent(name, {{ bubbles: true }}));\n\
             const click = (e) => send(e, 'click');\n\
             const over = (e) => send(e, 'mouseover');\n\
             {script}\n}}, 1000);]]></script></svg>"
        );
        let page = path("clicked.svg");
        fs::write(&page, svg.trim_end().strip_suffix("</svg>").unwrap().to_owned() + &script)
            .unwrap();
        let document = visit(&format!("file://{}", page.display()), &directory);
        let (there, gone) = document.split_once("id=\"gone\"").expect("a second picture");
        let drawn = |picture: &str, id: &str| -> Vec<String> {
            let (_, frames) = picture.split_once(&format!("id=\"{id}\"")).unwrap();
            let frames = frames.split("<g").skip(1);
            let shown = frames.filter(|g| !g.split('>').next().unwrap().contains("hide"));
            let title =
                |g: &str| g.split("<title>").nth(1).unwrap().split(" (").next().unwrap().to_owned();
            shown.map(title).collect()
        };
        let drawn = (drawn(there, "frames"), drawn(gone, "gone-frames"));
        (drawn, there.to_owned(), gone.to_owned())
    };
    let ((all_there, all_gone), ..) = with("");
    assert!(all_there.contains(&"here".into()) && all_gone.contains(&"lost".into()));

    // A zoom in the second: what is beside is hidden there, and nowhere else.
    let ((there, gone), _, second) = with("click(frame('gone-frames', 'lost'));");
    assert_eq!(there, all_there);
    assert!(!gone.contains(&"gone".into()) && gone.contains(&"lost".into()), "{gone:?}");
    let unzoom = |picture: &str, id: &str| {
        let (_, rest) = picture.split_once(&format!("<text id=\"{id}\"")).unwrap();
        !rest.split('>').next().unwrap().contains("hide")
    };
    assert!(unzoom(&second, "gone-unzoom"), "it can be undone");
    let ((there, gone), ..) =
        with("click(frame('gone-frames', 'lost')); click(document.getElementById('gone-unzoom'));");
    assert_eq!((&there, &gone), (&all_there, &all_gone));

    // And one in the first.
    let ((there, gone), first, second) =
        with("click(frame('frames', 'here')); over(frame('gone-frames', 'lost'));");
    assert!(!there.contains(&"u".into()) && there.contains(&"g".into()), "{there:?}");
    assert_eq!(gone, all_gone);
    assert!(unzoom(&first, "unzoom") && !unzoom(&second, "gone-unzoom"));
    assert!(second.contains(">Frame: lost ("), "details are below their picture");

    let found = "window.prompt = () => '^f '; click(document.getElementById('search'));";
    let (_, first, second) = with(found);
    assert!(first.contains("Matched: 65.5%") && second.contains("Matched: 57.5%"), "{second}");
    let again = format!("{found} click(document.getElementById('search'));");
    let (_, first, second) = with(&again);
    assert!(!first.contains("Matched: 6") && !second.contains("Matched: 5"));
}

/// Stacks of 40 frames, all different, each of 1 ms; one in ten has `handler_7`.
fn many_stacks(count: u32) -> String {
    let mut text = String::new();
    for stack in 0..count {
        write!(text, "worker-{};start;main;handler_{}", stack % 64, stack % 10).unwrap();
        for depth in 0..20 {
            // Paths part early and late.
            let branch = ((stack / 10) >> (depth % 13)) & 3;
            write!(text, ";some::module::function_{depth}_{branch}").unwrap();
        }
        write!(text, ";leaf_{stack};--").unwrap();
        for depth in 0..15 {
            write!(text, ";waker::function_{depth}_{}", (stack >> depth) & 1).unwrap();
        }
        writeln!(text, ";client-{} 1000", stack % 100).unwrap();
    }
    text
}
