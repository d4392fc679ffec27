//! Programs that tasks need beside Rust: what they are, and installing them on Debian.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Something that a Debian package brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need<'a> {
    /// A program, or an absolute path of a file.
    what: &'a str,
    /// The package.
    package: &'a str,
}

impl<'a> Need<'a> {
    pub(crate) const fn new(what: &'a str, package: &'a str) -> Self {
        Self { what, package }
    }

    fn is_there(&self) -> bool {
        if self.what.starts_with('/') {
            Path::new(self.what).exists()
        } else {
            command::find_program(self.what).is_some()
        }
    }
}

/// Compilers of the example targets, and what the tests run beside them.
pub(crate) const FOR_TESTS: &[Need<'_>] = &[
    Need::new("gcc", "gcc"),
    Need::new("g++", "g++"),
    Need::new("make", "make"),
    Need::new("/usr/include/event2/event.h", "libevent-dev"),
    Need::new("objcopy", "binutils"),
    Need::new("xz", "xz-utils"),
    Need::new("perf", "linux-perf"),
    Need::new("python3", "python3"),
    Need::new("pip3", "python3-pip"),
    Need::new("gdb", "gdb"),
    Need::new("node", "nodejs"),
    Need::new("chromium", "chromium"),
    Need::new("go", "golang-go"),
    Need::new("musl-gcc", "musl-tools"),
];

/// The load of the benchmark, the tracers beside offwake, and the reader of their costs.
pub(crate) const FOR_BENCH: &[Need<'_>] = &[
    Need::new("perf", "linux-perf"),
    Need::new("bpftool", "bpftool"),
    Need::new("offcputime", "libbpf-tools"),
    Need::new("wakeuptime", "libbpf-tools"),
];

/// What makes the disks of virtual machines, and the compilers of what goes onto them.
pub(crate) const FOR_VM: &[Need<'_>] = &[
    Need::new("cpio", "cpio"),
    Need::new("xz", "xz-utils"),
    Need::new("zstd", "zstd"),
    Need::new("mke2fs", "e2fsprogs"),
    Need::new("g++", "g++"),
    Need::new("make", "make"),
    Need::new("/usr/include/event2/event.h", "libevent-dev"),
];

/// Debian's Rust with `core` for BPF.
pub(crate) const FOR_BPF: &[Need<'_>] = &[
    Need::new("/usr/bin/rustc", "rustc-web"),
    Need::new("/usr/bin/cargo", "cargo-web"),
    Need::new("/usr/lib/rustlib/bpfel-unknown-none", "libstd-rust-web-dev-bpf"),
];

/// Makes sure that everything is there: installs what is missing where this is Debian and root,
/// and says what to install elsewhere.
pub(crate) fn ensure(purpose: &str, needs: &[Need<'_>]) -> Result<()> {
    let missing: Vec<&Need<'_>> = needs.iter().filter(|need| !need.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    if command::find_program("apt-get").is_none() {
        let what: Vec<_> = missing.iter().map(|need| need.what).collect();
        bail!("{purpose} needs {}: install them", what.join(", "));
    }
    let packages_line = packages.join(" ");
    if !command::is_root() {
        bail!("{purpose} needs packages: run `apt-get install {packages_line}` as root");
    }
    eprintln!("{purpose} needs packages that are not installed: {packages_line}");
    apt_get(&["update", "-qq"])?;
    let mut install = vec!["install", "-qq", "-y", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)?;
    match needs.iter().find(|need| !need.is_there()) {
        Some(need) => bail!("package {} is installed, but {} is missing", need.package, need.what),
        None => Ok(()),
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    command::run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}
