//! The marks of threads, which the programs look at first (profiler-ebpf/src/marks.rs).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Map;
use offwake_shared::{MARKS_CHUNK, Mark, MarksChunk};

use crate::snapshot::system;

/// How many chunks hold a mark for each thread that there can be.
pub(super) fn chunks() -> u32 {
    (system::max_threads() / MARKS_CHUNK as u32) + 1
}

/// The array of marks, which user space and the programs share.
pub(super) struct Marks {
    first: NonNull<AtomicU8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone on this side, and is written atomically.
unsafe impl Send for Marks {}

impl Marks {
    /// Maps the array of loaded programs, which has [`chunks`].
    pub(super) fn new(bpf: &Ebpf) -> Result<Self> {
        let Some(Map::Array(map)) = bpf.map("MARKS") else {
            unreachable!("the marks are an array of the object")
        };
        let len = chunks() as usize * size_of::<MarksChunk>();
        // SAFETY: a new mapping, of which the kernel chooses the place.
        let first = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map the marks of threads");
        }
        let first = NonNull::new(first.cast()).context("the marks of threads are nowhere")?;
        Ok(Self { first, len })
    }

    /// Marks a thread. Beyond the marks, the programs take all threads for marked.
    pub(super) fn set(&self, tid: u32, mark: Mark) {
        let byte = mark.byte(tid);
        if byte < self.len {
            // SAFETY: the byte lies in the mapping, which lives as long as this value.
            unsafe { self.first.add(byte).as_ref() }.store(1, Ordering::Release);
        }
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing refers to it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.len) };
    }
}
