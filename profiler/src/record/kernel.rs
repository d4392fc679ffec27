//! Which kernel runs.

use std::ffi::CStr;

use super::jit;

/// The version of a kernel: 6.1.36 is `Version(6, 1, 36)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

/// `uname -r`.
pub(super) fn release() -> String {
    names().0
}

/// The version of the running kernel; 0.0.0 if it does not tell.
pub(super) fn version() -> Version {
    let (release, build) = names();
    parse(&release, &build)
}

/// Why this kernel has no `bpf_loop`, without which BPF cannot walk a stack of any depth by call frame
/// information; `None` if it has.
pub(super) fn why_no_bpf_loop() -> Option<&'static str> {
    if version() < Version(5, 17, 0) {
        Some("needs Linux 5.17 or newer")
    } else if jit::is_on() == Some(false) {
        // What is interpreted can have no callbacks (`jit_subprogs` in kernel/bpf/verifier.c).
        Some("needs the kernel's BPF compiler (`sysctl net.core.bpf_jit_enable=1`)")
    } else {
        None
    }
}

/// Whether the running kernel is preempt-RT, whose `spinlock_t` sleeps.
pub(super) fn is_realtime() -> bool {
    is_realtime_build(&names().1)
}

/// As those say it of themselves: `#1 SMP PREEMPT_RT Debian 6.1.176-1 (2026-05-01)`.
fn is_realtime_build(build: &str) -> bool {
    build.split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// Whether programs with `bpf_loop` are used. `unwinds`: user stacks are walked by call frame information.
pub(super) fn uses_bpf_loop(unwinds: bool) -> bool {
    why_no_bpf_loop().is_none() && version().may_read_into_maps(unwinds)
}

impl Version {
    /// Whether this kernel has `bpf_get_current_task_btf`.
    pub(super) fn has_current_task(self) -> bool {
        self >= Self(5, 11, 0)
    }

    /// Whether this kernel has `bpf_task_pt_regs`.
    pub(super) fn has_task_registers(self) -> bool {
        self >= Self(5, 15, 0)
    }

    /// Whether the memory of BPF maps and programs counts as locked memory, which is limited for each user.
    pub(super) fn limits_locked_memory(self) -> bool {
        self < Self(5, 11, 0)
    }

    /// Whether reading user memory from BPF into a map may freeze this kernel: with hardened usercopy it looks up
    /// where the bytes go, and takes a lock for it that whoever was interrupted may hold
    /// (`check_heap_object` in mm/usercopy.c; repaired in 6.1.36, 6.3.10 and 6.4). It does not for a stack of its own.
    pub(super) fn may_freeze(self) -> bool {
        let affected = Self(5, 19, 0)..Self(6, 4, 0);
        let repaired = [Self(6, 1, 36)..Self(6, 2, 0), Self(6, 3, 10)..Self(6, 4, 0)];
        affected.contains(&self) && !repaired.iter().any(|range| range.contains(&self))
    }

    /// Whether programs may read user memory into maps, as those with `bpf_loop` do: where that may freeze the kernel,
    /// only for what cannot be had without.
    fn may_read_into_maps(self, unwinds: bool) -> bool {
        unwinds || !self.may_freeze()
    }
}

/// `uname -r` and `uname -v`.
fn names() -> (String, String) {
    // SAFETY: the type is arrays of characters, for which zeros are valid; the kernel ends each
    // with a 0.
    unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut names);
        let text = |name: &[libc::c_char]| CStr::from_ptr(name.as_ptr()).to_string_lossy().into();
        (text(&names.release), text(&names.version))
    }
}

/// Debian's releases end with the number of its ABI instead of the stable update, which stands in the
/// other name: `6.1.0-56-amd64` is `#1 SMP Debian 6.1.176-1 (2026-05-01)`.
fn parse(release: &str, build: &str) -> Version {
    let release = numbers(release);
    let updated = build
        .split_once("Debian ")
        .map(|(_, version)| numbers(version))
        .filter(|other| (other.0, other.1) == (release.0, release.1));
    updated.unwrap_or(release)
}

fn numbers(text: &str) -> Version {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    let mut next = || numbers.next().unwrap_or(0);
    Version(next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_builds() {
        let version = |release, build| parse(release, build);
        assert_eq!(version("6.18.44-fc-v595", "#1 SMP"), Version(6, 18, 44));
        assert_eq!(version("5.15.0-1034-aws", "#38-Ubuntu SMP"), Version(5, 15, 0));
        assert_eq!(
            version("6.1.0-9-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.27-1 (2023-05-08)"),
            Version(6, 1, 27)
        );
        assert_eq!(version("6.1-custom", ""), Version(6, 1, 0));
        assert_eq!(version("", ""), Version(0, 0, 0));
    }

    #[test]
    fn realtime_kernels() {
        assert!(is_realtime_build("#1 SMP PREEMPT_RT Debian 6.1.176-1 (2026-05-01)"));
        assert!(!is_realtime_build("#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-05-01)"));
    }

    #[test]
    fn kernels_that_may_freeze() {
        for (version, may) in [
            (Version(5, 17, 3), false),
            (Version(5, 19, 0), true),
            (Version(6, 0, 9), true),
            (Version(6, 1, 27), true),
            (Version(6, 1, 36), false),
            (Version(6, 2, 16), true),
            (Version(6, 3, 9), true),
            (Version(6, 3, 10), false),
            (Version(6, 4, 0), false),
        ] {
            assert_eq!(version.may_freeze(), may, "{version:?}");
            assert_eq!(version.may_read_into_maps(false), !may, "{version:?} by frame pointers");
            assert!(version.may_read_into_maps(true), "{version:?}: that is forced");
        }
    }
}
