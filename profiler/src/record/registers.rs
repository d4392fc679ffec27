//! The constants of the BPF programs that are of the architecture.

use anyhow::Result;

use super::btf::KernelTypes;
use crate::arch::Architecture;

/// Where the kernel keeps the registers of a program.
pub(super) fn offsets(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let registers = Architecture::OWN.facts().kernel.registers.iter();
    let offset = |&(name, member, further): &(&'static str, &str, u32)| {
        Ok((name, types.offset_of("pt_regs", &[member])? + further))
    };
    registers.map(offset).collect()
}

/// What of a return address is an address.
pub(super) fn masks() -> Option<(&'static str, u64)> {
    let is_signed = Architecture::OWN.facts().kernel.has_signed_addresses;
    is_signed.then(|| ("ADDRESS_MASK", Architecture::address_mask()))
}
