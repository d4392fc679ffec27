//! News of executable mappings, from the kernel's own: a `perf` event that counts nothing, and whose
//! ring buffer gets a record of each new one (`perf_event_mmap` in kernel/events/core.c).
//!
//! A library that is loaded where another one was looks to the BPF programs as if nothing had changed,
//! and walking its frames by the old tables leads anywhere.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya_obj::generated::{perf_event_mmap_page, perf_event_type, perf_sw_ids, perf_type_id};
use hashbrown::HashSet;

use super::descriptor;
use crate::snapshot::system;

/// Pages of one ring, beside the one of its header: a power of two. A record has the name of a file:
/// there is room for hundreds.
const PAGES: usize = 8;

/// The rings of all CPUs.
pub(super) struct Mmaps {
    rings: Vec<Ring>,
}

impl Mmaps {
    /// Asks for the news on all CPUs. Where the kernel refuses there are none: then mappings are looked
    /// at once a second.
    pub(super) fn open() -> Self {
        let cpus = i32::try_from(system::cpus()).unwrap_or(1);
        // A CPU that is not online has none.
        Self { rings: (0..cpus).filter_map(|cpu| Ring::open(cpu).ok()).collect() }
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.rings.iter().map(|ring| ring.fd.as_raw_fd())
    }

    /// The processes that have mapped code since the last call; `None` if some news were lost.
    pub(super) fn take(&mut self) -> Option<HashSet<u32>> {
        let mut pids = HashSet::new();
        let mut is_complete = true;
        for ring in &mut self.rings {
            is_complete &= ring.take(|pid| {
                pids.insert(pid);
            });
        }
        is_complete.then_some(pids)
    }
}

struct Ring {
    fd: OwnedFd,
    /// The header, and behind it the data.
    base: NonNull<perf_event_mmap_page>,
    page: usize,
}

// SAFETY: the mapping belongs to the value, wherever that is.
unsafe impl Send for Ring {}

impl Ring {
    fn open(cpu: i32) -> io::Result<Self> {
        let kind = perf_type_id::PERF_TYPE_SOFTWARE as u32;
        let config = perf_sw_ids::PERF_COUNT_SW_DUMMY as u64;
        let fd = descriptor::perf_event(cpu, kind, config, |attr| {
            attr.set_mmap(1);
            attr.set_watermark(1);
            // Whoever polls is woken by the first byte.
            attr.__bindgen_anon_2.wakeup_watermark = 1;
        })?;
        // SAFETY: the call takes no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page * (1 + PAGES),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { fd, base, page })
    }

    /// Calls `visit` with the process of each record. Whether none was lost.
    fn take(&mut self, mut visit: impl FnMut(u32)) -> bool {
        let header = self.base.as_ptr();
        // SAFETY: both are aligned words of the mapped header, which the kernel and this thread share
        // as atomics (include/uapi/linux/perf_event.h).
        let (head, tail) = unsafe {
            (
                AtomicU64::from_ptr(&raw mut (*header).data_head),
                AtomicU64::from_ptr(&raw mut (*header).data_tail),
            )
        };
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        let mut is_complete = true;
        while at < end {
            // `perf_event_header`, then of a mapping the pid and the tid: records are whole words.
            let [kind, size] = [self.word(at) as u32, (self.word(at) >> 48) as u32];
            match kind {
                kind if kind == perf_event_type::PERF_RECORD_MMAP as u32 => {
                    visit(self.word(at + 8) as u32);
                }
                kind if kind == perf_event_type::PERF_RECORD_LOST as u32 => is_complete = false,
                _ => {}
            }
            at += u64::from(size.max(8));
        }
        tail.store(end, Ordering::Release);
        is_complete
    }

    /// A word of the data, which wraps around.
    fn word(&self, at: u64) -> u64 {
        let size = self.page * PAGES;
        let offset = self.page + at as usize % size;
        // SAFETY: in the mapping, and aligned, since records are.
        unsafe { self.base.as_ptr().byte_add(offset).cast::<u64>().read_volatile() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let len = self.page * (1 + PAGES);
        // SAFETY: the mapping is this value's, and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast::<c_void>(), len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_maps_is_told() {
        if Ring::open(0).is_err() {
            return crate::skip::skip(this_test!(), "it needs root or CAP_PERFMON");
        }
        let mut mmaps = Mmaps::open();
        let map_code = |times: u32| {
            for _ in 0..times {
                let executable = libc::PROT_READ | libc::PROT_EXEC;
                let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                // SAFETY: a new mapping, that nobody uses.
                unsafe {
                    let map = libc::mmap(std::ptr::null_mut(), 4096, executable, private, -1, 0);
                    libc::munmap(map, 4096);
                }
            }
        };
        let own = std::process::id();
        // Together more than a ring holds.
        for _ in 0..100 {
            map_code(100);
            assert!(mmaps.take().is_none_or(|pids| pids.contains(&own)));
        }
        // The kernel says that there was no room when there is again: on the same CPU.
        let mut is_lost = false;
        for _ in 0..20 {
            map_code(2_000);
            mmaps.take();
            map_code(1);
            is_lost |= mmaps.take().is_none();
        }
        assert!(is_lost);
        map_code(1);
        assert!(mmaps.take().is_some(), "and it goes on");
    }
}
