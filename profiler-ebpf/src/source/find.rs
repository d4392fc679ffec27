//! Finding what a thread waited for.

use aya_ebpf::bindings::BPF_NOEXIST;
use offwake_shared::{Loss, Source, SourceDetail, SourceKind};

use super::epoll::Item;
use super::file::File;
use super::maps::{CALLBACKS, HAS_CALLBACKS, SOURCE_SCRATCH, SOURCES, SourceScratch, WAKE_SOURCE};
use super::ready::{NOTHING, SEVERAL, offwake_ready_item};
use super::reason::{Reason, offwake_wake_reason};
use super::syscall::{self, Call};
use super::{poll, ready};
use crate::maps::TASK_STATE;
use crate::memory::read_at;
use crate::{arch, count};

/// `TASK_INTERRUPTIBLE`: so sleeps who waits for a descriptor. Otherwise a thread waits for a lock or a page
/// on the way there.
const INTERRUPTIBLE: u32 = 1;

/// How deep epoll instances nest (`EP_MAX_NESTS` in fs/eventpoll.c).
const MAX_NESTED: u32 = 4;

/// The id of what the sleeping thread `task` waited for; 0: not known. `scratch`: the memory that has the
/// kernel stack of whoever runs now and wakes it.
#[inline(always)]
pub fn find(scratch: u32, task: u64) -> u64 {
    if task == 0 {
        return 0;
    }
    let reason = offwake_wake_reason(scratch);
    let Some(memory) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the memory is this CPU's, and only programs on wake-ups use it. Not as an argument: where the
    // verifier knows what the pointer points to, it is no number to it.
    unsafe { (*memory).task = task };
    if offwake_describe_source(reason) == 0 { 0 } else { offwake_store_source() }
}

/// Writes to the scratch memory what the thread waited for. Returns 0 where that is not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_describe_source(reason: u32) -> u32 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the memory is this CPU's, and only programs on wake-ups use it.
    let scratch = unsafe { &mut *scratch };
    scratch.source = Source::NONE;
    let task = scratch.task;
    if reason == Reason::Timeout as u32 {
        scratch.source.kind = SourceKind::Timeout as u32;
        return 1;
    }
    if reason == Reason::Signal as u32 {
        scratch.source.kind = SourceKind::Signal as u32;
        return 1;
    }
    if reason == Reason::Work as u32 || read_at::<u32>(task, &TASK_STATE) & INTERRUPTIBLE == 0 {
        return 0;
    }
    let registers = syscall::registers(task, scratch);
    let first = syscall::argument_0(registers);
    let mut file = 0;
    let mut fd = -1;
    match arch::call(registers) {
        Call::Epoll => {
            let instance = File(poll::file_of(task, first as u32));
            if instance.kind() as u32 != SourceKind::Epoll as u32 {
                return 0;
            }
            let item = called_back(instance.private(), reason);
            if item == NOTHING || item == SEVERAL {
                return 0;
            }
            file = Item(item).file().0;
            fd = Item(item).fd();
        }
        Call::Poll if reason == Reason::Poll as u32 => {
            if HAS_CALLBACKS.load() != 0
                && let Some(callbacks) = CALLBACKS.get_ptr(0)
            {
                // SAFETY: the value is this CPU's.
                file = poll::called_back(task, unsafe { (*callbacks).poll });
            }
            if file == 0 {
                file = poll::offwake_polled_file(task, registers);
            }
            if WAKE_SOURCE.load() == SourceDetail::Fd as u32 {
                fd = poll::offwake_descriptor_of(task, file);
            }
        }
        Call::Descriptor => {
            file = poll::file_of(task, first as u32);
            let kind = File(file).kind() as u32;
            // Who reads a file waits for a disk, a lock, or whatever its file system does.
            if kind == SourceKind::File as u32 {
                return 0;
            }
            fd = first as i32;
        }
        Call::Futex => {
            // FUTEX_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2 (include/uapi/linux/futex.h)
            let operation = syscall::argument_1(registers) & 0x7f;
            if !matches!(operation, 0 | 6 | 9 | 11 | 13) {
                return 0;
            }
            return futex(scratch, first);
        }
        Call::FutexWait => return futex(scratch, first),
        Call::Poll | Call::Other => return 0,
    }
    // In an epoll instance that is a descriptor itself, one of its own is ready.
    for _ in 0..MAX_NESTED {
        if File(file).kind() as u32 != SourceKind::Epoll as u32 {
            break;
        }
        let by_callback = u32::from(reason == Reason::Epoll as u32);
        let item = offwake_ready_item(File(file).private(), by_callback);
        if item == NOTHING || item == SEVERAL {
            return 0;
        }
        file = Item(item).file().0;
        fd = Item(item).fd();
    }
    if file == 0 {
        return 0;
    }
    let source = &mut scratch.source;
    File(file).describe(source);
    source.fd = fd;
    narrow(source);
    1
}

#[inline(always)]
fn futex(scratch: &mut SourceScratch, address: u64) -> u32 {
    scratch.source.kind = SourceKind::Futex as u32;
    if WAKE_SOURCE.load() > SourceDetail::Kind as u32 {
        scratch.source.id = address;
    }
    1
}

/// The item of an epoll instance that is ready.
#[inline(always)]
fn called_back(epoll: u64, reason: u32) -> u64 {
    let by_callback = reason == Reason::Epoll as u32;
    if by_callback
        && HAS_CALLBACKS.load() != 0
        && let Some(callbacks) = CALLBACKS.get_ptr(0)
    {
        // SAFETY: the value is this CPU's.
        let item = ready::called_back(epoll, unsafe { (*callbacks).epoll });
        if item != 0 {
            return item;
        }
    }
    offwake_ready_item(epoll, u32::from(by_callback))
}

/// Forgets what is finer than the user wants.
#[inline(always)]
fn narrow(source: &mut Source) {
    let detail = WAKE_SOURCE.load();
    if detail < SourceDetail::Fd as u32 {
        source.fd = -1;
    }
    if source.kind != SourceKind::Pipe as u32 || detail < SourceDetail::Socket as u32 {
        source.id = 0;
    }
    if detail >= SourceDetail::Socket as u32 {
        return;
    }
    source.local = [0; 16];
    source.remote = [0; 16];
    if source.kind == SourceKind::Udp as u32 {
        // One that has a peer connected to it, as far as anybody can tell.
        source.is_outgoing = u8::from(source.remote_port != 0);
    }
    if source.is_outgoing != 0 {
        source.local_port = 0;
    } else {
        source.remote_port = 0;
    }
    if source.kind != SourceKind::Socket as u32 {
        source.family = 0;
    }
    if detail < SourceDetail::Port as u32 {
        *source = Source { kind: source.kind, family: source.family, ..Source::NONE };
    }
}

/// Puts what is in the scratch memory into the map. Returns its id.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_store_source() -> u64 {
    const WORDS: usize = size_of::<Source>() / 8;
    let Some(scratch) = SOURCE_SCRATCH.get_ptr(0) else { return 0 };
    // SAFETY: see `offwake_describe_source`. A source is as many words, aligned as such.
    let (source, words) =
        unsafe { (&(*scratch).source, &*(&raw const (*scratch).source).cast::<[u64; WORDS]>()) };
    let mut hash = 1u64;
    for word in words {
        let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = product ^ (product >> 32);
    }
    let id = if hash == 0 { 1 } else { hash };
    if SOURCES.get_ptr(id).is_some() {
        return id;
    }
    match SOURCES.insert(id, source, u64::from(BPF_NOEXIST)) {
        // -EEXIST: another CPU was faster.
        Ok(()) | Err(-17) => id,
        Err(_) => {
            count::lost(Loss::WakeSourcesFull);
            0
        }
    }
}
