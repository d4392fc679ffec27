//! Profiles at random, for tests: every state, waker and kind of frame, and names of all kinds.

use std::time::{Duration, SystemTime};

use offwake_shared::{Loss, WaitState};

use crate::profile::{
    Estimate, Frame, Histogram, Losses, Meta, Module, Profile, Sampling, Thread, ThreadTotal, Wait,
    Waker,
};

/// Names that some format gives a meaning.
const NAMES: [&str; 22] = [
    "",
    "a",
    "wrk:worker_0",
    "--",
    "-",
    "[irq]",
    "[unknown]",
    "[unnamed]",
    "[a+0x12]",
    "a;b",
    " 12",
    "a 1.5 2",
    "x\n y\t\r",
    "# a",
    r"\x3b\u{202e}",
    "</text><script>\x1b[2J\u{202e}",
    "foo<int>::bar(char const*, unsigned long)",
    "头图",
    "[kernel.kallsyms]",
    "[softirq:NET_RX]",
    "a_[k]",
    "/usr/lib/a.so",
];

/// The same numbers for the same seed, on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn number(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of any type of whole numbers; 0 below a bound of 0.
    pub(crate) fn below<T: TryFrom<u64> + TryInto<u64>>(&mut self, bound: T) -> T {
        let bound = bound.try_into().ok().expect("a bound is not negative");
        T::try_from(self.number() % bound.max(1)).ok().expect("it is below a bound of this type")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }

    pub(crate) fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn name(&mut self) -> String {
        self.one_of(&NAMES).into()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn names(&mut self, most: usize) -> Vec<String> {
        (0..self.below(most + 1)).map(|_| self.name()).collect()
    }

    fn thread(&mut self) -> Thread {
        let id = |random: &mut Self| random.one_of(&[0, 1, 7, u32::MAX]);
        Thread { pid: id(self), tid: id(self), comm: self.name().into() }
    }

    fn waker(&mut self) -> Waker {
        match self.below(6) {
            0 => Waker::Irq,
            1 => Waker::Softirq(self.name().into()),
            2 => Waker::Preempted,
            3 => Waker::NotWoken,
            4 => Waker::Unknown,
            _ => Waker::Task(self.thread()),
        }
    }

    fn frame(&mut self) -> Frame {
        Frame {
            name: self.maybe(Self::name),
            module: self.maybe(Self::name),
            offset: self.one_of(&[0, 0x12, u64::MAX]),
            kernel: self.below(2) == 0,
            file: self.maybe(Self::name),
            line: self.maybe(|random| random.one_of(&[0, 7, u32::MAX])),
            inlined: self.below(2) == 0,
        }
    }

    fn time(&mut self) -> u64 {
        let most = self.one_of(&[1, 1_000, 1 << 30, 1 << 50]);
        self.number() % most
    }

    /// Of all of the intervals, or of some, or of none.
    fn histogram(&mut self, count: u64) -> Histogram {
        let mut rest = count;
        let mut counts = [0; Histogram::BUCKETS];
        for _ in 0..self.below(5) {
            let some = if self.below(3) == 0 { rest } else { rest / 3 };
            counts[self.below(Histogram::BUCKETS)] += some;
            rest -= some;
        }
        Histogram::new(counts).unwrap()
    }

    fn estimate(&mut self) -> Estimate {
        Estimate { samples: self.time(), count_error: self.time(), off_error_ns: self.time() }
    }

    fn sampling(&mut self) -> Sampling {
        let threads = (0..self.below(4))
            .map(|_| ThreadTotal {
                thread: self.thread(),
                count: self.time(),
                blocked_ns: self.time(),
                runqueue_ns: self.time(),
            })
            .collect();
        let mut sampling = Sampling {
            ceiling_ppm: self.number() as u32,
            spent_ppm: self.number() as u32,
            threads,
        };
        sampling.normalize();
        sampling
    }

    fn wait(&mut self, frames: usize) -> Wait {
        let stack =
            |random: &mut Self| (0..random.below(6)).map(|_| random.below(frames) as u32).collect();
        let count = self.time();
        Wait {
            sleeper: self.thread(),
            waker: self.waker(),
            state: self.one_of(&WaitState::ALL),
            count,
            blocked_ns: self.time(),
            runqueue_ns: self.time(),
            max_ns: self.time(),
            histogram: self.histogram(count),
            estimate: self.estimate(),
            sleeper_stack: stack(self),
            waker_stack: stack(self),
        }
    }

    /// A profile of a few waits or none.
    pub(crate) fn profile(&mut self) -> Profile {
        let started = Duration::from_nanos(self.number() >> 2);
        let meta = Meta {
            started: match self.below(8) {
                0 => SystemTime::UNIX_EPOCH - started,
                _ => SystemTime::UNIX_EPOCH + started,
            },
            duration: Duration::from_nanos(self.time()),
            kernel: self.name(),
            probe: self.name(),
            wake_source: None,
            targets: self.names(3),
            sampling: self.maybe(Self::sampling),
        };
        let mut losses = Losses::default();
        Loss::ALL.into_iter().for_each(|loss| losses.add(loss, self.time()));
        let frames: Vec<Frame> = (0..12).map(|_| self.frame()).collect();
        let waits = (0..self.below(12)).map(|_| self.wait(frames.len())).collect();
        let modules: Vec<Module> = (0..12)
            .map(|_| Module {
                name: self.name(),
                path: self.name(),
                build_id: self.maybe(|random| {
                    // Not an empty one: a file has an id, or none.
                    (0..=random.below(20)).map(|_| random.number() as u8).collect()
                }),
            })
            .collect();
        Profile::new(meta, losses, frames, waits).with_modules(modules)
    }
}
