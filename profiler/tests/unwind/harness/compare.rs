//! Comparing recorded stacks with gdb's, frame by frame.

use std::collections::BTreeMap;

use super::gdb::{self, Stack};
use crate::support::profile::{Frame, Profile, Wait, sum};
use crate::support::speed::is_slow;

/// Stacks that are compared by gdb's.
pub(crate) type Stacks = BTreeMap<u32, Stack>;

/// How often gdb looks, where each thread is to be found asleep.
pub(crate) const LOOKS: usize = 5;

/// Threads of which both have told the same.
#[derive(Debug)]
pub(crate) struct Compared(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    comm: String,
    functions: Vec<String>,
    frames: usize,
}

/// How many of the recorded waits that stand where gdb found the thread have the stack that gdb found, at least.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// The thread gets to this system call in one way.
    All,
    /// It gets there in other ways too.
    Half,
    /// It gets there in many ways.
    Any,
}

/// The stacks of all threads of a process where they [are asleep](asleep).
pub(crate) fn stacks_asleep(profile: &Profile, pid: u32) -> Stacks {
    asleep(profile, gdb::looks(pid, LOOKS))
}

/// The stack of each thread from a look in which gdb found it where it has been recorded, if there is one: where gdb
/// is slow, it may stop threads that were just woken.
pub(crate) fn asleep(profile: &Profile, looks: Vec<Stacks>) -> Stacks {
    let is_asleep =
        |tid: u32, stack: &Stack| waits(profile, tid).any(|wait| starts_as(wait, stack));
    let mut found = Stacks::new();
    for (tid, stack) in looks.into_iter().flatten() {
        if found.get(&tid).is_none_or(|before| !is_asleep(tid, before)) {
            found.insert(tid, stack);
        }
    }
    found
}

/// Asserts that the threads of a profile wait where gdb finds them, and that their stacks are complete.
pub(crate) fn compare(profile: &Profile, stacks: &Stacks) -> Compared {
    let compared = compare_share(profile, stacks, Share::All);
    assert_complete(profile, stacks);
    compared
}

/// As [`compare`], but for the completeness of the stacks.
pub(crate) fn compare_share(profile: &Profile, stacks: &Stacks, share: Share) -> Compared {
    let threads = stacks.iter().filter_map(|(&tid, stack)| {
        let here: Vec<&Wait> = waits(profile, tid).filter(|wait| starts_as(wait, stack)).collect();
        let count = sum(here.iter().copied(), |wait| wait.count);
        if count == 0 {
            return None;
        }
        let (good, bad): (Vec<&Wait>, Vec<&Wait>) =
            here.into_iter().partition(|wait| mismatch(wait, stack).is_none());
        let matching = sum(good, |wait| wait.count);
        let enough = match share {
            Share::All => matching == count,
            Share::Half => matching * 2 >= count,
            Share::Any => matching > 0,
        };
        let why = bad.first().and_then(|wait| mismatch(wait, stack)).unwrap_or_default();
        assert!(
            enough,
            "{} ({tid}): {matching} of {count} stacks are gdb's; {why}\n{}",
            stack.comm,
            side_by_side(bad[0], stack)
        );
        let functions = stack.frames.iter().filter_map(|frame| frame.name.clone()).collect();
        Some(Thread { comm: stack.comm.clone(), functions, frames: stack.frames.len() })
    });
    Compared(threads.collect())
}

impl Compared {
    /// Whether a thread of this name was compared, and was in these functions, among others: innermost first.
    pub(crate) fn has(&self, comm: &str, functions: &[&str]) -> bool {
        self.0.iter().filter(|thread| thread.comm == comm).any(|thread| {
            let mut names = thread.functions.iter();
            functions.iter().all(|function| names.any(|name| base_name(name) == *function))
        })
    }

    /// Asserts [`Self::has`].
    pub(crate) fn assert_in(&self, comm: &str, functions: &[&str]) -> &Self {
        assert!(self.has(comm, functions), "no {comm} in {functions:?}: {self:#?}");
        self
    }

    /// Asserts that a thread of this name was compared, and had this many frames at least.
    pub(crate) fn assert_deep(&self, comm: &str, frames: usize) -> &Self {
        let found = self.0.iter().any(|thread| thread.comm == comm && thread.frames >= frames);
        assert!(found, "no {comm} with {frames} frames: {self:#?}");
        self
    }

    /// How many threads were compared.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Asserts that 99.9 % of the waits of all threads that gdb has seen reach the outermost frame that it has seen,
/// and that none is taken for broken.
pub(crate) fn assert_complete(profile: &Profile, stacks: &Stacks) {
    assert_complete_but(profile, stacks, 0);
}

/// As [`assert_complete`], of a process that came, or got code, during the recording: as many waits may be
/// incomplete as offwake says that it had to unwind before there were tables, but not more than one in eight.
pub(crate) fn assert_complete_with_tables(profile: &Profile, stacks: &Stacks) {
    let counted = ["unwind_tables_missing", "user_stack_broken"];
    let counted = counted.iter().filter_map(|cause| profile.losses.get(*cause)).sum();
    assert_complete_but(profile, stacks, counted);
}

fn assert_complete_but(profile: &Profile, stacks: &Stacks, excused: u64) {
    let (mut all, mut incomplete) = (0, 0);
    let mut example = None;
    for (&tid, stack) in stacks {
        for wait in waits(profile, tid) {
            all += wait.count;
            if !reaches_outermost(wait, stack) {
                incomplete += wait.count;
                example.get_or_insert_with(|| side_by_side(wait, stack));
            }
        }
    }
    assert!(all > 0, "no waits: {:?}", profile.losses);
    // A walk by tables of what was there before may come to an end that is none; until others are built.
    let misled = if is_slow() { excused / 10 } else { 0 };
    let bar = all / 1000 + excused.min(all / 8) + misled;
    let losses = &profile.losses;
    assert!(
        incomplete <= bar,
        "{incomplete} of {all} stacks are incomplete: {losses:?}\n{}",
        example.unwrap_or_default()
    );
    // The first stacks of wakers that nobody asked for are walked without tables.
    const STRANGERS: u64 = 20;
    let strangers = profile.lost("unwind_tables_missing").min(STRANGERS);
    let broken = profile.lost("user_stack_broken");
    assert!(broken <= bar + strangers, "{broken} of {all} are broken: {losses:?}");
}

/// What was recorded of the threads of this name, beside what gdb has seen.
pub(crate) fn beside(profile: &Profile, stacks: &Stacks, comm: &str) -> String {
    let of_name = stacks.iter().filter(|(_, stack)| stack.comm == comm);
    of_name
        .flat_map(|(&tid, stack)| profile.of(tid).map(|wait| side_by_side(wait, stack)))
        .collect()
}

/// Whether a thread has been recorded in the very stack in which gdb found it.
pub(crate) fn is_recorded(profile: &Profile, tid: u32, stack: &Stack) -> bool {
    waits(profile, tid).any(|wait| starts_as(wait, stack) && mismatch(wait, stack).is_none())
}

/// The waits of a thread that have a user stack: of one that began before the recording, only the kernel's may
/// be known.
fn waits(profile: &Profile, tid: u32) -> impl Iterator<Item = &Wait> {
    profile.of(tid).filter(|wait| user_frames(wait).next().is_some())
}

/// The frames that are in user space and no inlined functions.
pub(crate) fn user_frames(wait: &Wait) -> impl Iterator<Item = &Frame> {
    real_frames(&wait.sleeper_stack)
}

/// As [`user_frames`], of any stack.
pub(crate) fn real_frames(stack: &[Frame]) -> impl Iterator<Item = &Frame> {
    stack.iter().filter(|frame| !frame.kernel && !frame.inlined)
}

/// Whether a frame is that of the function in which programs start. On arm64, glibc before 2.34 tells no size of it, and so
/// no address is known to be in it.
pub(crate) fn is_start(frame: &Frame) -> bool {
    let is_nameless = cfg!(target_arch = "aarch64") && !frame.kernel && frame.name.is_none();
    is_nameless || frame.name.as_deref() == Some("_start")
}

/// Whether a wait stands where gdb found the thread.
fn starts_as(wait: &Wait, stack: &Stack) -> bool {
    let (Some(frame), Some(expected)) = (user_frames(wait).next(), stack.frames.first()) else {
        return false;
    };
    wait.state != "preempted" && is_at(frame, expected)
}

fn reaches_outermost(wait: &Wait, stack: &Stack) -> bool {
    let (Some(frame), Some(expected)) = (user_frames(wait).last(), stack.frames.last()) else {
        return false;
    };
    is_at(frame, expected)
}

/// Whether a recorded frame is gdb's.
pub(crate) fn is_at(frame: &Frame, expected: &gdb::Frame) -> bool {
    let place = &expected.place;
    let is_same_module = match &frame.module {
        // Code without a file: its offset is its address.
        Some(module) if module.starts_with("perf-") => place.module.as_deref() == Some("anon"),
        module => *module == place.module,
    };
    // Of a caller, the call is shown: the byte before the return address.
    let at_call = frame.offset == place.offset.wrapping_sub(1);
    // Nobody called from where the handler of a signal returns to.
    let is_exact = expected.is_exact || expected.is_trampoline;
    is_same_module && if is_exact { frame.offset == place.offset } else { at_call }
}

/// What of a wait's stack is not as gdb's.
fn mismatch(wait: &Wait, stack: &Stack) -> Option<String> {
    let frames: Vec<&Frame> = user_frames(wait).collect();
    let mut rest = stack.frames.iter();
    for (index, frame) in frames.iter().enumerate() {
        let Some(expected) = rest.next().filter(|expected| is_at(frame, expected)) else {
            return Some(format!("frame {index} is not where it is in gdb's"));
        };
        if let (Some(name), Some(told)) = (&frame.name, &expected.name)
            && !is_same_name(name, told)
        {
            return Some(format!("frame {index} is {told}, and not {name}"));
        }
    }
    let missing = rest.count();
    (missing > 0).then(|| format!("{missing} frames are missing"))
}

/// Whether two spellings are of one function. C libraries have many names for one function, nearly always all but
/// one of them reserved (`__GI_raise`): those are not compared. Nor are closures, which have none (`{closure#1}`).
fn is_same_name(name: &str, told: &str) -> bool {
    let names = [base_name(name), base_name(told)];
    names[0] == names[1]
        || names.iter().any(|name| name.is_empty() || name.starts_with('_'))
        || names.iter().all(|name| ["raise", "gsignal"].contains(&name.as_str()))
}

/// The name of a function without its namespaces, parameters and types, and without what the compiler appends.
fn base_name(name: &str) -> String {
    let mut depth = 0_usize;
    let mut plain = String::new();
    for letter in name.chars() {
        match letter {
            '(' | '<' | '[' | '{' => depth += 1,
            ')' | '>' | ']' | '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let plain = plain.trim_end_matches([':', ' ']).trim_end_matches(" const");
    let last = plain.rsplit([':', ' ']).next().unwrap_or(plain);
    last.split('.').next().unwrap_or(last).to_owned()
}

fn side_by_side(wait: &Wait, stack: &Stack) -> String {
    let seen: Vec<String> = user_frames(wait)
        .map(|frame| {
            let (name, module) = (frame.name.as_deref(), frame.module.as_deref());
            format!("{}+{:#x} {}", module.unwrap_or("?"), frame.offset, name.unwrap_or("?"))
        })
        .collect();
    let told = stack.frames.iter().map(|frame| {
        let (name, module) = (frame.name.as_deref(), frame.place.module.as_deref());
        format!("{}+{:#x} {}", module.unwrap_or("?"), frame.place.offset, name.unwrap_or("?"))
    });
    let mut text = format!("{} × {}; gdb ended: {}\n", wait.count, wait.state, stack.end);
    let mut seen = seen.into_iter();
    for told in told {
        text += &format!("{:60} | {told}\n", seen.next().unwrap_or_default());
    }
    for seen in seen {
        text += &format!("{seen:60} |\n");
    }
    text
}
