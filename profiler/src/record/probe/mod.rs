//! How to stand where threads are switched and woken: three ways, of which each kernel has some.

mod candidates;
mod epoll;
mod hooks;
mod tracefs;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya_obj::generated::{perf_sw_ids, perf_type_id};

pub(super) use self::candidates::Candidates;
pub(super) use self::epoll::hooks as epoll_hooks;
use self::hooks::Point;
pub(super) use self::hooks::{Hook, IN_OBJECT};
use self::tracefs::Tracefs;
use super::btf::{self, KernelTypes};
use super::{descriptor, kernel};
use crate::snapshot::system;
use crate::symbolize::kallsyms;

/// A kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// BTF-enabled tracepoints.
    Btf,
    /// Probes at the beginning of functions.
    Kprobe,
    /// Classic tracepoints.
    Tracepoint,
}

impl Probe {
    /// The kinds, best first.
    pub(super) const ALL: [Self; 3] = [Self::Btf, Self::Kprobe, Self::Tracepoint];

    /// The name in every output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// A kind of probe that this kernel has, and what it takes to use it.
pub(super) struct Flavour {
    pub(super) probe: Probe,
    /// Whether the kernel's types are known.
    pub(super) has_types: bool,
    /// What to attach, in this order: `execve`, wake-ups, switches, the creation of threads. Each interval that is
    /// seen to begin, by a switch or by a creation, must be seen to end.
    pub(super) hooks: Vec<Hook>,
    /// Constants of the BPF programs that only this kind needs.
    pub(super) words: Vec<(&'static str, u32)>,
}

impl Flavour {
    /// Looks for what a kind of probe needs. `types`: the kernel's, if they are known.
    ///
    /// # Errors
    /// When this kernel or these privileges do not have it: what is missing.
    pub(super) fn find(probe: Probe, types: Option<&KernelTypes>) -> Result<Self> {
        let needed = || format!("it {}", btf::needed());
        match probe {
            Probe::Btf => Self::btf(types.with_context(needed)?),
            Probe::Kprobe => Self::kprobe(types.with_context(needed)?),
            Probe::Tracepoint => Self::tracepoint(types.is_some()),
        }
    }

    /// Whether stacks can be remembered. With classic tracepoints each one is unwound: Linux 6.1 does not come to an
    /// end verifying programs that remember there.
    pub(super) fn can_remember(&self) -> bool {
        self.has_types && self.probe != Probe::Tracepoint
    }

    fn btf(types: &KernelTypes) -> Result<Self> {
        let mut hooks = vec![Hook::AT_EXEC];
        for name in ["sched_waking", "sched_switch", "sched_wakeup_new"] {
            ensure!(
                types.tracepoint_arguments(name).is_some(),
                "this kernel has no tracepoint {name}"
            );
            hooks.push(Hook { program: name, point: Point::Btf(name) });
        }
        let words = vec![("READ_DIRECT", kernel::version().has_current_task().into())];
        Ok(Self { probe: Probe::Btf, has_types: true, hooks, words })
    }

    fn kprobe(types: &KernelTypes) -> Result<Self> {
        allows_perf_events()?;
        ensure!(
            has_kprobes(),
            "this kernel has no kprobes (CONFIG_KPROBE_EVENTS), or /sys is not mounted"
        );
        let wanted = ["try_to_wake_up", "finish_task_switch", "wake_up_new_task"];
        let found = kallsyms::find(&wanted)?;
        let mut hooks = vec![Hook::AT_EXEC];
        for (name, (program, symbol)) in
            wanted.iter().zip(["kprobe_waking", "kprobe_switch", "kprobe_new"].iter().zip(found))
        {
            let symbol = symbol.with_context(|| format!("this kernel has no function {name}"))?;
            hooks.push(Hook::at_function(program, symbol));
        }
        let task = |path: &[&str]| types.offset_of("task_struct", path);
        let words = vec![
            ("TASK_ON_RQ", task(&["on_rq"])?),
            ("TASK_DELAYED", task(&["se", "sched_delayed"]).unwrap_or(0)),
        ];
        Ok(Self { probe: Probe::Kprobe, has_types: true, hooks, words })
    }

    /// Without the kernel's types this needs nothing but the descriptions of its records.
    fn tracepoint(has_types: bool) -> Result<Self> {
        if !has_types && system::pid_namespace()? != 0 {
            bail!(
                "without the kernel's type information (BTF) nobody knows which pids of this pid \
                 namespace are meant: run offwake in the initial one"
            );
        }
        allows_perf_events()?;
        let tracefs = Tracefs::open()?;
        let mut words = Vec::new();
        // A switch names the program that an exec has told of.
        let mut hooks = vec![Hook::AT_EXEC];
        let mut add = |group, name, program, fields: &[(&'static str, &str)]| {
            let event = tracefs.event(group, name)?;
            for (constant, field) in fields {
                words.push((*constant, event.offset_of(field)?));
            }
            hooks.push(Hook { program, point: Point::Tracepoint(event.id) });
            anyhow::Ok(())
        };
        add("sched", "sched_waking", "tracepoint_waking", &[("WAKING_PID", "pid")])?;
        let fields = [("SWITCH_PREV_STATE", "prev_state"), ("SWITCH_NEXT_PID", "next_pid")];
        add("sched", "sched_switch", "tracepoint_switch", &fields)?;
        if has_types {
            let point = Point::Raw("sched_wakeup_new");
            hooks.push(Hook { program: "raw_new", point });
        } else {
            let fields = [("NEW_PID", "pid"), ("NEW_FLAGS", "clone_flags")];
            add("task", "task_newtask", "tracepoint_new", &fields)?;
        }
        Ok(Self { probe: Probe::Tracepoint, has_types, hooks, words })
    }

    /// Where waits are seen, in a few words.
    pub(super) fn describe(&self) -> String {
        let hooks = self.hooks.iter().filter(|hook| hook.program != Hook::AT_EXEC.program);
        let points: Vec<String> = hooks.map(|hook| hook.point.to_string()).collect();
        let types = if self.has_types { "" } else { ", without type information (BTF)" };
        format!("{}{types}", points.join(", "))
    }
}

/// Whether the kernel has probes at the beginning of functions.
pub(super) fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// These kinds of probe are perf events. Distributions have a mode of `kernel.perf_event_paranoid` that the
/// kernel's own sources lack, which asks for more than `CAP_PERFMON` (Debian's `perf_paranoid_any`).
fn allows_perf_events() -> Result<()> {
    let kind = perf_type_id::PERF_TYPE_SOFTWARE as u32;
    let (first_cpu, config) = (0, perf_sw_ids::PERF_COUNT_SW_DUMMY as u64);
    let Err(error) = descriptor::perf_event(first_cpu, kind, config, |_| {}) else { return Ok(()) };
    match system::perf_event_paranoid() {
        Some(mode) if mode > 2 => bail!(
            "the kernel allows no perf events ({error}): kernel.perf_event_paranoid is {mode}; run \
             `sysctl kernel.perf_event_paranoid=2` as root, or offwake with CAP_SYS_ADMIN"
        ),
        _ => bail!("the kernel allows no perf events ({error})"),
    }
}
