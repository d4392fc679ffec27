//! The arguments of every target.

use std::time::{Duration, Instant};

/// How long to play, and with which jitter.
#[derive(clap::Args, Clone, Debug)]
pub struct Length {
    /// Play for this many seconds (fractions allowed) instead of a number of waits
    #[arg(long, value_name = "SECS", conflicts_with = "count", value_parser = seconds)]
    pub seconds: Option<Duration>,

    /// Play this many waits (of each kind)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Seed of the durations' jitter: equal seeds wait equally long
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// The only arguments of most targets.
#[derive(clap::Parser, Debug)]
#[command(about = "A target that waits in known ways and prints the truth as JSON lines")]
pub struct Args {
    /// How long.
    #[command(flatten)]
    pub length: Length,
}

/// Parses a positive number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err("a positive number of seconds is needed".into()),
    }
}

impl Length {
    /// The number of waits or the time that was asked for, else `default` waits. The time runs from
    /// the first [`Budget::spend`].
    pub fn budget(&self, default: u64) -> Budget {
        match self.seconds {
            Some(duration) => Budget { left: u64::MAX, duration: Some(duration), end: None },
            None => Budget { left: self.count.unwrap_or(default), duration: None, end: None },
        }
    }
}

/// How much there is still to play.
#[derive(Clone, Debug)]
pub struct Budget {
    left: u64,
    duration: Option<Duration>,
    end: Option<Instant>,
}

impl Budget {
    /// Takes one wait; false: that was the last one. There is always at least one.
    pub fn spend(&mut self) -> bool {
        self.left -= 1;
        if let (None, Some(duration)) = (self.end, self.duration) {
            self.end = Some(Instant::now() + duration);
        }
        self.left > 0 && self.end.is_none_or(|end| Instant::now() < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_spent_exactly() {
        let mut budget = Length { seconds: None, count: Some(3), seed: 1 }.budget(9);
        assert_eq!([budget.spend(), budget.spend(), budget.spend()], [true, true, false]);
    }

    #[test]
    fn a_time_ends() {
        let length = Length { seconds: Some(Duration::from_millis(20)), count: None, seed: 1 };
        let mut budget = length.budget(9);
        let start = Instant::now();
        while budget.spend() {}
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "x", "inf", "nan", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
