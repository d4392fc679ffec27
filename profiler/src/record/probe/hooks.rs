//! Loading and attaching one program.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, Result};
use aya::programs::{BtfTracePoint, KProbe, Program, ProgramError, RawTracePoint, TracePoint};
use aya::{Btf, Ebpf};
use aya_obj::generated::perf_type_id;
use hashbrown::HashMap;

use crate::record::descriptor;

/// Why a map or program must exist: its name and the object are built together.
pub(in crate::record) const IN_OBJECT: &str = "part of the embedded object";

/// A program, and where it stands.
pub(in crate::record) struct Hook {
    /// Its name in the object.
    pub(in crate::record) program: &'static str,
    pub(super) point: Point,
}

/// Where a program stands.
pub(super) enum Point {
    /// A tracepoint, with its own arguments; by name. Needs BTF.
    Btf(&'static str),
    /// A tracepoint, with its own arguments; by name.
    Raw(&'static str),
    /// A tracepoint, with a record; by the number that tracefs gives it.
    Tracepoint(Event),
    /// The beginning of a function of the kernel, by its symbol.
    Function(String),
}

/// A tracepoint with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// As in `sched:sched_switch`.
    pub(super) name: String,
    /// Its number.
    pub(super) id: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Btf(name) | Self::Raw(name) => f.write_str(name),
            Self::Tracepoint(event) => f.write_str(&event.name),
            Self::Function(symbol) => f.write_str(symbol),
        }
    }
}

impl Hook {
    /// Where a thread begins to run a new program.
    pub(super) const AT_EXEC: Self =
        Self { program: "raw_exec", point: Point::Raw("sched_process_exec") };

    /// At the beginning of a function of the kernel.
    pub(in crate::record) const fn at_function(program: &'static str, symbol: String) -> Self {
        Self { program, point: Point::Function(symbol) }
    }

    /// Has the kernel verify programs, side by side: that is most of what it takes to begin.
    ///
    /// # Errors
    /// The first program that the kernel does not take, and why.
    pub(in crate::record) fn load_all<'a>(
        hooks: impl Iterator<Item = &'a Self>,
        bpf: &mut Ebpf,
        types: Option<&Btf>,
    ) -> Result<(), (&'static str, ProgramError)> {
        let mut programs: HashMap<&str, &mut Program> = bpf.programs_mut().collect();
        thread::scope(|scope| {
            let loads: Vec<_> = hooks
                .map(|hook| {
                    let program = programs.remove(hook.program).expect(IN_OBJECT);
                    (hook.program, scope.spawn(move || hook.load(program, types)))
                })
                .collect();
            loads.into_iter().try_for_each(|(name, load)| {
                let loaded = load.join().unwrap_or_else(|panic| resume_unwind(panic));
                loaded.map_err(|error| (name, error))
            })
        })
    }

    fn load(&self, program: &mut Program, types: Option<&Btf>) -> Result<(), ProgramError> {
        match &self.point {
            Point::Btf(name) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(name, types.expect("this kind of probe has the kernel's types"))
            }
            Point::Raw(_) => TryInto::<&mut RawTracePoint>::try_into(program)?.load(),
            Point::Tracepoint(_) => TryInto::<&mut TracePoint>::try_into(program)?.load(),
            Point::Function(_) => TryInto::<&mut KProbe>::try_into(program)?.load(),
        }
    }

    /// Has the program run. Dropping the value ends that.
    pub(in crate::record) fn attach(&self, bpf: &mut Ebpf) -> Result<Box<dyn Any>> {
        self.try_attach(bpf).with_context(|| format!("cannot attach to {}", self.point))
    }

    fn try_attach(&self, bpf: &mut Ebpf) -> Result<Box<dyn Any>> {
        let program = program(bpf, self.program);
        Ok(match &self.point {
            Point::Btf(_) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                let id = program.attach()?;
                Box::new(program.take_link(id)?)
            }
            Point::Raw(name) => {
                let program: &mut RawTracePoint = program.try_into()?;
                let id = program.attach(name)?;
                Box::new(program.take_link(id)?)
            }
            Point::Tracepoint(event) => Box::new(attach_to_event(program, event.id)?),
            Point::Function(symbol) => {
                let program: &mut KProbe = program.try_into()?;
                let id = program.attach(symbol, 0)?;
                Box::new(program.take_link(id)?)
            }
        })
    }
}

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> &'a mut Program {
    bpf.program_mut(name).expect(IN_OBJECT)
}

/// A `perf` event of the tracepoint, which runs the program on all CPUs as long as it is open
/// (`perf_event_set_bpf_prog` in kernel/events/core.c). By number, which needs no mounted tracefs.
fn attach_to_event(program: &Program, id: u64) -> Result<OwnedFd> {
    /// `_IOW('$', 8, __u32)` and `_IO('$', 0)` (include/uapi/linux/perf_event.h).
    const SET_BPF: libc::c_ulong = 0x4004_2408;
    const ENABLE: libc::c_ulong = 0x2400;
    let kind = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    let first_cpu = 0;
    let event = descriptor::perf_event(first_cpu, kind, id, |_| {}).context("perf_event_open")?;
    let program = program.fd()?.as_fd().as_raw_fd();
    for (name, request, argument) in [("SET_BPF", SET_BPF, program), ("ENABLE", ENABLE, 0)] {
        // SAFETY: these requests take a number.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } != 0 {
            return Err(io::Error::last_os_error()).context(name);
        }
    }
    Ok(event)
}
