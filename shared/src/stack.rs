use crate::assert_packed;

/// The most frames that are kept of one stack, and the kernel's default limit (`perf_event_max_stack`).
pub const MAX_FRAMES: usize = 127;

/// Where a stack was taken.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackContext {
    /// In the program of a process.
    User = 0,
    /// In the kernel, on behalf of the current thread.
    Kernel = 1,
    /// In the kernel, in an interrupt: the frames end with the interrupt's entry.
    Interrupt = 2,
}

/// A stack. Its id is a hash of all of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// The process whose addresses these are; 0 for a kernel stack.
    pub tgid: u32,
    /// The program of the process, see [`crate::TaskId::exec_id`]; 0 for a kernel stack.
    pub exec_id: u32,
    /// How many of `frames` are set; the others are leftovers.
    pub len: u16,
    /// A [`crate::StackEnd`]; 0 for a kernel stack.
    pub end: u16,
    /// A [`StackContext`].
    pub context: u32,
    /// Addresses, innermost first. All but the first are return addresses.
    pub frames: [u64; MAX_FRAMES],
}
assert_packed!(Stack, 16 + 8 * MAX_FRAMES);

/// What the ring buffer `STACKS` has of a stack: its id and the stack, without the frames that are not set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRecord {
    /// The id of the stack.
    pub id: u64,
    /// The stack.
    pub stack: Stack,
}
assert_packed!(StackRecord, 8 + size_of::<Stack>());

impl StackRecord {
    /// How many bytes there are before the frames.
    pub const HEAD: usize = 24;
}
