//! The architectures that offwake is built for and tested on.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::packages::{self, Need};
use crate::workspace::Workspace;

/// What of building and of virtual machines is of the architecture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// As the BPF object and the kernel's own `uname -m` have it.
    pub(crate) name: &'static str,
    /// As Rust's compiler has it.
    pub(crate) target: &'static str,
    /// As Debian has it.
    pub(crate) debian: &'static str,
    /// The compiler of C that links for it.
    pub(crate) linker: &'static str,
    /// What links, on a machine of x86-64.
    compilers: &'static [Need<'static>],
    /// Its emulator.
    pub(crate) qemu: &'static str,
    /// The machine, and a CPU with all that one can have.
    pub(crate) machine: &'static [&'static str],
    pub(crate) console: &'static str,
    /// What else its kernel is told.
    pub(crate) parameters: &'static str,
}

pub(crate) const X86_64: Architecture = Architecture {
    name: "x86_64",
    target: "x86_64-unknown-linux-gnu",
    debian: "amd64",
    linker: "gcc",
    compilers: &[],
    qemu: "qemu-system-x86_64",
    machine: &["-cpu", "max"],
    console: "ttyS0",
    // Of several emulated CPUs the kernel trusts the clock of none: to read the time would be to ask an emulated
    // device, and the scheduler's clock would be put together from ticks.
    parameters: "tsc=reliable",
};

pub(crate) const AARCH64: Architecture = Architecture {
    name: "aarch64",
    target: "aarch64-unknown-linux-gnu",
    debian: "arm64",
    linker: "aarch64-linux-gnu-gcc",
    compilers: &[
        Need::new("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        Need::new("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
    ],
    qemu: "qemu-system-aarch64",
    // To emulate the usual algorithm of pointer authentication would take half of the time.
    machine: &["-machine", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    parameters: "",
};

impl Architecture {
    /// The one of this name, as the kernel or as Debian has it.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        [&X86_64, &AARCH64].into_iter().find(|it| it.name == name || it.debian == name)
    }

    /// Gets what compiles for it.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<()> {
        packages::ensure(&format!("building for {}", self.name), self.compilers)?;
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "target-libdir", "--target", self.target]);
        let libraries = command::capture(rustc.current_dir(&workspace.root))?;
        if !PathBuf::from(libraries.trim()).exists() {
            let mut rustup = Command::new("rustup");
            command::run(rustup.current_dir(&workspace.root).args(["target", "add", self.target]))?;
        }
        Ok(())
    }
}
