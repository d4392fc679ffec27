//! x86-64. DWARF: System V ABI, AMD64 supplement, 3.6.2.

use offwake_shared::CfaKind;

use super::{
    DwarfRegisters, ENTRY_TEXT_END, Facts, InterruptEntries, Kernel, ReturnAddress, Sigreturn,
};

pub(super) static FACTS: Facts = Facts {
    name: "x86-64",
    machine: 62,
    dwarf: DwarfRegisters { sp: 7, fp: 6, other: 3, return_address: 16, keeps_return: Some(5) },
    return_address: ReturnAddress::BelowCfa,
    cfa_kinds: &[
        CfaKind::Sp,
        CfaKind::Fp,
        CfaKind::Other,
        CfaKind::SpDeref,
        CfaKind::FpDeref,
        CfaKind::Plt,
    ],
    // syscall
    syscall: &[0x0f, 0x05],
    // `mov $15, %rax` or `mov $15, %eax`, then `syscall`, where 15 is `rt_sigreturn`.
    sigreturn: Sigreturn {
        begins: &[&[0x48, 0xc7, 0xc0], &[0xb8]],
        end: &[0x0f, 0, 0, 0, 0x0f, 0x05],
    },
    linkage_push: None,
    padding,
    kernel: Kernel {
        registers: &[
            ("REGS_IP", "ip", 0),
            ("REGS_SP", "sp", 0),
            ("REGS_FP", "bp", 0),
            ("REGS_BX", "bx", 0),
            ("REGS_SYSCALL", "orig_ax", 0),
            ("REGS_CS", "cs", 0),
            ("SYSCALL_ARGUMENT_0", "di", 0),
            ("REGS_ARGUMENT_0", "di", 0),
            ("REGS_ARGUMENT_1", "si", 0),
            ("EPOLL_CALL", "orig_ax", 0),
            ("EPOLL_CALL_0", "di", 0),
            ("EPOLL_CALL_1", "si", 0),
            ("EPOLL_CALL_2", "dx", 0),
            ("EPOLL_CALL_3", "r10", 0),
            ("EPOLL_ARGUMENT_2", "dx", 0),
        ],
        has_signed_addresses: false,
        interrupt_entries: &[
            InterruptEntries { cpu_flag: Some("fred"), is_entry: is_fred_entry, end: None },
            InterruptEntries { cpu_flag: None, is_entry: is_interrupt_entry, end: ENTRY_TEXT_END },
        ],
        // All of `__START_KERNEL_map` up to the fixed mappings (Documentation/arch/x86/x86_64/mm.rst).
        code: Some(0xffff_ffff_8000_0000..0xffff_ffff_ff00_0000),
        stack_top: || 0x7fff_ffff_f000,
    },
};

/// A zero, `int3`, or a `nop`: `90` or `0f 1f /0`, with prefixes (Intel, SDM 2B, NOP).
fn padding(bytes: &[u8]) -> Option<usize> {
    if let [0x00 | 0xcc, ..] = bytes {
        return Some(1);
    }
    let prefixes = bytes.iter().take_while(|byte| matches!(byte, 0x66 | 0x2e)).count();
    match bytes[prefixes..] {
        [0x90, ..] => Some(prefixes + 1),
        [0x0f, 0x1f, modrm, ..] => {
            let index = usize::from(modrm & 7 == 4);
            let displacement = match modrm >> 6 {
                0 => 0,
                1 => 1,
                2 => 4,
                _ => return None,
            };
            Some(prefixes + 3 + index + displacement)
        }
        _ => None,
    }
}

/// The stubs that arch/x86/include/asm/idtentry.h declares: `asm_sysvec_*` and `asm_common_interrupt`;
/// exceptions, which a thread causes itself, are `asm_exc_*`.
fn is_interrupt_entry(name: &str) -> bool {
    name == "asm_common_interrupt"
        || name == "asm_spurious_interrupt"
        || name.starts_with("asm_sysvec_")
        // As a Xen guest.
        || name == "asm_exc_xen_hypervisor_callback"
}

/// With FRED (6.9+) there is one entry for all; behind it, interrupts part from exceptions (`fred_extint` in
/// arch/x86/entry/entry_fred.c). Those of devices leave no frame there: compilers make a jump of the last call.
fn is_fred_entry(name: &str) -> bool {
    matches!(name, "fred_extint" | "common_interrupt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_no_interrupts() {
        assert!(is_interrupt_entry("asm_sysvec_apic_timer_interrupt"));
        assert!(!is_interrupt_entry("asm_exc_page_fault"));
        // On other CPUs every stack with it has its entry, too.
        assert!(!is_interrupt_entry("common_interrupt"));
        assert!(is_fred_entry("common_interrupt") && !is_fred_entry("fred_exc_nmi"));
    }
}
