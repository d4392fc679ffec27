//! Memory: that of other processes, and what BPF takes.

use std::collections::BTreeMap;

/// Reads words of a process at an address. Whether all of them could be read.
pub(super) fn read_words(tid: u32, address: u64, words: &mut [u64]) -> bool {
    let len = size_of_val(words);
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: len };
    // SAFETY: the local vector is the slice; the remote one is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(tid as libc::pid_t, &local, 1, &remote, 1, 0) };
    read == len as isize
}

/// Bytes of the kernel's memory that offwake's BPF maps take, as `bpf_map_show_fdinfo`
/// (kernel/bpf/syscall.c) tells; 0 where it does not.
pub(super) fn of_bpf_maps() -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc/self/fdinfo") else { return 0 };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    // A map may have several descriptors.
    texts.filter_map(|text| map_of(&text)).collect::<BTreeMap<u64, u64>>().into_values().sum()
}

/// The id and the bytes of a map, of the text of its descriptor.
fn map_of(fdinfo: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    value("map_type")?;
    Some((value("map_id")?, value("memlock")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_from_other_descriptors() {
        let map = "pos:\t0\nmap_type:\t2\nmap_id:\t7\nmemlock:\t4096\nfrozen:\t0\n";
        assert_eq!(map_of(map), Some((7, 4096)));
        assert_eq!(map_of("pos:\t0\nprog_type:\t26\nmemlock:\t4096\n"), None);
    }
}
