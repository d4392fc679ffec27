//! Memory that forked processes share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// A type whose all-zero bytes are a valid value and which processes may share by address.
///
/// # Safety
/// The type consists of atomics only, without pointers.
pub unsafe trait Shareable: Sync {}

// SAFETY: an atomic.
unsafe impl Shareable for AtomicBool {}
// SAFETY: an atomic.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: atomics in a row.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// A zeroed `T` that this process and those it forks from now on see alike. It is never freed.
///
/// # Panics
/// When there is no memory.
pub fn shared<T: Shareable>() -> &'static T {
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<T>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED, "no memory to share: {}", std::io::Error::last_os_error());
    // SAFETY: page-aligned, zeroed, never unmapped; `Shareable` says that zeros are a valid `T`.
    unsafe { &*page.cast() }
}
