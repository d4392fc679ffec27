//! From attaching to the last event.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use aya::maps::{MapData, RingBuf};
use offwake_shared::{
    EpollBytes, EpollCall, EpollCounters, EpollFd, EpollHead, EpollKind, EpollReturn, EpollThread,
    EpollWaiter, EpollWake,
};

use super::Config;
use super::callback::{self, Numbers};
use super::load::Programs;
use crate::epoll::{Order, Raw, Registration};
use crate::record::session::monotonic_ns;
use crate::record::targets::Targets;
use crate::record::{self, Filter, preflight};
use crate::snapshot::{self, process, system};

/// How often the ring buffer is emptied.
const TICK: Duration = Duration::from_millis(10);

/// For so long, in ns, an event may be on its way: a program takes the time, and may be interrupted before it takes
/// its place in the ring buffer.
const DELAY: u64 = 20_000_000;

/// Who is told of what happens.
pub trait Observer {
    /// It begins. `start`: now, in ns of `CLOCK_MONOTONIC`; `functions`: those of the callbacks, by number.
    fn begin(&mut self, start: u64, functions: Vec<String>, registrations: Vec<Registration>);

    /// Something happened. In the order of time.
    fn event(&mut self, raw: &Raw);

    /// Everything was told that is there now. Whether to go on.
    fn pause(&mut self) -> ControlFlow<()>;
}

/// What is known at the end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What was sent and what was lost.
    pub counters: EpollCounters,
    /// How often the kernel did not run a program because it was running on that CPU already.
    pub misses: u64,
    /// What went through descriptors that are still open.
    pub bytes: Vec<(EpollFd, EpollBytes)>,
}

/// See [`super::watch`].
pub(super) fn watch(
    config: &Config,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Ended> {
    preflight::require()?;
    let filter = Filter { pids: config.pids.clone(), ..Filter::default() };
    let mut targets = Targets::find(&record::Config { filter, ..record::Config::default() })?;
    let callbacks = callback::find(&config.pids, &config.callbacks)?;
    let functions = callbacks.iter().map(|callback| callback.name().to_owned()).collect();
    let mut numbers = Numbers::new(&callbacks);
    let mut programs = Programs::load(config, callbacks)?;
    let mut events = programs.take_events()?;
    programs.attach()?;
    let start = monotonic_ns();
    let clock = Instant::now();
    add_waiters(config, &mut programs)?;
    let registrations = config.pids.iter().flat_map(|&pid| snapshot::epoll::registrations(pid));
    observer.begin(start, functions, registrations.collect());
    programs.tell_open_files()?;

    let mut order = Order::default();
    loop {
        let now = monotonic_ns();
        read(&mut events, &mut numbers, &mut order);
        tell(&mut order, now.saturating_sub(DELAY), observer);
        let left =
            config.duration.map_or(TICK, |duration| duration.saturating_sub(clock.elapsed()));
        let is_over = left.is_zero() || stop.load(Ordering::Relaxed) || targets.have_ended();
        if observer.pause().is_break() || is_over {
            break;
        }
        targets.wait(left.min(TICK).as_micros().div_ceil(1000) as u64);
    }
    programs.detach();
    read(&mut events, &mut numbers, &mut order);
    tell(&mut order, u64::MAX, observer);
    let _ = observer.pause();
    Ok(Ended {
        counters: programs.counters()?,
        misses: programs.misses(),
        bytes: programs.bytes()?,
    })
}

/// Threads that wait already. In a pid namespace their ids are not those that BPF knows: there the first wait of each
/// is not seen.
fn add_waiters(config: &Config, programs: &mut Programs) -> Result<()> {
    if system::pid_namespace()? != 0 {
        return Ok(());
    }
    for &pid in &config.pids {
        for tid in process::threads(pid).unwrap_or_default() {
            let Some(wait) = snapshot::epoll::wait_of(tid) else { continue };
            let comm = process::comm_bytes(tid).unwrap_or_default();
            let thread = EpollThread { tgid: pid, tid, comm };
            let waiter = EpollWaiter {
                thread,
                events: wait.events,
                epfd: wait.epfd,
                ..EpollWaiter::default()
            };
            programs.add_waiter(tid, waiter)?;
            // It may have returned before it was known, and then nobody would see it return.
            if snapshot::epoll::wait_of(tid) != Some(wait) {
                programs.remove_waiter(tid)?;
            }
        }
    }
    Ok(())
}

fn tell(order: &mut Order, until: u64, observer: &mut dyn Observer) {
    while let Some(raw) = order.pop_until(until) {
        observer.event(&raw);
    }
}

fn read(events: &mut RingBuf<MapData>, numbers: &mut Numbers, order: &mut Order) {
    while let Some(item) = events.next() {
        let Some(mut raw) = parse(&item) else { continue };
        if let Raw::Call(call) = &mut raw
            && call.head.kind == EpollKind::Callback as u32
        {
            let number = numbers.of(call.head.thread.tgid, call.result as u64);
            call.result = number.map_or(-1, |number| number as i64);
        }
        order.push(raw);
    }
}

fn parse(bytes: &[u8]) -> Option<Raw> {
    let head: EpollHead = plain(bytes)?;
    let is = |kinds: &[EpollKind]| kinds.iter().any(|&kind| head.kind == kind as u32);
    // SAFETY (of `plain`): all of these are plain data.
    Some(if is(&[EpollKind::Wake]) {
        Raw::Wake(plain::<EpollWake>(bytes)?)
    } else if is(&[EpollKind::Return, EpollKind::Empty]) {
        Raw::Return(plain::<EpollReturn>(bytes)?)
    } else {
        Raw::Call(plain::<EpollCall>(bytes)?)
    })
}

/// A value of an ABI type at the beginning of the bytes.
fn plain<T: Copy>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are as many bytes, and ABI types are valid whatever they hold.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
