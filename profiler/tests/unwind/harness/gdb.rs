//! The stacks of a process as gdb sees them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;

use super::mappings::{Mappings, Place};

/// What one thread was doing when gdb stopped it.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) comm: String,
    /// Innermost first; only what has a frame: no functions that were inlined into their caller.
    pub(crate) frames: Vec<Frame>,
    /// Why gdb found no more.
    pub(crate) end: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) place: Place,
    pub(crate) name: Option<String>,
    /// The address is that of the next instruction: the thread stands there, or a signal interrupted it there.
    /// Else it is where a call returns to.
    pub(crate) is_exact: bool,
    /// Where a signal's handler returns to. It is never called: offwake shows it as if it were.
    pub(crate) is_trampoline: bool,
}

#[derive(Deserialize)]
struct Line {
    look: usize,
    tid: u32,
    frames: Vec<RawFrame>,
    end: Option<String>,
}

#[derive(Deserialize)]
struct RawFrame {
    pc: u64,
    name: Option<String>,
    kind: String,
}

/// The stacks of all threads of a process, by tid. The process stands still meanwhile.
pub(crate) fn stacks(pid: u32) -> BTreeMap<u32, Stack> {
    looks(pid, 1).pop().expect("one look")
}

/// As [`stacks`], several times: the process goes on between them.
pub(crate) fn looks(pid: u32, count: usize) -> Vec<BTreeMap<u32, Stack>> {
    let directory = tempfile::TempDir::new().expect("a directory");
    let script = directory.path().join("stacks.py");
    fs::write(&script, include_str!("stacks.py")).expect("a file");
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx"]);
    for setting in [
        "debuginfod enabled off",
        "auto-load off",
        "pagination off",
        "backtrace past-main on",
        "backtrace limit unlimited",
    ] {
        gdb.arg("-iex").arg(format!("set {setting}"));
    }
    gdb.env("OFFWAKE_PID", pid.to_string()).env("OFFWAKE_LOOKS", count.to_string());
    let output = gdb.arg("-x").arg(&script).output().expect("gdb is installed");
    let told = String::from_utf8_lossy(&output.stdout);
    let lines = told.lines().filter_map(|line| line.strip_prefix("offwake-stack "));
    let mappings = Mappings::of(pid);
    let mut looks = vec![BTreeMap::new(); count];
    for line in lines {
        let line: Line = serde_json::from_str(line).expect("JSON of stacks.py");
        looks[line.look].insert(line.tid, stack(pid, line, &mappings));
    }
    let is_seen = |look: &BTreeMap<u32, Stack>| !look.is_empty();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(looks.iter().all(is_seen), "{gdb:?}: {told}{errors}");
    looks
}

fn stack(pid: u32, line: Line, mappings: &Mappings) -> Stack {
    let comm =
        fs::read_to_string(format!("/proc/{pid}/task/{}/comm", line.tid)).unwrap_or_default();
    let mut is_exact = true;
    let mut frames = Vec::new();
    for frame in line.frames {
        // The first is in the next frame's function, and at the same address.
        if matches!(frame.kind.as_str(), "inlined" | "tail call") {
            continue;
        }
        let is_signal = frame.kind == "signal";
        let place = mappings.place(frame.pc);
        frames.push(Frame { place, name: frame.name, is_exact, is_trampoline: is_signal });
        is_exact = is_signal;
    }
    Stack { comm: comm.trim_end().into(), frames, end: line.end.unwrap_or_default() }
}
