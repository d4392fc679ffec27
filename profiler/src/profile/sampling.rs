//! What is known of a profile whose intervals were sampled: `--overhead`.

use hashbrown::HashMap;

use super::sum;
use crate::profile::{Profile, Thread, Wait};

/// How the intervals were sampled, and what all of them are together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// The most that the recording was to cost, in millionths of the machine's CPU time.
    pub ceiling_ppm: u32,
    /// What it has cost, likewise.
    pub spent_ppm: u32,
    /// What each thread has waited for, of all its intervals: exact. In order, each once.
    pub threads: Vec<ThreadTotal>,
}

/// The sums of all intervals of one thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadTotal {
    /// The thread.
    pub thread: Thread,
    /// How many intervals.
    pub count: u64,
    /// From switch-out to wake-up, in ns.
    pub blocked_ns: u64,
    /// From wake-up (or from an involuntary switch-out) to switch-in, in ns.
    pub runqueue_ns: u64,
}

impl ThreadTotal {
    /// Blocked and run-queue time together, in ns.
    pub const fn off_ns(&self) -> u64 {
        self.blocked_ns.saturating_add(self.runqueue_ns)
    }
}

impl Sampling {
    /// Puts the threads in order; equal ones become one.
    pub fn normalize(&mut self) {
        self.threads.sort_unstable();
        self.threads.dedup_by(|next, first| {
            let same = next.thread == first.thread;
            if same {
                first.count = first.count.saturating_add(next.count);
                first.blocked_ns = first.blocked_ns.saturating_add(next.blocked_ns);
                first.runqueue_ns = first.runqueue_ns.saturating_add(next.runqueue_ns);
            }
            same
        });
    }

    /// Adds another recording. The ceiling is that of the one with the higher one. Where one of both is a part of a
    /// recording, of which nobody knows the threads, nobody knows them of both.
    pub fn add(&mut self, other: Self) {
        let Self { ceiling_ppm, spent_ppm, mut threads } = other;
        if self.threads.is_empty() || threads.is_empty() {
            self.threads.clear();
            threads.clear();
        }
        self.ceiling_ppm = self.ceiling_ppm.max(ceiling_ppm);
        self.spent_ppm = self.spent_ppm.max(spent_ppm);
        self.threads.extend(threads);
        self.normalize();
    }

    /// How many intervals there were, and their time off-CPU in ns.
    pub fn totals(&self) -> (u64, u64) {
        self.threads.iter().fold((0, 0), |(count, off_ns), thread| {
            (u64::saturating_add(count, thread.count), u64::saturating_add(off_ns, thread.off_ns()))
        })
    }
}

/// How the sums of a wait were found, where its intervals were sampled. All 0: each interval was counted.
///
/// An interval that was recorded with probability `p` counts `1 / p` times (Horvitz and Thompson): the sums
/// are unbiased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Intervals that were recorded.
    pub samples: u64,
    /// The standard error of the number of intervals.
    pub count_error: u64,
    /// The standard error of their time off-CPU, in ns. That of its parts is not larger.
    pub off_error_ns: u64,
}

impl Estimate {
    /// Adds those of other intervals, which were chosen independently.
    pub fn add(&mut self, other: &Self) {
        let Self { samples, count_error, off_error_ns } = other;
        self.samples = self.samples.saturating_add(*samples);
        self.count_error = hypotenuse(self.count_error, *count_error);
        self.off_error_ns = hypotenuse(self.off_error_ns, *off_error_ns);
    }

    /// Half of the interval of confidence of 95 %: what lies within as many ns of the estimate is likely.
    pub fn off_confidence_ns(&self) -> u64 {
        confidence(self.off_error_ns)
    }

    /// The same of the number of intervals.
    pub fn count_confidence(&self) -> u64 {
        confidence(self.count_error)
    }
}

/// 1.96 standard errors.
fn confidence(error: u64) -> u64 {
    (error as f64 * 1.96) as u64
}

/// The square root of the sum of both squares, rounded to the nearest.
fn hypotenuse(a: u64, b: u64) -> u64 {
    match (a, b) {
        (a, 0) => a,
        (0, b) => b,
        (a, b) => (a as f64).hypot(b as f64).round() as u64,
    }
}

/// A thread whose waits that were recorded are not like all of its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlike<'a> {
    /// The thread, and the exact sums.
    pub total: &'a ThreadTotal,
    /// The time off-CPU by the waits that were recorded, in ns.
    pub estimate_ns: u64,
}

impl Unlike<'_> {
    /// How far both are apart, in ns.
    pub const fn gap_ns(&self) -> u64 {
        self.total.off_ns().abs_diff(self.estimate_ns)
    }
}

/// As many standard errors chance almost never makes.
const FAR: f64 = 5.0;

impl Profile {
    /// The threads whose time off-CPU is not what the waits that were recorded tell of it: not by chance, and by more
    /// than a fiftieth. Longer waits than all others were not among them, or to record them made them longer. The
    /// largest gap comes first.
    pub fn unlike_threads(&self) -> Vec<Unlike<'_>> {
        let Some(sampling) = &self.meta.sampling else { return Vec::new() };
        let mut sums: HashMap<&Thread, (u64, f64)> = HashMap::new();
        for wait in &self.waits {
            let (estimate_ns, variance) = sums.entry(&wait.sleeper).or_default();
            *estimate_ns = estimate_ns.saturating_add(wait.off_ns());
            *variance += (wait.estimate.off_error_ns as f64).powi(2);
        }
        let mut unlike: Vec<_> = sampling
            .threads
            .iter()
            .filter_map(|total| {
                let (estimate_ns, variance) = sums.get(&total.thread).copied().unwrap_or_default();
                let this = Unlike { total, estimate_ns };
                let gap = this.gap_ns();
                let is_far = gap as f64 > FAR * variance.sqrt() && gap > total.off_ns() / 50;
                is_far.then_some(this)
            })
            .collect();
        unlike.sort_by_key(|unlike| std::cmp::Reverse(unlike.gap_ns()));
        unlike
    }

    /// The estimate of all waits together.
    pub fn estimate(&self) -> Estimate {
        let mut all = Estimate::default();
        // Rounded once, not once for each wait.
        let (mut count, mut off) = (0.0, 0.0);
        for Wait { estimate, .. } in &self.waits {
            all.samples = all.samples.saturating_add(estimate.samples);
            count += (estimate.count_error as f64).powi(2);
            off += (estimate.off_error_ns as f64).powi(2);
        }
        (all.count_error, all.off_error_ns) = (count.sqrt() as u64, off.sqrt() as u64);
        all
    }

    /// Half of the intervals of confidence of 95 %, of the number of all waits and of their time off-CPU in ns. Where the
    /// exact sums of threads are farther away than that, as wide as they are.
    pub fn confidence(&self) -> (u64, u64) {
        let estimate = self.estimate();
        let (count, off_ns) = (estimate.count_confidence(), estimate.off_confidence_ns());
        let Some(sampling) = self.meta.sampling.as_ref().filter(|it| !it.threads.is_empty()) else {
            return (count, off_ns);
        };
        let (exact_count, exact_ns) = sampling.totals();
        // What one thread has too much of does not make good what another one lacks.
        let gaps = sum(self.unlike_threads().iter().map(Unlike::gap_ns));
        (
            count.max(self.sum(|wait| wait.count).abs_diff(exact_count)),
            off_ns.max(self.sum(Wait::off_ns).abs_diff(exact_ns)).max(gaps),
        )
    }

    /// How the waits were sampled, and how exact the sums are, in one line; `None` where all were counted.
    pub fn describe_sampling(&self) -> Option<String> {
        let sampling = self.meta.sampling.as_ref()?;
        let estimate = self.estimate();
        let (count, off_ns) = (self.sum(|wait| wait.count), self.sum(Wait::off_ns));
        let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        let (count_error, off_error_ns) = self.confidence();
        // Of a part of a profile nobody knows.
        let exact = match sampling.threads.len() {
            0 => String::new(),
            threads => {
                let (waits, ns) = sampling.totals();
                let seconds = ns as f64 / 1e9;
                format!("; threads: exact, {waits} waits and {seconds:.3} s of {threads}")
            }
        };
        Some(format!(
            "sampled 1 of {:.1} waits (BPF {:.2} % of the CPU, at most {} %), 95 % confidence: time \
             ± {:.2} %, waits ± {:.2} %{exact}",
            count as f64 / estimate.samples.max(1) as f64,
            f64::from(sampling.spent_ppm) / 1e4,
            f64::from(sampling.ceiling_ppm) / 1e4,
            percent(off_error_ns, off_ns),
            percent(count_error, count),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_as_those_of_what_is_independent() {
        let mut all = Estimate { samples: 2, count_error: 3, off_error_ns: 0 };
        all.add(&Estimate { samples: 5, count_error: 4, off_error_ns: 7 });
        assert_eq!(all, Estimate { samples: 7, count_error: 5, off_error_ns: 7 });
        assert_eq!(all.count_confidence(), 9);
    }

    #[test]
    fn a_thread_of_two_recordings_is_one() {
        let total = |tid, count| ThreadTotal {
            thread: Thread { pid: 1, tid, comm: "a".into() },
            count,
            blocked_ns: 10,
            runqueue_ns: 1,
        };
        let mut all =
            Sampling { ceiling_ppm: 1, spent_ppm: 1, threads: vec![total(2, 5), total(1, 7)] };
        all.add(Sampling { ceiling_ppm: 2, spent_ppm: 0, threads: vec![total(2, 1)] });
        assert_eq!(all.totals(), (13, 33));
        assert_eq!(all.threads.len(), 2);
        assert_eq!((all.threads[0].thread.tid, all.threads[1].count), (1, 6));
    }

    #[test]
    fn what_the_sample_has_not_seen_is_told() {
        let mut profile = crate::saved::random::Random(3).profile();
        let thread = profile.waits[0].sleeper.clone();
        profile.waits.truncate(1);
        profile.waits[0].blocked_ns = 900;
        profile.waits[0].runqueue_ns = 100;
        profile.waits[0].count = 10;
        profile.waits[0].estimate = Estimate { samples: 2, count_error: 1, off_error_ns: 10 };
        let mut told = |exact_ns| {
            let total = ThreadTotal {
                thread: thread.clone(),
                count: 10,
                blocked_ns: exact_ns,
                runqueue_ns: 0,
            };
            profile.meta.sampling =
                Some(Sampling { ceiling_ppm: 1, spent_ppm: 1, threads: vec![total] });
            let unlike = profile.unlike_threads();
            (unlike.first().map(Unlike::gap_ns), profile.describe_sampling().unwrap())
        };
        // Chance explains these.
        for exact_ns in [951, 1000, 1049] {
            let (gap, text) = told(exact_ns);
            assert_eq!(gap, None, "{exact_ns}");
            assert!(!text.contains("± 50.00 %"), "{text}");
        }
        for (exact_ns, percent) in [(1500, "50.00"), (600, "40.00")] {
            let (gap, text) = told(exact_ns);
            assert_eq!(gap, Some(exact_ns.abs_diff(1000)));
            assert!(text.contains(&format!("time ± {percent} %")), "{text}");
        }
        // What another thread has less of does not make it good.
        told(1300);
        let mut other = profile.waits[0].clone();
        other.sleeper.tid ^= 1;
        let total = ThreadTotal {
            thread: other.sleeper.clone(),
            count: 10,
            blocked_ns: 700,
            runqueue_ns: 0,
        };
        profile.waits.push(other);
        profile.meta.sampling.as_mut().unwrap().threads.push(total);
        assert_eq!(profile.unlike_threads().len(), 2);
        assert_eq!(profile.confidence().1, 600);
    }
}
