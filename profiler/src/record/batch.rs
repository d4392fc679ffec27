//! Reading whole BPF hash maps, many entries a system call.
//!
//! aya has no batch operations; these are `BPF_MAP_LOOKUP_BATCH` and
//! `BPF_MAP_LOOKUP_AND_DELETE_BATCH` (kernel/bpf/syscall.c, 5.6+).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_int = 25;

/// `union bpf_attr` of the batch commands.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Plain data that a map may hold: any bytes of its size are a value.
///
/// # Safety
/// The type must have no padding, no pointers, and no invalid bit patterns.
pub(super) unsafe trait Plain: Copy {}

/// How many entries are asked for at once. A bucket of a hash map is returned as a whole, so this
/// must exceed the longest; with more buckets than entries they have a few.
const ENTRIES: usize = 1024;

/// Memory for the entries of one system call, to be used again.
pub(super) struct Buffers<K, V> {
    keys: Vec<MaybeUninit<K>>,
    values: Vec<MaybeUninit<V>>,
}

impl<K: Plain, V: Plain> Buffers<K, V> {
    /// Memory is taken when it is needed.
    pub(super) const fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    /// Calls `visit` for every entry.
    pub(super) fn for_each(
        &mut self,
        map: BorrowedFd<'_>,
        visit: impl FnMut(&K, &V),
    ) -> io::Result<()> {
        self.read(map, BPF_MAP_LOOKUP_BATCH, visit)
    }

    /// Deletes every entry and calls `visit` for it. Each is read and deleted as one step.
    pub(super) fn drain(
        &mut self,
        map: BorrowedFd<'_>,
        visit: impl FnMut(&K, &V),
    ) -> io::Result<()> {
        self.read(map, BPF_MAP_LOOKUP_AND_DELETE_BATCH, visit)
    }

    fn read(
        &mut self,
        map: BorrowedFd<'_>,
        command: libc::c_int,
        mut visit: impl FnMut(&K, &V),
    ) -> io::Result<()> {
        let Self { keys, values } = self;
        let mut capacity = ENTRIES.max(keys.capacity());
        // Hash maps take and give the number of a bucket.
        let mut next_bucket: Option<u32> = None;
        loop {
            keys.clear();
            values.clear();
            keys.reserve(capacity);
            values.reserve(capacity);
            let mut out_bucket = 0u32;
            let mut attr = BatchAttr {
                in_batch: next_bucket.as_ref().map_or(0, |bucket| bucket as *const u32 as u64),
                out_batch: &raw mut out_bucket as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(capacity).expect("a few thousand"),
                map_fd: u32::try_from(map.as_raw_fd()).expect("a file descriptor"),
                ..BatchAttr::default()
            };
            let size = size_of::<BatchAttr>();
            // SAFETY: the attribute points to memory that holds what the kernel writes: `count` keys
            // and values and one bucket number.
            let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size) };
            let error = (result < 0).then(io::Error::last_os_error);
            let finished = match error.as_ref().map(|error| error.raw_os_error()) {
                None => false,
                Some(Some(libc::ENOENT)) => true,
                // A bucket has more entries than there is room; nothing was read or deleted.
                Some(Some(libc::ENOSPC)) if capacity < 1 << 20 => {
                    capacity *= 4;
                    continue;
                }
                Some(_) => return Err(error.expect("there is one")),
            };
            let count = attr.count as usize;
            // SAFETY: the kernel wrote `count` entries, within the capacity, and they are plain data.
            unsafe {
                keys.set_len(count);
                values.set_len(count);
                for (key, value) in keys.iter().zip(values.iter()) {
                    visit(key.assume_init_ref(), value.assume_init_ref());
                }
            }
            if finished {
                return Ok(());
            }
            next_bucket = Some(out_bucket);
        }
    }
}
