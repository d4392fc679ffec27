//! What a terminal shows while offwake works. Nothing at all where stderr is no terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use offwake::record::{Figures, Progress};

/// The bar of a running recording.
pub(crate) struct RecordingBar {
    bar: ProgressBar,
    duration: Option<Duration>,
}

/// A bar for a recording of this length, or until something ends it.
pub(crate) fn recording(duration: Option<Duration>) -> RecordingBar {
    let template = match duration {
        Some(_) => "recording [{bar:12}] {msg}",
        None => "recording {spinner} {msg}",
    };
    let length = duration.map(millis);
    RecordingBar { bar: new_bar(length, template), duration }
}

impl RecordingBar {
    pub(crate) fn update(&self, now: Progress) {
        match now {
            Progress::Preparing { done, total } => {
                self.bar.set_message(format!("unwind tables: {done}/{total} files"));
                // Too short for the rhythm of a bar, and too long to look dead.
                self.bar.tick();
            }
            Progress::Recording(now) => {
                self.bar.set_message(figures(&now, self.duration));
                self.bar.set_position(millis(now.elapsed));
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// The bar of a running symbolization.
pub(crate) struct SymbolizingBar(ProgressBar);

/// A bar for the symbolization.
pub(crate) fn symbolizing() -> SymbolizingBar {
    SymbolizingBar(new_bar(Some(0), "symbolizing [{bar:12}] {pos}/{len} addresses"))
}

impl SymbolizingBar {
    pub(crate) fn update(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn new_bar(length: Option<u64>, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template).expect("a constant").progress_chars("=> ");
    ProgressBar::with_draw_target(length, target).with_style(style)
}

fn figures(now: &Figures, duration: Option<Duration>) -> String {
    let Figures { elapsed, intervals, stacks, lost } = now;
    let elapsed = elapsed.as_secs_f64();
    let time = match duration {
        Some(duration) => format!("{elapsed:.1}/{:.1} s", duration.as_secs_f64()),
        None => format!("{elapsed:.1} s (Ctrl-C ends it)"),
    };
    format!("{time}, {intervals} intervals, {stacks} stacks, lost {lost}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        recording(None).clear();
        recording(Some(Duration::from_secs(1))).clear();
        symbolizing().clear();
    }

    #[test]
    fn the_figures_of_a_recording() {
        let now = Figures {
            elapsed: Duration::from_millis(1250),
            intervals: 48_213,
            stacks: 931,
            lost: 0,
        };
        assert_eq!(
            figures(&now, Some(Duration::from_secs(30))),
            "1.2/30.0 s, 48213 intervals, 931 stacks, lost 0"
        );
        assert_eq!(
            figures(&now, None),
            "1.2 s (Ctrl-C ends it), 48213 intervals, 931 stacks, lost 0"
        );
    }
}
