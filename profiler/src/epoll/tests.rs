//! A play of two threads that share a listener, and what is told of it.

use offwake_shared::{
    EPOLL_OUTGOING, EPOLL_READY, EPOLL_SOCKET, EPOLL_UNCERTAIN, EpollCall, EpollFile, EpollHead,
    EpollKind, EpollReady, EpollReturn, EpollThread, EpollWake, SourceKind, WakerKind,
};

use super::{Event, Interest, Order, Raw, Registration, Summary, Tracker, json, text};
use crate::render::tests::assert_golden;

const EXCLUSIVE: u32 = 1 << 28;
const NET_RX: u32 = 3;

fn thread(tid: u32, comm: &[u8]) -> EpollThread {
    let mut padded = [0; 16];
    padded[..comm.len()].copy_from_slice(comm);
    EpollThread { tgid: 4182, tid, comm: padded }
}

fn worker(index: u32) -> EpollThread {
    thread(4449 + index, format!("wrk:worker_{index}").as_bytes())
}

fn head(time: u64, kind: EpollKind, thread: EpollThread) -> EpollHead {
    EpollHead { time, kind: kind as u32, cpu: 1, thread }
}

fn tcp(fd: i32, inode: u64, remote_port: u16, state: u16) -> EpollFile {
    let mut file = EpollFile {
        inode,
        socket: 0xffff_9f5e_53bf_bd40,
        local_port: 15006,
        remote_port,
        family: 2,
        protocol: 6,
        fd,
        state,
        flags: EPOLL_SOCKET,
        events: 1,
        ..EpollFile::default()
    };
    file.local[..4].copy_from_slice(&[172, 21, 206, 207]);
    if remote_port != 0 {
        file.remote[..4].copy_from_slice(&[172, 30, 207, 163]);
    }
    file
}

/// As long as can be.
fn tcp_6(fd: i32) -> EpollFile {
    EpollFile { family: 10, local: [0xfe; 16], remote: [0xfd; 16], ..tcp(fd, u64::MAX, 65535, 8) }
}

fn wake(time: u64, woken: EpollThread, kind: WakerKind, file: EpollFile) -> Raw {
    Raw::Wake(EpollWake {
        head: head(time, EpollKind::Wake, woken),
        waker: thread(10, b"ksoftirqd/0"),
        waker_kind: kind as u32,
        softirq: NET_RX + 1,
        epfd: 5,
        reserved: 0,
        file,
    })
}

fn returned(time: u64, who: EpollThread, woken_at: u64, ready: &[(u64, u32)]) -> EpollReturn {
    let mut events = [EpollReady::default(); EPOLL_READY];
    for (event, &(data, bits)) in events.iter_mut().zip(ready) {
        *event = EpollReady { data, events: bits, reserved: 0 };
    }
    EpollReturn {
        head: head(time, EpollKind::Return, who),
        woken_at,
        running_at: if woken_at == 0 { 0 } else { woken_at + 12_300 },
        result: ready.len() as i32,
        epfd: 5,
        first: 0,
        len: ready.len().min(EPOLL_READY) as u32,
        ready: events,
    }
}

fn empty(time: u64, who: EpollThread, woken_at: u64) -> Raw {
    let returned = returned(time, who, woken_at, &[]);
    Raw::Return(EpollReturn { head: head(time, EpollKind::Empty, who), ..returned })
}

fn call(
    time: u64,
    kind: EpollKind,
    who: EpollThread,
    fd: i32,
    result: i64,
    file: EpollFile,
) -> EpollCall {
    let head = head(time, kind, who);
    EpollCall { head, result, data: 0, written: 0, fd, operation: 0, file }
}

/// One connection that wakes both workers, a request on it, and its end.
fn play() -> Vec<Raw> {
    let listener = |fd| tcp(fd, 4711, 0, 10);
    let connection = tcp(42, 4712, 38590, 1);
    let mut close =
        call(900_000, EpollKind::Close, worker(0), 42, 0, EpollFile { state: 8, ..connection });
    (close.data, close.written) = (39, 156);
    let mut callback = call(
        125_000,
        EpollKind::Callback,
        worker(0),
        36,
        0,
        EpollFile { fd: -1, ..EpollFile::default() },
    );
    (callback.operation, callback.data) = (0x22, 0x55af_6496_d7a0);
    vec![
        wake(100_000, worker(1), WakerKind::Interrupt, listener(40)),
        wake(101_000, worker(0), WakerKind::Interrupt, listener(36)),
        Raw::Return(returned(120_000, worker(0), 101_000, &[(36, 1)])),
        Raw::Call(callback),
        Raw::Call(call(130_000, EpollKind::Accept, worker(0), 36, 42, connection)),
        empty(140_000, worker(1), 100_000),
        Raw::Call(EpollCall {
            operation: 1,
            data: 42,
            ..call(150_000, EpollKind::Control, worker(0), 5, 0, connection)
        }),
        Raw::Call(call(160_000, EpollKind::Accept, worker(0), 36, -11, listener(36))),
        wake(700_000, worker(0), WakerKind::Task, connection),
        Raw::Return(returned(720_000, worker(0), 700_000, &[(42, 0x8000_2001), (99, 4)])),
        Raw::Call(close),
    ]
}

fn track(raws: &[Raw]) -> (Vec<Event>, Summary) {
    let mut tracker = Tracker::default();
    let registration =
        |fd: i32| Registration { pid: 4182, epfd: 5, fd, interest: Interest(1), data: fd as u64 };
    tracker.begin(vec!["Envoy::f(int)".into()], vec![registration(36), registration(40)]);
    let events = raws.iter().filter_map(|raw| tracker.take(raw)).collect();
    tracker.add_bytes(4182, 36, 5, 0);
    (events, tracker.finish())
}

fn lines(raws: &[Raw]) -> Vec<String> {
    let (events, _) = track(raws);
    let lines: Vec<String> = events.iter().map(|event| text::line(event, 0)).collect();
    for line in &lines {
        assert!(line.chars().count() <= text::COLUMNS, "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    lines
}

fn summary_of(summary: &Summary) -> String {
    let mut out = Vec::new();
    text::summary(summary, "tracepoints", &[("events_full", 3)], &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= text::COLUMNS, "{line}");
    }
    text
}

#[test]
fn a_connection_reads_like_a_story() {
    let mut text = text::heading() + "\n";
    for line in lines(&play()) {
        text += line.trim_end();
        text.push('\n');
    }
    text.push('\n');
    text += &summary_of(&track(&play()).1);
    assert_golden("epoll.txt", &text);
}

#[test]
fn json_has_a_line_for_each() {
    let (events, summary) = track(&play());
    let mut out = Vec::new();
    for event in &events {
        json::line(event, &mut out).unwrap();
    }
    json::summary(&summary, "tracepoints", &[("events_full", 3)], &mut out).unwrap();
    assert_golden("epoll.json", &String::from_utf8(out).unwrap());
}

#[test]
fn hostile_names_and_long_addresses_stay_in_their_line() {
    let hostile = [&b"\x1b[2J\n\t\r\x07\x08\x7f\x01\x02\x03\x04\x05"[..], b"\xff\xfe\xfd\xfc", b""];
    for name in hostile {
        let who = EpollThread { tid: 4_194_304, ..thread(1, name) };
        let long = wake(u64::MAX, who, WakerKind::Interrupt, tcp_6(i32::MAX));
        let Raw::Wake(long) = long else { unreachable!() };
        let own = Raw::Wake(EpollWake { waker: who, waker_kind: WakerKind::Task as u32, ..long });
        let many = [(u64::MAX, u32::MAX); EPOLL_READY];
        let text = lines(&[
            own,
            Raw::Return(EpollReturn { result: 8, ..returned(2, who, 1, &many) }),
            Raw::Call(call(3, EpollKind::Accept, who, i32::MAX, 7, tcp_6(7))),
            Raw::Call(EpollCall {
                data: u64::MAX,
                written: u64::MAX,
                ..call(4, EpollKind::Close, who, 7, 0, tcp_6(7))
            }),
            Raw::Call(EpollCall {
                operation: u32::MAX,
                data: u64::MAX,
                ..call(
                    5,
                    EpollKind::Callback,
                    who,
                    i32::MAX,
                    0,
                    EpollFile { fd: -1, ..EpollFile::default() },
                )
            }),
        ]);
        assert_eq!(text.len(), 5, "{text:?}");
        // The port and the state are what an address ends with.
        for line in [&text[0], &text[2]] {
            assert!(line.contains(" fd ") && line.contains("]:65535 CLOSE-WAIT"), "{line}");
        }
    }
}

#[test]
fn the_shared_listener_has_a_herd_and_a_cause() {
    let (_, summary) = track(&play());
    let rows = summary.rows();
    let figures = rows[0].figures;
    assert_eq!((figures.wakes, figures.empty, figures.accepted), (2, 1, 1));
    assert_eq!((figures.ready, figures.lost_accepts, figures.read), (1, 0, 5));
    let herds = summary.herds();
    assert_eq!((herds.len(), herds[0].per_connection, herds[0].threads), (1, 2.0, 2));
    // The play has both workers on epoll instances of the same number.
    assert_eq!(herds[0].cause, super::Cause::SharedInstance);
}

#[test]
fn exclusive_waits_and_instances_are_told_apart() {
    let wakes = |exclusive: u32| {
        let file = EpollFile { events: 1 | exclusive, ..tcp(36, 4711, 0, 10) };
        let on = |time, index, epfd| match wake(time, worker(index), WakerKind::Task, file) {
            Raw::Wake(wake) => Raw::Wake(EpollWake { epfd, ..wake }),
            other => other,
        };
        vec![
            on(1, 0, 5),
            on(2, 1, 6),
            Raw::Return(returned(3, worker(0), 1, &[(36, 1)])),
            Raw::Call(call(4, EpollKind::Accept, worker(0), 36, 42, tcp(42, 4712, 1, 1))),
            Raw::Return(returned(5, worker(1), 2, &[(36, 1)])),
            Raw::Call(call(6, EpollKind::Accept, worker(1), 36, -11, file)),
        ]
    };
    for (exclusive, cause) in
        [(0, super::Cause::SharedSocket), (EXCLUSIVE, super::Cause::SharedExclusive)]
    {
        let (_, summary) = track(&wakes(exclusive));
        assert_eq!(summary.rows()[0].figures.lost_accepts, 1);
        assert_eq!(summary.herds()[0].cause, cause);
    }
}

/// One worker waits, and others accept.
#[test]
fn who_is_woken_need_not_accept() {
    let file = tcp(36, 4711, 0, 10);
    let accept = |time, index, result: i32| {
        let of = if result < 0 { file } else { tcp(result, 4712, 1, 1) };
        Raw::Call(call(time, EpollKind::Accept, worker(index), 36, result.into(), of))
    };
    let woken = |time, index| wake(time, worker(index), WakerKind::Task, file);
    let back = |time, index| Raw::Return(returned(time, worker(index), time - 1, &[(36, 1)]));
    let empty_wait = |time, index| empty(time, worker(index), time - 1);
    let empty = |raws: &[Raw]| {
        let (_, summary) = track(raws);
        assert!(summary.herds().is_empty(), "{:?}", summary.herds());
        summary.rows()[0].figures.empty
    };
    // Before it waits again, and after that.
    let before =
        [woken(1, 0), back(2, 0), accept(3, 1, 42), woken(4, 0), back(5, 0), accept(6, 2, 43)];
    assert_eq!(empty(&before), 0);
    let after =
        [woken(1, 0), back(2, 0), woken(3, 0), accept(4, 1, 42), back(5, 0), accept(6, 2, 43)];
    assert_eq!(empty(&after), 0);
    // But who finds nothing was woken for nothing, whoever took it.
    let taken = [woken(1, 0), back(2, 0), accept(3, 1, 42), accept(4, 0, -libc::EAGAIN)];
    assert_eq!(empty(&taken), 1);
    let gone = [woken(1, 0), accept(2, 1, 42), empty_wait(3, 0)];
    assert_eq!(empty(&gone), 1);
    // A connection that cannot be accepted is one.
    let many_files = [woken(1, 0), back(2, 0), accept(3, 0, -libc::EMFILE)];
    assert_eq!(empty(&many_files), 0);
    let interrupted = [woken(1, 0), back(2, 0), accept(3, 0, -512)];
    assert_eq!(empty(&interrupted), 1);
}

#[test]
fn names_are_kept_and_descriptors_that_are_alike_are_not_confused() {
    let ended = EpollFile { local_port: 0, local: [0; 16], ..tcp(42, 4712, 38590, 7) };
    let unix = |fd, name: &[u8]| {
        let mut file =
            EpollFile { family: 1, protocol: 0, name_len: name.len() as u32, ..tcp(fd, 9, 0, 10) };
        file.name[..name.len()].copy_from_slice(name);
        file
    };
    let register = |fd: i32| EpollCall {
        operation: 1,
        data: 7,
        ..call(1, EpollKind::Control, worker(0), 5, 0, tcp(fd, 4000 + fd as u64, 1, 1))
    };
    let text = lines(&[
        wake(1, worker(0), WakerKind::Task, tcp(42, 4712, 38590, 1)),
        wake(2, worker(0), WakerKind::Task, ended),
        wake(3, worker(0), WakerKind::Task, unix(50, b"/run/x.sock\0")),
        wake(4, worker(0), WakerKind::Task, unix(51, b"\0abstract")),
        Raw::Call(register(60)),
        Raw::Return(returned(5, worker(0), 4, &[(7, 1)])),
        Raw::Call(register(61)),
        Raw::Return(returned(6, worker(0), 5, &[(7, 1)])),
    ]);
    assert!(text[1].contains("tcp :15006 <- 172.30.207.163:38590 UNCONN"), "{}", text[1]);
    assert!(text[2].contains("fd 50 unix /run/x.sock LISTEN #9"), "{}", text[2]);
    assert!(text[3].contains("fd 51 unix @abstract LISTEN #9"), "{}", text[3]);
    assert!(text[4].contains(": fd 60 IN"), "{}", text[4]);
    assert!(text[5].contains(": data 0x7 IN"), "{}", text[5]);
}

#[test]
fn a_wake_up_that_is_followed_by_another_was_for_nothing() {
    let file = tcp(42, 4712, 38590, 1);
    let (_, summary) = track(&[
        wake(1, worker(0), WakerKind::Task, file),
        wake(2, worker(0), WakerKind::Task, file),
        Raw::Return(returned(3, worker(0), 2, &[(42, 1)])),
        // What is woken at the very end has not come to anything yet.
        wake(4, worker(1), WakerKind::Task, file),
    ]);
    let figures = summary.rows()[0].figures;
    assert_eq!((figures.wakes, figures.empty), (3, 1));
    assert!(summary.herds().is_empty());
}

#[test]
fn timeouts_and_uncertain_sources_say_so() {
    let none = EpollFile { fd: -1, ..EpollFile::default() };
    let likely =
        EpollFile { flags: EPOLL_SOCKET | EPOLL_UNCERTAIN | EPOLL_OUTGOING, ..tcp(42, 1, 80, 1) };
    let text = lines(&[
        wake(1, worker(0), WakerKind::Interrupt, none),
        Raw::Return(returned(2, worker(0), 1, &[])),
        wake(3, worker(0), WakerKind::Task, likely),
        wake(
            4,
            worker(1),
            WakerKind::Task,
            EpollFile { fd: 8, kind: SourceKind::Eventfd as u16, ..EpollFile::default() },
        ),
    ]);
    assert!(
        text[0].contains("no descriptor: timeout or signal by softirq NET_RX cpu 1"),
        "{}",
        text[0]
    );
    assert!(text[1].contains("epoll 5: no event: timeout;"), "{}", text[1]);
    assert!(text[2].contains("?fd 42 tcp :15006 -> 172.30.207.163:80 ESTAB"), "{}", text[2]);
    assert!(text[3].contains("fd 8 eventfd by ksoftirqd/0/10 softirq NET_RX cpu 1"), "{}", text[3]);
}

#[test]
fn many_events_are_one_return() {
    let ready: Vec<(u64, u32)> = (0..20).map(|data| (data, 1)).collect();
    let parts = ready.chunks(EPOLL_READY).enumerate().map(|(index, part)| {
        let first = (index * EPOLL_READY) as u32;
        Raw::Return(EpollReturn { first, result: 20, ..returned(7, worker(0), 1, part) })
    });
    let parts: Vec<Raw> = parts.collect();
    let (events, _) = track(&parts);
    let [Event { kind: super::Kind::Returned(returned), .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((returned.result, returned.ready.len()), (20, 20));
    assert!(lines(&parts)[0].contains(", +"), "{:?}", lines(&parts));
    // Without its beginning it is nothing.
    assert!(track(&parts[1..]).0.is_empty());
}

#[test]
fn events_come_in_the_order_of_time() {
    let mut order = Order::default();
    let times = [5, 3, 9, 3, 1];
    for (number, time) in times.into_iter().enumerate() {
        order.push(Raw::Return(returned(time, worker(number as u32), 1, &[])));
    }
    let mut told = Vec::new();
    while let Some(raw) = order.pop_until(5) {
        told.push(raw.time());
    }
    assert_eq!(told, [1, 3, 3, 5]);
    assert_eq!(order.pop_until(u64::MAX).unwrap().time(), 9);
    assert!(order.pop_until(u64::MAX).is_none());
}
