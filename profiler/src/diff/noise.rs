//! Change or noise: a test for a few runs of each side.
//!
//! A rate of waiting is positive and skewed, and what disturbs it multiplies: so logarithms are
//! compared, by Welch's t-test, which does not take both sides for equally noisy. A rank test would
//! assume less, but with three runs of each side none can reach p < 0.1, whatever they show. Three
//! runs may also agree by chance, so a variance counts as no smaller than
//! - that of a Poisson number of waits, at the rate of both sides together: nothing follows from two
//!   waits here and three there;
//! - that of 1 %.
//!
//! A rate may be 0, too: half a mean wait is added to each. Where waits are not counted (folded
//! stacks), it is a hundredth of the mean, and of the two limits there is the second only.
//!
//! Of many rows some look changed by chance: p is adjusted by the method of Benjamini and Hochberg, so
//! that of the rows called significant at most 5 % are expected not to be.

use statrs::function::beta::beta_reg;

/// The share of false ones among what is called significant.
const LEVEL: f64 = 0.05;

/// What a logarithm of a rate varies by at least, whatever a few runs show.
const MIN_DEVIATION: f64 = 0.01;

/// Whether a difference is more than noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Significance {
    /// How likely a difference this large is when nothing changed.
    pub p: f64,
    /// The same, for that it is one of many comparisons.
    pub adjusted: f64,
}

impl Significance {
    /// Whether the adjusted p is at most 5 %.
    pub fn is_significant(self) -> bool {
        self.adjusted <= LEVEL
    }
}

/// What one run has of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The metric.
    pub(super) value: u64,
    /// How many waits; 0 where that is not known, too.
    pub(super) count: u64,
    /// What values are divided by, not 0.
    pub(super) divisor: u64,
}

impl Run {
    fn rate(self) -> f64 {
        self.value as f64 / self.divisor as f64
    }
}

/// How likely runs of one kind differ as much as these. Both sides have two or more.
pub(super) fn p(before: &[Run], after: &[Run]) -> f64 {
    debug_assert!(before.len() > 1 && after.len() > 1);
    // The swapped sides give the same, bit by bit, as long as no sum runs over both.
    let both = |of: fn(&Run) -> f64| {
        before.iter().map(of).sum::<f64>() + after.iter().map(of).sum::<f64>()
    };
    let value = both(|run| run.value as f64);
    if value == 0.0 {
        return 1.0;
    }
    let (count, divisor) = (both(|run| run.count as f64), both(|run| run.divisor as f64));
    let shortest = before.iter().chain(after).map(|run| run.divisor).min().unwrap_or(1) as f64;
    let offset = if count > 0.0 { value / count / 2.0 / shortest } else { value / divisor / 100.0 };
    let side = |runs: &[Run]| {
        let mean_divisor = mean(runs.iter().map(|run| run.divisor as f64));
        let chance = if count > 0.0 { 1.0 / (count * mean_divisor / divisor + 0.5) } else { 0.0 };
        let logs: Vec<f64> = runs.iter().map(|run| (run.rate() + offset).ln()).collect();
        let mean = mean(logs.iter().copied());
        let freedom = logs.len() as f64 - 1.0;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / freedom;
        let variance = variance.max(chance).max(MIN_DEVIATION.powi(2));
        Side { mean, square_error: variance / logs.len() as f64, freedom }
    };
    welch(&side(before), &side(after))
}

struct Side {
    mean: f64,
    /// The square of the standard error of the mean, more than 0.
    square_error: f64,
    freedom: f64,
}

/// The two-sided p of Welch's t-test.
fn welch(a: &Side, b: &Side) -> f64 {
    let square_error = a.square_error + b.square_error;
    let freedom = square_error.powi(2)
        / (a.square_error.powi(2) / a.freedom + b.square_error.powi(2) / b.freedom);
    // With two runs here and many there the two may agree by chance, and the formula then grants them
    // the freedom of the many: no more than if both sides had as few.
    let freedom = freedom.min(2.0 * a.freedom.min(b.freedom));
    let square_t = (b.mean - a.mean).powi(2) / square_error;
    // The tails of Student's distribution, without the cancellation of 1 - cdf.
    beta_reg(freedom / 2.0, 0.5, freedom / (freedom + square_t))
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = numbers.len() as f64;
    numbers.sum::<f64>() / len
}

/// Adjusts for that these are many comparisons (Benjamini and Hochberg, 1995).
pub(super) fn adjust(ps: &[f64]) -> Vec<Significance> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let mut all: Vec<_> = ps.iter().map(|&p| Significance { p, adjusted: p }).collect();
    let mut least = 1.0_f64;
    for (rank, index) in order.into_iter().enumerate().rev() {
        least = least.min(ps[index] * ps.len() as f64 / (rank + 1) as f64);
        all[index].adjusted = least;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::random::Random;

    fn runs(rates: &[f64], count: u64) -> Vec<Run> {
        rates
            .iter()
            .map(|rate| Run { value: (rate * 1e6) as u64, count, divisor: 1 << 30 })
            .collect()
    }

    /// Of Student's t: tables have t = 2.776 for p = 0.05 and 4 degrees of freedom, 4.303 for 2.
    #[test]
    fn tables() {
        let side = |mean, freedom| Side { mean, square_error: 0.5, freedom };
        for (t, freedom, expected) in
            [(2.776, 2.0, 0.05), (8.610, 2.0, 0.001), (1.812, 5.0, 0.1), (0.0, 2.0, 1.0)]
        {
            // Equal errors: the degrees of freedom add up.
            let p = welch(&side(1.0, freedom), &side(1.0 + t, freedom));
            assert!((p - expected).abs() < 0.001 * expected.max(0.1), "{t}: {p}");
        }
    }

    #[test]
    fn adjusted() {
        let adjusted: Vec<f64> = adjust(&[0.04, 0.01, 0.03, 1.0])
            .iter()
            .map(|one| (one.adjusted * 1e6).round())
            .collect();
        // 0.03 · 4 / 2 is more than 0.04 · 4 / 3.
        assert_eq!(adjusted, [53_333.0, 40_000.0, 53_333.0, 1e6]);
        assert!(adjust(&[]).is_empty());
    }

    #[test]
    fn a_shift_is_found() {
        let before = runs(&[100.0, 104.0, 97.0], 5_000);
        assert!(p(&before, &runs(&[131.0, 140.0, 135.0], 5_000)) < 0.01);
        assert!(p(&before, &runs(&[101.0, 105.0, 99.0], 5_000)) > 0.3);
        assert!(p(&before, &runs(&[0.0; 3], 0)) < 1e-5);
        assert_eq!(p(&before, &before), 1.0);
        assert_eq!(p(&runs(&[0.0; 2], 0), &runs(&[0.0; 2], 0)), 1.0);
        // Uncounted.
        assert!(p(&runs(&[0.0; 3], 0), &runs(&[7.0, 8.0, 9.0], 0)) < 0.01);
    }

    #[test]
    fn few_waits_that_agree_by_chance_prove_nothing() {
        let count = |count: u64| [Run { value: count, count, divisor: 1 }; 3];
        assert!(p(&count(2), &count(3)) > 0.2);
        assert!(p(&count(0), &count(1)) > 0.2);
        // Runs of an hour, against those of a second: what is rare is seen in the long ones only.
        let long = [Run { value: 1, count: 1, divisor: 3_600 }; 3];
        assert!(p(&count(0), &long) > 0.5);
        assert!(p(&count(0), &count(100)) < 1e-4);
    }

    /// A number of waits by chance, and how long each is.
    fn simulate(random: &mut Random, waits: f64, deviation: f64) -> Run {
        let mut uniform = || (random.number() >> 11) as f64 / (1u64 << 53) as f64 + 1e-18;
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let expected = waits * (normal * deviation).exp();
        let (mut count, mut time) = (0, -uniform().ln());
        while time < expected {
            count += 1;
            time -= uniform().ln();
        }
        let value = (0..count).map(|_| (-uniform().ln() * 1e6) as u64 + 1).sum();
        Run { value, count, divisor: 1 << 32 }
    }

    /// Many waits and few, much noise and little, two runs and more: of runs of one kind no more are
    /// told apart than the level says.
    #[test]
    fn noise_is_not_called_change() {
        for waits in [0.3, 3.0, 30.0, 300.0] {
            for deviation in [0.0, 0.05, 0.5, 1.5] {
                for (left, right) in [(2, 2), (3, 3), (2, 5), (10, 10)] {
                    let mut random = Random((waits * 10.0 + deviation) as u64 * 100 + left);
                    let mut side = |runs: u64| -> Vec<Run> {
                        (0..runs).map(|_| simulate(&mut random, waits, deviation)).collect()
                    };
                    let rounds = 1_000;
                    let found =
                        (0..rounds).filter(|_| p(&side(left), &side(right)) <= LEVEL).count();
                    let share = found as f64 / f64::from(rounds);
                    println!("{waits} {deviation} {left}+{right}: {share}");
                    // Three standard deviations of a share of 1000 rounds.
                    assert!(share <= LEVEL + 0.021, "{waits} {deviation} {left}+{right}: {share}");
                }
            }
        }
    }

    /// Of a whole table: no row, 19 times of 20.
    #[test]
    fn tables_of_noise_have_no_significant_row() {
        let mut random = Random(7);
        let mut wrong = 0;
        for _ in 0..200 {
            let mut row = |index: i32| {
                let mut side =
                    || [0; 3].map(|_| simulate(&mut random, 0.5 * f64::from(index), 0.2));
                p(&side(), &side())
            };
            let ps: Vec<f64> = (1..80).map(&mut row).collect();
            wrong += usize::from(adjust(&ps).iter().any(|one| one.is_significant()));
        }
        assert!(wrong <= 10, "{wrong} of 200");
    }
}
