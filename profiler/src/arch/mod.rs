//! What offwake knows of the architectures that it runs on: a file for each, and in it nothing else.
//!
//! Recording is of offwake's own. ELF files are read of any of them, which tests make use of. What the BPF
//! programs know is in a file of theirs (profiler-ebpf/src/arch).

mod aarch64;
mod x86_64;

use std::fmt;
use std::ops::Range;

use offwake_shared::CfaKind;

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

#[cfg(target_arch = "x86_64")]
const OWN: Architecture = Architecture::X86_64;
#[cfg(target_arch = "aarch64")]
const OWN: Architecture = Architecture::Aarch64;

impl Architecture {
    /// That of offwake itself.
    pub const OWN: Self = OWN;

    /// The one whose ELF files have this `e_machine`, if it is known.
    pub(crate) fn of_machine(machine: u16) -> Option<Self> {
        let all = [Self::X86_64, Self::Aarch64];
        all.into_iter().find(|architecture| architecture.facts().machine == machine)
    }

    /// What is known of it.
    pub(crate) const fn facts(self) -> &'static Facts {
        match self {
            Self::X86_64 => &x86_64::FACTS,
            Self::Aarch64 => &aarch64::FACTS,
        }
    }

    /// The bits of a pointer that are an address in a program, for offwake's own architecture. In those
    /// above, a program may keep something else.
    pub(crate) fn address_mask() -> u64 {
        // The name of the program is at the very end of the address space, above the stack.
        // SAFETY: getauxval only reads the auxiliary vector.
        match unsafe { libc::getauxval(libc::AT_EXECFN) } {
            0 => (1 << 48) - 1,
            end => u64::MAX >> end.leading_zeros(),
        }
    }
}

impl Default for Architecture {
    fn default() -> Self {
        Self::OWN
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

/// What is known of an architecture.
pub(crate) struct Facts {
    pub(crate) name: &'static str,
    /// `e_machine` of its ELF files.
    pub(crate) machine: u16,
    pub(crate) dwarf: DwarfRegisters,
    pub(crate) return_address: ReturnAddress,
    /// The kinds of canonical frame addresses that a walk can follow.
    pub(crate) cfa_kinds: &'static [CfaKind],
    /// The instruction that calls the kernel.
    pub(crate) syscall: &'static [u8],
    pub(crate) sigreturn: Sigreturn,
    /// The instruction with which the procedure linkage table saves the return address, where linkers do not
    /// describe that table.
    pub(crate) linkage_push: Option<&'static [u8]>,
    /// The length of the instruction with which these bytes begin, if it is one that pads code: a
    /// breakpoint, or one that does nothing.
    pub(crate) padding: fn(&[u8]) -> Option<usize>,
    pub(crate) kernel: Kernel,
}

/// The numbers that call frame information has for registers.
pub(crate) struct DwarfRegisters {
    pub(crate) sp: u16,
    pub(crate) fp: u16,
    /// The other register that is followed, see [`offwake_shared::UnwindRule`].
    pub(crate) other: u16,
    /// The column of the return address.
    pub(crate) return_address: u16,
    /// A register that may keep the return address of the innermost frame; see [`CfaKind::ReturnInDi`].
    pub(crate) keeps_return: Option<u16>,
}

/// Where a return address is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnAddress {
    /// Always in the word below the canonical frame address, where calls push it.
    BelowCfa,
    /// In the other register, and where a function saved that.
    InOther,
}

/// The code that returns from a signal: how it may begin, and what follows.
pub(crate) struct Sigreturn {
    pub(crate) begins: &'static [&'static [u8]],
    pub(crate) end: &'static [u8],
}

/// A way in which interrupts enter the kernel.
pub(crate) struct InterruptEntries {
    /// The flag in `/proc/cpuinfo` of CPUs that are used so; `None`: all others.
    pub(crate) cpu_flag: Option<&'static str>,
    /// Whether the function of this name is one through which they come.
    pub(crate) is_entry: fn(&str) -> bool,
    /// A symbol that they all lie before; `None`: they may be anywhere.
    pub(crate) end: Option<&'static str>,
}

/// The end of the section `.entry.text` (include/asm-generic/vmlinux.lds.h).
const ENTRY_TEXT_END: Option<&str> = Some("__entry_text_end");

/// What is known of its kernel.
pub(crate) struct Kernel {
    /// Constants of the BPF programs: the name, the member of `pt_regs` that it is the offset of, and how
    /// many bytes further.
    pub(crate) registers: &'static [(&'static str, &'static str, u32)],
    /// Whether the BPF programs need [`Architecture::address_mask`].
    pub(crate) has_signed_addresses: bool,
    /// Where interrupts enter the kernel: the newest way first. It is the first that the CPU has, and of which the kernel
    /// has a function.
    pub(crate) interrupt_entries: &'static [InterruptEntries],
    /// Where all code of the kernel is, also that of modules and BPF programs, where its unwinder finds callers
    /// in words of the stack that are such addresses or point into the stack. `None`: it does otherwise.
    pub(crate) code: Option<Range<u64>>,
    /// Where a stack ends that is not at a random place.
    pub(crate) stack_top: fn() -> u64,
}
