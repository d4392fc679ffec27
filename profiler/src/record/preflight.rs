//! What this kernel and these privileges allow.

use std::ffi::CStr;

use anyhow::{Result, bail};
use offwake_shared::MAX_FRAMES;

use super::btf::KernelTypes;
use super::{Capability, CapabilityState};
use crate::snapshot::system;
use crate::symbolize::interrupts;

/// Fails with one clear line when a recording cannot work.
pub(super) fn require() -> Result<()> {
    match check().into_iter().find(|capability| capability.state == CapabilityState::Missing) {
        Some(missing) => bail!("{}: {}", missing.name, missing.detail),
        None => Ok(()),
    }
}

/// See [`super::check`].
pub(super) fn check() -> Vec<Capability> {
    vec![kernel(), privileges(), types(), tracepoints(), jit(), symbols(), frames(), cgroup()]
}

/// `uname -r`.
pub(super) fn kernel_release() -> String {
    // SAFETY: the type is arrays of characters, for which zeros are valid; the kernel ends each
    // with a 0.
    unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut names);
        CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    }
}

fn kernel() -> Capability {
    const FLOOR: (u32, u32) = (5, 11);
    let release = kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= FLOOR {
        ok("kernel", release)
    } else {
        missing("kernel", format!("{release} is too old: offwake needs 5.11 or newer"))
    }
}

fn privileges() -> Capability {
    const NAME: &str = "privileges";
    const CAP_SYS_PTRACE: u32 = 19;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let capabilities = effective_capabilities();
    let has = |capability: u32| capabilities >> capability & 1 == 1;
    if has(CAP_SYS_ADMIN) {
        return ok(NAME, "CAP_SYS_ADMIN".into());
    }
    if !has(CAP_BPF) || !has(CAP_PERFMON) {
        return missing(
            NAME,
            "recording needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYSLOG: try \
             sudo"
                .into(),
        );
    }
    if has(CAP_SYS_PTRACE) {
        ok(NAME, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE".into())
    } else {
        degraded(
            NAME,
            "without CAP_SYS_PTRACE the mappings of other users' processes cannot be read: their \
             frames have no names"
                .into(),
        )
    }
}

/// The set that the kernel checks, a bit for each capability.
fn effective_capabilities() -> u64 {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: this version takes two structures, include/uapi/linux/capability.h.
    unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    u64::from(data[1].effective) << 32 | u64::from(data[0].effective)
}

fn types() -> Capability {
    match KernelTypes::of_running_kernel() {
        Ok(_) => ok("type information (BTF)", "/sys/kernel/btf/vmlinux".into()),
        Err(error) => missing("type information (BTF)", format!("{error:#}")),
    }
}

fn tracepoints() -> Capability {
    const NAME: &str = "probe btf";
    let Ok(types) = KernelTypes::of_running_kernel() else {
        return missing(NAME, "needs BTF".into());
    };
    let absent = ["sched_switch", "sched_waking", "sched_wakeup_new"]
        .into_iter()
        .find(|name| types.tracepoint_arguments(name).is_none());
    match absent {
        None => ok(NAME, "sched_switch, sched_waking, sched_wakeup_new: used".into()),
        Some(name) => missing(NAME, format!("this kernel has no tracepoint {name}")),
    }
}

fn jit() -> Capability {
    match system::bpf_jit_enabled() {
        Some(false) => degraded(
            "BPF compiler",
            "off: probes cost several times more; `sysctl net.core.bpf_jit_enable=1` turns it on"
                .into(),
        ),
        _ => ok("BPF compiler", "on".into()),
    }
}

fn symbols() -> Capability {
    match interrupts::entries() {
        Ok(_) => ok("kernel symbols", "names and interrupt entries".into()),
        Err(error) => missing("kernel symbols", format!("{error:#}")),
    }
}

fn frames() -> Capability {
    const NAME: &str = "stack depth";
    match system::max_stack_frames() {
        Some(limit) if (limit as usize) < MAX_FRAMES => degraded(
            NAME,
            format!(
                "only {limit} frames: `sysctl kernel.perf_event_max_stack={MAX_FRAMES}` allows more"
            ),
        ),
        _ => ok(NAME, format!("{MAX_FRAMES} frames")),
    }
}

fn cgroup() -> Capability {
    match system::cgroup2_mount() {
        Some(path) => ok("--cgroup", format!("cgroup v2 at {}", path.display())),
        None => degraded("--cgroup", "no cgroup v2 is mounted: --cgroup does not work".into()),
    }
}

fn ok(name: &'static str, detail: String) -> Capability {
    Capability { name, state: CapabilityState::Ok, detail }
}

fn degraded(name: &'static str, detail: String) -> Capability {
    Capability { name, state: CapabilityState::Degraded, detail }
}

fn missing(name: &'static str, detail: String) -> Capability {
    Capability { name, state: CapabilityState::Missing, detail }
}
