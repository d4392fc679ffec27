//! For people: a line for each event, and a table at the end. No line of the log has more than [`COLUMNS`]
//! characters.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::event::{Context, EPOLL_BITS, LIBEVENT_BITS, bits, error_name};
use super::{Accepted, Descriptor, Event, Kind, Latency, Returned, Row, Summary, Thread, Woken};
use crate::render::escape;
use crate::render::human::{count, shorten, time};

/// The most characters of a line.
pub const COLUMNS: usize = 120;

/// Characters of a thread in a column: a name of 15, and an id of 7.
const THREAD: usize = 23;

/// Characters of a line before what there is to say.
const BEGIN: usize = 11 + 1 + THREAD + 1 + 6 + 1;

/// The line above the log.
pub fn heading() -> String {
    format!("{:>11} {:<THREAD$} {:<6} {}", "SECONDS", "THREAD/TID", "EVENT", "WHAT")
}

/// A line for an event, without its end. `start`: what counts as 0, in ns of `CLOCK_MONOTONIC`.
pub fn line(event: &Event, start: u64) -> String {
    let seconds = event.time.saturating_sub(start) as f64 / 1e9;
    let (name, forms) = describe(&event.kind);
    let thread = thread(&event.thread);
    let begin = format!("{seconds:>11.6} {thread:<THREAD$} {name:<6} ");
    let room = COLUMNS - begin.chars().count().min(COLUMNS);
    let fits = |form: &&String| form.chars().count() <= room;
    let shortest = || forms.last().cloned().unwrap_or_default();
    let what = forms.iter().find(fits).cloned().unwrap_or_else(shortest);
    shorten(&format!("{begin}{what}"), COLUMNS)
}

/// The name of an event, and forms of what there is to say, the best first, each shorter than the one before.
fn describe(kind: &Kind) -> (&'static str, Vec<String>) {
    match kind {
        Kind::Woken(woken) => ("wake", describe_wake(woken)),
        Kind::Empty(latency) => {
            ("empty", vec![format!("found nothing, sleeps on; {}", describe_latency(*latency))])
        }
        Kind::Returned(returned) => ("return", describe_return(returned)),
        Kind::Accepted(accepted) => ("accept", describe_accept(accepted)),
        Kind::Closed { descriptor, read, written } => {
            let bytes = match (read, written) {
                (0, 0) => String::new(),
                _ => format!("; read {} B, wrote {} B", count(*read), count(*written)),
            };
            let forms = descriptor_forms(descriptor, COLUMNS - BEGIN - bytes.chars().count());
            ("close", forms.map(|form| format!("{form}{bytes}")).into())
        }
        Kind::Callback { function, fd, descriptor, events, argument } => {
            let events = bits(*events, &LIBEVENT_BITS).join("|");
            let function = escape::name(function);
            let known = descriptor.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
            let of = |function: &str, known: &str| {
                format!("fd {fd}{known} {events} arg {argument:#x} {function}")
            };
            ("call", vec![of(&function, &known), of(&shorten(&function, 40), ""), of("", "")])
        }
    }
}

fn describe_wake(woken: &Woken) -> Vec<String> {
    let Woken { waker, context, cpu, epfd: _, source } = woken;
    let waker_name = thread(waker);
    let (by, short) = match context {
        Context::Task => (format!("by {waker_name} cpu {cpu}"), format!("by {waker_name}")),
        Context::TaskSoftirq(name) => (
            format!("by {waker_name} softirq {name} cpu {cpu}"),
            format!("by {waker_name} {name}/{cpu}"),
        ),
        Context::Softirq(name) => {
            (format!("by softirq {name} cpu {cpu}"), format!("by {name}/{cpu}"))
        }
        Context::Irq => (format!("by irq cpu {cpu}"), format!("by irq/{cpu}")),
        Context::Unknown => ("by ?".into(), "by ?".into()),
    };
    let Some(source) = source else {
        return vec![format!("no descriptor: timeout or signal {by}")];
    };
    let mark = if source.is_certain { "" } else { "?" };
    let room = COLUMNS - BEGIN - mark.len() - 1 - short.chars().count();
    let [long, middle, short_form, least] = descriptor_forms(source, room);
    vec![
        format!("{mark}{long} {by}"),
        format!("{mark}{long} {short}"),
        format!("{mark}{middle} {short}"),
        format!("{mark}{short_form} {short}"),
        format!("{mark}{least} {short}"),
    ]
}

fn describe_return(returned: &Returned) -> Vec<String> {
    let Returned { epfd, result, latency, ready } = returned;
    let what = match result {
        0 => "no event: timeout".into(),
        ..0 => error_name(*result),
        1 => "1 event".into(),
        many => format!("{many} events"),
    };
    let long = latency.map_or_else(|| "did not sleep".into(), describe_latency);
    let short = latency.map_or_else(String::new, |latency| time(latency.total));
    let name = |at: usize| {
        let ready = &ready[at];
        let events = bits(ready.events, &EPOLL_BITS).join("|");
        match ready.fd {
            Some(fd) => format!(" fd {fd} {events}"),
            None => format!(" data {:#x} {events}", ready.data),
        }
    };
    let total = usize::try_from(*result).unwrap_or(0);
    let with = |most: usize, latency: &str| {
        let shown = ready.len().min(most);
        let mut text = format!("epoll {epfd}: {what}");
        for at in 0..shown {
            let _ = write!(text, "{}{}", if at == 0 { ":" } else { "," }, name(at));
        }
        if shown < total && shown > 0 {
            let _ = write!(text, ", +{}", total - shown);
        }
        format!("{text}; {latency}")
    };
    let most = ready.len().min(16);
    let fewer = (0..=most).rev().map(|most| with(most, &short));
    std::iter::once(with(most, &long)).chain(fewer).collect()
}

fn describe_accept(accepted: &Accepted) -> Vec<String> {
    let Accepted { listener, result, descriptor } = accepted;
    if *result < 0 {
        let error = error_name(*result);
        let lost = if *result == -libc::EAGAIN { ": nothing to accept" } else { "" };
        return vec![format!("fd {listener} {error}{lost}")];
    }
    let begin = format!("from fd {listener}: ");
    let room = COLUMNS - BEGIN - begin.len();
    let forms = descriptor.as_ref().map(|it| descriptor_forms(it, room));
    let forms = forms.unwrap_or_else(|| std::array::from_fn(|_| format!("fd {result}")));
    forms.map(|form| format!("{begin}{form}")).into()
}

/// A descriptor with its number and its inode; without what can be left out; and in at most so many characters.
fn descriptor_forms(descriptor: &Descriptor, most: usize) -> [String; 4] {
    let Descriptor { fd, inode, socket, .. } = descriptor;
    let inode = if socket.is_some() { format!(" #{inode}") } else { String::new() };
    let (long, short) = (escape::name(&descriptor.describe()), descriptor.describe_shortly());
    let short = escape::name(&short);
    let short = format!("fd {fd} {short}");
    let least = cut_within(&short, most);
    [format!("fd {fd} {long}{inode}"), format!("fd {fd} {long}"), short, least]
}

fn describe_latency(latency: Latency) -> String {
    let Latency { to_running, total } = latency;
    match to_running {
        Some(running) => {
            let rest = total.saturating_sub(running);
            format!("{} = {} run queue + {}", time(total), time(running), time(rest))
        }
        None => format!("{} after the wake-up", time(total)),
    }
}

fn thread(thread: &Thread) -> String {
    let Thread { pid: _, tid, comm } = thread;
    let id = format!("/{tid}");
    let name = match comm.is_empty() {
        true => escape::UNNAMED.into(),
        false => escape::name(comm),
    };
    format!("{}{id}", shorten(&name, THREAD - id.len()))
}

/// At most so many characters, with `…` in the place of those in the middle: what an address ends with, its port
/// and its state, tells more than its beginning.
fn cut_within(text: &str, most: usize) -> String {
    let len = text.chars().count();
    if len <= most {
        return text.into();
    }
    let begin = most / 3;
    let end = len - (most - begin - 1);
    let (first, last) = (text.chars().take(begin), text.chars().skip(end));
    first.chain(['…']).chain(last).collect()
}

/// How many rows of the table are shown.
const ROWS: usize = 40;

/// Characters of the name of a row.
const NAME: usize = 42;

/// The table, and what there is to say of it. `method`: by what the events were found; `lost`: those that were not.
///
/// # Errors
/// When `out` cannot be written.
pub fn summary(
    summary: &Summary,
    method: &str,
    lost: &[(&str, u64)],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{:<NAME$} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "DESCRIPTOR", "READY", "WAKES", "EMPTY", "ACCEPTED", "p50", "p99", "MAX", "BYTES"
    )?;
    let mut rows = summary.rows();
    let is_one =
        rows.iter().map(|row| row.pid).filter(|&pid| pid != 0).collect::<BTreeSet<_>>().len() <= 1;
    // Many descriptors are read and written that epoll has nothing to do with.
    rows.retain(|Row { figures, .. }| figures.ready + figures.wakes + figures.accepted > 0);
    for row in rows.iter().take(ROWS) {
        let Row { name, inode, pid, figures } = row;
        let name = match (inode, pid) {
            (0, 0) => escape::name(name),
            (0, _) if is_one => escape::name(name),
            (0, pid) => format!("{} of {pid}", escape::name(name)),
            (inode, _) => format!("{} #{inode}", escape::name(name)),
        };
        let latency = |part| figures.latency.percentile(part).map_or_else(String::new, time);
        let max = figures.latency.max().map_or_else(String::new, time);
        let line = format!(
            "{:<NAME$} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {max:>9} {:>9}",
            cut_within(&name, NAME),
            count(figures.ready),
            count(figures.wakes),
            count(figures.empty),
            if *inode == 0 { String::new() } else { count(figures.accepted) },
            latency(0.5),
            latency(0.99),
            bytes(figures.read + figures.written),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    if rows.len() > ROWS {
        writeln!(
            out,
            "… and {} rows more: --json has them all",
            count((rows.len() - ROWS) as u64)
        )?;
    }
    for herd in summary.herds() {
        let figures = herd.row.figures;
        let name = format!("{} #{}", escape::name(herd.row.name), herd.row.inode);
        writeln!(
            out,
            "\nthundering herd: {}\n  {} of {} wake-ups of {} threads were for nothing; {} connections, {:.2} \
             wake-ups for each\n  cause: {}",
            cut_within(&name, COLUMNS - 20),
            count(figures.empty),
            count(figures.wakes),
            herd.threads,
            count(figures.accepted),
            herd.per_connection,
            herd.cause.describe(),
        )?;
    }
    let lost: Vec<String> = lost.iter().map(|(name, number)| format!("{name} {number}")).collect();
    writeln!(out, "\nmethod: {method}")?;
    writeln!(out, "{} events; lost: {}", count(summary.events()), lost.join(", "))
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        1..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", count(bytes / 1_000_000)),
    }
}
