//! Which file ends a `poll` or `select`.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use super::file::descriptors;
use super::maps::{CALLBACKS, HAS_CALLBACKS, SOURCE_SCRATCH, STACK_WORDS};
use super::offsets::{
    POLL_ENTRIES, POLL_ENTRY_FILE, POLL_ENTRY_QUEUE, POLL_ENTRY_SIZE, POLL_ENTRY_WAIT, POLL_LEN,
    POLL_PAGES, POLL_TASK, QUEUE_LOCK, WAIT_PRIVATE,
};
use super::queue::offwake_is_locked;
use crate::memory::{read, read_at};

/// How many entries are in `poll_wqueues` itself, at most (`N_INLINE_POLL_ENTRIES` is 9 or less).
const MAX_INLINE: u32 = 16;
/// How many of those beyond are looked at: a page of them has 63.
const MAX_IN_PAGE: u32 = 64;
/// How many descriptors are looked through for a file.
const MAX_DESCRIPTORS: u32 = 256;

/// The file that wakes the thread `task`, which sleeps in `poll` or `select` and whose registers are at this
/// address of its kernel stack. 0: not known.
///
/// The thread's `poll_wqueues` is on its kernel stack (`do_sys_poll`, `do_select` in fs/select.c), where
/// nobody knows exactly: the kernel moves the stack by a random distance in each system call, and what lies in
/// between may be left from an earlier one. But it names the thread, whoever wakes it has set `triggered` next to
/// that (`__pollwake`), and its entries name it. Of those, the one whose queue is locked is the one through which
/// the thread is woken.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_polled_file(task: u64, registers: u64) -> u64 {
    const SIZE: usize = 8 * STACK_WORDS;
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the memory is this program's; the callers do not use the stack in it.
    let stack = unsafe { &mut (*scratch).stack };
    let from = registers.wrapping_sub(SIZE as u64);
    // SAFETY: the buffer has the size that is passed.
    let error = unsafe {
        let to = stack.as_mut_ptr().cast::<c_void>();
        bpf_probe_read_kernel(to, SIZE as u32, from as *const c_void)
    };
    if error != 0 || POLL_TASK.load() == 0 || QUEUE_LOCK.load() == 0 {
        return 0;
    }
    // Upwards: Linux 7.2 takes no distance below 0 from a pointer, not even with a greater one on top of it.
    for i in 0..STACK_WORDS - 1 {
        let (Some(word), Some(next)) = (stack.get(i), stack.get(i + 1)) else { break };
        // `triggered` is 1, and `error` 0.
        if *word == task && *next == 1 {
            let address = from.wrapping_add(8 * i as u64);
            let file = offwake_waking_entry(address.wrapping_sub(u64::from(POLL_TASK.load())));
            if file != 0 {
                return file;
            }
        }
    }
    0
}

/// The file of the only entry of this `poll_wqueues` whose queue is locked; 0: none, or several, or it is no
/// `poll_wqueues`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_waking_entry(queues: u64) -> u64 {
    let size = u64::from(POLL_ENTRY_SIZE.load());
    let len: u32 = read_at(queues, &POLL_LEN);
    let (mut file, mut is_single) = (0u64, 1u32);
    for i in 0..MAX_INLINE {
        if i >= each_time(len) {
            break;
        }
        let entry = queues + u64::from(POLL_ENTRIES.load()) + u64::from(i) * size;
        if offwake_is_waking_entry(queues, entry) != 0 {
            let this: u64 = read_at(entry, &POLL_ENTRY_FILE);
            is_single &= u32::from(file == 0 || file == this);
            file = this;
        }
    }
    // `poll_table_page`: the next page, the end of what is used in this one, and the entries.
    let page: u64 = read_at(queues, &POLL_PAGES);
    if page != 0 {
        let end: u64 = read(page + 8);
        for i in 0..MAX_IN_PAGE {
            let entry = page + 16 + u64::from(i) * size;
            if entry >= each_time(end) {
                break;
            }
            if offwake_is_waking_entry(queues, entry) != 0 {
                let this: u64 = read_at(entry, &POLL_ENTRY_FILE);
                is_single &= u32::from(file == 0 || file == this);
                file = this;
            }
        }
        // There are more.
        is_single &= u32::from(read::<u64>(page) == 0);
    }
    if is_single != 0 { file } else { 0 }
}

/// Whether an entry is one of this `poll_wqueues`, and its queue is locked: 1 if so.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_is_waking_entry(queues: u64, entry: u64) -> u32 {
    let wait = entry.wrapping_add(u64::from(POLL_ENTRY_WAIT.load()));
    if read_at::<u64>(wait, &WAIT_PRIVATE) != queues {
        return 0;
    }
    offwake_is_locked(read_at(entry, &POLL_ENTRY_QUEUE))
}

/// The file of the entry that `pollwake` was called with last on this CPU, if it is one of the thread `task` and
/// its queue is locked. 0: none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_polled_by_callback(task: u64) -> u64 {
    if HAS_CALLBACKS.load() == 0 {
        return 0;
    }
    let Some(callbacks) = CALLBACKS.get_ptr(0) else { return 0 };
    // SAFETY: the value is this CPU's.
    let wait = unsafe { (*callbacks).poll };
    let queues: u64 = read_at(wait, &WAIT_PRIVATE);
    let entry = wait.wrapping_sub(u64::from(POLL_ENTRY_WAIT.load()));
    if read_at::<u64>(queues, &POLL_TASK) == task
        && offwake_is_locked(read_at(entry, &POLL_ENTRY_QUEUE)) != 0
    {
        return read_at(entry, &POLL_ENTRY_FILE);
    }
    0
}

/// The lowest descriptor of a thread that leads to a file; -1: not found.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_descriptor_of(task: u64, file: u64) -> i32 {
    let (files, len) = descriptors(task);
    for fd in 0..MAX_DESCRIPTORS {
        if fd >= each_time(len) {
            break;
        }
        if read::<u64>(files + 8 * u64::from(fd)) == file {
            return fd as i32;
        }
    }
    -1
}

/// The same value. The compiler would make one bound of the two that a loop has, and kernels before 6.8 do not
/// see that a loop ends there.
#[inline(always)]
fn each_time<T>(bound: T) -> T {
    black_box(bound)
}
