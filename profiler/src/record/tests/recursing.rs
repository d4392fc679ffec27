//! A BPF program that runs into itself: it sits on the tracepoint that its own helper emits.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const TRACEPOINT: &CStr = c"bpf_trace_printk";
const LICENSE: &CStr = c"GPL";

/// `bpf_trace_printk("x", 2); return 0;` (`struct bpf_insn`: code, registers, offset, immediate).
const INSTRUCTIONS: [u64; 7] = [
    0x0000_0078_fff8_0a6a, // *(u16 *)(r10 - 8) = 'x', 0
    0x0000_0000_0000_a1bf, // r1 = r10
    0xffff_fff8_0000_0107, // r1 += -8
    0x0000_0002_0000_02b7, // r2 = 2
    0x0000_0006_0000_0085, // call bpf_trace_printk
    0x0000_0000_0000_00b7, // r0 = 0
    0x0000_0000_0000_0095, // exit
];

pub(super) struct Program(OwnedFd);

impl Program {
    pub(super) fn load() -> io::Result<Self> {
        /// `union bpf_attr` of the command, as far as it is used.
        #[repr(C)]
        struct Attr {
            kind: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
        }
        let attr = Attr {
            kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
            instruction_count: INSTRUCTIONS.len() as u32,
            instructions: INSTRUCTIONS.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
        };
        let fd = bpf(BPF_PROG_LOAD, &attr)?;
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Attached until the descriptor is closed.
    pub(super) fn attach(&self) -> io::Result<OwnedFd> {
        /// As above.
        #[repr(C)]
        struct Attr {
            name: u64,
            program: u32,
            reserved: u32,
        }
        let attr = Attr {
            name: TRACEPOINT.as_ptr() as u64,
            program: self.0.as_raw_fd() as u32,
            reserved: 0,
        };
        let fd = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr)?;
        // SAFETY: the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Runs the program once: by its helper the kernel runs it again, and by the helper of that
    /// run refuses to.
    pub(super) fn run(&self) -> io::Result<()> {
        /// As above.
        #[repr(C)]
        #[derive(Default)]
        struct Attr {
            program: u32,
            rest: [u32; 19],
        }
        let attr = Attr { program: self.0.as_raw_fd() as u32, ..Attr::default() };
        bpf(BPF_PROG_TEST_RUN, &attr).map(|_| ())
    }
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<i32> {
    // SAFETY: the attribute is that of the command, and what it points to is static.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
