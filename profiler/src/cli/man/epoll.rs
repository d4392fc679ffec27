//! The section of the man page about `offwake epoll`.

use super::Entry;

/// The events of the log, and what their lines say.
pub(super) const EVENTS: [Entry; 6] = [
    (
        "wake",
        "A thread in epoll_wait is woken: the descriptor that became ready, with kind, addresses and state \
         (those of ss(8)), -> where it was connected from here, # and the inode of the socket; then who did it: \
         a thread, with a softirq if that ran at the end of its system call, or a softirq or an interrupt \
         that came on the time of anybody; and on which CPU. NET_RX/1 is short for softirq NET_RX cpu 1. A ? \
         in front: several descriptors were ready, and this is the one that was queued last. No descriptor: \
         a timeout or a signal.",
    ),
    (
        "empty",
        "A thread that was woken found nothing and sleeps on, in the same system call. The time is since the \
         wake-up: in the run queue, and then until it slept.",
    ),
    (
        "return",
        "epoll_wait returns: the epoll descriptor, how many events, and for each its descriptor and bits; the \
         time since the wake-up, in the run queue and from then until the return.",
    ),
    ("accept", "The listener, and the new descriptor, or the error."),
    (
        "close",
        "A descriptor is closed that is a socket or that an epoll instance waited for, and how many bytes went \
         through it (read, recv, write, send and their like; since offwake watches).",
    ),
    (
        "call",
        "A function of --callback is called: its first argument as a descriptor, its second as libevent's event \
         bits (EV_TIMEOUT, EV_READ, EV_WRITE, EV_SIGNAL, EV_PERSIST, EV_ET, EV_CLOSED), and its third.",
    ),
];

/// What the columns of the table say.
pub(super) const TABLE: &str = "\
    The table at the end has a row for each listener, and for connections that were accepted at a port, those \
    that were made to an address, and every other descriptor. READY: events that were returned; WAKES: wake-ups; \
    EMPTY: wake-ups for nothing, because the thread slept on or, with a listener, there was no connection that it \
    or a thread that was not woken itself accepted; ACCEPTED: connections; p50, p99, MAX: from the wake-up to the \
    return; BYTES: read and written. A listener of which one in ten wake-ups is for nothing, and which woke several \
    threads, more often than there were connections, is named as a thundering herd, with the cause as the flags of \
    the socket and of the epoll instances have it. Not seen are: events when the ring buffer was full \
    (events_full), waits of too many threads (waiters_full), bytes of too many descriptors (bytes_full), and what \
    happened while the kernel skipped a program (probe_misses).";

/// The members of the objects of `--json`.
pub(super) const JSON: [Entry; 13] = [
    (
        "time_ns, event, pid, tid, comm",
        "Of every event: when (ns of CLOCK_MONOTONIC), its name (wake, empty, return, accept, close, callback, \
         summary), and whose it is: of wake the woken thread. summary has event only.",
    ),
    (
        "waker",
        "Of wake: pid, tid and comm of who ran then; context: task, softirq, irq (it was only there) or unknown; \
         softirq: its name, also at the end of a task's own system call, or null; cpu.",
    ),
    ("epfd", "Of wake and return: the descriptor of the epoll instance."),
    (
        "descriptor",
        "Of wake (what became ready, or null), accept (the new one; of an error the listener), close and \
         callback: fd; kind (tcp, udp, unix, eventfd, pipe, …); inode; certain: false where it is only likely; \
         waits_for: the events that epoll waits for, or null; socket, of sockets only.",
    ),
    (
        "socket",
        "address: of the kernel's struct sock; family: inet, inet6, unix, or a number; local and remote: address \
         and port, or null; path: of a unix socket, an abstract one with @, or null; outgoing: whether it \
         was connected from here; state, as ss(8) has it, or null; \
         reuse_port: whether it has SO_REUSEPORT.",
    ),
    (
        "wake_to_running_ns, wake_to_return_ns",
        "Of return and empty: from the wake-up until the thread ran, and until the call returned or the thread \
         slept on; null where it had not slept.",
    ),
    (
        "result, error",
        "Of return: the number of events; of accept: the new descriptor. Below 0: the error, whose name is in \
         error.",
    ),
    (
        "ready",
        "Of return, for each event: fd, or null where it is not known; data: what the program knows it by; events: \
         the bits, without EPOLL. At most 128.",
    ),
    ("listener_fd", "Of accept: the listener."),
    ("read_bytes, written_bytes", "Of close: what went through it."),
    (
        "function, fd, events, argument",
        "Of callback: its name, its first argument, the names of the bits in its second, its third.",
    ),
    (
        "events, method, lost, herds",
        "Of summary: how many events; how they were found; how many of what were lost; and for each listener \
         with a herd its name, inode, wakes_per_connection, threads and cause: shared_socket, shared_exclusive, \
         shared_reuse_port, shared_instance or other_threads.",
    ),
    (
        "rows",
        "Of summary: name; inode (of listeners, else null); pid (where a descriptor is in the name, else null); \
         ready, wakes, empty_wakes, lost_accepts (those in \
         which accept failed with EAGAIN), accepted, threads (that were woken); reuse_port; read_bytes, \
         written_bytes; latency_p50_ns, latency_p99_ns (within a sixteenth) and latency_max_ns, from the wake-up to \
         the return, or null.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::man::tests::assert_explained;

    #[test]
    fn each_member_of_the_golden_file_is_explained() {
        let golden = include_str!("../../../tests/golden/epoll.json");
        for line in golden.lines() {
            assert_explained(&JSON, &serde_json::from_str(line).unwrap());
        }
    }

    #[test]
    fn each_loss_is_explained() {
        for loss in ["events_full", "waiters_full", "bytes_full", "probe_misses"] {
            assert!(TABLE.contains(loss), "{loss}");
        }
    }
}
