use crate::assert_packed;

/// Sent through the ring buffer `NOTICES` when a stack of a program is seen for the first time:
/// user space reads the mappings of the process while it lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Notice {
    /// The process.
    pub tgid: u32,
    /// How many times it had called `execve`: another program since, other mappings.
    pub exec_id: u32,
}
assert_packed!(Notice, 8);
