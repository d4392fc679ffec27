//! The code that the kernel maps into every process. It is in no file; offwake has the same.

use std::fs::File;
use std::io::Write;

/// More than any vDSO has: guards against a header that is not one.
const MAX_SIZE: usize = 1 << 20;

/// Offwake's own vDSO: the image that every process of the same word size has on this kernel.
/// `None` where the kernel maps none. A copy in a file, since names are found in files.
pub(super) fn file() -> Option<File> {
    let mut file = tempfile::tempfile().ok()?;
    file.write_all(image()?).ok()?;
    Some(file)
}

/// Offwake's own vDSO in memory.
pub(crate) fn image() -> Option<&'static [u8]> {
    // SAFETY: getauxval only reads the auxiliary vector.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as *const u8;
    if base.is_null() {
        return None;
    }
    // SAFETY: the kernel maps at least the page with the ELF header at this address.
    let header = unsafe { std::slice::from_raw_parts(base, 64) };
    // The section headers are the last thing in the image: e_shoff, e_shentsize, e_shnum.
    let field = |offset: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&header[offset..offset + size]);
        u64::from_le_bytes(bytes)
    };
    let sections_end = if cfg!(target_pointer_width = "64") {
        field(0x28, 8).checked_add(field(0x3a, 2) * field(0x3c, 2))?
    } else {
        field(0x20, 4).checked_add(field(0x2e, 2) * field(0x30, 2))?
    };
    let size = usize::try_from(sections_end).ok().filter(|&size| size <= MAX_SIZE)?;
    // SAFETY: the kernel maps its vDSO image as a whole, read-only and for the life of the
    // process, and the section headers are part of the image (linked in by the kernel's build).
    Some(unsafe { std::slice::from_raw_parts(base, size) })
}

/// Whether a mapping of `[vdso]` at this address is the same image as offwake's own: a 32-bit
/// process on a 64-bit kernel has another one, and all that it has is below 4 GiB.
pub(crate) fn is_ours(start: u64) -> bool {
    cfg!(target_pointer_width = "32") || start > u64::from(u32::MAX)
}
