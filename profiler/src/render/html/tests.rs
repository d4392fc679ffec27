use serde_json::Value;

use super::super::tests::sample;
use super::*;
use crate::diff::Options;
use crate::profile::{Losses, Metric, Profile, Wait};

fn page(profile: &Profile, options: &RenderOptions) -> String {
    let mut out = Vec::new();
    write(profile, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn payload(page: &str) -> &str {
    let (_, rest) = page.split_once("id=\"profile\">").unwrap();
    rest.split_once("</script>").unwrap().0
}

fn json(profile: &Profile, options: &RenderOptions) -> Value {
    serde_json::from_str(payload(&page(profile, options))).unwrap()
}

#[test]
fn hostile_names_stay_in_the_payload() {
    let title = "</script><!--<script>alert(1)</script>";
    let options = RenderOptions { title: Some(title.into()), ..RenderOptions::default() };
    let page = page(&sample(), &options);
    assert!(!payload(&page).contains('<'));
    assert!(page.chars().all(|c| !c.is_control() || c == '\n'));
    assert!(!page.contains('\u{202e}'));
    // The payload's, and the script's.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    let read: Value = serde_json::from_str(payload(&page)).unwrap();
    assert_eq!(read["title"], title);
    let threads = read["threads"]["name"].as_array().unwrap();
    assert!(threads.iter().any(|name| name.as_str().unwrap().starts_with("</text><script>")));
}

/// Nothing but `textContent` puts data on the page, and nothing names another place.
#[test]
fn the_script_makes_no_markup_and_no_requests() {
    for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("]
    {
        assert!(!SCRIPT.contains(word), "{word}");
    }
    let page = page(&sample(), &RenderOptions::default());
    for word in
        ["http:", "https:", "//cdn", "src=", "href=", "url(", "@import", "fetch(", "import("]
    {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe"));
}

#[test]
fn hashes_are_those_of_content_security_policies() {
    // printf '' | openssl dgst -sha256 -binary | base64
    assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn columns_have_every_wait_and_indexes_are_valid() {
    let profile = sample();
    let read = json(&profile, &RenderOptions::default());
    let column = |path: &str| -> Vec<u64> {
        let values = read.pointer(path).unwrap().as_array().unwrap();
        values.iter().map(|value| value.as_u64().unwrap()).collect()
    };
    let waits = column("/waits/count").len();
    assert_eq!(waits, profile.by_name(false, false).waits.len());
    for metric in ["blocked", "runqueue"] {
        let sum: u64 = column(&format!("/waits/{metric}")).iter().sum();
        let of = if metric == "blocked" { Metric::Blocked } else { Metric::Runqueue };
        assert_eq!(sum, profile.waits.iter().map(|wait| of.of(wait)).sum::<u64>());
    }
    for (index, table) in [
        ("/waits/sleeper", "/threads/name"),
        ("/waits/waker", "/wakers/label"),
        ("/waits/state", "/states"),
        ("/waits/sleeper_stack", "/nodes/parent"),
        ("/waits/waker_stack", "/nodes/parent"),
        ("/nodes/frame", "/frames/label"),
        ("/frames/module", "/frames/modules"),
        ("/wakers/role", "/palette"),
    ] {
        let len = read.pointer(table).unwrap().as_array().unwrap().len() as u64;
        assert!(column(index).iter().all(|index| *index < len), "{index}");
    }
    let parents = column("/nodes/parent");
    assert!((1..parents.len()).all(|node| parents[node] < node as u64));
}

#[test]
fn options_say_how_the_page_begins() {
    let options = RenderOptions {
        metric: Metric::Count,
        per_thread: true,
        lines: true,
        annotate: true,
        ..RenderOptions::default()
    };
    let read = json(&sample(), &options);
    assert_eq!(read["metric"], "count");
    assert_eq!(read["per_thread"], true);
    let labels = read["frames"]["label"].as_array().unwrap();
    assert!(
        labels.iter().any(|label| label == "app::run(&mut [u8]) (main.rs:7)_[i]"),
        "{labels:?}"
    );
}

#[test]
fn every_loss_is_in_it() {
    let read = json(&sample(), &RenderOptions::default());
    let losses = read["losses"].as_array().unwrap();
    assert_eq!(losses.len(), offwake_shared::Loss::ALL.len());
    assert!(losses.contains(&serde_json::json!(["unknown_waker", 3, false])));
}

/// A stack that many waits share is there once.
#[test]
fn size_grows_with_what_differs() {
    let mut profile = sample();
    let wait = profile.waits[0].clone();
    let len = |profile: &Profile| page(profile, &RenderOptions::default()).len();
    let before = len(&profile);
    profile.waits.extend((0..1000).map(|tid| {
        let mut wait = wait.clone();
        wait.sleeper.tid = 10_000 + tid;
        wait.sleeper_stack = wait.sleeper_stack.repeat(10).into();
        wait
    }));
    let each = (len(&profile) - before) / 1000;
    assert!(each < 100, "{each} bytes a wait");
    assert!(before < 64 << 10, "{before} bytes for a page with next to nothing");
}

#[test]
fn an_empty_profile_is_a_page_too() {
    let empty = Profile::new(sample().meta, Losses::default(), vec![], vec![]);
    let read = json(&empty, &RenderOptions::default());
    assert_eq!(read["waits"]["count"], serde_json::json!([]));
    assert_eq!(read["nodes"]["parent"], serde_json::json!([0]));
}

fn diff_json(before: &Profile, after: &Profile) -> Value {
    let diff = Diff::new(before, after, Options::default()).unwrap();
    let mut out = Vec::new();
    write_diff(before, after, &diff, &mut out).unwrap();
    serde_json::from_str(payload(std::str::from_utf8(&out).unwrap())).unwrap()
}

/// Waits of the same names are one, whatever their thread ids, and no time is lost.
#[test]
fn a_diff_has_both_sides_of_each_wait() {
    let before = sample();
    let mut after = before.clone();
    for wait in &mut after.waits {
        wait.sleeper.tid += 1;
        wait.blocked_ns *= 3;
    }
    let gone = after.waits.pop().unwrap();
    after.frames.push(after.frames[0].clone());
    let read = diff_json(&before, &after);
    let column = |path: &str| -> Vec<u64> {
        let values = read.pointer(path).unwrap().as_array().unwrap();
        values.iter().map(|value| value.as_u64().unwrap()).collect()
    };
    let sum = |of: fn(&Wait) -> u64, profile: &Profile| profile.waits.iter().map(of).sum::<u64>();
    let (was, is) = (column("/before/blocked"), column("/waits/blocked"));
    assert_eq!(was.iter().sum::<u64>(), sum(|wait| wait.blocked_ns, &before));
    assert_eq!(is.iter().sum::<u64>(), sum(|wait| wait.blocked_ns, &after));
    let only_before = was.iter().zip(&is).filter(|(was, is)| **is != **was * 3);
    assert_eq!(only_before.count(), usize::from(gone.blocked_ns > 0));
    let counts = (column("/before/count"), column("/waits/count"));
    assert_eq!(counts.0.iter().sum::<u64>(), sum(|wait| wait.count, &before));
    assert_eq!(counts.1.iter().sum::<u64>(), sum(|wait| wait.count, &after));
    assert_eq!(read["before"]["unit"], "/s");
}

#[test]
fn a_profile_is_no_different_from_itself() {
    let read = diff_json(&sample(), &sample());
    for column in ["count", "blocked", "runqueue", "max"] {
        assert_eq!(read["before"][column], read["waits"][column], "{column}");
    }
    assert_eq!(read["before"]["factors"][0], read["before"]["factors"][1]);
}
