//! How much a file can make us use. Nobody vouches for these files: a few bytes of one can stand for
//! gigabytes.
//!
//! All that is kept of a file while it is read comes out of one budget of memory, the file itself too:
//! what a value takes in the tables that it is put into, including what these need to be sorted.

use anyhow::{Result, ensure};

use crate::profile::{Frame, Profile, Stack, Wait, Waker};

/// The most memory that reading one file takes, in bytes.
const MAX_MEMORY: u64 = 408 << 20;

/// The most bytes of all stacks of a profile, had each frame its name.
const MAX_STACKS: u64 = 4 << 30;

/// What a frame of a stack takes beside its name, in bytes.
const FRAME: u64 = 8;

/// What an allocation takes beside what it is for, about, in bytes.
const ALLOCATION: usize = 16;

/// What a wait takes in the tables that find equal ones, which may be half empty, and sort them.
const WAIT_TABLES: usize = 40;

/// What a frame takes in the tables that sort and number frames.
const FRAME_TABLES: usize = 16;

/// What a text of this many bytes takes if it is short: nothing of its own.
const SHORT: usize = 23;

/// The most that all times of a profile may add up to, in ns, and all counts: so no sum overflows.
const MAX_SUM: u64 = 1 << 62;

/// What a profile that is being read may still take.
#[derive(Debug)]
pub(crate) struct Budget {
    memory: u64,
    stacks: u64,
}

impl Budget {
    /// For one profile.
    pub(crate) const fn new() -> Self {
        Self { memory: MAX_MEMORY, stacks: MAX_STACKS }
    }

    /// How many bytes of memory are left.
    pub(super) const fn left(&self) -> u64 {
        self.memory
    }

    /// For so many bytes of memory.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        self.expect(bytes)?;
        self.memory -= bytes as u64;
        Ok(())
    }

    /// Makes sure that so many bytes are left, for a moment.
    pub(crate) fn expect(&self, bytes: usize) -> Result<()> {
        let enough = bytes as u64 <= self.memory;
        ensure!(enough, "reading it takes more than {} MiB of memory", MAX_MEMORY >> 20);
        Ok(())
    }

    /// So many bytes of memory were freed.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.memory = MAX_MEMORY.min(self.memory + bytes as u64);
    }

    /// For one more entry of this kind in a hash table with so many, and room for so many: when it is full,
    /// it is copied to one twice as large.
    pub(crate) fn take_entry<T>(&mut self, length: usize, capacity: usize) -> Result<()> {
        if length < capacity {
            return Ok(());
        }
        // Of 8 places 7 are used, and each has a byte of its own.
        let bytes = |entries: usize| entries * (size_of::<T>() + 1) / 7 * 8;
        self.take(bytes(2 * capacity.max(3)))?;
        self.give_back(bytes(capacity));
        Ok(())
    }

    /// For so many bytes of memory of their own.
    pub(crate) fn take_allocation(&mut self, bytes: usize) -> Result<()> {
        self.take(bytes + ALLOCATION)
    }

    /// For a text that is kept.
    pub(crate) fn take_text(&mut self, text: &str) -> Result<()> {
        self.take_allocation(text.len())
    }

    /// For a frame that was not known, and its texts.
    pub(crate) fn take_frame(&mut self, frame: &Frame) -> Result<()> {
        let Frame { name, module, file, offset: _, kernel: _, line: _, inlined: _ } = frame;
        for text in [name, module, file].into_iter().flatten() {
            self.take_text(text)?;
        }
        self.take(size_of::<Frame>() + FRAME_TABLES)
    }

    /// For a wait that was not known.
    pub(crate) fn take_wait(&mut self, wait: &Wait) -> Result<()> {
        let waker = match &wait.waker {
            Waker::Task(thread) => thread.comm.len(),
            Waker::Softirq(name) => name.len(),
            Waker::Irq | Waker::Preempted | Waker::NotWoken | Waker::Unknown => 0,
        };
        let long = |length: usize| if length > SHORT { length + ALLOCATION } else { 0 };
        let texts = long(wait.sleeper.comm.len()) + long(waker);
        let stack = |stack: &Stack| {
            if stack.spilled() {
                size_of_val(&stack[..1]) * stack.capacity() + ALLOCATION
            } else {
                0
            }
        };
        let stacks = stack(&wait.sleeper_stack) + stack(&wait.waker_stack);
        let histogram = match wait.histogram.counts() {
            [] => 0,
            counts => size_of_val(counts) + ALLOCATION,
        };
        self.take(size_of::<Wait>() + WAIT_TABLES + texts + stacks + histogram)
    }

    /// For all of a profile.
    pub(super) fn take_profile(&mut self, profile: &Profile) -> Result<()> {
        for frame in &profile.frames {
            self.take_frame(frame)?;
        }
        for wait in &profile.waits {
            self.take_wait(wait)?;
            for &frame in wait.sleeper_stack.iter().chain(&wait.waker_stack) {
                let name = profile.frames.get(frame as usize).and_then(|it| it.name.as_deref());
                self.take_place(name.map_or(0, str::len))?;
            }
        }
        Ok(())
    }

    /// For a place in a stack, of a frame that has a name of this many bytes.
    pub(crate) fn take_place(&mut self, name: usize) -> Result<()> {
        match self.stacks.checked_sub(FRAME + name as u64) {
            Some(rest) => {
                self.stacks = rest;
                Ok(())
            }
            None => anyhow::bail!("its stacks are longer than {} GiB in sum", MAX_STACKS >> 30),
        }
    }
}

/// Makes sure that nothing which is computed of a profile overflows.
///
/// # Errors
/// When its times or counts add up to too much.
pub(crate) fn check_sums(profile: &Profile) -> Result<()> {
    let (mut time, mut count) = (0u64, 0u64);
    for wait in &profile.waits {
        time = time.saturating_add(wait.off_ns());
        count = count.saturating_add(wait.count);
    }
    ensure!(time <= MAX_SUM, "its times add up to more than {MAX_SUM} ns");
    ensure!(count <= MAX_SUM, "its counts add up to more than {MAX_SUM}");
    Ok(())
}
