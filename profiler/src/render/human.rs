//! Numbers as people read them, and the sentences about a recording that several formats share.

use std::time::Duration;

use crate::profile::Metric;

/// A time in the unit that leaves one to three digits before the point.
pub(crate) fn time(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        // Not as `1000.0 µs`.
        1_000..999_950 => format!("{:.1} µs", value / 1e3),
        999_950..999_995_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.3} s", value / 1e9),
    }
}

/// The length of a recording, such as `30 s` or `1.25 s`. Folded stacks do not tell it.
pub(super) fn length(duration: Duration) -> String {
    if duration.is_zero() {
        return "an unknown time".into();
    }
    format!("{} s", (duration.as_secs_f64() * 100.0).round() / 100.0)
}

/// A number with separators, such as `12,345`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of the waits, such as `90 of 100 waits (90.0 %)`.
pub(super) fn share(part: u64, all: u64) -> String {
    let percent = if all == 0 { 0.0 } else { 100.0 * part as f64 / all as f64 };
    format!("{} of {} waits ({percent:.1} %)", count(part), count(all))
}

/// At most so many characters, the last of them `…` where something is cut off.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What a metric measures.
pub(super) const fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Off => "off-CPU time",
        Metric::Blocked => "blocked time",
        Metric::Runqueue => "run-queue time",
        Metric::Count => "number of waits",
    }
}

/// The unit of a metric's values in graphs.
pub(super) const fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Off | Metric::Blocked | Metric::Runqueue => "µs",
        Metric::Count => "waits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_250), "1.2 µs");
        assert_eq!(time(201_092_000), "201.09 ms");
        assert_eq!(time(999_949), "999.9 µs");
        assert_eq!(time(999_950), "1.00 ms");
        assert_eq!(time(999_999_998), "1.000 s");
        assert_eq!(time(61_000_000_000), "61.000 s");
        assert_eq!(length(Duration::from_millis(1_250)), "1.25 s");
        assert_eq!(length(Duration::from_micros(30_000_400)), "30 s");
        assert_eq!(length(Duration::ZERO), "an unknown time");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
