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

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use offwake_shared::WaitState;
use smol_str::SmolStr;

use super::{Budget, Loaded};
use crate::profile::{
    Estimate, Frame, FrameId, Histogram, Losses, Meta, Profile, Stack, Thread, Wait, WaitSet, Waker,
};

/// The most bytes of a line.
const MAX_LINE: usize = 4 << 20;

/// What stands for the empty name of a thread.
const UNNAMED: &[u8] = b"[unnamed]";

pub(super) fn read(name: &str, text: &[u8], budget: &mut Budget) -> Result<Loaded> {
    let mut reader = Reader::default();
    let mut waits = WaitSet::default();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        // inferno and flamegraph.pl leave these out, too.
        if line.is_empty() || line.starts_with(b"# ") {
            continue;
        }
        let mut add = || {
            let wait = reader.line(line, budget)?;
            match waits.insert(wait) {
                Some(new) => budget.take_wait(new),
                None => Ok(()),
            }
        };
        add().with_context(|| format!("line {}", index + 1))?;
    }
    ensure!(!waits.is_empty(), "there is no stack in it");
    let meta = Meta {
        started: SystemTime::UNIX_EPOCH,
        duration: Duration::ZERO,
        kernel: "unknown".into(),
        probe: "unknown".into(),
        wake_source: None,
        targets: vec![format!("{name} (folded stacks)")],
        sampling: None,
    };
    let profile = Profile::of_set(meta, Losses::default(), reader.frames, waits);
    let note = "folded stacks: their values are taken for µs off-CPU; counts, thread ids, losses and \
                the length of the recording are not known";
    Ok(Loaded { profile, notes: vec![note.into()] })
}

/// What is between two `;` of a line.
type Field<'a> = &'a [u8];

/// A frame is looked up as the bytes that the file has for it: only what is new is decoded.
#[derive(Default)]
struct Reader<'a> {
    frames: Vec<Frame>,
    user_ids: HashMap<Field<'a>, FrameId>,
    kernel_ids: HashMap<Field<'a>, FrameId>,
    /// Of the line, used again for the next.
    fields: Vec<Field<'a>>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a [u8], budget: &mut Budget) -> Result<Wait> {
        ensure!(line.len() <= MAX_LINE, "more than {} MiB", MAX_LINE >> 20);
        let space = memchr::memrchr(b' ', line).context("no value at its end")?;
        let (stack, value) = (line[..space].trim_ascii_end(), &line[space + 1..]);
        let ns = nanoseconds(value)
            .with_context(|| format!("{:?} is no number of µs", String::from_utf8_lossy(value)))?;
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        budget.expect(size_of::<Field<'_>>() * stack.len())?;
        fields.extend(stack.split(|&byte| byte == b';'));
        let wait = self.wait(&fields, ns, budget);
        self.fields = fields;
        wait
    }

    fn wait(&mut self, fields: &[Field<'a>], ns: u64, budget: &mut Budget) -> Result<Wait> {
        let (sleeper, frames) = fields.split_first().context("no stack")?;
        let sleeper = read_thread(sleeper);
        let delimiter = frames.iter().position(|frame| *frame == b"--");
        let (sleeper_half, waker_half) = frames.split_at(delimiter.unwrap_or(frames.len()));
        let (waker, waker_half) = match waker_half {
            // Without `--`.
            [] => (Waker::Unknown, waker_half),
            // `--` comes last.
            [_] => (Waker::Unknown, &[][..]),
            [_, half @ .., waker] => (read_waker(waker), half),
        };

        // Without a delimiter nothing tells which frames are the kernel's.
        let (user, kernel) = split(sleeper_half).unwrap_or((sleeper_half, &[]));
        let mut sleeper_stack = Stack::with_capacity(user.len() + kernel.len());
        self.push(&mut sleeper_stack, kernel.iter().rev(), true, budget)?;
        self.push(&mut sleeper_stack, user.iter().rev(), false, budget)?;
        let (kernel, user) = split(waker_half).unwrap_or((&[], waker_half));
        let mut waker_stack = Stack::with_capacity(user.len() + kernel.len());
        self.push(&mut waker_stack, kernel.iter(), true, budget)?;
        self.push(&mut waker_stack, user.iter(), false, budget)?;

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
            estimate: Estimate::default(),
            sleeper_stack,
            waker_stack,
        })
    }

    fn push<'b>(
        &mut self,
        stack: &mut Stack,
        names: impl Iterator<Item = &'b Field<'a>>,
        kernel: bool,
        budget: &mut Budget,
    ) -> Result<()>
    where
        'a: 'b,
    {
        for name in names {
            stack.push(self.frame(name, kernel, budget)?);
        }
        Ok(())
    }

    fn frame(&mut self, text: Field<'a>, kernel: bool, budget: &mut Budget) -> Result<FrameId> {
        budget.take_place(text.len())?;
        let ids = if kernel { &mut self.kernel_ids } else { &mut self.user_ids };
        let (length, capacity) = (ids.len(), ids.capacity());
        match ids.entry(text) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(place) => {
                let frame = read_frame(&String::from_utf8_lossy(text), kernel);
                budget.take_entry::<(Field<'_>, FrameId)>(length, capacity)?;
                budget.take_frame(&frame)?;
                let id = FrameId::try_from(self.frames.len()).context("too many frames")?;
                place.insert(id);
                self.frames.push(frame);
                Ok(id)
            }
        }
    }
}

/// The frames before and behind the `-` between user and kernel.
fn split<'a, 'b>(half: &'a [Field<'b>]) -> Option<(&'a [Field<'b>], &'a [Field<'b>])> {
    let at = half.iter().position(|frame| *frame == b"-")?;
    Some((&half[..at], &half[at + 1..]))
}

/// A number of µs, which may have decimals, in ns.
fn nanoseconds(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    if whole.is_empty() || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append = |number: u64, byte: &u8| number.checked_mul(10)?.checked_add(digit(byte)?);
    let us = whole.iter().try_fold(0, append)?;
    let ns = decimals.iter().chain(b"000").take(3).try_fold(0, append)?;
    us.checked_mul(1000)?.checked_add(ns)
}

fn read_frame(text: &str, kernel: bool) -> Frame {
    let label = unescape(text);
    let frame = Frame { kernel, ..Frame::default() };
    let unnamed = || {
        let (module, offset) = label.strip_prefix('[')?.strip_suffix(']')?.rsplit_once("+0x")?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some(Frame { module: Some(module.into()), offset, ..frame.clone() })
    };
    match unnamed() {
        Some(unnamed) if unnamed.label() == label => unnamed,
        _ if label == frame.label() => frame,
        _ => Frame { name: Some(label.into_owned()), ..frame },
    }
}

fn read_waker(text: &[u8]) -> Waker {
    // No name of a thread begins like that: it would be escaped.
    if text.first() == Some(&b'[') {
        let known = [Waker::Irq, Waker::Preempted, Waker::NotWoken, Waker::Unknown];
        if let Some(waker) = known.into_iter().find(|waker| waker.label().as_bytes() == text) {
            return waker;
        }
        if let Some(name) = text.strip_prefix(b"[softirq:").and_then(|rest| rest.strip_suffix(b"]"))
        {
            return Waker::Softirq(unescape(&String::from_utf8_lossy(name)).into());
        }
    }
    Waker::Task(Thread { pid: 0, tid: 0, comm: read_thread(text) })
}

fn read_thread(text: &[u8]) -> SmolStr {
    if text == UNNAMED {
        SmolStr::default()
    } else {
        unescape(&String::from_utf8_lossy(text)).into()
    }
}

/// The name of which `text` is the escaped form: `\` with `x` and two hexadecimal digits, or with
/// `u` and more of them in braces. Anything else is as others write it, and stays.
fn unescape(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
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
    Cow::Owned(name + rest)
}
