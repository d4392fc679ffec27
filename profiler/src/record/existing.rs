//! Threads that were off-CPU before the recording began: their waits count from its beginning.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use hashbrown::{HashMap, HashSet};
use offwake_shared::{
    ExistingThread, MAX_FRAMES, StackContext, TASK_KERNEL_THREAD, ThreadState, WaitState,
};

use super::{Config, Filter};
use crate::recording::{ImageId, RawStack, StackId};

/// The wait that a thread is in, as if it had begun `now`; `None` if it is in none that is
/// recorded. Adds the stacks that it names.
pub(super) fn wait_of(
    thread: &ExistingThread,
    config: &Config,
    now: u64,
    stacks: &mut HashMap<StackId, RawStack>,
) -> Option<ThreadState> {
    let state = WaitState::from_task_state(u64::from(thread.state))?;
    if thread.on_cpu != 0 || config.states & state.bit() == 0 {
        return None;
    }
    let mut add = |stack: RawStack| {
        let mut hasher = DefaultHasher::new();
        (stack.image, &stack.frames).hash(&mut hasher);
        let id = hasher.finish().max(1);
        stacks.insert(id, stack);
        id
    };
    let mut sleeper_kernel = 0;
    let frames = thread.kernel.frames.get(..thread.kernel.len as usize)?;
    if config.kernel_stacks && !frames.is_empty() {
        let frames = frames.into();
        sleeper_kernel =
            add(RawStack { context: StackContext::Kernel, image: None, frames, whole: true });
    }
    let mut sleeper_user = 0;
    if config.user_stacks && thread.task.flags & TASK_KERNEL_THREAD == 0 && thread.ip != 0 {
        let image = ImageId { tgid: thread.task.tgid, exec_id: thread.task.exec_id };
        let (frames, whole) = walk_frame_pointers(thread.task.tid, thread.ip, thread.fp);
        let (context, frames) = (StackContext::User, frames.into());
        sleeper_user = add(RawStack { context, image: Some(image), frames, whole });
    }
    Some(ThreadState {
        off_since: now,
        sleeper: thread.task,
        sleeper_kernel,
        sleeper_user,
        state: state as u32,
        ..ThreadState::default()
    })
}

/// The threads in a filter's cgroup and below it; `None` without such a filter.
pub(super) fn threads_in_cgroup(filter: &Filter) -> Option<HashSet<u32>> {
    let directory = filter.cgroup.as_ref()?;
    let mut tids = HashSet::new();
    add_threads_below(directory, &mut tids);
    Some(tids)
}

fn add_threads_below(directory: &Path, tids: &mut HashSet<u32>) {
    // A cgroup that is removed meanwhile has no threads.
    let threads = fs::read_to_string(directory.join("cgroup.threads")).unwrap_or_default();
    tids.extend(threads.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_threads_below(&entry.path(), tids);
        }
    }
}

/// The user stack of a thread that is not running, innermost first, as the BPF programs walk that
/// of the running one (`walk_frame_pointers` in profiler-ebpf/src/stack.rs).
fn walk_frame_pointers(tid: u32, ip: u64, mut fp: u64) -> (Vec<u64>, bool) {
    let mut frames = vec![ip];
    while frames.len() < MAX_FRAMES {
        let Some([next, return_address]) = read_two_words(tid, fp) else {
            return (frames, fp == 0);
        };
        if return_address == 0 {
            return (frames, next == 0);
        }
        frames.push(return_address);
        if next <= fp {
            return (frames, next == 0);
        }
        fp = next;
    }
    (frames, true)
}

fn read_two_words(tid: u32, address: u64) -> Option<[u64; 2]> {
    let mut words = [0u64; 2];
    let len = size_of_val(&words);
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len };
    // SAFETY: the local vector is the array; the remote one is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(tid as libc::pid_t, &local, 1, &remote, 1, 0) };
    (read == len as isize).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_frames_is_followed_to_its_end() {
        // Three frames on a stack of our own: each holds the next frame's address and a return
        // address; the last one points nowhere.
        let mut stack = Box::new([0u64; 6]);
        let base = stack.as_ptr() as u64;
        *stack = [base + 16, 0x1001, base + 32, 0x1002, 0, 0x1003];
        let walked = walk_frame_pointers(std::process::id(), 0x1000, base);
        assert_eq!(walked, (vec![0x1000, 0x1001, 0x1002, 0x1003], true));
    }

    #[test]
    fn a_circle_of_frames_ends() {
        let mut stack = Box::new([0u64; 2]);
        let address = stack.as_ptr() as u64;
        *stack = [address, 0x1001];
        let walked = walk_frame_pointers(std::process::id(), 0x1000, address);
        assert_eq!(walked, (vec![0x1000, 0x1001], false));
    }
}
