//! From what BPF sent to what happened: remembers what descriptors stand for.

use hashbrown::HashMap;
use offwake_shared::{EpollCall, EpollFile, EpollKind, EpollReturn, EpollWake, WakerKind};

use super::event::Context;
use super::{
    Accepted, Descriptor, Event, Interest, Kind, Latency, Raw, Ready, Returned, Summary, Thread,
    Woken,
};

/// What an epoll instance waits for, and by what the program knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The process.
    pub pid: u32,
    /// The instance.
    pub epfd: i32,
    /// What it waits for.
    pub fd: i32,
    /// Which events.
    pub interest: Interest,
    /// What the program gets with an event.
    pub data: u64,
}

/// Joins events. Give it all of them, in the order of time.
#[derive(Default)]
pub struct Tracker {
    /// The functions of `--callback`, by number.
    functions: Vec<String>,
    files: HashMap<(u32, i32), Descriptor>,
    registered: HashMap<(u32, i32), Registered>,
    /// Returns whose further events are still to come, by thread.
    partial: HashMap<u32, Returned>,
    summary: Summary,
}

/// What one instance waits for.
#[derive(Default)]
struct Registered {
    /// Several where the program does not tell them apart.
    by_data: HashMap<u64, Vec<i32>>,
    interests: HashMap<i32, Interest>,
}

impl Registered {
    fn forget(&mut self, fd: i32) {
        if self.interests.remove(&fd).is_some() {
            self.by_data.retain(|_, fds| {
                fds.retain(|&other| other != fd);
                !fds.is_empty()
            });
        }
    }

    /// The only descriptor that the program knows by this.
    fn fd_of(&self, data: u64) -> Option<i32> {
        match self.by_data.get(&data)?[..] {
            [fd] => Some(fd),
            _ => None,
        }
    }
}

/// `EPOLL_CTL_DEL`.
const DELETE: u32 = libc::EPOLL_CTL_DEL as u32;

impl Tracker {
    /// Before the first event: the names of the functions of `--callback`, and what instances wait for.
    pub fn begin(&mut self, functions: Vec<String>, registrations: Vec<Registration>) {
        self.functions = functions;
        for registration in registrations {
            self.register(registration);
        }
    }

    fn register(&mut self, registration: Registration) {
        let Registration { pid, epfd, fd, interest, data } = registration;
        let instance = self.registered.entry((pid, epfd)).or_default();
        instance.forget(fd);
        instance.by_data.entry(data).or_default().push(fd);
        instance.interests.insert(fd, interest);
    }

    /// Adds what went through a descriptor that is still open at the end.
    pub fn add_bytes(&mut self, pid: u32, fd: i32, read: u64, written: u64) {
        if let Some(descriptor) = self.files.get(&(pid, fd)) {
            self.summary.transferred(pid, descriptor, read, written);
        }
    }

    /// The sums so far. Ask for them once, at the end.
    pub fn finish(mut self) -> Summary {
        self.summary.finish();
        self.summary
    }

    /// What an event means; `None`: nothing to tell of.
    pub fn take(&mut self, raw: &Raw) -> Option<Event> {
        let event = match raw {
            Raw::Wake(wake) => Some(self.wake(wake)),
            Raw::Return(returned) => self.returned(returned),
            Raw::Call(call) => self.call(call),
        }?;
        let (pid, files) = (event.thread.pid, &self.files);
        self.summary.add(&event, |fd| files.get(&(pid, fd)));
        Some(event)
    }

    fn wake(&mut self, wake: &EpollWake) -> Event {
        let thread = Thread::from(&wake.head.thread);
        let source = self.see(thread.pid, &wake.file);
        let softirq = wake.softirq.checked_sub(1).map(softirq_name);
        let context = match (WakerKind::from_u32(wake.waker_kind), softirq) {
            (Some(WakerKind::Task), None) => Context::Task,
            (Some(WakerKind::Task), Some(name)) => Context::TaskSoftirq(name),
            (Some(WakerKind::Interrupt), None) => Context::Irq,
            (Some(WakerKind::Interrupt), Some(name)) => Context::Softirq(name),
            _ => Context::Unknown,
        };
        let waker = Thread::from(&wake.waker);
        let (cpu, epfd) = (wake.head.cpu, wake.epfd);
        let woken = Woken { waker, context, cpu, epfd, source };
        Event { time: wake.head.time, thread, kind: Kind::Woken(woken) }
    }

    fn returned(&mut self, returned: &EpollReturn) -> Option<Event> {
        let EpollReturn { head, woken_at, running_at, result, epfd, first, len, ready } = returned;
        let thread = Thread::from(&head.thread);
        let latency = (*woken_at != 0).then(|| Latency {
            to_running: running_at.checked_sub(*woken_at),
            total: head.time.saturating_sub(*woken_at),
        });
        if head.kind == EpollKind::Empty as u32 {
            let kind = Kind::Empty(latency?);
            return Some(Event { time: head.time, thread, kind });
        }
        let known = self.registered.get(&(thread.pid, *epfd));
        let ready = ready.iter().take(*len as usize).map(|ready| Ready {
            fd: known.and_then(|known| known.fd_of(ready.data)),
            data: ready.data,
            events: ready.events,
        });
        let mut whole = match (first, self.partial.remove(&thread.tid)) {
            (1.., Some(partial)) => partial,
            // Its beginning was lost.
            (1.., None) => return None,
            (0, _) => Returned { epfd: *epfd, result: *result, latency, ready: Vec::new() },
        };
        whole.ready.extend(ready);
        let all = *result <= 0 || whole.ready.len() >= *result as usize;
        let parts = (offwake_shared::EPOLL_PARTS * offwake_shared::EPOLL_READY) as u32;
        if !all && first + len < parts {
            self.partial.insert(thread.tid, whole);
            return None;
        }
        Some(Event { time: head.time, thread, kind: Kind::Returned(whole) })
    }

    fn call(&mut self, call: &EpollCall) -> Option<Event> {
        let thread = Thread::from(&call.head.thread);
        let pid = thread.pid;
        let is = |kind: EpollKind| call.head.kind == kind as u32;
        let kind = if is(EpollKind::Accept) {
            let descriptor = self.see(pid, &call.file);
            Kind::Accepted(Accepted { listener: call.fd, result: call.result as i32, descriptor })
        } else if is(EpollKind::Close) {
            return self.closed(call, thread);
        } else if is(EpollKind::Callback) {
            let function = usize::try_from(call.result).ok();
            Kind::Callback {
                function: function
                    .and_then(|index| self.functions.get(index).cloned())
                    .unwrap_or_default(),
                fd: call.fd,
                descriptor: self.files.get(&(pid, call.fd)).cloned(),
                events: call.operation,
                argument: call.data,
            }
        } else {
            self.see(pid, &call.file);
            if is(EpollKind::Control) {
                self.controlled(pid, call);
            }
            return None;
        };
        Some(Event { time: call.head.time, thread, kind })
    }

    /// Only what somebody waits for, or a socket, is worth telling of.
    fn closed(&mut self, call: &EpollCall, thread: Thread) -> Option<Event> {
        let pid = thread.pid;
        let is_awaited = self
            .registered
            .iter()
            .any(|(&(of, _), known)| of == pid && known.interests.contains_key(&call.fd));
        let descriptor = self.see(pid, &call.file)?;
        self.files.remove(&(pid, call.fd));
        self.registered.remove(&(pid, call.fd));
        for (_, known) in self.registered.iter_mut().filter(|((of, _), _)| *of == pid) {
            known.forget(call.fd);
        }
        let kind = Kind::Closed { descriptor, read: call.data, written: call.written };
        let is_socket = call.file.flags & offwake_shared::EPOLL_SOCKET != 0;
        (is_awaited || is_socket).then_some(Event { time: call.head.time, thread, kind })
    }

    fn controlled(&mut self, pid: u32, call: &EpollCall) {
        let (epfd, fd, interest) = (call.fd, call.file.fd, Interest(call.file.events));
        if call.operation == DELETE {
            self.registered.entry((pid, epfd)).or_default().forget(fd);
        } else {
            self.register(Registration { pid, epfd, fd, interest, data: call.data });
        }
    }

    /// Remembers what a descriptor stands for.
    fn see(&mut self, pid: u32, file: &EpollFile) -> Option<Descriptor> {
        let mut descriptor = Descriptor::new(file)?;
        // Files without a file system have all the same inode.
        let is_same =
            |known: &&Descriptor| (known.inode, known.kind) == (descriptor.inode, descriptor.kind);
        if let Some(known) = self.files.get(&(pid, file.fd)).filter(is_same) {
            descriptor.interest = descriptor.interest.or(known.interest);
            if let (Some(socket), Some(known)) = (&mut descriptor.socket, &known.socket) {
                socket.keep_names(known);
            }
        }
        self.files.insert((pid, file.fd), Descriptor { is_certain: true, ..descriptor.clone() });
        Some(descriptor)
    }
}

/// As in `softirq_to_name` (kernel/softirq.c).
fn softirq_name(number: u32) -> &'static str {
    const NAMES: [&str; 10] = [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
        "RCU",
    ];
    NAMES.get(number as usize).copied().unwrap_or("unknown")
}
