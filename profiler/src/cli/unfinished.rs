//! The file that is being written, for a signal that ends the process to remove.

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A `CString`, which belongs to whoever takes it out. Outputs are written one after the other.
static PATH: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// This file is to be removed from now on, instead of the one before, which is complete or gone.
pub(crate) fn set(path: &Path) {
    // No path has a 0.
    let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let before = PATH.swap(path.into_raw(), Ordering::AcqRel);
    if !before.is_null() {
        // SAFETY: it is of `into_raw`, and nobody else has it any more.
        drop(unsafe { CString::from_raw(before) });
    }
}

/// Removes it. A signal handler may call this.
pub(crate) fn remove() {
    let path = PATH.swap(ptr::null_mut(), Ordering::AcqRel);
    if !path.is_null() {
        // SAFETY: a string that ends with 0, and is never freed: to free is not for signal handlers. The call is.
        unsafe { libc::unlink(path) };
    }
}
