//! Folded stacks → a profile: ours, those of BCC's offwaketime (`-f`), and of FlameGraph's
//! stackcollapse scripts.
//!
//! ```text
//! sleeper;user root→leaf;kernel root→leaf;--;waker kernel leaf→root;waker user leaf→root;waker 12
//! ```
//!
//! The value is taken for µs off-CPU. What a line does not say is not made up: ids of threads and
//! counts are 0, histograms are empty, a state is `other`, and all time counts as blocked unless the waker is
//! `[preempted]`. A stack without `--` has an unknown waker. Kernel frames are known as such only where
//! a `-` parts them from user frames.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hashbrown::HashMap;
use offwake_shared::WaitState;

use super::{Budget, Loaded};
use crate::profile::{Frame, FrameId, Histogram, Losses, Meta, Profile, Thread, Wait, Waker};

/// The most bytes of a line.
const MAX_LINE: usize = 4 << 20;

/// What stands for the empty name of a thread.
const UNNAMED: &str = "[unnamed]";

pub(super) fn read(name: &str, text: &[u8]) -> Result<Loaded> {
    let mut reader = Reader::default();
    let mut waits = Vec::new();
    let mut budget = Budget::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        // inferno and flamegraph.pl leave these out, too.
        if line.is_empty() || line.starts_with(b"# ") {
            continue;
        }
        let wait = reader.line(line, &mut budget);
        waits.push(wait.with_context(|| format!("line {}", index + 1))?);
    }
    ensure!(!waits.is_empty(), "there is no stack in it");
    let meta = Meta {
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        kernel: "unknown".into(),
        probe: "unknown".into(),
        targets: vec![format!("{name} (folded stacks)")],
    };
    let profile = Profile::new(meta, Losses::default(), reader.frames, waits);
    let note = "folded stacks: their values are taken for µs off-CPU; counts, thread ids, losses and \
                the length of the recording are not known";
    Ok(Loaded { profile, notes: vec![note.into()] })
}

#[derive(Default)]
struct Reader {
    frames: Vec<Frame>,
    user_ids: HashMap<String, FrameId>,
    kernel_ids: HashMap<String, FrameId>,
}

impl Reader {
    fn line(&mut self, line: &[u8], budget: &mut Budget) -> Result<Wait> {
        ensure!(line.len() <= MAX_LINE, "more than {} MiB", MAX_LINE >> 20);
        let line = String::from_utf8_lossy(line);
        let (stack, value) = line.rsplit_once(' ').context("no value at its end")?;
        let ns = nanoseconds(value).with_context(|| format!("{value:?} is no number of µs"))?;
        let mut frames = stack.trim_end().split(';');
        let sleeper = read_thread(frames.next().unwrap_or_default());
        let frames: Vec<&str> = frames.collect();
        let delimiter = frames.iter().position(|frame| *frame == "--");
        let (sleeper_half, waker_half) = frames.split_at(delimiter.unwrap_or(frames.len()));
        let (waker, waker_half) = match waker_half {
            // Without `--`.
            [] => (Waker::Unknown, waker_half),
            // `--` comes last.
            [_] => (Waker::Unknown, &[][..]),
            [_, half @ .., waker] => (read_waker(waker), half),
        };
        budget.take_text(&sleeper)?;
        budget.take_text(&waker.label())?;

        // Without a delimiter nothing tells which frames are the kernel's.
        let (user, kernel) = split(sleeper_half).unwrap_or((sleeper_half, &[]));
        let kernel = self.stack(kernel.iter().rev(), true, budget)?;
        let user = self.stack(user.iter().rev(), false, budget)?;
        let sleeper_stack = [kernel, user].concat();
        let (kernel, user) = split(waker_half).unwrap_or((&[], waker_half));
        let kernel = self.stack(kernel.iter(), true, budget)?;
        let user = self.stack(user.iter(), false, budget)?;
        let waker_stack = [kernel, user].concat();

        let is_preempted = waker == Waker::Preempted;
        let (blocked_ns, runqueue_ns) = if is_preempted { (0, ns) } else { (ns, 0) };
        Ok(Wait {
            sleeper: Thread { pid: 0, tid: 0, comm: sleeper },
            waker,
            state: if is_preempted { WaitState::Preempted } else { WaitState::Other },
            count: 0,
            blocked_ns,
            runqueue_ns,
            max_ns: 0,
            histogram: Histogram::default(),
            sleeper_stack,
            waker_stack,
        })
    }

    fn stack<'a>(
        &mut self,
        names: impl Iterator<Item = &'a &'a str>,
        kernel: bool,
        budget: &mut Budget,
    ) -> Result<Vec<FrameId>> {
        names.map(|name| self.frame(name, kernel, budget)).collect()
    }

    fn frame(&mut self, text: &str, kernel: bool, budget: &mut Budget) -> Result<FrameId> {
        budget.take_frame(text.len())?;
        let ids = if kernel { &mut self.kernel_ids } else { &mut self.user_ids };
        if let Some(id) = ids.get(text) {
            return Ok(*id);
        }
        budget.take_text(text)?;
        let id = FrameId::try_from(self.frames.len()).context("too many frames")?;
        ids.insert(text.into(), id);
        self.frames.push(read_frame(text, kernel));
        Ok(id)
    }
}

/// The frames before and behind the `-` between user and kernel.
fn split<'a, 'b>(half: &'a [&'b str]) -> Option<(&'a [&'b str], &'a [&'b str])> {
    let at = half.iter().position(|frame| *frame == "-")?;
    Some((&half[..at], &half[at + 1..]))
}

/// A number of µs, which may have decimals, in ns.
fn nanoseconds(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let decimals: String = decimals.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(decimals.parse().ok()?)
}

fn read_frame(text: &str, kernel: bool) -> Frame {
    let label = unescape(text);
    let frame = Frame {
        name: None,
        module: None,
        offset: 0,
        kernel,
        file: None,
        line: None,
        inlined: false,
    };
    let unnamed = || {
        let (module, offset) = label.strip_prefix('[')?.strip_suffix(']')?.rsplit_once("+0x")?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some(Frame { module: Some(module.into()), offset, ..frame.clone() })
    };
    match unnamed() {
        Some(unnamed) if unnamed.label() == label => unnamed,
        _ if label == frame.label() => frame,
        _ => Frame { name: Some(label), ..frame },
    }
}

fn read_waker(text: &str) -> Waker {
    let known = [Waker::Irq, Waker::Preempted, Waker::NotWoken, Waker::Unknown];
    if let Some(waker) = known.into_iter().find(|waker| waker.label() == text) {
        return waker;
    }
    match text.strip_prefix("[softirq:").and_then(|rest| rest.strip_suffix(']')) {
        Some(name) => Waker::Softirq(unescape(name)),
        None => Waker::Task(Thread { pid: 0, tid: 0, comm: read_thread(text) }),
    }
}

fn read_thread(text: &str) -> String {
    if text == UNNAMED { String::new() } else { unescape(text) }
}

/// The name of which `text` is the escaped form: `\` with `x` and two hexadecimal digits, or with
/// `u` and more of them in braces. Anything else is as others write it, and stays.
fn unescape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        name.push_str(before);
        let digits = match escape.as_bytes().first() {
            Some(b'x') => escape.get(1..3).map(|digits| (digits, 3)),
            Some(b'u') => escape[1..]
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .map(|(digits, _)| (digits, digits.len() + 3)),
            _ => None,
        };
        let character = digits.and_then(|(digits, length)| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = u32::from_str_radix(digits, 16).ok().filter(|_| plain)?;
            Some((char::from_u32(code)?, length))
        });
        if let Some((character, length)) = character {
            name.push(character);
            rest = &escape[length..];
        } else {
            name.push('\\');
            rest = escape;
        }
    }
    name + rest
}
