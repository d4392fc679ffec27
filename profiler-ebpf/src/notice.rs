//! What user space is told of programs, so that it reads their mappings while they live.

use offwake_shared::{Loss, Notice, NoticeKind, Program};

use crate::maps::{NOTICES, SEEN};
use crate::task::{self, Task, offwake_start_stack};
use crate::{count, target};

/// The current thread is about to run a new program. User space is told before it has a stack: what the program
/// maps next is read as it is mapped, and its tables are built meanwhile. It is told again with the first stack, in
/// case there was no room for this notice.
#[inline(always)]
pub fn executed() {
    let current = Task::current();
    let ids = task::current_ids(current);
    if target::is_target(ids) {
        let _ = send(current.program(ids), offwake_start_stack(), NoticeKind::Executed);
    }
}

/// Tells user space of a program, once. Within `execve` a program is seen before its stack has its
/// final place (`create_elf_tables` in fs/binfmt_elf.c); then user space is told again.
/// Whether user space knows then.
#[inline(always)]
pub fn announce(program: Program) -> bool {
    let start_stack = offwake_start_stack();
    if let Some(seen) = SEEN.get_ptr(program) {
        // SAFETY: the value is in the map; whoever writes it at the same time writes a u64 as well.
        if unsafe { *seen } == start_stack {
            return true;
        }
    }
    let told = notify(program, start_stack, NoticeKind::New);
    if told {
        let _ = SEEN.insert(program, start_stack, 0);
    }
    told
}

/// As [`send`]; that there was no room is counted.
#[inline(always)]
pub fn notify(program: Program, start_stack: u64, kind: NoticeKind) -> bool {
    let sent = send(program, start_stack, kind);
    if !sent {
        count::lost(Loss::NoticesFull);
    }
    sent
}

/// Whether there was room for the notice.
#[inline(always)]
fn send(program: Program, start_stack: u64, kind: NoticeKind) -> bool {
    let notice = Notice { program, start_stack, kind: kind as u32, reserved: 0 };
    NOTICES.output(notice, 0).is_ok()
}
