//! Whether the kernel compiles BPF programs.

use std::os::fd::AsFd;

use super::descriptor::owned;
use super::program::program_info;

/// Whether the kernel compiles BPF programs, or interprets them; `None` if these privileges cannot tell. A
/// program that does nothing is loaded to see: `net.core.bpf_jit_enable` is for root only, and says nothing
/// of kernels that have no compiler.
pub(super) fn is_on() -> Option<bool> {
    /// `union bpf_attr` of the command (5.10: what is behind these is optional).
    #[repr(C)]
    struct LoadAttr {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const SOCKET_FILTER: u32 = 1;
    // `r0 = 0` and `exit` (Documentation/bpf/standardization/instruction-set.rst).
    let code: [u64; 2] = [0xb7, 0x95];
    let attr = LoadAttr {
        kind: SOCKET_FILTER,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // SAFETY: the attribute points to as many instructions as it says, and to a string that ends with 0.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<LoadAttr>())
    };
    let program = owned(result).ok()?;
    Some(program_info(program.as_fd())?.jited_prog_len != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::skip::skip;

    #[test]
    fn agrees_with_the_kernels_own_switch() {
        let Ok(switch) = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") else {
            return skip(this_test!(), "the kernel's switch is for root only");
        };
        let Some(is_on) = super::is_on() else {
            return skip(this_test!(), "loading a program needs root or CAP_BPF");
        };
        assert_eq!(is_on, switch.trim() != "0");
    }
}
