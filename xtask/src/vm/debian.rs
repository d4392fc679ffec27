//! The system inside: Debian 11 with what the tests run, as the image of a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use crate::architecture::Architecture;
use crate::{command, workspace};

/// What the tests run beside offwake.
const PACKAGES: [&str; 13] = [
    "bash",
    "coreutils",
    "dash",
    "g++",
    "gcc",
    "gdb",
    "grep",
    "libevent-dev",
    "linux-perf-5.10",
    "mount",
    "python3-minimal",
    "sed",
    "util-linux",
];
/// What installing the packages would have added. perf itself looks for the one of the running kernel.
const LINKS: [(&str, &str); 2] = [("usr/bin/perf", "perf_5.10"), ("bin/sh", "dash")];
/// What the comparison with BCC needs more.
const BCC: [&str; 1] = ["bpfcc-tools"];
const SIZE: &str = "2G";

/// Makes the image, or takes what an earlier run has made.
pub(crate) fn image(
    directory: &Path,
    architecture: &'static Architecture,
    has_bcc: bool,
) -> Result<PathBuf> {
    let mut name = format!("debian-11-{}", architecture.debian);
    let mut packages = PACKAGES.to_vec();
    if has_bcc {
        name += "-bcc";
        packages.extend(BCC);
    }
    let image = directory.join(format!("{name}.ext4"));
    let stamp = directory.join(format!("{name}.packages"));
    let wanted = packages.join("\n");
    if image.exists() && workspace::read(&stamp).is_ok_and(|made_of| made_of == wanted) {
        return Ok(image);
    }
    let root = directory.join(name);
    let _ = fs::remove_dir_all(&root);
    for name in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    // As Debian's installer: then a package's /bin/x is in /usr/bin.
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    let apt = Apt::of(&directory.join("apt"), architecture, "debian", "bullseye")?;
    let debs = apt.download_closure(&packages)?;
    eprintln!("unpacking {} packages of Debian 11", debs.len());
    for deb in debs {
        // dpkg would replace the links by directories.
        let mut unpack = Command::new("sh");
        unpack
            .args(["-c", "dpkg --fsys-tarfile \"$0\" | tar -x --keep-directory-symlink -C \"$1\""]);
        command::capture(unpack.arg(deb).arg(&root))?;
    }
    for (link, to) in LINKS {
        let link = root.join(link);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link)
            .with_context(|| format!("cannot link {}", link.display()))?;
    }
    make_image(&image, &root, SIZE)?;
    fs::remove_dir_all(&root)?;
    fs::write(&stamp, wanted)?;
    Ok(image)
}

/// The static busybox that a machine of this architecture starts with.
pub(crate) fn busybox(directory: &Path, architecture: &'static Architecture) -> Result<PathBuf> {
    let root = directory.join(format!("busybox-{}", architecture.debian));
    if !root.exists() {
        let apt = Apt::of(&directory.join("apt"), architecture, "debian", "bookworm")?;
        apt::unpack(&apt.download("busybox-static")?, &root)?;
    }
    Ok(root.join("bin/busybox"))
}

/// Makes the image of a disk with the content of a directory.
pub(crate) fn make_image(image: &Path, content: &Path, size: &str) -> Result<()> {
    let _ = fs::remove_file(image);
    let mut make = Command::new("/sbin/mke2fs");
    make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(content).arg(image).arg(size);
    command::run(&mut make)
}
