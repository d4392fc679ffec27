use crate::{Stack, TaskId, UserRegisters, assert_packed};

/// A thread that exists when the recording begins: what the iterator over tasks writes, one after
/// the other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExistingThread {
    /// The thread.
    pub task: TaskId,
    /// See [`crate::Notice::start_stack`].
    pub start_stack: u64,
    /// Its registers in its program.
    pub registers: UserRegisters,
    /// The bits of its task state.
    pub state: u32,
    /// 1 while it runs.
    pub on_cpu: u32,
    /// Its key in the map `THREADS`.
    pub key: u32,
    /// 0.
    pub reserved: u32,
    /// Its kernel stack.
    pub kernel: Stack,
}
assert_packed!(ExistingThread, 32 + 8 + 48 + 16 + 16 + 8 * crate::MAX_FRAMES);
