//! The result: waits with symbolized stacks. Pure values, the same whether recorded just now or
//! read back from a file.

mod histogram;
mod sampling;
mod wait_set;

use std::collections::HashSet;
use std::hash::Hash;

use offwake_shared::{Loss, TaskId, WaitState};
use smallvec::SmallVec;
use smol_str::SmolStr;

pub use crate::recording::Meta;
pub use histogram::Histogram;
pub use sampling::{Estimate, Sampling, ThreadTotal};
pub(crate) use wait_set::WaitSet;

/// A symbolized recording: what every renderer takes.
///
/// `waits` is in canonical order (see [`Profile::new`]) and all indexes are valid, so equal
/// recordings give equal profiles and equal output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What was recorded.
    pub meta: Meta,
    /// What is missing.
    pub losses: Losses,
    /// Every distinct frame, once; stacks name them by index.
    pub frames: Vec<Frame>,
    /// Every distinct wait, once, longest first.
    pub waits: Vec<Wait>,
    /// The files that user frames name as their module: what tells one build from another. In order
    /// of name, each once.
    pub modules: Vec<Module>,
}

impl Profile {
    /// Makes a profile in canonical order, whatever the order of the arguments.
    ///
    /// Waits that differ in their sums only become one. They are sorted by off-CPU time, longest
    /// first, and among equals by all they are made of. Frames are numbered in the order of their
    /// first use; equal ones become one, unused ones go.
    ///
    /// # Panics
    /// When a stack names a frame that `frames` does not have.
    pub fn new(meta: Meta, losses: Losses, frames: Vec<Frame>, waits: Vec<Wait>) -> Self {
        Self::of_set(meta, losses, frames, waits.into())
    }

    /// The same, of waits that were told apart already.
    pub(crate) fn of_set(
        meta: Meta,
        losses: Losses,
        mut frames: Vec<Frame>,
        waits: WaitSet,
    ) -> Self {
        let given = frames.len();
        // With frames sorted by content, comparing ranks is comparing contents.
        let ranks = rank(&mut frames);
        let mut waits = waits.into_waits();
        for id in waits.iter_mut().flat_map(Wait::frame_ids_mut) {
            *id = ranks[*id as usize];
        }
        // Waits that differ in frames that are equal are the same.
        if frames.len() < given {
            waits = WaitSet::from(waits).into_waits();
        }
        wait_set::sort(&mut waits);

        let mut numbers: Vec<Option<FrameId>> = vec![None; frames.len()];
        let mut used = Vec::new();
        for id in waits.iter_mut().flat_map(Wait::frame_ids_mut) {
            let rank = *id;
            *id = *numbers[rank as usize].get_or_insert_with(|| {
                used.push(rank);
                (used.len() - 1) as FrameId
            });
        }
        let kept = used.len();
        let unused = (0..frames.len() as FrameId).filter(|rank| numbers[*rank as usize].is_none());
        used.extend(unused);
        wait_set::arrange(&mut frames, used);
        frames.truncate(kept);
        Self { meta, losses, frames, waits, modules: Vec::new() }
    }

    /// The same with these modules: those that a user frame names, in canonical order.
    pub fn with_modules(mut self, modules: impl IntoIterator<Item = Module>) -> Self {
        let named: HashSet<&str> = self
            .frames
            .iter()
            .filter(|frame| !frame.kernel)
            .filter_map(|frame| frame.module.as_deref())
            .collect();
        let mut modules: Vec<Module> =
            modules.into_iter().filter(|module| named.contains(module.name.as_str())).collect();
        modules.sort_unstable();
        modules.dedup();
        self.modules = modules;
        self
    }

    /// The same waits, with frames told apart by what is shown of them only: the function, with
    /// `lines` the file and the line, with `inlined` whether it was inlined. Waits that differ in
    /// nothing else become one.
    pub fn by_name(&self, lines: bool, inlined: bool) -> Self {
        let frames = self.frames.iter().map(|frame| {
            let frame = frame.clone();
            let Frame { name, module, offset, kernel, file, line, inlined: is_inlined } = frame;
            let offset = if name.is_some() { 0 } else { offset };
            let (file, line) = if lines { (file, line) } else { (None, None) };
            Frame { name, module, offset, kernel, file, line, inlined: inlined && is_inlined }
        });
        Self::new(self.meta.clone(), self.losses, frames.collect(), self.waits.clone())
            .with_modules(self.modules.clone())
    }
}

impl Profile {
    /// The sum of something over all waits.
    pub fn sum(&self, of: fn(&Wait) -> u64) -> u64 {
        sum(self.waits.iter().map(of))
    }

    /// Of how many waits the source is known, and of how many there is one.
    pub fn sources(&self) -> (u64, u64) {
        let woken = self.waits.iter().filter(|wait| wait.is_woken());
        woken.fold((0, 0), |(named, all), wait| {
            let has_source = wait.source(&self.frames).is_some();
            (named + if has_source { wait.count } else { 0 }, all + wait.count)
        })
    }
}

/// Puts the frames in order of content, equal ones once, and returns the place of each. There is no room
/// for all of them twice.
fn rank(frames: &mut Vec<Frame>) -> Vec<FrameId> {
    let mut order: Vec<FrameId> = (0..frames.len() as FrameId).collect();
    order.sort_unstable_by(|a, b| frames[*a as usize].cmp(&frames[*b as usize]));
    let mut ranks = vec![0; frames.len()];
    let mut rank = 0;
    for (index, id) in order.iter().enumerate() {
        if index > 0 && frames[*id as usize] != frames[order[index - 1] as usize] {
            rank += 1;
        }
        ranks[*id as usize] = rank;
    }
    wait_set::arrange(frames, order);
    frames.dedup();
    ranks
}

/// In place of a module in the frame that tells what a thread waited for: no module of the kernel has such a
/// name.
pub const SOURCE_MODULE: &str = "[wake source]";

/// A program or library that frames are in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Module {
    /// The file name, as in [`Frame::module`]. Two modules may share one: then nothing tells which
    /// of them a frame is in.
    pub name: String,
    /// The path, as the process saw it. Invalid UTF-8 was replaced.
    pub path: String,
    /// The GNU build id, where the file has one.
    pub build_id: Option<Vec<u8>>,
}

/// An index into [`Profile::frames`].
pub type FrameId = u32;

/// Frames, innermost first. A profile may have millions of short ones: those take no memory of their
/// own.
pub type Stack = SmallVec<[FrameId; 4]>;

/// All intervals with one sleeper, waker, state, and pair of stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Who waited.
    pub sleeper: Thread,
    /// Who ended the wait.
    pub waker: Waker,
    /// In which state.
    pub state: WaitState,
    /// How often.
    pub count: u64,
    /// From switch-out to wake-up, in ns.
    pub blocked_ns: u64,
    /// From wake-up (or from an involuntary switch-out) to switch-in, in ns.
    pub runqueue_ns: u64,
    /// The longest interval from switch-out to switch-in, in ns.
    pub max_ns: u64,
    /// How long the intervals were, from switch-out to switch-in.
    pub histogram: Histogram,
    /// Where the intervals were sampled, how exact the sums are.
    pub estimate: Estimate,
    /// Where the sleeper waited, innermost first: kernel frames, then user frames.
    pub sleeper_stack: Stack,
    /// Where the waker was, innermost first: kernel frames, then user frames.
    pub waker_stack: Stack,
}

impl Wait {
    /// Everything but the sums.
    fn identity(&self) -> impl Ord + Hash + '_ {
        let Self {
            sleeper,
            waker,
            state,
            count: _,
            blocked_ns: _,
            runqueue_ns: _,
            max_ns: _,
            histogram: _,
            estimate: _,
            sleeper_stack,
            waker_stack,
        } = self;
        (sleeper, waker, state, sleeper_stack, waker_stack)
    }

    /// Adds the intervals of `other`, which has the same identity.
    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.runqueue_ns = self.runqueue_ns.saturating_add(other.runqueue_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.histogram.add(&other.histogram);
        self.estimate.add(&other.estimate);
    }

    fn frame_ids_mut(&mut self) -> impl Iterator<Item = &mut FrameId> {
        self.sleeper_stack.iter_mut().chain(&mut self.waker_stack)
    }

    /// What the sleeper waited for, such as `[tcp :15006 LISTEN]`: the innermost frame of the waker's side. `frames`:
    /// those of the profile.
    pub fn source<'a>(&self, frames: &'a [Frame]) -> Option<&'a str> {
        let frame = &frames[*self.waker_stack.first()? as usize];
        let is_source = frame.kernel && frame.module.as_deref() == Some(SOURCE_MODULE);
        frame.name.as_deref().filter(|_| is_source)
    }

    /// Whether a wake-up ended it, so that it has a source, even if nobody knows it.
    pub const fn is_woken(&self) -> bool {
        !matches!(self.waker, Waker::Preempted | Waker::NotWoken)
    }

    /// Blocked and run-queue time together, in ns.
    pub const fn off_ns(&self) -> u64 {
        self.blocked_ns.saturating_add(self.runqueue_ns)
    }
}

/// A thread and its name. The name is whatever bytes the thread chose: not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thread {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Its name when it waited or woke. Invalid UTF-8 was replaced; nothing else is changed.
    pub comm: SmolStr,
}

impl Thread {
    /// A thread, as the programs know it.
    pub(crate) fn of(task: &TaskId) -> Self {
        let TaskId { tgid, tid, exec_id: _, flags: _, comm } = task;
        let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
        Self { pid: *tgid, tid: *tid, comm: String::from_utf8_lossy(&comm[..end]).into() }
    }
}

/// Who ended a wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waker {
    /// A thread, on its own behalf.
    Task(Thread),
    /// A hardware interrupt: a timer, a device.
    Irq,
    /// A softirq on the tail of an interrupt, by its kernel name, such as `NET_RX`.
    Softirq(SmolStr),
    /// Nobody: the thread was switched out while it was runnable.
    Preempted,
    /// Nobody yet: the wait went on when the recording ended.
    NotWoken,
    /// A wake-up that was not seen.
    Unknown,
}

impl Waker {
    /// The kind, as in JSON: `task`, `irq`, `softirq`, `preempted`, `not_woken`, `unknown`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Irq => "irq",
            Self::Softirq(_) => "softirq",
            Self::Preempted => "preempted",
            Self::NotWoken => "not_woken",
            Self::Unknown => "unknown",
        }
    }

    /// What stands for the waker in graphs and folded stacks: the name of the thread, or
    /// `[irq]`, `[softirq:NET_RX]`, `[preempted]`, `[not woken]`, `[unknown waker]`.
    pub fn label(&self) -> String {
        match self {
            Self::Task(thread) => thread.comm.to_string(),
            Self::Irq => "[irq]".into(),
            Self::Softirq(name) => format!("[softirq:{name}]"),
            Self::Preempted => "[preempted]".into(),
            Self::NotWoken => "[not woken]".into(),
            Self::Unknown => "[unknown waker]".into(),
        }
    }
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// The demangled name of the function, where it is known for certain.
    pub name: Option<String>,
    /// The file name of the program, library or kernel module; `vdso`, `anon` or `perf-PID.map`
    /// for code without a file, `kernel` for kernel code without a name. `None` for functions of
    /// the kernel proper, and where nothing was mapped at the address.
    pub module: Option<String>,
    /// In a program: the address as the ELF file counts it, what `addr2line` takes: of a return
    /// address the byte before, which is part of the call (for code without a file: the absolute
    /// address). In the kernel: bytes from the function's start to the return address, as in
    /// `schedule+0x21` (without a name: the absolute address).
    pub offset: u64,
    /// In the kernel.
    pub kernel: bool,
    /// The source file, where debug information has it and it was asked for.
    pub file: Option<String>,
    /// The line in it: of a caller, that of the call.
    pub line: Option<u32>,
    /// A function that was inlined into the next outer frame.
    pub inlined: bool,
}

impl Frame {
    /// The frame's name; without one `[module+0xoffset]`, and `[unknown]` without a module.
    pub fn label(&self) -> String {
        match (&self.name, &self.module) {
            (Some(name), _) => name.clone(),
            (None, Some(module)) => format!("[{module}+{:#x}]", self.offset),
            (None, None) => "[unknown]".into(),
        }
    }

    /// Whether a perf map told its name: code that was compiled at run time.
    pub fn is_compiled_at_run_time(&self) -> bool {
        let in_perf_map = |module: &String| {
            let pid = module.strip_prefix("perf-").and_then(|rest| rest.strip_suffix(".map"));
            pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        };
        !self.kernel && self.module.as_ref().is_some_and(in_perf_map)
    }
}

/// How much is missing, for each cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses([u64; Loss::COUNT]);

impl Losses {
    /// Adds `count` to a cause.
    pub fn add(&mut self, loss: Loss, count: u64) {
        let sum = &mut self.0[loss as usize];
        *sum = sum.saturating_add(count);
    }

    /// How often a cause was counted.
    pub fn get(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    /// How many intervals are missing as a whole.
    pub fn lost(&self) -> u64 {
        sum(self.iter().filter(|(loss, _)| loss.takes_interval()).map(|(_, count)| count))
    }

    /// What is lost and what is incomplete, with each cause: `lost 0, incomplete 3 (unknown_waker
    /// 3)`. `zeros`: name the causes that did not occur, too.
    pub fn describe(&self, zeros: bool) -> String {
        let group = |title: &str, takes_interval: bool| {
            let losses = || self.iter().filter(|(loss, _)| loss.takes_interval() == takes_interval);
            let sum = sum(losses().map(|(_, count)| count));
            let causes: Vec<String> = losses()
                .filter(|(_, count)| zeros || *count > 0)
                .map(|(loss, count)| format!("{} {count}", loss.name()))
                .collect();
            if causes.is_empty() {
                format!("{title} {sum}")
            } else {
                format!("{title} {sum} ({})", causes.join(", "))
            }
        };
        format!("{}, {}", group("lost", true), group("incomplete", false))
    }

    /// Every cause with its count, zeros too, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> + '_ {
        Loss::ALL.into_iter().map(|loss| (loss, self.get(loss)))
    }
}

/// Files may hold any numbers.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// What a value in a graph or a folded line means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Off-CPU time: blocked and run-queue, in µs.
    #[default]
    Off,
    /// Time until the wake-up, in µs.
    Blocked,
    /// Time from the wake-up until the thread ran, in µs.
    Runqueue,
    /// Number of intervals.
    Count,
}

impl Metric {
    /// Its name on the command line, and in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Blocked => "blocked",
            Self::Runqueue => "runqueue",
            Self::Count => "count",
        }
    }

    /// The metric of one wait: ns, or a number of intervals.
    pub const fn of(self, wait: &Wait) -> u64 {
        match self {
            Self::Off => wait.off_ns(),
            Self::Blocked => wait.blocked_ns,
            Self::Runqueue => wait.runqueue_ns,
            Self::Count => wait.count,
        }
    }
}
