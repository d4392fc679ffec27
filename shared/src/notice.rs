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

/// Why user space is told of a program.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Its first stack was seen.
    New = 0,
    /// An address was in none of its mappings: it has mapped more code.
    Unmapped = 1,
    /// It was executed.
    Executed = 2,
}

/// Sent through the ring buffer `NOTICES`: user space reads the mappings of the process while it
/// lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The program.
    pub program: Program,
    /// `mm_struct::start_stack`, which `/proc/PID/stat` shows as well: tells whether the process
    /// still runs this program when its mappings are read.
    pub start_stack: u64,
    /// A [`NoticeKind`].
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}
assert_packed!(Notice, 24);
