use crate::assert_packed;

/// Which program a process runs: a value of the map `SEEN`'s key.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Program {
    /// The process.
    pub tgid: u32,
    /// See [`crate::TaskId::exec_id`].
    pub exec_id: u32,
}
assert_packed!(Program, 8);

/// Sent through the ring buffer `NOTICES` when a stack of a program is seen for the first time:
/// user space reads the mappings of the process while it lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The program.
    pub program: Program,
    /// `mm_struct::start_stack`, which `/proc/PID/stat` shows as well: tells whether the process
    /// still runs this program when its mappings are read.
    pub start_stack: u64,
}
assert_packed!(Notice, 16);
