//! Threads, as `task_struct` tells of them.

use aya_ebpf::Global;
use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use offwake_shared::{Program, TASK_IDLE, TASK_KERNEL_THREAD, TaskId, UserRegisters};

use crate::maps::{
    MM_START_STACK, OWN_NAMESPACE, TASK_COMM, TASK_EXEC_ID, TASK_FLAGS, TASK_GROUP_LEADER, TASK_MM,
    TASK_ON_CPU, TASK_PID, TASK_RUNTIME, TASK_RUNTIME_BEFORE, TASK_START_TIME, TASK_STATE,
    TASK_TGID,
};
use crate::{arch, namespace};

/// A task that the kernel passed to a program: its members are read directly.
#[derive(Clone, Copy)]
pub struct Task(*const task_struct);

/// `task_struct::flags` of a kernel thread (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

impl Task {
    /// A task, from a pointer that the verifier knows to be one.
    #[inline(always)]
    pub const fn new(task: *const task_struct) -> Self {
        Self(task)
    }

    #[inline(always)]
    fn member(self, offset: &Global<u32>) -> u32 {
        // SAFETY: user space set the offset to that of a member of at least 4 bytes.
        unsafe { *self.0.byte_add(offset.load() as usize).cast::<u32>() }
    }

    /// The thread, in the initial pid namespace: unique.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.member(&TASK_PID)
    }

    /// The bits of the task state.
    #[inline(always)]
    pub fn state(self) -> u32 {
        self.member(&TASK_STATE)
    }

    /// Where the stack of the program's first thread begins; 0 without an address space.
    #[inline(always)]
    pub fn start_stack(self) -> u64 {
        // SAFETY: user space set the offsets to those of a pointer and of an `unsigned long`; the
        // kernel reads 0 through a pointer that is null.
        unsafe {
            let mm = *self.0.byte_add(TASK_MM.load() as usize).cast::<*const u8>();
            *mm.add(MM_START_STACK.load() as usize).cast::<u64>()
        }
    }

    /// Whether the thread runs at this moment.
    #[inline(always)]
    pub fn on_cpu(self) -> u32 {
        self.member(&TASK_ON_CPU)
    }

    /// Its registers in its program (`bpf_task_pt_regs`, 5.15+).
    #[inline(always)]
    pub fn user_registers(self) -> UserRegisters {
        // SAFETY: the task is the kernel's.
        unsafe { arch::user_registers(bpf_task_pt_regs(self.0.cast_mut()) as *const u8) }
    }

    /// For how long a thread that is being switched out has run since it was switched in, in ns
    /// (`set_next_entity` in kernel/sched/fair.c). Far too long in other scheduling classes.
    #[inline(always)]
    pub fn ran_ns(self) -> u64 {
        // SAFETY: user space set the offsets to those of members of 8 bytes.
        unsafe {
            let sum = *self.0.byte_add(TASK_RUNTIME.load() as usize).cast::<u64>();
            let before = *self.0.byte_add(TASK_RUNTIME_BEFORE.load() as usize).cast::<u64>();
            sum.wrapping_sub(before)
        }
    }

    /// The thread's own name.
    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        // SAFETY: user space set the offset to that of an array of 16 bytes.
        unsafe {
            let comm = self.0.byte_add(TASK_COMM.load() as usize).cast::<[u8; 16]>();
            bpf_probe_read_kernel(comm).unwrap_or_default()
        }
    }

    /// The pointer that this was made from.
    #[inline(always)]
    pub const fn as_ptr(self) -> *const task_struct {
        self.0
    }

    /// Which program the task runs. `ids`: its own.
    #[inline(always)]
    pub fn program(self, ids: Ids) -> Program {
        Program { tgid: ids.tgid, exec_id: self.exec_id() }
    }

    /// Whether the task is its process's first.
    #[inline(always)]
    pub fn leads_process(self) -> bool {
        self.tid() == self.member(&TASK_TGID)
    }

    /// See [`TaskId::exec_id`].
    #[inline(always)]
    fn exec_id(self) -> u32 {
        // SAFETY: user space set the offsets to those of a pointer to a task and of a u64.
        let born = unsafe {
            let leader = *self.0.byte_add(TASK_GROUP_LEADER.load() as usize).cast::<*const u8>();
            *leader.add(TASK_START_TIME.load() as usize).cast::<u64>()
        };
        let execs = u64::from(self.member(&TASK_EXEC_ID));
        let mixed = (born ^ execs).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }

    /// The identity of this task under the current thread's name: of the current thread, or of
    /// one that it is creating.
    #[inline(always)]
    pub fn id(self, ids: Ids) -> TaskId {
        self.id_named(ids, bpf_get_current_comm().unwrap_or_default())
    }

    /// The identity of this task under a name.
    #[inline(always)]
    pub fn id_named(self, ids: Ids, comm: [u8; 16]) -> TaskId {
        let kernel_thread = self.member(&TASK_FLAGS) & PF_KTHREAD != 0;
        let idle = self.tid() == 0;
        TaskId {
            tgid: ids.tgid,
            tid: ids.tid,
            exec_id: self.exec_id(),
            flags: if kernel_thread { TASK_KERNEL_THREAD } else { 0 }
                | if idle { TASK_IDLE } else { 0 },
            comm,
        }
    }
}

/// The process and the thread of a task, as offwake's own pid namespace shows them; both 0 where
/// it does not.
#[derive(Clone, Copy)]
pub struct Ids {
    pub tgid: u32,
    pub tid: u32,
}

/// The ids of the current task, `current`.
#[inline(always)]
pub fn current_ids(current: Task) -> Ids {
    if OWN_NAMESPACE.load() != 0 {
        return namespace::ids(current);
    }
    let id = bpf_get_current_pid_tgid();
    Ids { tgid: (id >> 32) as u32, tid: id as u32 }
}

/// The ids of a task.
#[inline(always)]
pub fn ids(task: Task) -> Ids {
    if OWN_NAMESPACE.load() != 0 {
        return namespace::ids(task);
    }
    Ids { tgid: task.member(&TASK_TGID), tid: task.tid() }
}
