//! Which item of an epoll instance is ready.

use super::epoll::Item;
use super::offsets::{
    ENTRY_NEXT, ENTRY_QUEUE, EPOLL_OVERFLOW, EPOLL_READY, ITEM_OVERFLOW, ITEM_QUEUES, ITEM_READY,
};
use super::queue::offwake_is_locked;
use crate::memory::{read, read_at};

/// How many ready items are looked at.
const MAX_READY: u32 = 16;

/// Nothing is ready.
pub const NOTHING: u64 = 0;
/// More than one is ready, and nobody knows which of them woke the thread.
pub const SEVERAL: u64 = 1;

/// The address of the item of this `eventpoll` that is ready: the only one, or the one whose file wakes
/// its waiters at this moment. `by_callback`: this CPU is in `ep_poll_callback` for one of them, so that its
/// file does.
///
/// An item is queued before anybody is woken for it (`ep_poll_callback` in fs/eventpoll.c): in `rdllist`, or in
/// `ovflist` while another thread hands out what was in the first. A thread goes to sleep only if both are
/// empty.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_ready_item(epoll: u64, by_callback: u32) -> u64 {
    let head = epoll.wrapping_add(u64::from(EPOLL_READY.load()));
    let mut overflow = overflow(epoll);
    // The newest is the last.
    let mut link: u64 = read(head.wrapping_add(8));
    let (mut last, mut count, mut waking, mut waking_count) = (0u64, 0u32, 0u64, 0u32);
    let mut is_complete = 0u32;
    for _ in 0..MAX_READY {
        let item = if overflow != 0 {
            let item = overflow;
            overflow = read_at(item, &ITEM_OVERFLOW);
            item
        } else if link == head || link == 0 {
            is_complete = 1;
            break;
        } else {
            let item = link.wrapping_sub(u64::from(ITEM_READY.load()));
            link = read(link.wrapping_add(8));
            item
        };
        count += 1;
        last = item;
        let is_waking = offwake_is_waking(item);
        if is_waking != 0 {
            waking = item;
        }
        waking_count += is_waking;
    }
    if count == 0 {
        NOTHING
    } else if by_callback != 0 && super::offsets::QUEUE_LOCK.load() != 0 {
        if waking_count == 1 { waking } else { SEVERAL }
    } else if count == 1 && is_complete != 0 {
        last
    } else {
        SEVERAL
    }
}

/// The address of the item of this `eventpoll` that was queued last; [`NOTHING`]: none is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_newest_item(epoll: u64) -> u64 {
    let overflow = overflow(epoll);
    if overflow != 0 {
        return overflow;
    }
    let head = epoll.wrapping_add(u64::from(EPOLL_READY.load()));
    let link: u64 = read(head.wrapping_add(8));
    if link == head || link == 0 {
        return NOTHING;
    }
    link.wrapping_sub(u64::from(ITEM_READY.load()))
}

/// The newest item in `ovflist`; 0: none.
#[inline(always)]
fn overflow(epoll: u64) -> u64 {
    match read_at(epoll, &EPOLL_OVERFLOW) {
        // `EP_UNACTIVE_PTR`
        u64::MAX => 0,
        item => item,
    }
}

/// Whether a file wakes its waiters at this moment, among them this item: 1 if so.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn offwake_is_waking(item: u64) -> u32 {
    let queues = item.wrapping_add(u64::from(ITEM_QUEUES.load()));
    // Before 5.11 the head of a list, which leads back to itself; then a chain that ends with 0.
    let first = read::<u64>(queues);
    if first == 0 || first == queues {
        return 0;
    }
    let first = first.wrapping_sub(u64::from(ENTRY_NEXT.load()));
    if offwake_is_locked(read_at(first, &ENTRY_QUEUE)) != 0 {
        return 1;
    }
    let second = read_at::<u64>(first, &ENTRY_NEXT);
    if second == 0 || second == queues {
        return 0;
    }
    offwake_is_locked(read_at(second.wrapping_sub(u64::from(ENTRY_NEXT.load())), &ENTRY_QUEUE))
}

/// The item whose callback was called last on this CPU, if it is one of `epoll` and its file wakes its
/// waiters. 0: none.
#[inline(always)]
pub fn called_back(epoll: u64, wait: u64) -> u64 {
    let item = Item::of_wait(wait);
    if item.epoll() == epoll && offwake_is_waking(item.0) != 0 { item.0 } else { 0 }
}
