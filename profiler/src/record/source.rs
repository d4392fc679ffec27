//! Where this kernel has what tells of files, sockets and epoll instances.

use anyhow::Result;

use super::btf::KernelTypes;

/// What the BPF programs read of a file, a socket and an item of an epoll instance: constants of theirs.
///
/// # Errors
/// When this kernel lacks a member without which nothing can be told: which.
pub(super) fn offsets(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let of = |structure: &str, path: &[&str]| types.offset_of(structure, path);
    // Of what may be missing: IPv6, unix sockets (a module in some kernels).
    let optional = |structure: &str, path: &[&str]| of(structure, path).unwrap_or(0);
    let common = |member: &str| of("sock", &["__sk_common", member]);
    Ok(vec![
        ("FILE_INODE", of("file", &["f_inode"])?),
        ("FILE_PRIVATE", of("file", &["private_data"])?),
        ("FILE_DENTRY", of("file", &["f_path", "dentry"])?),
        ("DENTRY_NAME", of("dentry", &["d_name", "name"])?),
        ("INODE_MODE", of("inode", &["i_mode"])?),
        ("INODE_NUMBER", of("inode", &["i_ino"])?),
        ("INODE_SUPER", of("inode", &["i_sb"])?),
        ("SUPER_MAGIC", of("super_block", &["s_magic"])?),
        ("SOCKET_SOCK", of("socket", &["sk"])?),
        ("SOCK_FAMILY", common("skc_family")?),
        ("SOCK_STATE", common("skc_state")?),
        ("SOCK_LOCAL_PORT", common("skc_num")?),
        ("SOCK_REMOTE_PORT", common("skc_dport")?),
        ("SOCK_LOCAL_V4", common("skc_rcv_saddr")?),
        ("SOCK_REMOTE_V4", common("skc_daddr")?),
        ("SOCK_LOCAL_V6", common("skc_v6_rcv_saddr").unwrap_or(0)),
        ("SOCK_REMOTE_V6", common("skc_v6_daddr").unwrap_or(0)),
        ("SOCK_PROTOCOL", of("sock", &["sk_protocol"])?),
        ("BIND_BUCKET", optional("inet_connection_sock", &["icsk_bind_hash"])),
        ("BUCKET_REUSE", optional("inet_bind_bucket", &["fastreuse"])),
        ("UNIX_ADDRESS", optional("unix_sock", &["addr"])),
        ("UNIX_PEER", optional("unix_sock", &["peer"])),
        ("UNIX_LEN", optional("unix_address", &["len"])),
        ("UNIX_NAME", optional("unix_address", &["name"])),
        ("ITEM_FILE", of("epitem", &["ffd", "file"])?),
        ("ITEM_FD", of("epitem", &["ffd", "fd"])?),
        ("ITEM_EPOLL", of("epitem", &["ep"])?),
        ("ITEM_READY", of("epitem", &["rdllink"])?),
        ("ITEM_OVERFLOW", of("epitem", &["next"]).or_else(|_| of("epitem", &["ovflist_next"]))?),
        ("ITEM_QUEUES", of("epitem", &["pwqlist"])?),
        ("ENTRY_ITEM", of("eppoll_entry", &["base"])?),
        ("ENTRY_WAIT", of("eppoll_entry", &["wait"])?),
        ("ENTRY_QUEUE", of("eppoll_entry", &["whead"])?),
        ("ENTRY_NEXT", of("eppoll_entry", &["next"]).or_else(|_| of("eppoll_entry", &["llink"]))?),
        ("EPOLL_READY", of("eventpoll", &["rdllist"])?),
        ("EPOLL_OVERFLOW", of("eventpoll", &["ovflist"])?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_member() {
        let types = KernelTypes::of_running_kernel().unwrap();
        let offsets = offsets(&types).unwrap();
        let of = |wanted: &str| offsets.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!(of("ITEM_FD"), of("ITEM_FILE") + 8);
        assert!(of("SOCK_LOCAL_PORT") > 0 && of("UNIX_ADDRESS") > 0 && of("BUCKET_REUSE") > 0);
    }
}
