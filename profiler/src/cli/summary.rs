//! The lines at the end of a recording or a report.

use std::fmt;
use std::time::Duration;

use offwake::profile::{Losses, Profile};
use offwake::record::Config;
use offwake::recording::Recording;
use offwake::render::{self, Format};
use offwake::saved;
use offwake_shared::WaitState;

use super::config::Output;
use super::say;

/// What was recorded, in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    intervals: u64,
    off: Duration,
    stacks: usize,
    /// Of how many waits the source is known, and of how many there is one; `None`: it was not looked for.
    sources: Option<(u64, u64)>,
    losses: Losses,
}

impl Summary {
    /// `profile`: what was made of the recording. It also counts what was found missing later.
    pub(crate) fn of(recording: &Recording, profile: &Profile) -> Self {
        Self {
            intervals: recording.waits.iter().map(|(_, stats)| stats.count).sum(),
            off: Duration::from_nanos(
                recording.waits.iter().map(|(_, stats)| stats.off_ns()).sum(),
            ),
            stacks: recording.stacks.len(),
            sources: recording.meta.wake_source.is_some().then(|| profile.sources()),
            losses: profile.losses,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { intervals, off, stacks, sources, losses } = self;
        write!(f, "{intervals} intervals, {:.3} s off-CPU, {stacks} stacks, ", off.as_secs_f64())?;
        if let Some((named, woken)) = sources {
            write!(f, "wake sources of {}, ", share(*named, *woken))?;
        }
        f.write_str(&losses.describe(true))
    }
}

/// A part of a number, for people.
fn share(part: u64, all: u64) -> String {
    let percent = if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 };
    format!("{part} of {all} waits ({percent:.1} %)")
}

/// Says which probe there was, for those who read folded stacks, too, which cannot tell it.
pub(crate) fn say_probe(profile: &Profile) {
    say(format_args!("probe: {}", profile.meta.probe));
}

/// Says how the waits were sampled, if they were, and where that is not like all waits.
pub(crate) fn say_sampling(profile: &Profile) {
    if let Some(sampling) = profile.describe_sampling() {
        say(sampling);
    }
    if let Some(unlike) = render::unlike_threads(profile) {
        say(format_args!("warning: {unlike}"));
    }
}

/// Says if a profile that is saved cannot be read again.
pub(crate) fn say_refusal(profile: &Profile, outputs: &[Output<Format>]) {
    let is_saved = outputs.iter().any(|output| output.format == Format::Pprof);
    if let Some(why) = is_saved.then(|| saved::refusal(profile)).flatten() {
        say(format_args!(
            "warning: offwake cannot read the saved profile again ({why}): record for a shorter time, fewer processes, \
             or longer waits only (-m)"
        ));
    }
}

/// Why there is no result, and what to try. `was_stopped`: by a signal.
pub(crate) fn no_interval(recording: &Recording, config: &Config, was_stopped: bool) -> String {
    let Recording { meta, losses, .. } = recording;
    let (seconds, targets) = (meta.duration.as_secs_f64(), meta.targets.join(", "));
    let is_over = was_stopped || config.duration.is_some_and(|wanted| meta.duration >= wanted);
    let (what, advice) = if is_over {
        (
            format!("no interval off-CPU was seen in {seconds:.1} s of {targets}"),
            "record for longer, and while the target has work to do",
        )
    } else {
        (
            format!("no interval off-CPU was seen of {targets}, which ended after {seconds:.3} s"),
            "record what runs for longer",
        )
    };
    let mut advice = advice.to_owned();
    let all_states = WaitState::ALL.iter().fold(0, |set, state| set | state.bit());
    if !config.min_off.is_zero() || config.max_off.is_some() || config.states != all_states {
        advice += "; -m, -M or --state may leave nothing";
    }
    if losses.iter().any(|(_, count)| count > 0) {
        advice += "; ";
        advice += &losses.describe(false);
    }
    format!("{what}: {advice}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use offwake::recording::{Meta, RawStack};
    use offwake_shared::{Loss, StackContext, StackEnd, TaskId, WaitKey, WaitStats};

    use super::*;

    fn recording() -> Recording {
        Recording {
            meta: Meta {
                started: SystemTime::UNIX_EPOCH,
                duration: Duration::from_millis(2500),
                kernel: "6.18.0".into(),
                probe: "btf".into(),
                wake_source: None,
                targets: vec!["envoy (pid 4182)".into(), "thread name wrk:worker_0".into()],
                sampling: None,
            },
            waits: Default::default(),
            stacks: Default::default(),
            sources: Default::default(),
            images: Default::default(),
            files: Vec::new(),
            losses: Losses::default(),
            bpf_bytes: 0,
            remembered_stacks: 0,
            unwind: None,
            warnings: Vec::new(),
        }
    }

    fn key(tid: u32) -> WaitKey {
        let sleeper = TaskId { tgid: 1, tid, ..TaskId::default() };
        WaitKey { sleeper, sleeper_kernel: 7, state: 1, ..WaitKey::default() }
    }

    #[test]
    fn the_line_sums_waits_and_names_every_cause() {
        let mut recording = recording();
        let stats = WaitStats {
            count: 2,
            blocked_ns: 1_500_000_000,
            runqueue_ns: 500_000,
            ..Default::default()
        };
        recording.waits.add(&key(1), &stats);
        recording.waits.add(&key(2), &stats);
        let stack = RawStack {
            context: StackContext::Kernel,
            image: None,
            frames: [1].into(),
            end: StackEnd::Complete,
        };
        recording.stacks.insert(7, stack);
        recording.losses.add(Loss::UnknownWaker, 3);
        let profile =
            Profile::new(recording.meta.clone(), recording.losses, Vec::new(), Vec::new());
        assert_eq!(
            Summary::of(&recording, &profile).to_string(),
            "4 intervals, 3.001 s off-CPU, 1 stacks, lost 0 (threads_full 0, waits_full 0, \
             probe_misses 0), incomplete 3 (stacks_full 0, kernel_stack_unreadable 0, \
             kernel_stack_truncated 0, user_stack_truncated 0, \
             unknown_waker 3, switch_in_missed 0, notices_full 0, process_gone 0, \
             user_stack_broken 0, user_stack_unreadable 0, user_stack_unsupported 0, unwind_tables_missing 0, wake_sources_full 0, \
             remembered_stack_wrong 0)"
        );
    }

    #[test]
    fn no_interval_says_how_long_of_whom_and_what_to_do() {
        let message = no_interval(&recording(), &Config::default(), true);
        let for_time = Config { duration: Some(Duration::from_millis(2500)), ..Config::default() };
        assert_eq!(message, no_interval(&recording(), &for_time, false));
        assert_eq!(
            message,
            "no interval off-CPU was seen in 2.5 s of envoy (pid 4182), thread name wrk:worker_0: \
             record for longer, and while the target has work to do"
        );
    }

    #[test]
    fn no_interval_tells_of_a_target_that_ended() {
        let longer = Config { duration: Some(Duration::from_secs(60)), ..Config::default() };
        for config in [Config::default(), longer] {
            assert_eq!(
                no_interval(&recording(), &config, false),
                "no interval off-CPU was seen of envoy (pid 4182), thread name wrk:worker_0, which \
                 ended after 2.500 s: record what runs for longer"
            );
        }
    }

    #[test]
    fn no_interval_suspects_filters_and_losses_only_where_there_are_any() {
        let no_interval =
            |recording: &Recording, config: &Config| no_interval(recording, config, true);
        let plain = no_interval(&recording(), &Config::default());
        let narrow = [
            Config { min_off: Duration::from_micros(5), ..Config::default() },
            Config { max_off: Some(Duration::from_micros(5)), ..Config::default() },
            Config { states: WaitState::Stopped.bit(), ..Config::default() },
        ];
        for config in narrow {
            let message = no_interval(&recording(), &config);
            assert_eq!(message, format!("{plain}; -m, -M or --state may leave nothing"));
        }
        let mut lossy = recording();
        lossy.losses.add(Loss::ThreadsFull, 12);
        let message = no_interval(&lossy, &Config::default());
        assert!(message.starts_with(&format!("{plain}; lost 12 (threads_full 12)")), "{message}");
    }
}
