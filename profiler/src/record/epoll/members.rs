//! Where this kernel has what the programs of `offwake epoll` read.

use anyhow::Result;

use crate::record::btf::KernelTypes;

/// Constants of the programs (profiler-ebpf/src/epoll/maps.rs).
pub(super) fn offsets(types: &KernelTypes) -> Result<Vec<(&'static str, u32)>> {
    let at = |structure: &str, path: &[&str]| types.offset_of(structure, path);
    let sock = |member: &str| at("sock", &["__sk_common", member]);
    let reuse_port = types.bit_of("sock", &["__sk_common", "skc_reuseport"])?;
    Ok(vec![
        ("EPOLL_TASK_FILES", at("task_struct", &["files"])?),
        ("EPOLL_FILES_FDT", at("files_struct", &["fdt"])?),
        ("EPOLL_FDT_FD", at("fdtable", &["fd"])?),
        ("EPOLL_FDT_MAX", at("fdtable", &["max_fds"])?),
        ("EPOLL_FILE_PRIVATE", at("file", &["private_data"])?),
        ("EPOLL_FILE_INODE", at("file", &["f_inode"])?),
        ("EPOLL_INODE_MODE", at("inode", &["i_mode"])?),
        ("EPOLL_INODE_INO", at("inode", &["i_ino"])?),
        ("EPOLL_SOCKET_SK", at("socket", &["sk"])?),
        ("EPOLL_SK_FAMILY", sock("skc_family")?),
        ("EPOLL_SK_STATE", sock("skc_state")?),
        ("EPOLL_SK_NUM", sock("skc_num")?),
        ("EPOLL_SK_DPORT", sock("skc_dport")?),
        ("EPOLL_SK_LOCAL", sock("skc_rcv_saddr")?),
        ("EPOLL_SK_REMOTE", sock("skc_daddr")?),
        // There is none where the kernel was built without IPv6.
        ("EPOLL_SK_LOCAL_6", sock("skc_v6_rcv_saddr").unwrap_or(0)),
        ("EPOLL_SK_REMOTE_6", sock("skc_v6_daddr").unwrap_or(0)),
        ("EPOLL_SK_PROTOCOL", at("sock", &["sk_protocol"])?),
        ("EPOLL_SK_REUSEPORT", reuse_port / 8),
        ("EPOLL_SK_REUSEPORT_BIT", reuse_port % 8),
        (
            "EPOLL_SK_BUCKET",
            match at("inet_bind_bucket", &["fastreuse"]) {
                Ok(_) => at("inet_connection_sock", &["icsk_bind_hash"]).unwrap_or(0),
                Err(_) => 0,
            },
        ),
        ("EPOLL_BUCKET_REUSE", at("inet_bind_bucket", &["fastreuse"]).unwrap_or(0)),
        ("EPOLL_EP_READY", at("eventpoll", &["rdllist"])?),
        ("EPOLL_EP_OVERFLOW", at("eventpoll", &["ovflist"])?),
        ("EPOLL_ITEM_LINK", at("epitem", &["rdllink"])?),
        ("EPOLL_ITEM_FD", at("epitem", &["ffd", "fd"])?),
        ("EPOLL_ITEM_FILE", at("epitem", &["ffd", "file"])?),
        ("EPOLL_ITEM_EVENTS", at("epitem", &["event", "events"])?),
    ])
}
