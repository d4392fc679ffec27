//! Threads that were off-CPU before the recording began: their waits count from its beginning.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use hashbrown::{HashMap, HashSet};
use offwake_shared::{
    ExistingThread, Sampling, StackContext, StackEnd, TASK_KERNEL_THREAD, ThreadState, WaitState,
};

use super::unwind::{Unwinder, walk_by_frame_pointers};
use super::{Config, Filter};
use crate::recording::{ImageId, RawStack, StackId};

/// The wait that a thread is in, as if it had begun `now`; `None` if it is in none that is
/// recorded. Adds the stacks that it names. Without an `unwinder` user stacks are walked by frame
/// pointers.
pub(super) fn wait_of(
    thread: &ExistingThread,
    config: &Config,
    now: u64,
    unwinder: Option<&Unwinder>,
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
    let frames = thread.kernel.frames.get(..usize::from(thread.kernel.len))?;
    if config.kernel_stacks && !frames.is_empty() {
        let frames = frames.into();
        sleeper_kernel = add(RawStack {
            context: StackContext::Kernel,
            image: None,
            frames,
            end: StackEnd::Complete,
        });
    }
    let mut sleeper_user = 0;
    let registers = &thread.registers;
    if config.user_stacks && thread.task.flags & TASK_KERNEL_THREAD == 0 && registers.ip != 0 {
        let image = ImageId::of(&thread.task);
        let (frames, end) = match unwinder {
            Some(unwinder) => unwinder.walk(image, thread.task.tid, registers),
            None => walk_by_frame_pointers(thread.task.tid, registers),
        };
        let (context, frames) = (StackContext::User, frames.into());
        sleeper_user = add(RawStack { context, image: Some(image), frames, end });
    }
    Some(ThreadState {
        off_since: now,
        sleeper: thread.task,
        sleeper_kernel,
        sleeper_user,
        state: state as u32,
        sampling: Sampling::new(thread.task.tid),
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
