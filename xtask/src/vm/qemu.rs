//! The emulator: that of Debian 13, whatever this machine has.
//!
//! QEMU 7.2, which Debian 12 has, may go on executing an instruction that another CPU has replaced. The kernel
//! replaces instructions whenever a tracepoint comes into use: then both CPUs stand still in the breakpoint
//! where `__schedule` had it for a moment. `echo 1` and `echo 0` by turns into
//! `events/sched/sched_switch/enable`, while two processes wake each other, did that to Linux 6.1 within 200
//! turns. QEMU 10.0 went on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt::{self, Apt};
use crate::architecture::{Architecture, X86_64};

const PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-system-arm"];
/// Where its files are. Beside those that it is linked to it looks for firmware.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// An emulator with all that it needs, in a directory of its own.
pub(crate) struct Qemu {
    root: PathBuf,
}

impl Qemu {
    /// Gets it, or takes what an earlier run has got.
    pub(crate) fn get(directory: &Path) -> Result<Self> {
        let own = directory.join("qemu");
        let (root, done) = (own.join("root"), own.join("done"));
        if !done.exists() {
            // What an interrupted run left is worth nothing.
            let _ = fs::remove_dir_all(&own);
            let apt = Apt::of(&own, &X86_64, "debian", "trixie")?;
            for deb in apt.download_closure(&PACKAGES)? {
                apt::unpack(&deb, &root)?;
            }
            fs::write(&done, "")?;
        }
        Ok(Self { root })
    }

    /// The emulator of an architecture, which runs with the libraries that it was built with.
    pub(crate) fn command(&self, architecture: &Architecture) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(libraries);
        command.arg(self.root.join("usr/bin").join(architecture.qemu));
        for directory in FIRMWARE {
            command.arg("-L").arg(self.root.join(directory));
        }
        command.args(architecture.machine);
        command
    }
}
