//! A `struct file` of the kernel's.

use offwake_shared::SourceKind;

use super::offsets::{
    DENTRY_NAME, FILE_DENTRY, FILE_INODE, FILE_PRIVATE, FILES_TABLE, INODE_MODE, INODE_NUMBER,
    INODE_SUPER, SUPER_MAGIC, TABLE_FILES, TABLE_LEN, TASK_FILES,
};
use crate::memory::{read, read_at};

// include/uapi/linux/magic.h
const SOCKFS_MAGIC: u64 = 0x534f_434b;
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
const PID_FS_MAGIC: u64 = 0x5049_4446;

// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFREG: u16 = 0o100_000;

/// An open file; 0: none.
#[derive(Clone, Copy)]
pub struct File(pub u64);

/// The descriptors of a thread: the address of the first one's file, and how many there are. Nothing keeps the
/// table from being replaced meanwhile, but then it is freed later (RCU), and tracing programs run within that
/// time.
#[inline(always)]
pub fn descriptors(task: u64) -> (u64, u32) {
    let files: u64 = read_at(task, &TASK_FILES);
    let table: u64 = read_at(files, &FILES_TABLE);
    (read_at(table, &TABLE_FILES), read_at(table, &TABLE_LEN))
}

impl File {
    /// The one behind a descriptor of a thread.
    #[inline(always)]
    pub fn of_descriptor(task: u64, fd: u32) -> Self {
        let (files, len) = descriptors(task);
        Self(if fd < len { read(files + 8 * u64::from(fd)) } else { 0 })
    }

    /// `private_data`: the `socket` of a socket, the `eventpoll` of an epoll instance.
    #[inline(always)]
    pub fn private(self) -> u64 {
        read_at(self.0, &FILE_PRIVATE)
    }

    /// What it is; a socket is [`SourceKind::Socket`] here.
    #[inline(always)]
    pub fn kind(self) -> SourceKind {
        if self.0 == 0 {
            return SourceKind::None;
        }
        let inode: u64 = read_at(self.0, &FILE_INODE);
        let super_block: u64 = read_at(inode, &INODE_SUPER);
        let magic: u64 = read_at(super_block, &SUPER_MAGIC);
        if magic == SOCKFS_MAGIC {
            return SourceKind::Socket;
        }
        if magic == ANON_INODE_FS_MAGIC {
            return self.anonymous();
        }
        if magic == PID_FS_MAGIC {
            return SourceKind::Pidfd;
        }
        match self.mode() {
            S_IFIFO => SourceKind::Pipe,
            S_IFCHR => SourceKind::Device,
            _ => SourceKind::File,
        }
    }

    /// Of files without a file system the kernel chose the names (`anon_inode_getfile`): they tell what a
    /// file is where the addresses of its operations are not in the table of symbols
    /// (`CONFIG_KALLSYMS_ALL`).
    #[inline(always)]
    fn anonymous(self) -> SourceKind {
        const fn begins(name: &[u8; 8]) -> u64 {
            u64::from_le_bytes(*name)
        }
        const EVENTFD: u64 = begins(b"[eventfd");
        const TIMERFD: u64 = begins(b"[timerfd");
        const SIGNALFD: u64 = begins(b"[signalf");
        const EPOLL: u64 = begins(b"[eventpo");
        const INOTIFY: u64 = begins(b"inotify\0");
        const PIDFD: u64 = begins(b"[pidfd]\0");
        let dentry: u64 = read_at(self.0, &FILE_DENTRY);
        let name: u64 = read_at(dentry, &DENTRY_NAME);
        match read::<u64>(name) {
            EVENTFD => SourceKind::Eventfd,
            TIMERFD => SourceKind::Timerfd,
            SIGNALFD => SourceKind::Signalfd,
            EPOLL => SourceKind::Epoll,
            INOTIFY => SourceKind::Inotify,
            PIDFD => SourceKind::Pidfd,
            _ => SourceKind::File,
        }
    }

    /// The bits of the mode that tell the type (`S_IFMT`).
    #[inline(always)]
    fn mode(self) -> u16 {
        let inode: u64 = read_at(self.0, &FILE_INODE);
        read_at::<u16>(inode, &INODE_MODE) & S_IFMT
    }

    /// Whether nobody waits for it with epoll: it is on a disk.
    #[inline(always)]
    pub fn is_on_disk(self) -> bool {
        let mode = self.mode();
        mode == S_IFREG || mode == S_IFDIR
    }

    /// The number of the inode.
    #[inline(always)]
    pub fn inode_number(self) -> u64 {
        let inode: u64 = read_at(self.0, &FILE_INODE);
        read_at(inode, &INODE_NUMBER)
    }
}
