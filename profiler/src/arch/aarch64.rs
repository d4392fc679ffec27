//! 64-bit Arm. DWARF: "DWARF for the Arm 64-bit Architecture", 4.1.

use offwake_shared::CfaKind;

use super::{
    Architecture, DwarfRegisters, ENTRY_TEXT_END, Facts, InterruptEntries, Kernel, ReturnAddress,
    Sigreturn,
};

/// Bytes of a register in `pt_regs`.
const REGISTER: u32 = 8;

pub(super) static FACTS: Facts = Facts {
    name: "aarch64",
    machine: 183,
    dwarf: DwarfRegisters { sp: 31, fp: 29, other: 30, return_address: 30, keeps_return: None },
    return_address: ReturnAddress::InOther,
    cfa_kinds: &[CfaKind::Sp, CfaKind::Fp],
    // svc #0
    syscall: &[0x01, 0x00, 0x00, 0xd4],
    // `mov x8, #139`, then `svc #0`, where 139 is `rt_sigreturn`: mostly the kernel's own, in the vDSO.
    sigreturn: Sigreturn { begins: &[&[]], end: &[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4] },
    // stp x16, x30, [sp, #-16]!
    linkage_push: Some(&[0xf0, 0x7b, 0xbf, 0xa9]),
    padding,
    kernel: Kernel {
        registers: &[
            ("REGS_FP", "regs", 29 * REGISTER),
            ("REGS_SP", "sp", 0),
            ("REGS_PC", "pc", 0),
            ("REGS_PSTATE", "pstate", 0),
            ("REGS_SYSCALL", "syscallno", 0),
            ("SYSCALL_ARGUMENT_0", "orig_x0", 0),
            ("REGS_ARGUMENT_0", "regs", 0),
            ("REGS_ARGUMENT_1", "regs", REGISTER),
            ("EPOLL_CALL", "syscallno", 0),
            // The result takes the place of the argument.
            ("EPOLL_CALL_0", "orig_x0", 0),
            ("EPOLL_CALL_1", "regs", REGISTER),
            ("EPOLL_CALL_2", "regs", 2 * REGISTER),
            ("EPOLL_CALL_3", "regs", 3 * REGISTER),
            ("EPOLL_ARGUMENT_2", "regs", 2 * REGISTER),
        ],
        has_signed_addresses: true,
        interrupt_entries: &[
            InterruptEntries { cpu_flag: None, is_entry: is_interrupt_entry, end: ENTRY_TEXT_END },
            InterruptEntries { cpu_flag: None, is_entry: was_interrupt_entry, end: ENTRY_TEXT_END },
        ],
        // Return addresses are signed, each for its place.
        code: None,
        stack_top: || Architecture::address_mask() + 1,
    },
};

/// Zeros, which are an instruction that is never defined, or a `nop`.
fn padding(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0, ..] => Some(1),
        [0x1f, 0x20, 0x03, 0xd5, ..] => Some(4),
        _ => None,
    }
}

/// The vectors for interrupts (arch/arm64/kernel/entry.S, since 5.14): from the kernel, and from programs of
/// 64 and of 32 bits. A fast interrupt (`fiq`) is one as well.
fn is_interrupt_entry(name: &str) -> bool {
    let vector = ["el1h_64_", "el0t_64_", "el0t_32_"].iter().find_map(|of| name.strip_prefix(of));
    matches!(vector, Some("irq" | "fiq"))
}

/// The same up to 5.13: from the kernel, and what those from programs have in common, behind a label of its own, from
/// which alone they call. Newer kernels have the first name in a hypervisor.
fn was_interrupt_entry(name: &str) -> bool {
    matches!(name, "el1_irq" | "el1_fiq" | "el0_irq_naked" | "el0_fiq_naked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_no_interrupts() {
        for name in ["el1h_64_irq", "el0t_64_irq", "el0t_32_fiq"] {
            assert!(is_interrupt_entry(name), "{name}");
        }
        for name in ["el1_irq", "el0_irq_naked"] {
            assert!(was_interrupt_entry(name) && !is_interrupt_entry(name), "{name}");
        }
        // The C functions behind the vectors lie elsewhere, and every stack has the vector too.
        for name in ["el1h_64_sync", "el0t_64_error", "el0t_64_irq_handler", "el1_sync"] {
            assert!(!is_interrupt_entry(name) && !was_interrupt_entry(name), "{name}");
        }
    }
}
