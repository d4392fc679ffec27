//! What this kernel and these privileges allow.

use anyhow::{Result, bail};
use offwake_shared::{MAX_FRAMES, SourceDetail};

use super::btf::KernelTypes;
use super::kernel::{self, Version};
use super::load::Probes;
use super::probe::{Flavour, Probe};
use super::{
    Capability, CapabilityState, Capacity, Config, Filter, UnwindChoice, descriptor, jit, load,
    source,
};
use crate::recording::{UnwindFigures, human_bytes};
use crate::snapshot::system;
use crate::symbolize::interrupts;

/// Fails with one clear line when a recording cannot work. What loading finds missing by itself is
/// not looked for here: it would cost as much again.
pub(super) fn require() -> Result<()> {
    let needed = [kernel(), processes(), privileges(), lockdown()];
    match needed.into_iter().chain(realtime()).find(|it| it.state == CapabilityState::Missing) {
        Some(missing) => bail!("{}: {}", missing.name, missing.detail),
        None => Ok(()),
    }
}

/// See [`super::check`].
pub(super) fn check() -> Result<Vec<Capability>> {
    let types = KernelTypes::of_running_kernel();
    let known = types.as_ref().ok();
    let mut found = vec![kernel(), processes(), privileges(), lockdown()];
    found.extend(realtime());
    let may_load = found.iter().all(|it| it.state != CapabilityState::Missing);
    if may_load {
        descriptor::require(system::raise_file_limit())?;
    }
    found.extend(locked_memory());
    found.push(btf(&types));
    found.extend(probes(known, may_load));
    found.extend([
        jit(),
        symbols(),
        frames(),
        unwinding(known.is_some()),
        sources(known),
        cgroup(),
    ]);
    Ok(found)
}

/// How user stacks are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwind {
    /// By call frame information.
    Cfi,
    /// By frame pointers, because that was asked for.
    Fp,
    /// By frame pointers, because this kernel can do no better.
    OnlyFp(&'static str),
}

/// How user stacks are walked.
///
/// # Errors
/// When the user wants what this kernel cannot do.
pub(super) fn unwind(choice: UnwindChoice) -> Result<Unwind> {
    match (choice, kernel::why_no_bpf_loop()) {
        (UnwindChoice::Fp, _) => Ok(Unwind::Fp),
        (UnwindChoice::Auto, _) => Ok(why_not_unwind().map_or(Unwind::Cfi, Unwind::OnlyFp)),
        (UnwindChoice::Cfi, None) => Ok(Unwind::Cfi),
        (UnwindChoice::Cfi, Some(why)) => {
            bail!("--unwind cfi {why}, and this is {}: use --unwind fp", kernel::release())
        }
    }
}

/// Why `--unwind auto` does not use call frame information on this kernel; `None` if it does.
fn why_not_unwind() -> Option<&'static str> {
    let may_freeze = kernel::version().may_freeze().then_some(
        "reading user memory from BPF can freeze this kernel (repaired in 6.1.36, 6.3.10 and \
         6.4); --unwind cfi forces it",
    );
    kernel::why_no_bpf_loop().or(may_freeze)
}

/// What unwinding needs for given targets; `None`: by frame pointers.
pub(super) fn describe(figures: Option<&UnwindFigures>) -> Vec<Capability> {
    match figures {
        Some(figures) => vec![
            ok("unwind tables", figures.tables()),
            ok("BPF memory", human_bytes(figures.bpf_bytes)),
        ],
        None => vec![ok("unwind tables", "none: user stacks are walked by frame pointers".into())],
    }
}

fn kernel() -> Capability {
    const FLOOR: Version = Version(5, 10, 0);
    let release = kernel::release();
    let version = kernel::version();
    if version >= FLOOR {
        ok("kernel", release)
    } else {
        missing("kernel", format!("{release} is too old: offwake needs 5.10 or newer"))
    }
}

/// With preempt-RT a ring buffer of BPF must not have a lock that sleeps: it is written to while threads are switched.
/// `None` on other kernels.
fn realtime() -> Option<Capability> {
    kernel::is_realtime().then(|| {
        let types = KernelTypes::of_running_kernel();
        judge_lock(types.and_then(|types| types.type_of("bpf_ringbuf", "spinlock").map(Into::into)))
    })
}

/// `lock`: the type of the lock of ring buffers. It is a `raw_spinlock_t` since "bpf: Use raw_spinlock_t in ringbuf"
/// (6.12, and in updates of kernels before it).
fn judge_lock(lock: Result<String>) -> Capability {
    const NAME: &str = "preempt-RT";
    match lock {
        Ok(lock) if lock == "spinlock_t" => missing(
            NAME,
            "the locks of BPF ring buffers sleep in this kernel, which recording could freeze: update it (repaired in \
             6.12 and in updates of older ones)"
                .into(),
        ),
        Ok(_) => ok(NAME, "the locks of BPF ring buffers do not sleep".into()),
        Err(_) => degraded(
            NAME,
            "this kernel's types (BTF) do not tell whether the locks of BPF ring buffers sleep, with which recording \
             could freeze it (repaired in 6.12 and in updates of older ones)"
                .into(),
        ),
    }
}

/// Pids and names are those of `/proc`, which need not show the pid namespace that offwake is in: `unshare --pid`
/// leaves the one of before.
fn processes() -> Capability {
    const NAME: &str = "processes";
    match system::proc_is_of_own_namespace() {
        Ok(true) => ok(NAME, "those of this pid namespace".into()),
        Ok(false) => missing(
            NAME,
            "the mounted /proc shows another pid namespace than that of offwake, so pids and names would be wrong: \
             run `mount -t proc proc /proc` in a mount namespace of its own (`unshare --mount`) first"
                .into(),
        ),
        Err(_) => missing(NAME, "no /proc is mounted: run `mount -t proc proc /proc` first".into()),
    }
}

fn privileges() -> Capability {
    const NAME: &str = "privileges";
    const CAP_DAC_READ_SEARCH: u32 = 2;
    const CAP_SYS_PTRACE: u32 = 19;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let capabilities = effective_capabilities();
    let has = |capability: u32| capabilities >> capability & 1 == 1;
    if system::is_in_user_namespace().unwrap_or(false) {
        // `bpf_capable` in include/linux/capability.h asks for those of the initial one.
        missing(
            NAME,
            "offwake is in a user namespace, as that of a rootless container, where no capability counts for \
             BPF: run it outside, as root"
                .into(),
        )
    } else if has(CAP_SYS_ADMIN) {
        ok(NAME, "CAP_SYS_ADMIN".into())
    } else if !has(CAP_BPF) || !has(CAP_PERFMON) {
        missing(
            NAME,
            "recording needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYSLOG: try \
             sudo"
                .into(),
        )
    } else if !has(CAP_SYS_PTRACE) {
        degraded(
            NAME,
            "without CAP_SYS_PTRACE the mappings of other users' processes cannot be read: their \
             frames have no names"
                .into(),
        )
    } else if !has(CAP_DAC_READ_SEARCH) {
        degraded(
            NAME,
            "without CAP_DAC_READ_SEARCH programs in directories that are closed to this user \
             cannot be read: their frames have no names"
                .into(),
        )
    } else {
        ok(NAME, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH".into())
    }
}

/// Which privilege is missing for the names in other users' processes.
pub(super) fn why_no_names() -> Option<String> {
    let found = privileges();
    (found.state == CapabilityState::Degraded).then_some(found.detail)
}

/// What [`Version::limits_locked_memory`] is about.
fn locked_memory() -> Option<Capability> {
    const NAME: &str = "locked memory";
    if !kernel::version().limits_locked_memory() {
        return None;
    }
    Some(match load::raise_memory_limit() {
        libc::RLIM_INFINITY => ok(NAME, "unlimited".into()),
        limit => degraded(
            NAME,
            format!(
                "{} at most, and BPF needs more: run `ulimit -l unlimited` first, or offwake \
                 with CAP_SYS_RESOURCE",
                human_bytes(limit)
            ),
        ),
    })
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

/// In its stricter mode, lockdown keeps even root from reading the kernel's memory
/// (`LOCKDOWN_BPF_READ_KERNEL` in include/linux/security.h).
fn lockdown() -> Capability {
    const NAME: &str = "kernel lockdown";
    match system::lockdown() {
        Some(mode) if mode == "confidentiality" => missing(
            NAME,
            "confidentiality: nobody may read kernel memory by BPF; boot with \
             lockdown=integrity, or without"
                .into(),
        ),
        mode => ok(NAME, mode.unwrap_or_else(|| "none".into())),
    }
}

fn btf(types: &Result<KernelTypes>) -> Capability {
    const NAME: &str = "type information (BTF)";
    match types {
        Ok(_) => ok(NAME, "/sys/kernel/btf/vmlinux".into()),
        Err(error) => {
            degraded(NAME, format!("{error:#}: only --probe tracepoint works, with frame pointers"))
        }
    }
}

/// Each kind of probe, and which one is used. `may_load`: whether the kernel may be asked to take its programs.
fn probes(types: Option<&KernelTypes>, may_load: bool) -> Vec<Capability> {
    let unwinds = why_not_unwind().is_none();
    let describe = |probe: Probe| {
        let flavour = Flavour::find(probe, types)?;
        let described = flavour.describe();
        if may_load {
            let config = Config { capacity: Capacity::LEAST, ..Config::default() };
            let filter = Filter::default();
            Probes::load_flavour(flavour, types, &config, &filter, unwinds)?;
        }
        anyhow::Ok(described)
    };
    let mut used = None;
    let mut found: Vec<Capability> = Probe::ALL
        .into_iter()
        .map(|probe| match describe(probe) {
            Ok(described) => {
                let is_first = used.is_none();
                used.get_or_insert(probe);
                let note = if is_first { ": used by default" } else { "" };
                ok(probe_name(probe), format!("{described}{note}"))
            }
            Err(error) => degraded(probe_name(probe), format!("{error:#}")),
        })
        .collect();
    if used.is_none() {
        found.push(missing("probe", "none works here: see above".into()));
    }
    found
}

const fn probe_name(probe: Probe) -> &'static str {
    match probe {
        Probe::Btf => "probe btf",
        Probe::Kprobe => "probe kprobe",
        Probe::Tracepoint => "probe tracepoint",
    }
}

fn jit() -> Capability {
    const NAME: &str = "BPF compiler";
    match jit::is_on() {
        Some(true) => ok(NAME, "on".into()),
        Some(false) => degraded(
            NAME,
            "off: probes cost several times more; `sysctl net.core.bpf_jit_enable=1` turns it on, \
             if the kernel has one"
                .into(),
        ),
        None => degraded(NAME, "these privileges cannot tell whether it is on".into()),
    }
}

fn symbols() -> Capability {
    match interrupts::entries(system::has_cpu_flag) {
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

fn unwinding(has_types: bool) -> Capability {
    const NAME: &str = "user stacks";
    let needs_types = (!has_types).then_some("needs BTF");
    match needs_types.or(why_not_unwind()) {
        None => {
            ok(NAME, "by call frame information (cfi), and by frame pointers without it".into())
        }
        Some(why) => degraded(
            NAME,
            format!(
                "by frame pointers (fp): call frame information {why}; stacks lose the callers of \
                 code compiled without frame pointers, such as that of most C libraries"
            ),
        ),
    }
}

/// What `--wake-source` can tell, and by which means.
fn sources(types: Option<&KernelTypes>) -> Capability {
    const NAME: &str = "--wake-source";
    let Some(types) = types else {
        return degraded(NAME, "needs BTF: what ends a wait cannot be told".into());
    };
    let found = source::constants(SourceDetail::Port, types)
        .and_then(|_| source::functions(SourceDetail::Port));
    match found {
        Ok(_) => ok(NAME, format!("by {}", source::Method::of_kernel().name())),
        Err(error) => degraded(NAME, format!("{error:#}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_ring_buffers() {
        let state = |lock: &str| judge_lock(Ok(lock.into())).state;
        assert_eq!(state("spinlock_t"), CapabilityState::Missing);
        assert_eq!(state("raw_spinlock_t"), CapabilityState::Ok);
        assert_eq!(state("rqspinlock_t"), CapabilityState::Ok);
        assert_eq!(judge_lock(Err(anyhow::anyhow!("no types"))).state, CapabilityState::Degraded);
    }

    #[test]
    fn the_lock_of_ring_buffers_of_this_kernel() {
        let types = KernelTypes::of_running_kernel().unwrap();
        let lock = types.type_of("bpf_ringbuf", "spinlock").unwrap();
        assert!(["spinlock_t", "raw_spinlock_t", "rqspinlock_t"].contains(&lock), "{lock}");
    }
}
