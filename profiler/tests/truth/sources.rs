//! What each wait was ended by, against a target that makes one thing ready at a time.

use std::collections::BTreeMap;
use std::env;

use serde::Deserialize;

use crate::support::profile::{Profile, Wait};
use crate::support::recorder::{Recorded, Recorder};
use crate::support::target::Target;

/// How many waits: by hand as many as it takes to see one in ten thousand.
fn amount() -> u64 {
    env::var("OFFWAKE_SOURCES").map_or(2_000, |count| count.parse().expect("a number"))
}

#[derive(Debug, Deserialize)]
struct Truth {
    name: String,
    tids: Vec<u32>,
    kind: String,
    fd: i64,
    count: u64,
}

fn record(options: &[&str]) -> (Recorded, Vec<Truth>) {
    let mut target = Target::start("wake_sources", &["--count", &amount().to_string()]);
    let players = target.players();
    let recorder = Recorder::start(&[&["-p", &players], options].concat());
    let truths = target.play_values();
    let recorded = recorder.stop();
    let truths = truths.into_iter().filter_map(|mut line| {
        let source = line.get_mut("source")?.take();
        Some(serde_json::from_value(source).expect("a truth of a source"))
    });
    (recorded, truths.collect())
}

/// The waits of these threads that are of the play.
fn waits<'a>(profile: &'a Profile, tids: &'a [u32]) -> impl Iterator<Item = &'a Wait> {
    profile.waits.iter().filter(move |wait| {
        let is_at_gate = |name: Option<&str>| name.is_some_and(|name| name.contains("::gate::"));
        tids.contains(&wait.sleeper.tid)
            && wait.state == "interruptible"
            && wait.waker.kind != "not_woken"
            && !wait.sleeper_stack.iter().any(|frame| is_at_gate(frame.name.as_deref()))
    })
}

#[test]
fn each_wait_names_what_ended_it() {
    let _turn = turn!();
    let (recorded, truths) = record(&["--wake-source", "fd"]);
    let profile = &recorded.profile;
    let (mut all, mut wrong, mut unknown) = (0, 0, 0);
    let mut told = String::new();
    let mut by_name: BTreeMap<&str, Vec<&Truth>> = BTreeMap::new();
    truths.iter().for_each(|truth| by_name.entry(&truth.name).or_default().push(truth));
    for (name, truths) in by_name {
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        for wait in waits(profile, &truths[0].tids) {
            *seen.entry(wait.wake_source.as_deref().unwrap_or("")).or_default() += wait.count;
        }
        let nothing = seen.remove("").unwrap_or(0);
        unknown += nothing;
        all += truths.iter().map(|truth| truth.count).sum::<u64>();
        for truth in truths {
            let is_it = |source: &str| {
                source.starts_with(&format!("[{}", truth.kind))
                    && (truth.fd < 0 || source.ends_with(&format!(" fd {}]", truth.fd)))
            };
            let found: u64 =
                seen.iter().filter(|(source, _)| is_it(source)).map(|(_, count)| count).sum();
            seen.retain(|source, _| !is_it(source));
            // At its end each thread is woken once more, by the first of what it waits for.
            let extra = found.saturating_sub(truth.count + 2 * truth.tids.len() as u64);
            wrong += extra;
            if found < truth.count || extra > 0 {
                told += &format!("{name}: {truth:?}: {found}, unknown {nothing}\n");
            }
        }
        let others: u64 = seen.values().sum();
        wrong += others;
        if others > 0 {
            told += &format!("{name}: {seen:?}\n");
        }
    }
    eprintln!("{all} waits, {wrong} with a wrong source, {unknown} without\n{told}");
    assert!(wrong * 10_000 <= all, "{wrong} of {all} are wrong:\n{told}");
    assert!(unknown * 100 <= all, "{unknown} of {all} have no source:\n{told}");
    assert!(recorded.stderr.contains("wake sources of "), "{}", recorded.stderr);
}

#[test]
fn without_the_option_there_are_no_sources() {
    let _turn = turn!();
    let (recorded, _) = record(&[]);
    assert!(recorded.profile.waits.iter().all(|wait| wait.wake_source.is_none()));
    assert!(!recorded.stderr.contains("wake source"), "{}", recorded.stderr);
}
