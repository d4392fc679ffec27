//! Where the kernel has what tells of files and sockets. User space sets these from its types
//! (profiler/src/record/source.rs); 0 stands for a member that this kernel does not have, unless it says
//! otherwise.

use crate::maps::constants;

constants! {
    /// Byte offset in `file` of `f_inode`.
    FILE_INODE: u32 = 0;
    /// Byte offset in `file` of `private_data`.
    FILE_PRIVATE: u32 = 0;
    /// Byte offset in `file` of `f_path.dentry`.
    FILE_DENTRY: u32 = 0;
    /// Byte offset in `dentry` of `d_name.name`.
    DENTRY_NAME: u32 = 0;
    /// Byte offset in `inode` of `i_mode`.
    INODE_MODE: u32 = 0;
    /// Byte offset in `inode` of `i_ino`.
    INODE_NUMBER: u32 = 0;
    /// Byte offset in `inode` of `i_sb`.
    INODE_SUPER: u32 = 0;
    /// Byte offset in `super_block` of `s_magic`.
    SUPER_MAGIC: u32 = 0;

    /// Byte offset in `socket` of `sk`.
    SOCKET_SOCK: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_family`.
    SOCK_FAMILY: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_state`.
    SOCK_STATE: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_num`.
    SOCK_LOCAL_PORT: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_dport`.
    SOCK_REMOTE_PORT: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_rcv_saddr`. May be 0.
    SOCK_LOCAL_V4: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_daddr`. May be 0.
    SOCK_REMOTE_V4: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_v6_rcv_saddr`.
    SOCK_LOCAL_V6: u32 = 0;
    /// Byte offset in `sock` of `__sk_common.skc_v6_daddr`.
    SOCK_REMOTE_V6: u32 = 0;
    /// Byte offset in `sock` of `sk_protocol`.
    SOCK_PROTOCOL: u32 = 0;
    /// Byte offset in `sock` of the byte with `__sk_common.skc_reuseport`.
    SOCK_REUSE_PORT: u32 = 0;
    /// The bit of `skc_reuseport` in its byte. May be 0.
    SOCK_REUSE_PORT_BIT: u32 = 0;
    /// Byte offset in `sock` of `sk_max_ack_backlog`.
    SOCK_BACKLOG: u32 = 0;

    /// Byte offset in `unix_sock` of `addr`.
    UNIX_ADDRESS: u32 = 0;
    /// Byte offset in `unix_sock` of `peer`.
    UNIX_PEER: u32 = 0;
    /// Byte offset in `unix_address` of `len`.
    UNIX_LEN: u32 = 0;
    /// Byte offset in `unix_address` of `name`.
    UNIX_NAME: u32 = 0;

    /// Byte offset in `epitem` of `ffd.file`.
    ITEM_FILE: u32 = 0;
    /// Byte offset in `epitem` of `ffd.fd`.
    ITEM_FD: u32 = 0;
    /// Byte offset in `epitem` of `event.events`.
    ITEM_EVENTS: u32 = 0;
    /// Byte offset in `epitem` of `ep`.
    ITEM_EPOLL: u32 = 0;
    /// Byte offset in `epitem` of `rdllink`.
    ITEM_READY: u32 = 0;
    /// Byte offset in `epitem` of `next` (`ovflist_next` since 6.18): the next in the list of those that
    /// became ready while others are handed out. May be 0.
    ITEM_OVERFLOW: u32 = 0;
    /// Byte offset in `epitem` of `pwqlist`.
    ITEM_QUEUES: u32 = 0;
    /// Byte offset in `eppoll_entry` of `base`.
    ENTRY_ITEM: u32 = 0;
    /// Byte offset in `eppoll_entry` of `wait`.
    ENTRY_WAIT: u32 = 0;
    /// Byte offset in `eppoll_entry` of `whead`.
    ENTRY_QUEUE: u32 = 0;
    /// Byte offset in `eppoll_entry` of what links those of one item: `next`, `llink` before 5.11. May be 0.
    ENTRY_NEXT: u32 = 0;
    /// Byte offset in `eventpoll` of `rdllist`.
    EPOLL_READY: u32 = 0;
    /// Byte offset in `eventpoll` of `ovflist`.
    EPOLL_OVERFLOW: u32 = 0;

    /// How to tell that a wait queue is locked, as it is while a thread is woken through it. 0: nobody can;
    /// 1: its first word is not 0; otherwise the byte offset in `wait_queue_head` of the owner of its lock
    /// (preempt-RT).
    QUEUE_LOCK: u32 = 0;

    /// Byte offset in `task_struct` of `files`.
    TASK_FILES: u32 = 0;
    /// Byte offset in `files_struct` of `fdt`.
    FILES_TABLE: u32 = 0;
    /// Byte offset in `fdtable` of `fd`.
    TABLE_FILES: u32 = 0;
    /// Byte offset in `fdtable` of `max_fds`. May be 0.
    TABLE_LEN: u32 = 0;

    /// Byte offset in `pt_regs` of the first argument of a system call.
    SYSCALL_ARGUMENT_0: u32 = 0;

    /// Byte offset in `poll_wqueues` of `polling_task`; `triggered` and `error` follow, 4 bytes each. 0: they
    /// do not.
    POLL_TASK: u32 = 0;
    /// Byte offset in `poll_wqueues` of `table`, the list of pages with more entries.
    POLL_PAGES: u32 = 0;
    /// Byte offset in `poll_wqueues` of `inline_index`: how many entries there are.
    POLL_LEN: u32 = 0;
    /// Byte offset in `poll_wqueues` of `inline_entries`.
    POLL_ENTRIES: u32 = 0;
    /// Bytes of a `poll_table_entry`.
    POLL_ENTRY_SIZE: u32 = 0;
    /// Byte offset in `poll_table_entry` of `filp`. May be 0.
    POLL_ENTRY_FILE: u32 = 0;
    /// Byte offset in `poll_table_entry` of `wait`.
    POLL_ENTRY_WAIT: u32 = 0;
    /// Byte offset in `poll_table_entry` of `wait_address`.
    POLL_ENTRY_QUEUE: u32 = 0;
    /// Byte offset in `wait_queue_entry` of `private`.
    WAIT_PRIVATE: u32 = 0;
}
