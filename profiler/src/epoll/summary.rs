//! Sums for each listener, and for each kind of socket or other descriptor.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::{Accepted, Descriptor, Event, Interest, Kind};

/// As many rows are kept apart: a program may have any number of sockets.
const MAX_ROWS: usize = 4096;

/// As many threads of a row are told apart.
const MAX_THREADS: usize = 1024;

/// What `accept` returns, inside of the kernel, when a signal came first (include/linux/errno.h).
pub(super) const ERESTARTSYS: i32 = 512;

/// A listener has a herd if one of so many wake-ups is for nothing.
const HERD: u64 = 10;

/// What happened, in sums.
///
/// A wake-up is settled when it is known what came of it: a listener's only when its thread waits again, since until
/// then it may accept.
#[derive(Debug, Default)]
pub struct Summary {
    rows: HashMap<Key, Figures>,
    /// The last wake-up of each thread that is not settled yet.
    open: HashMap<u32, Open>,
    /// How many there were.
    events: u64,
}

/// What is summed together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    /// Of a listener; else 0.
    inode: u64,
    /// Whose number of a descriptor is in the name; else 0.
    pid: u32,
}

/// A row of the summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// The listener, or what the sockets have in common.
    pub name: &'a str,
    /// The listener's inode; 0: no listener.
    pub inode: u64,
    /// The process, where the name is one of its descriptors; else 0.
    pub pid: u32,
    /// The sums.
    pub figures: &'a Figures,
}

/// The sums of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Events that `epoll_wait` returned.
    pub ready: u64,
    /// Wake-ups.
    pub wakes: u64,
    /// Wake-ups for nothing: `epoll_wait` slept on or returned no event, or (a listener) there was no connection to
    /// accept any more.
    pub empty: u64,
    /// Of those, the ones that made `accept` fail with `EAGAIN`.
    pub lost_accepts: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
    /// From the wake-up to the return.
    pub latency: Latencies,
    /// The threads that were woken.
    threads: BTreeSet<u32>,
    /// The descriptors of epoll that were waited on, with their processes.
    instances: BTreeSet<(u32, i32)>,
    interest: Option<Interest>,
    reuse_port: bool,
}

/// A distribution of times, each within a sixteenth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// By bucket, which grow by a sixteenth of a power of two.
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// A listener that wakes more threads than it has connections for.
#[derive(Clone, Debug, PartialEq)]
pub struct Herd<'a> {
    /// The listener.
    pub row: Row<'a>,
    /// Wake-ups for each connection.
    pub per_connection: f64,
    /// How many threads were woken.
    pub threads: usize,
    /// Why.
    pub cause: Cause,
}

/// Why a listener wakes several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Several epoll instances wait for one socket, each without `EPOLLEXCLUSIVE`.
    SharedSocket,
    /// The same, with `EPOLLEXCLUSIVE`: which may wake more than one.
    SharedExclusive,
    /// Several epoll instances wait for one socket, which has `SO_REUSEPORT` itself.
    SharedReusePort,
    /// Several threads wait on one epoll instance.
    SharedInstance,
    /// The same, where one of them is woken: others take the connections before it comes to that.
    OtherThreads,
}

#[derive(Debug)]
struct Open {
    key: Key,
    is_listener: bool,
    has_returned: bool,
    /// The thread accepted a connection, or there was one that could not be.
    has_accepted: bool,
    /// Another thread, which was not woken itself, accepted a connection.
    is_claimed: bool,
    /// There was none to accept.
    has_failed: bool,
}

impl Summary {
    /// Adds an event. `find`: what a descriptor of its process stands for.
    pub(super) fn add<'a>(&mut self, event: &Event, find: impl Fn(i32) -> Option<&'a Descriptor>) {
        self.events += 1;
        let (pid, tid) = (event.thread.pid, event.thread.tid);
        match &event.kind {
            Kind::Woken(woken) => {
                // It went to sleep again before this, and nobody saw that.
                self.settle(tid);
                let key = woken.source.as_ref().map_or_else(Key::none, |it| Key::of(pid, it));
                let is_listener = woken.source.as_ref().is_some_and(Descriptor::is_listener);
                let figures = self.row(key.clone());
                figures.wakes += 1;
                if figures.threads.len() < MAX_THREADS {
                    figures.threads.insert(tid);
                    figures.instances.insert((pid, woken.epfd));
                }
                if let Some(source) = &woken.source {
                    figures.interest = source.interest.or(figures.interest);
                    figures.reuse_port |=
                        source.socket.as_ref().is_some_and(|socket| socket.reuse_port);
                }
                let open = Open {
                    key,
                    is_listener,
                    has_returned: false,
                    has_accepted: false,
                    is_claimed: false,
                    has_failed: false,
                };
                self.open.insert(tid, open);
            }
            Kind::Empty(_) => self.settle(tid),
            Kind::Returned(returned) => {
                if let Some(latency) = returned.latency
                    && let Some(open) = self.open.get_mut(&tid)
                    && !open.has_returned
                {
                    open.has_returned = returned.result > 0 || open.key == Key::none();
                    let key = open.key.clone();
                    self.row(key).latency.add(latency.total);
                } else {
                    self.settle(tid);
                }
                for ready in &returned.ready {
                    if let Some(descriptor) = ready.fd.and_then(&find) {
                        self.row(Key::of(pid, descriptor)).ready += 1;
                    }
                }
                if self.open.get(&tid).is_some_and(|open| !open.is_listener) {
                    self.settle(tid);
                }
            }
            Kind::Accepted(accepted) => {
                let listener = find(accepted.listener).map(|it| Key::of(pid, it));
                self.accepted(tid, accepted, listener);
            }
            Kind::Closed { descriptor, read, written } => {
                self.transferred(pid, descriptor, *read, *written);
            }
            Kind::Callback { .. } => {}
        }
    }

    fn accepted(&mut self, tid: u32, accepted: &Accepted, listener: Option<Key>) {
        let is_accepted = accepted.result >= 0;
        let is_of = |open: &&mut Open| listener.as_ref().is_none_or(|key| *key == open.key);
        if let Some(open) = self.open.get_mut(&tid).filter(is_of) {
            match accepted.result {
                result if result == -libc::EAGAIN => open.has_failed = true,
                // A signal came first.
                result if [-libc::EINTR, -ERESTARTSYS].contains(&result) => {}
                // Also where there are too many open files: it was not woken for nothing.
                _ => open.has_accepted = true,
            }
        } else if let Some(key) = &listener
            && is_accepted
        {
            self.claim(key);
        }
        if let Some(listener) = listener
            && is_accepted
        {
            self.row(listener).accepted += 1;
        }
    }

    /// A thread has accepted a connection that was not woken for it: another one was, which does other work.
    fn claim(&mut self, listener: &Key) {
        let is_free = |open: &&mut Open| {
            open.key == *listener && !(open.has_accepted || open.is_claimed || open.has_failed)
        };
        if let Some(open) = self.open.values_mut().find(is_free) {
            open.is_claimed = true;
        } else if let Some(figures) = self.rows.get_mut(listener)
            && figures.empty > figures.lost_accepts
        {
            // It waits again already.
            figures.empty -= 1;
        }
    }

    /// Adds what went through a descriptor.
    pub(super) fn transferred(
        &mut self,
        pid: u32,
        descriptor: &Descriptor,
        read: u64,
        written: u64,
    ) {
        if read == 0 && written == 0 {
            return;
        }
        let figures = self.row(Key::of(pid, descriptor));
        figures.read += read;
        figures.written += written;
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        // What was woken at the very end has not come to anything yet, and that is nobody's fault.
        open.retain(|_, open| open.has_returned);
        let tids: Vec<u32> = open.keys().copied().collect();
        self.open = open;
        for tid in tids {
            self.settle(tid);
        }
    }

    /// Decides what became of the last wake-up of a thread.
    fn settle(&mut self, tid: u32) {
        let Some(open) = self.open.remove(&tid) else { return };
        let found = match open.is_listener {
            true => open.has_accepted || open.has_returned && open.is_claimed && !open.has_failed,
            false => open.has_returned,
        };
        if found || open.key == Key::none() {
            return;
        }
        let figures = self.row(open.key);
        figures.empty += 1;
        figures.lost_accepts += u64::from(open.has_failed);
    }

    fn row(&mut self, key: Key) -> &mut Figures {
        let key = match self.rows.len() < MAX_ROWS || self.rows.contains_key(&key) {
            true => key,
            false => Key::shared("(others)".into()),
        };
        self.rows.entry(key).or_default()
    }

    /// All rows: listeners first, then those with most wake-ups.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = self
            .rows
            .iter()
            .map(|(key, figures)| Row { name: &key.name, inode: key.inode, pid: key.pid, figures })
            .collect();
        rows.sort_by(|one, other| {
            let order = |row: &Row<'_>| {
                (row.inode == 0, std::cmp::Reverse((row.figures.wakes, row.figures.ready)))
            };
            order(one).cmp(&order(other)).then_with(|| {
                (one.name, one.inode, one.pid).cmp(&(other.name, other.inode, other.pid))
            })
        });
        rows
    }

    /// The listeners that wake several threads for a connection.
    pub fn herds(&self) -> Vec<Herd<'_>> {
        let rows = self.rows().into_iter().filter(|row| row.inode != 0);
        rows.filter_map(|row| {
            let figures = row.figures;
            let per_connection = figures.wakes as f64 / figures.accepted as f64;
            let is_herd = figures.accepted > 0
                && figures.threads.len() > 1
                && per_connection > 1.0
                && figures.empty > 0
                && figures.empty * HERD >= figures.wakes;
            is_herd.then(|| Herd {
                per_connection,
                threads: figures.threads.len(),
                cause: figures.cause(),
                row,
            })
        })
        .collect()
    }

    /// How many events there were.
    pub const fn events(&self) -> u64 {
        self.events
    }
}

impl Figures {
    fn cause(&self) -> Cause {
        let is = |test: fn(Interest) -> bool| self.interest.is_some_and(test);
        match self.instances.len() {
            0 | 1 if is(Interest::wakes_one) => Cause::OtherThreads,
            0 | 1 => Cause::SharedInstance,
            _ if is(Interest::is_exclusive) => Cause::SharedExclusive,
            _ if self.reuse_port => Cause::SharedReusePort,
            _ => Cause::SharedSocket,
        }
    }

    /// Whether the socket has `SO_REUSEPORT`.
    pub const fn reuse_port(&self) -> bool {
        self.reuse_port
    }

    /// How many threads were woken.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl Cause {
    /// In words, as the end of a sentence.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::SharedSocket => {
                "one socket, shared by several epoll instances without EPOLLEXCLUSIVE or SO_REUSEPORT"
            }
            Self::SharedExclusive => {
                "one socket, shared by several epoll instances; EPOLLEXCLUSIVE may wake more than one"
            }
            Self::SharedReusePort => {
                "one socket, shared by several epoll instances: SO_REUSEPORT helps where each has a socket of its own"
            }
            Self::SharedInstance => {
                "several threads wait on one epoll instance, without EPOLLET or EPOLLONESHOT"
            }
            Self::OtherThreads => "other threads accept before the one that is woken for it",
        }
    }

    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedSocket => "shared_socket",
            Self::SharedExclusive => "shared_exclusive",
            Self::SharedReusePort => "shared_reuse_port",
            Self::SharedInstance => "shared_instance",
            Self::OtherThreads => "other_threads",
        }
    }
}

impl Key {
    fn none() -> Self {
        Self::shared("(timeout or signal)".into())
    }

    fn shared(name: String) -> Self {
        Self { name, inode: 0, pid: 0 }
    }

    fn of(pid: u32, descriptor: &Descriptor) -> Self {
        let Descriptor { fd, kind, inode, socket, .. } = descriptor;
        let Some(socket) = socket else {
            return Self { pid, ..Self::shared(format!("{kind} (fd {fd})")) };
        };
        if descriptor.is_listener() {
            return Self { inode: *inode, ..Self::shared(descriptor.describe()) };
        }
        let name = match (socket.local, socket.remote, &socket.path) {
            (_, Some(remote), _) if socket.is_outgoing => format!("{kind} -> {remote}"),
            (Some(local), ..) if local.port() != 0 => format!("{kind} :{}", local.port()),
            (.., Some(path)) => format!("{kind} {path}"),
            _ => (*kind).to_owned(),
        };
        Self::shared(name)
    }
}

impl Latencies {
    /// Buckets below this are 1 ns each.
    const FIRST: u64 = 16;

    fn add(&mut self, ns: u64) {
        let bucket = Self::bucket(ns);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(ns);
    }

    fn bucket(ns: u64) -> usize {
        if ns < Self::FIRST {
            return ns as usize;
        }
        let power = ns.ilog2();
        (u64::from(power - 3) * Self::FIRST + (ns >> (power - 4)) - Self::FIRST) as usize
    }

    /// The longest time of a bucket.
    fn end(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < Self::FIRST {
            return bucket;
        }
        let power = bucket / Self::FIRST + 3;
        // The last bucket ends with the numbers.
        ((bucket % Self::FIRST + Self::FIRST + 1) << (power - 4)).wrapping_sub(1)
    }

    /// So much of the times, from 0 to 1, is not longer than this, in ns; `None` without any.
    pub fn percentile(&self, part: f64) -> Option<u64> {
        let wanted = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut sum = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return Some(Self::end(bucket).min(self.max));
            }
        }
        None
    }

    /// The longest, in ns; `None` without any.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_sixteenth() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.percentile(0.5), latencies.max()), (None, None));
        for ns in 1..=100_000 {
            latencies.add(ns);
        }
        for part in [0.01, 0.5, 0.99] {
            let exact = (100_000.0 * part) as u64;
            let found = latencies.percentile(part).unwrap();
            assert!((exact..=exact + exact / 16 + 1).contains(&found), "{part}: {found}");
        }
        assert_eq!(latencies.max(), Some(100_000));
        for ns in [0, 15, 16, 17, 31, 32, 1 << 40, u64::MAX] {
            let end = Latencies::end(Latencies::bucket(ns));
            assert!((ns..=ns.saturating_add(ns / 16)).contains(&end), "{ns} {end}");
        }
    }
}
