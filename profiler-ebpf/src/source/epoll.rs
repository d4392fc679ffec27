//! An item of an epoll instance: one descriptor that it looks at.

use super::file::File;
use super::offsets::{ENTRY_ITEM, ENTRY_WAIT, ITEM_EPOLL, ITEM_EVENTS, ITEM_FD, ITEM_FILE};
use crate::memory::{read, read_at};

/// A `struct epitem`.
#[derive(Clone, Copy)]
pub struct Item(pub u64);

impl Item {
    /// The one whose entry in a wait queue was called: the first argument of `ep_poll_callback`.
    #[inline(always)]
    pub fn of_wait(wait: u64) -> Self {
        let entry = wait.wrapping_sub(u64::from(ENTRY_WAIT.load()));
        Self(read(entry.wrapping_add(u64::from(ENTRY_ITEM.load()))))
    }

    /// The descriptor that it was added with.
    #[inline(always)]
    pub fn fd(self) -> i32 {
        read_at(self.0, &ITEM_FD)
    }

    /// The file behind the descriptor.
    #[inline(always)]
    pub fn file(self) -> File {
        File(read_at(self.0, &ITEM_FILE))
    }

    /// What it waits for (`EPOLLIN` and so on).
    #[inline(always)]
    pub fn events(self) -> u32 {
        read_at(self.0, &ITEM_EVENTS)
    }

    /// The `eventpoll` that it belongs to.
    #[inline(always)]
    pub fn epoll(self) -> u64 {
        read_at(self.0, &ITEM_EPOLL)
    }
}
