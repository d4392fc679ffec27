//! For scripts: an object a line for each event, and one at the end. What is in them is told in the man page
//! (`cli/man/epoll.rs`). Members may be added; none changes its meaning.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::event::{Context, EPOLL_BITS, LIBEVENT_BITS, bits, error_name};
use super::{
    Accepted, Descriptor, Event, Kind, Latency, Ready, Returned, Row, Summary, Thread, Woken,
};

/// Writes the line of an event.
///
/// # Errors
/// When `out` cannot be written.
pub fn line(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let Event { time, thread, kind } = event;
    let (name, mut members) = describe(kind);
    let mut object = json!({
        "time_ns": time,
        "event": name,
        "pid": thread.pid,
        "tid": thread.tid,
        "comm": thread.comm,
    });
    if let (Value::Object(object), Value::Object(members)) = (&mut object, &mut members) {
        object.append(members);
    }
    write_line(&object, out)
}

fn describe(kind: &Kind) -> (&'static str, Value) {
    match kind {
        Kind::Woken(woken) => ("wake", wake(woken)),
        Kind::Empty(it) => ("empty", latency(Some(*it))),
        Kind::Returned(returned) => ("return", returned_members(returned)),
        Kind::Accepted(Accepted { listener, result, descriptor: of }) => (
            "accept",
            json!({
                "listener_fd": listener,
                "result": result,
                "error": (*result < 0).then(|| error_name(*result)),
                "descriptor": of.as_ref().map(descriptor),
            }),
        ),
        Kind::Closed { descriptor: of, read, written } => (
            "close",
            json!({"descriptor": descriptor(of), "read_bytes": read, "written_bytes": written}),
        ),
        Kind::Callback { function, fd, descriptor: of, events, argument } => (
            "callback",
            json!({
                "function": function,
                "fd": fd,
                "events": bits(*events, &LIBEVENT_BITS),
                "argument": format!("{argument:#x}"),
                "descriptor": of.as_ref().map(descriptor),
            }),
        ),
    }
}

fn wake(woken: &Woken) -> Value {
    let Woken { waker, context, cpu, epfd, source } = woken;
    let (context, softirq) = match context {
        Context::Task => ("task", None),
        Context::TaskSoftirq(name) => ("task", Some(name)),
        Context::Softirq(name) => ("softirq", Some(name)),
        Context::Irq => ("irq", None),
        Context::Unknown => ("unknown", None),
    };
    let Thread { pid, tid, comm } = waker;
    json!({
        "waker": {
            "pid": pid, "tid": tid, "comm": comm, "context": context, "softirq": softirq, "cpu": cpu,
        },
        "epfd": epfd,
        "descriptor": source.as_ref().map(descriptor),
    })
}

fn returned_members(returned: &Returned) -> Value {
    let Returned { epfd, result, latency: of, ready } = returned;
    let mut members = latency(*of);
    let ready: Vec<Value> = ready
        .iter()
        .map(|Ready { fd, data, events }| {
            json!({"fd": fd, "data": format!("{data:#x}"), "events": bits(*events, &EPOLL_BITS)})
        })
        .collect();
    members["epfd"] = (*epfd).into();
    members["result"] = (*result).into();
    members["error"] = (*result < 0).then(|| error_name(*result)).into();
    members["ready"] = ready.into();
    members
}

fn latency(latency: Option<Latency>) -> Value {
    json!({
        "wake_to_running_ns": latency.and_then(|latency| latency.to_running),
        "wake_to_return_ns": latency.map(|latency| latency.total),
    })
}

fn descriptor(descriptor: &Descriptor) -> Value {
    let Descriptor { fd, kind, inode, socket, interest, is_certain } = descriptor;
    let mut value = json!({
        "fd": fd,
        "kind": kind,
        "inode": inode,
        "certain": is_certain,
        "waits_for": interest.map(|interest| bits(interest.0, &EPOLL_BITS)),
    });
    if let Some(socket) = socket {
        value["socket"] = json!({
            "address": format!("{:#x}", socket.address),
            "family": socket.family_name(),
            "local": socket.local.map(|local| local.to_string()),
            "remote": socket.remote.map(|remote| remote.to_string()),
            "path": socket.path,
            "outgoing": socket.is_outgoing,
            "state": socket.state_name(),
            "reuse_port": socket.reuse_port,
        });
    }
    value
}

/// Writes the line of the summary.
///
/// # Errors
/// When `out` cannot be written.
pub fn summary(
    summary: &Summary,
    method: &str,
    lost: &[(&str, u64)],
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<Value> = summary.rows().iter().map(row).collect();
    let herds: Vec<Value> = summary
        .herds()
        .iter()
        .map(|herd| {
            json!({
                "name": herd.row.name,
                "inode": herd.row.inode,
                "wakes_per_connection": herd.per_connection,
                "threads": herd.threads,
                "cause": herd.cause.name(),
            })
        })
        .collect();
    let lost: serde_json::Map<String, Value> =
        lost.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
    let object = json!({
        "event": "summary",
        "events": summary.events(),
        "method": method,
        "lost": lost,
        "rows": rows,
        "herds": herds,
    });
    write_line(&object, out)
}

fn row(row: &Row<'_>) -> Value {
    let Row { name, inode, pid, figures } = row;
    json!({
        "name": name,
        "inode": (*inode != 0).then_some(inode),
        "pid": (*pid != 0).then_some(pid),
        "ready": figures.ready,
        "wakes": figures.wakes,
        "empty_wakes": figures.empty,
        "lost_accepts": figures.lost_accepts,
        "accepted": figures.accepted,
        "threads": figures.threads(),
        "reuse_port": figures.reuse_port(),
        "read_bytes": figures.read,
        "written_bytes": figures.written,
        "latency_p50_ns": figures.latency.percentile(0.5),
        "latency_p99_ns": figures.latency.percentile(0.99),
        "latency_max_ns": figures.latency.max(),
    })
}

fn write_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
