//! Keys and values of maps, as aya wants them.

use offwake_shared::{
    Counters, EpollBytes, EpollCounters, EpollFd, EpollWaiter, Program, ThreadState, UNWIND_CHUNK,
    UnwindMapping, UnwindProgram, UnwindRow, UnwindRule,
};

/// One of them.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Pod<T>(pub(super) T);

macro_rules! pods {
    ($($abi:ty,)*) => {$(
        // SAFETY: an ABI type: plain data without padding.
        unsafe impl aya::Pod for Pod<$abi> {}
    )*};
}

pods! {
    Counters,
    EpollBytes,
    EpollCounters,
    EpollFd,
    EpollWaiter,
    Program,
    ThreadState,
    UnwindMapping,
    UnwindProgram,
    UnwindRule,
    [UnwindRow; UNWIND_CHUNK],
    [u32; UNWIND_CHUNK],
}
