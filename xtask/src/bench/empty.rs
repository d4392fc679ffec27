//! BPF programs that do nothing, on the tracepoints of every tracer here: what it takes to be called at all.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result};

/// The tracepoints, which are also the names of the programs.
pub(crate) const TRACEPOINTS: [&CStr; 2] = [c"sched_switch", c"sched_waking"];

/// The programs run as long as this lives.
pub(crate) struct Empty {
    _descriptors: Vec<OwnedFd>,
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that this needs (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    instructions: u32,
    first_instruction: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The same for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenAttr {
    name: u64,
    program: u32,
    reserved: u32,
}

impl Empty {
    /// Loads and attaches them.
    pub(crate) fn start() -> Result<Self> {
        const LOAD: libc::c_long = 5;
        const OPEN: libc::c_long = 17;
        const RAW_TRACEPOINT: u32 = 17;
        /// `r0 = 0; exit`.
        const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
        let mut descriptors = Vec::new();
        for tracepoint in TRACEPOINTS {
            let mut attr = LoadAttr {
                kind: RAW_TRACEPOINT,
                instructions: INSTRUCTIONS.len() as u32,
                first_instruction: INSTRUCTIONS.as_ptr() as u64,
                license: c"GPL".as_ptr() as u64,
                ..LoadAttr::default()
            };
            for (to, from) in attr.name.iter_mut().zip(tracepoint.to_bytes()) {
                *to = *from;
            }
            let program = bpf(LOAD, &attr).context("cannot load an empty BPF program")?;
            let program_fd = program.as_raw_fd().cast_unsigned();
            let attr =
                OpenAttr { name: tracepoint.as_ptr() as u64, program: program_fd, reserved: 0 };
            let link = bpf(OPEN, &attr).context("cannot attach an empty BPF program")?;
            descriptors.extend([program, link]);
        }
        Ok(Self { _descriptors: descriptors })
    }
}

/// A `bpf` command that returns a descriptor.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is as large as it says, and what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
