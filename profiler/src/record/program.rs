//! What the kernel says of a program that is loaded.

use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::bpf_prog_info;

/// How often the kernel did not run this program because it was running on that CPU already.
pub(super) fn recursion_misses(program: BorrowedFd<'_>) -> u64 {
    program_info(program).map_or(0, |info| info.recursion_misses)
}

/// For how long the kernel has measured this program to run, in ns.
pub(super) fn run_time_ns(program: BorrowedFd<'_>) -> u64 {
    program_info(program).map_or(0, |info| info.run_time_ns)
}

/// What the kernel says of a program; `None` if it does not tell.
pub(super) fn program_info(program: BorrowedFd<'_>) -> Option<bpf_prog_info> {
    /// `union bpf_attr` of the command.
    #[repr(C)]
    struct InfoAttr {
        fd: u32,
        len: u32,
        info: u64,
    }
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    // SAFETY: the type is plain data, for which zeros are valid.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = InfoAttr {
        fd: u32::try_from(program.as_raw_fd()).expect("a file descriptor"),
        len: u32::try_from(size_of::<bpf_prog_info>()).expect("a few hundred bytes"),
        info: &raw mut info as u64,
    };
    // SAFETY: the attribute points to as many bytes as it says.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut attr, size_of::<InfoAttr>())
    };
    (result == 0).then_some(info)
}
