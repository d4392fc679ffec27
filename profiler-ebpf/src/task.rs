//! Threads, as `task_struct` tells of them. Where nobody knows what is where in it, only the current
//! thread can be asked, with helpers; see [`untyped`].

use aya_ebpf::Global;
use aya_ebpf::bindings::task_struct;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
};
use offwake_shared::{
    Program, TASK_IDLE, TASK_KERNEL_THREAD, TaskId, UserRegisters, comm, comm_words,
};

use crate::maps::{
    HAS_TYPES, MM_START_STACK, OWN_NAMESPACE, READ_DIRECT, REGS_FROM_STACK, TASK_COMM,
    TASK_DELAYED, TASK_EXEC_ID, TASK_FLAGS, TASK_GROUP_LEADER, TASK_MM, TASK_ON_CPU, TASK_ON_RQ,
    TASK_PID, TASK_RUNTIME, TASK_RUNTIME_BEFORE, TASK_STACK, TASK_START_TIME, TASK_STATE,
    TASK_TGID,
};
use crate::{arch, memory, namespace, untyped};

/// A task of the kernel's.
#[derive(Clone, Copy)]
pub struct Task(*const task_struct);

/// `task_struct::flags` of a kernel thread (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Reads a member at an offset that user space has set. Directly, where the verifier knows what the
/// pointer points to: that costs a tenth.
#[inline(always)]
fn member<T: Copy + Default>(base: *const u8, offset: &Global<u32>) -> T {
    read_at(base, offset.load())
}

#[inline(always)]
fn read_at<T: Copy + Default>(base: *const u8, offset: u32) -> T {
    let address = base.wrapping_add(offset as usize).cast::<T>();
    if READ_DIRECT.load() != 0 {
        // SAFETY: the offset is that of a member as large as this; the kernel reads 0 through a
        // pointer that is null.
        return unsafe { *address };
    }
    memory::read(address as u64)
}

impl Task {
    /// A task, from a pointer of the kernel's.
    #[inline(always)]
    pub const fn new(task: *const task_struct) -> Self {
        Self(task)
    }

    /// The current task.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helpers always return the current task. The first one is of 5.11.
        Self(unsafe {
            if READ_DIRECT.load() != 0 {
                bpf_get_current_task_btf()
            } else {
                bpf_get_current_task() as *const task_struct
            }
        })
    }

    #[inline(always)]
    fn member<T: Copy + Default>(self, offset: &Global<u32>) -> T {
        member(self.0.cast(), offset)
    }

    /// The thread, in the initial pid namespace: unique.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        if HAS_TYPES.load() == 0 {
            return bpf_get_current_pid_tgid() as u32;
        }
        self.member(&TASK_PID)
    }

    /// The process, in the initial pid namespace. Needs types.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.member(&TASK_TGID)
    }

    /// The bits of the task state.
    #[inline(always)]
    pub fn state(self) -> u32 {
        self.member(&TASK_STATE)
    }

    /// Whether the thread is on a run queue, or on its way to another one.
    #[inline(always)]
    pub fn is_on_rq(self) -> bool {
        self.is_set(&TASK_ON_RQ)
    }

    /// Whether a member that holds a small number is not 0. These were `int` and are single bytes since
    /// 7.2: the first byte tells in both.
    #[inline(always)]
    fn is_set(self, offset: &Global<u32>) -> bool {
        self.member::<u8>(offset) != 0
    }

    /// Whether the thread is asleep although it is on a run queue (`sched_entity::sched_delayed`, 6.12+).
    #[inline(always)]
    pub fn sleeps_on_run_queue(self) -> bool {
        self.is_set(&TASK_DELAYED)
    }

    /// Where the stack of the program's first thread begins; 0 without an address space.
    #[inline(always)]
    pub fn start_stack(self) -> u64 {
        if HAS_TYPES.load() == 0 {
            return 0;
        }
        member(self.member::<usize>(&TASK_MM) as *const u8, &MM_START_STACK)
    }

    /// Whether the thread runs at this moment.
    #[inline(always)]
    pub fn is_on_cpu(self) -> bool {
        self.is_set(&TASK_ON_CPU)
    }

    /// The registers of a task that is not the current one in its program. Its pointer must be known to
    /// the verifier as one to a task (`bpf_task_pt_regs`, 5.15+).
    #[inline(always)]
    pub fn user_registers(self) -> UserRegisters {
        if REGS_FROM_STACK.load() != 0 {
            return self.registers_on_stack();
        }
        // SAFETY: the task is the kernel's, and user space set the offsets to those of members of
        // 8 or 4 bytes.
        unsafe {
            let regs = bpf_task_pt_regs(self.0.cast_mut()) as *const u8;
            arch::user_registers(
                |offset| *regs.add(offset as usize).cast::<u64>(),
                |offset| *regs.add(offset as usize).cast::<i32>(),
            )
        }
    }

    /// Where the kernel stack begins, at its innermost end.
    #[inline(always)]
    pub fn stack_base(self) -> u64 {
        self.member(&TASK_STACK)
    }

    /// The registers of the current task in its program; all 0 where nobody knows.
    #[inline(always)]
    pub fn own_registers(self) -> UserRegisters {
        if HAS_TYPES.load() == 0 {
            return UserRegisters::default();
        }
        if REGS_FROM_STACK.load() != 0 {
            return self.registers_on_stack();
        }
        // SAFETY: the helper always returns the current task. The verifier knows of this pointer what it
        // points to, unlike of others.
        Self(unsafe { bpf_get_current_task_btf() }).user_registers()
    }

    /// Before 5.15: they are where a thread enters the kernel, at the far end of its kernel stack
    /// (`task_pt_regs`).
    #[inline(always)]
    fn registers_on_stack(self) -> UserRegisters {
        let regs = self.stack_base().wrapping_add(u64::from(REGS_FROM_STACK.load())) as *const u8;
        arch::user_registers(|offset| read_at(regs, offset), |offset| read_at(regs, offset))
    }

    /// For how long a thread that is being switched out has run since it was switched in, in ns
    /// (`set_next_entity` in kernel/sched/fair.c). Far too long in other scheduling classes, and where
    /// nobody knows.
    #[inline(always)]
    pub fn ran_ns(self) -> u64 {
        if HAS_TYPES.load() == 0 {
            return 1 << 62;
        }
        let sum: u64 = self.member(&TASK_RUNTIME);
        sum.wrapping_sub(self.member(&TASK_RUNTIME_BEFORE))
    }

    /// The thread's own name; where nobody knows where that is, the current thread's.
    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        if HAS_TYPES.load() == 0 {
            return bpf_get_current_comm().unwrap_or_default();
        }
        // To ask the helper would take ten times as long.
        comm(self.comm_words())
    }

    /// The memory of the thread's own name, as two little-endian words.
    #[inline(always)]
    pub fn comm_words(self) -> [u64; 2] {
        let word = |from: u32| u64::from_le_bytes(read_at(self.0.cast(), TASK_COMM.load() + from));
        [word(0), word(8)]
    }

    /// Whether the thread's own name is this one, which is padded with 0.
    #[inline(always)]
    pub fn has_comm(self, comm: &[u8; 16]) -> bool {
        self.comm_words() == comm_words(*comm)
    }

    /// The pointer that this was made from.
    #[inline(always)]
    pub const fn as_ptr(self) -> *const task_struct {
        self.0
    }

    /// Which program the task runs. `ids`: its own.
    #[inline(always)]
    pub fn program(self, ids: Ids) -> Program {
        Program { tgid: ids.tgid, exec_id: self.exec_id(ids) }
    }

    /// Whether the task is its process's first.
    #[inline(always)]
    pub fn leads_process(self) -> bool {
        self.tid() == self.tgid()
    }

    /// How many programs the thread, or who created it, has run; 0 where nobody knows.
    #[inline(always)]
    pub fn execs(self) -> u32 {
        if HAS_TYPES.load() == 0 { 0 } else { self.member(&TASK_EXEC_ID) }
    }

    /// See [`TaskId::exec_id`].
    #[inline(always)]
    fn exec_id(self, ids: Ids) -> u32 {
        if HAS_TYPES.load() == 0 {
            return untyped::exec_id(ids.tgid);
        }
        let leader = self.member::<usize>(&TASK_GROUP_LEADER) as *const u8;
        let born: u64 = member(leader, &TASK_START_TIME);
        exec_id_of(born ^ u64::from(self.execs()))
    }

    /// The identity of this task.
    #[inline(always)]
    pub fn id(self, ids: Ids) -> TaskId {
        self.id_named(ids, self.comm())
    }

    /// The identity of this task under a name.
    #[inline(always)]
    pub fn id_named(self, ids: Ids, comm: [u8; 16]) -> TaskId {
        let typed = HAS_TYPES.load() != 0;
        let kernel_thread = typed && self.member::<u32>(&TASK_FLAGS) & PF_KTHREAD != 0;
        let idle = self.tid() == 0;
        TaskId {
            tgid: ids.tgid,
            tid: ids.tid,
            exec_id: self.exec_id(ids),
            flags: if kernel_thread { TASK_KERNEL_THREAD } else { 0 }
                | if idle { TASK_IDLE } else { 0 },
            comm,
        }
    }
}

/// [`Task::start_stack`] of the current task. A global function, which the verifier looks at once: for each look at a
/// pointer in a task it searches all of the kernel's types by name (`btf_nested_type_is_trusted`, 6.4+), which takes 2 ms.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_start_stack() -> u64 {
    Task::current().start_stack()
}

/// A [`TaskId::exec_id`] of what tells one program from others.
#[inline(always)]
pub const fn exec_id_of(seed: u64) -> u32 {
    (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
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
    Ids { tgid: task.tgid(), tid: task.tid() }
}
