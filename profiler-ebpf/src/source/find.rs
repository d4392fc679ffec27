//! Finding what a thread waited for.

use aya_ebpf::bindings::BPF_NOEXIST;
use offwake_shared::{Loss, Source, SourceDetail, SourceKind};

use super::epoll::Item;
use super::file::File;
use super::maps::{CALLBACKS, HAS_CALLBACKS, SOURCE_SCRATCH, SOURCES, WAKE_SOURCE};
use super::ready::{NOTHING, SEVERAL, offwake_ready_item};
use super::reason::Reason;
use super::socket::Socket;
use super::syscall::{self, Call};
use super::{poll, ready};
use crate::count;
use crate::maps::TASK_STATE;
use crate::memory::read_at;
use crate::stack::mix;

/// `TASK_INTERRUPTIBLE`: so sleeps who waits for a descriptor. Otherwise a thread waits for a lock or a page
/// on the way there.
const INTERRUPTIBLE: u32 = 1;

/// How deep epoll instances nest (`EP_MAX_NESTS` in fs/eventpoll.c).
const MAX_NESTED: u32 = 4;

/// The id of what the sleeping thread `task` waited for; 0: not known. `reason`: why whoever runs now wakes it.
#[inline(always)]
pub fn find(reason: u32, task: u64) -> u64 {
    if task == 0 {
        return 0;
    }
    let Some(memory) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the memory is this CPU's, and only programs on wake-ups use it. Not as an argument: where the
    // verifier knows what the pointer points to, it is no number to it.
    unsafe { (*memory).task = task };
    if offwake_describe_source(reason) == 0 { 0 } else { offwake_store_source() }
}

/// Writes to the scratch memory what the thread waited for. Returns 0 where that is not known.
///
/// Each step is a global function of numbers: the verifier looks at those one by one. Before 6.8 it follows
/// each way through a function to its end, and these were too many for it as one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_describe_source(reason: u32) -> u32 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the memory is this CPU's, and only programs on wake-ups use it.
    let scratch = unsafe { &mut *scratch };
    scratch.source = Source::NONE;
    if reason == Reason::Timeout as u32 {
        scratch.source.kind = SourceKind::Timeout as u32;
        return 1;
    }
    if reason == Reason::Signal as u32 {
        scratch.source.kind = SourceKind::Signal as u32;
        return 1;
    }
    let task = scratch.task;
    if reason == Reason::Work as u32 || read_at::<u32>(task, &TASK_STATE) & INTERRUPTIBLE == 0 {
        return 0;
    }
    let registers = syscall::offwake_registers(task);
    let call = syscall::offwake_call(registers);
    if call == Call::Futex as u32 || call == Call::FutexWait as u32 {
        return offwake_describe_futex(registers, call);
    }
    scratch.fd = -1;
    scratch.file = if call == Call::Epoll as u32 {
        offwake_epoll_file(registers, reason)
    } else if call == Call::Poll as u32 && reason == Reason::Poll as u32 {
        offwake_poll_file(registers)
    } else if call == Call::Descriptor as u32 {
        offwake_call_file(registers)
    } else {
        0
    };
    offwake_describe_file(reason)
}

/// The file of the sleeping thread's epoll instance that is ready; sets the descriptor. 0: not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_epoll_file(registers: u64, reason: u32) -> u64 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `offwake_describe_source`.
    let scratch = unsafe { &mut *scratch };
    let instance = File::of_descriptor(scratch.task, syscall::argument_0(registers) as u32);
    if offwake_file_kind(instance.0) != SourceKind::Epoll as u32 {
        return 0;
    }
    let item = offwake_called_back(instance.private(), reason);
    if item == NOTHING || item == SEVERAL {
        return 0;
    }
    scratch.fd = Item(item).fd();
    Item(item).file().0
}

/// The file that ends the sleeping thread's `poll` or `select`; sets the descriptor. 0: not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_poll_file(registers: u64) -> u64 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `offwake_describe_source`.
    let scratch = unsafe { &mut *scratch };
    let mut file = poll::offwake_polled_by_callback(scratch.task);
    if file == 0 {
        file = poll::offwake_polled_file(scratch.task, registers);
    }
    if WAKE_SOURCE.load() == SourceDetail::Fd as u32 {
        scratch.fd = poll::offwake_descriptor_of(scratch.task, file);
    }
    file
}

/// The file in the first argument of the sleeping thread's system call; sets the descriptor. 0: not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_call_file(registers: u64) -> u64 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `offwake_describe_source`.
    let scratch = unsafe { &mut *scratch };
    let fd = syscall::argument_0(registers);
    let file = File::of_descriptor(scratch.task, fd as u32).0;
    // Who reads a file waits for a disk, a lock, or whatever its file system does.
    if offwake_file_kind(file) == SourceKind::File as u32 {
        return 0;
    }
    scratch.fd = fd as i32;
    file
}

/// Describes the file in the scratch memory. Returns 0 where that is not known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_describe_file(reason: u32) -> u32 {
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `offwake_describe_source`.
    let scratch = unsafe { &mut *scratch };
    // In an epoll instance that is a descriptor itself, one of its own is ready.
    let by_callback = u32::from(reason == Reason::Epoll as u32);
    for _ in 0..MAX_NESTED {
        if offwake_file_kind(scratch.file) != SourceKind::Epoll as u32 {
            break;
        }
        let item = offwake_ready_item(File(scratch.file).private(), by_callback);
        if item == NOTHING || item == SEVERAL {
            return 0;
        }
        scratch.file = Item(item).file().0;
        scratch.fd = Item(item).fd();
    }
    let file = File(scratch.file);
    if file.0 == 0 {
        return 0;
    }
    scratch.source.fd = scratch.fd;
    scratch.source.kind = offwake_file_kind(file.0);
    if scratch.source.kind == SourceKind::Socket as u32 {
        offwake_describe_socket(Socket::of_file(file).0);
    } else {
        scratch.source.id = file.inode_number();
    }
    offwake_narrow()
}

/// See [`File::kind`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_file_kind(file: u64) -> u32 {
    File(file).kind() as u32
}

/// See [`Socket::describe`]. Always 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_describe_socket(socket: u64) -> u32 {
    if let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `offwake_describe_source`.
        Socket(socket).describe(unsafe { &mut (*scratch).source });
    }
    1
}

/// Describes the futex that the sleeping thread waits for. Returns 0 where it does not.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_describe_futex(registers: u64, call: u32) -> u32 {
    if call == Call::Futex as u32 && !syscall::waits_for_futex(registers) {
        return 0;
    }
    let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as in `offwake_describe_source`.
    let source = unsafe { &mut (*scratch).source };
    source.kind = SourceKind::Futex as u32;
    if WAKE_SOURCE.load() > SourceDetail::Kind as u32 {
        source.id = syscall::argument_0(registers);
    }
    1
}

/// The item of an epoll instance that is ready: the one that `ep_poll_callback` was called for, where that is
/// known.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_called_back(epoll: u64, reason: u32) -> u64 {
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

/// Forgets what is finer than the user wants. Always 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_narrow() -> u32 {
    if let Some(scratch) = SOURCE_SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `offwake_describe_source`.
        narrow(unsafe { &mut (*scratch).source });
    }
    1
}

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
        hash = mix(hash, *word);
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
