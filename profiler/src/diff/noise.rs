//! Change or noise: a test for a few runs of each side.
//!
//! A rate of waiting is positive and skewed, and what disturbs it multiplies: so logarithms are
//! compared, by Welch's t-test, which does not take both sides for equally noisy. A rank test would
//! assume less, but with three runs of each side none can reach p < 0.1, whatever they show. Three
//! runs may also agree by chance, so a variance counts as no smaller than
//! - that of a Poisson number of waits, at the rate of both sides together: nothing follows from two
//!   waits here and three there, nor from two samples and three that stand for hundreds;
//! - that of 1 %.
//!
//! A rate may be 0, too: half a mean wait is added to each. Where waits are not counted (folded
//! stacks), it is a hundredth of the mean, and of the two limits there is the second only.
//!
//! Of many rows some look changed by chance: p is adjusted by the method of Benjamini and Hochberg, so
//! that of the rows called significant at most 5 % are expected not to be. Every comparison costs the
//! others power, so those that could not tell anything are left out: rows with so few waits that not
//! even all of them on one side would have p <= 5 % (about seven of three runs each). Waits of both
//! sides together decide that, never how they are spread over the sides, so nothing is chosen for its
//! result (Tarone 1990; Bourgon, Gentleman and Huber 2010). Where waits are not counted, every row is
//! compared.

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

    /// The adjusted p, with a `*` where it is significant.
    pub fn describe(self) -> String {
        let mark = if self.is_significant() { "*" } else { "" };
        match self.adjusted {
            p if p < 0.001 => format!("<0.001{mark}"),
            p => format!("{p:.3}{mark}"),
        }
    }
}

/// What one run has of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The metric.
    pub(super) value: u64,
    /// How many waits; 0 where that is not known, too. Where they were sampled, as many as tell as much.
    pub(super) count: u64,
    /// What values are divided by, not 0.
    pub(super) divisor: u64,
}

impl Run {
    fn rate(self) -> f64 {
        self.value as f64 / self.divisor as f64
    }
}

/// What a comparison says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    /// How likely runs of one kind differ as much as these.
    p: f64,
    /// The least that `p` can be with as many waits on both sides together.
    least: f64,
}

impl Test {
    /// Compares runs, two or more of each side.
    pub(super) fn new(before: &[Run], after: &[Run]) -> Self {
        debug_assert!(before.len() > 1 && after.len() > 1);
        let pool = Pool::new(before, after);
        if pool.value == 0.0 {
            return Self { p: 1.0, least: 1.0 };
        }
        let side = |runs: &[Run]| pool.side(runs, &mut |run| run.rate());
        let p = welch(&side(before), &side(after));
        Self { p, least: pool.least(before, after).min(pool.least(after, before)) }
    }

    /// Whether it counts among others: whether it could be significant.
    pub(super) fn can_tell(self) -> bool {
        self.least <= LEVEL
    }

    /// When it is the only one.
    pub(super) fn alone(self) -> Significance {
        Significance { p: self.p, adjusted: self.p }
    }
}

/// Both sides together.
struct Pool {
    value: f64,
    divisor: f64,
    count: f64,
    /// What is added to each rate.
    offset: f64,
}

impl Pool {
    fn new(before: &[Run], after: &[Run]) -> Self {
        // The swapped sides give the same, bit by bit, as long as no sum runs over both.
        let both = |of: fn(&Run) -> f64| {
            before.iter().map(of).sum::<f64>() + after.iter().map(of).sum::<f64>()
        };
        let value = both(|run| run.value as f64);
        let (count, divisor) = (both(|run| run.count as f64), both(|run| run.divisor as f64));
        let shortest = before.iter().chain(after).map(|run| run.divisor).min().unwrap_or(1) as f64;
        let offset =
            if count > 0.0 { value / count / 2.0 / shortest } else { value / divisor / 100.0 };
        Self { value, divisor, count, offset }
    }

    /// One side, were these the rates of its runs.
    fn side(&self, runs: &[Run], rate: &mut dyn FnMut(&Run) -> f64) -> Side {
        let mean_divisor = mean(runs.iter().map(|run| run.divisor as f64));
        let chance = match self.count > 0.0 {
            true => 1.0 / (self.count * mean_divisor / self.divisor + 0.5),
            false => 0.0,
        };
        let logs: Vec<f64> = runs.iter().map(|run| (rate(run) + self.offset).ln()).collect();
        let mean = mean(logs.iter().copied());
        let freedom = logs.len() as f64 - 1.0;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / freedom;
        let variance = variance.max(chance).max(MIN_DEVIATION.powi(2));
        Side { mean, square_error: variance / logs.len() as f64, freedom }
    }

    /// The least p with everything on the side `all`, evenly, and as much freedom as there can be.
    fn least(&self, all: &[Run], nothing: &[Run]) -> f64 {
        let divisor: f64 = all.iter().map(|run| run.divisor as f64).sum();
        let all = self.side(all, &mut |_| self.value / divisor);
        let nothing = self.side(nothing, &mut |_| 0.0);
        let square_error = all.square_error + nothing.square_error;
        tails((all.mean - nothing.mean).powi(2) / square_error, freedom_limit(&all, &nothing))
    }
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
    tails((b.mean - a.mean).powi(2) / square_error, freedom.min(freedom_limit(a, b)))
}

/// With two runs here and many there the two may agree by chance, and Welch's formula then grants them
/// the freedom of the many: no more than if both sides had as few.
const fn freedom_limit(a: &Side, b: &Side) -> f64 {
    2.0 * a.freedom.min(b.freedom)
}

/// The tails of Student's distribution, without the cancellation of 1 - cdf.
fn tails(square_t: f64, freedom: f64) -> f64 {
    beta_reg(freedom / 2.0, 0.5, freedom / (freedom + square_t))
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = numbers.len() as f64;
    numbers.sum::<f64>() / len
}

/// Adjusts for that these are many comparisons (Benjamini and Hochberg, 1995). Those that cannot tell
/// anything are none: they are not significant.
pub(super) fn adjust(tests: &[Test]) -> Vec<Significance> {
    let mut order: Vec<usize> = (0..tests.len()).filter(|&index| tests[index].can_tell()).collect();
    order.sort_by(|a, b| tests[*a].p.total_cmp(&tests[*b].p));
    let mut all: Vec<_> =
        tests.iter().map(|test| Significance { p: test.p, adjusted: 1.0 }).collect();
    let compared = order.len() as f64;
    let mut least = 1.0_f64;
    for (rank, index) in order.into_iter().enumerate().rev() {
        least = least.min(tests[index].p * compared / (rank + 1) as f64);
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

    fn p(before: &[Run], after: &[Run]) -> f64 {
        Test::new(before, after).p
    }

    #[test]
    fn adjusted() {
        let test = |p| Test { p, least: 0.0 };
        let tests = [0.04, 0.01, 0.03, 1.0].map(test);
        let adjusted: Vec<f64> =
            adjust(&tests).iter().map(|one| (one.adjusted * 1e6).round()).collect();
        // 0.03 · 4 / 2 is more than 0.04 · 4 / 3.
        assert_eq!(adjusted, [53_333.0, 40_000.0, 53_333.0, 1e6]);
        assert!(adjust(&[]).is_empty());
        // One that cannot tell anything changes nothing for the others.
        let with_few =
            adjust(&[tests[0], tests[1], Test { p: 0.6, least: 0.3 }, tests[2], tests[3]]);
        assert_eq!((with_few[2].p, with_few[2].adjusted), (0.6, 1.0));
        assert_eq!((with_few[1].adjusted * 1e6).round(), 40_000.0);
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
                Test::new(&side(), &side())
            };
            let tests: Vec<Test> = (1..80).map(&mut row).collect();
            wrong += usize::from(adjust(&tests).iter().any(|one| one.is_significant()));
        }
        assert!(wrong <= 10, "{wrong} of 200");
    }

    /// What is left out could not have been significant, and how waits are spread does not matter.
    #[test]
    fn few_waits_are_no_comparison() {
        let mut random = Random(3);
        let mut left_out = 0;
        for round in 0_u32..4_000 {
            let mut side = |runs: u64| -> Vec<Run> {
                (0..runs).map(|_| simulate(&mut random, f64::from(round % 40) / 4.0, 0.5)).collect()
            };
            let (before, after) = (side(2 + u64::from(round % 3)), side(3));
            let test = Test::new(&before, &after);
            assert!(test.p >= test.least * (1.0 - 1e-9), "{before:?} {after:?}: {test:?}");
            left_out += usize::from(!test.can_tell());
        }
        assert!((500..3_000).contains(&left_out), "{left_out}");
        let split = |before: u64, after: u64| {
            let run = |count| Run { value: count * 1_000, count, divisor: 1 << 30 };
            Test::new(&[before, 0, 0].map(run), &[after, 0, 0].map(run)).can_tell()
        };
        assert!((0..=6).all(|before| !split(before, 6 - before)));
        assert!((0..=8).all(|before| split(before, 8 - before)));
    }

    /// A change of one row among many with a handful of waits.
    #[test]
    fn few_waits_cost_no_power() {
        let mut random = Random(11);
        let (mut found, mut otherwise) = (0, 0);
        for _ in 0..200 {
            let mut test = |before: f64, after: f64| {
                let mut side = |waits| [0; 3].map(|_| simulate(&mut random, waits, 0.1));
                Test::new(&side(before), &side(after))
            };
            let mut tests = vec![test(200.0, 320.0)];
            tests.extend((0..60).map(|_| test(0.3, 0.3)));
            found += usize::from(adjust(&tests)[0].is_significant());
            tests.iter_mut().for_each(|test| test.least = 0.0);
            otherwise += usize::from(adjust(&tests)[0].is_significant());
        }
        assert!(found > 150 && found > 2 * otherwise, "{found} {otherwise} of 200");
    }
}
