//! The kernels, from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::apt::{self, Apt};
use super::debian;
use crate::architecture::{AARCH64, Architecture, X86_64};
use crate::workspace;

/// A kernel by its name on the command line.
pub(crate) struct Kernel {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    pub(crate) architecture: &'static Architecture,
    /// Where it is: archive and suite, the best first.
    suites: &'static [(&'static str, &'static str)],
    /// How the name of its package begins.
    prefix: &'static str,
    /// How it ends.
    suffix: &'static str,
    /// The beginning in the name of the package with its modules, if that is another one.
    modules: Option<&'static str>,
    /// The beginning in the name of the package with its headers, where a suite needs them.
    pub(crate) headers: Option<&'static str>,
    /// Whether user stacks can be walked by call frame information on it.
    pub(crate) has_cfi: bool,
}

/// All kinds of probe. Every kernel of Debian must have all of them.
pub(crate) const PROBES: &[&str] = &["btf", "kprobe", "tracepoint"];

/// All of them: of x86-64, the oldest first, and then of others.
pub(crate) const ALL: [Kernel; 7] = [
    Kernel {
        name: "5.10",
        architecture: &X86_64,
        suites: &[("debian-security", "bullseye-security"), ("debian", "bullseye")],
        prefix: "linux-image-5.10.0-",
        suffix: "-cloud-amd64-unsigned",
        modules: None,
        headers: Some("linux-headers-5.10.0-"),
        has_cfi: false,
    },
    Kernel {
        name: "6.1",
        architecture: &X86_64,
        suites: &[("debian-security", "bookworm-security"), ("debian", "bookworm")],
        prefix: "linux-image-6.1.0-",
        suffix: "-cloud-amd64-unsigned",
        modules: None,
        headers: None,
        has_cfi: true,
    },
    Kernel {
        name: "6.1-rt",
        architecture: &X86_64,
        suites: &[("debian-security", "bookworm-security"), ("debian", "bookworm")],
        prefix: "linux-image-6.1.0-",
        suffix: "-rt-amd64-unsigned",
        modules: None,
        headers: None,
        has_cfi: true,
    },
    Kernel {
        name: "6.12",
        architecture: &X86_64,
        suites: &[("debian", "trixie"), ("debian", "bookworm-backports")],
        prefix: "linux-image-6.12.",
        suffix: "-cloud-amd64-unsigned",
        modules: None,
        headers: None,
        has_cfi: true,
    },
    Kernel {
        name: "7.2",
        architecture: &X86_64,
        suites: &[("debian", "sid"), ("debian", "forky")],
        prefix: "linux-binary-7.2.",
        suffix: "-cloud-amd64",
        modules: Some("linux-modules-7.2."),
        headers: None,
        has_cfi: true,
    },
    Kernel {
        name: "5.10-arm64",
        architecture: &AARCH64,
        suites: &[("debian-security", "bullseye-security"), ("debian", "bullseye")],
        prefix: "linux-image-5.10.0-",
        suffix: "-cloud-arm64-unsigned",
        modules: None,
        headers: None,
        has_cfi: false,
    },
    Kernel {
        name: "arm64",
        architecture: &AARCH64,
        suites: &[("debian-security", "bookworm-security"), ("debian", "bookworm")],
        prefix: "linux-image-6.1.0-",
        suffix: "-cloud-arm64-unsigned",
        modules: None,
        headers: None,
        has_cfi: true,
    },
];

impl Kernel {
    /// The kernel of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|kernel| kernel.name == name)
    }
}

/// How many versions of a suite are tried: mirrors list some that are gone.
const TRIES: usize = 4;

/// A kernel that can be booted.
pub(crate) struct Image {
    /// What QEMU loads.
    pub(crate) vmlinuz: PathBuf,
    /// The directory with its modules.
    pub(crate) modules: PathBuf,
    /// The package that it is from.
    pub(crate) package: String,
}

impl Kernel {
    /// Gets the newest version of the kernel, or what an earlier run has got.
    pub(crate) fn get(&self, directory: &Path) -> Result<Image> {
        let own = directory.join("kernels").join(self.name);
        let (root, done) = (own.join("root"), own.join("package"));
        if !done.exists() {
            // What an interrupted run left is worth nothing.
            let _ = fs::remove_dir_all(&own);
            fs::create_dir_all(&root)?;
            let package = self.fetch(directory, &root)?;
            fs::write(&done, package)?;
        }
        let package = workspace::read(&done)?.trim().to_owned();
        let is_kernel = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        };
        let files = workspace::files_below(&root)?;
        let vmlinuz = files.into_iter().find(is_kernel);
        let vmlinuz = vmlinuz.with_context(|| format!("no vmlinuz in {package}"))?;
        Ok(Image { vmlinuz, modules: root, package })
    }

    /// Makes the image of a disk with the headers of the kernel, or takes what an earlier run has made.
    pub(crate) fn headers(&self, directory: &Path, image: &Image) -> Result<PathBuf> {
        let own = directory.join("kernels").join(self.name);
        let (disk, content) = (own.join("headers.ext4"), own.join("headers"));
        if disk.exists() {
            return Ok(disk);
        }
        let prefix = self.headers.with_context(|| format!("no headers of {}", self.name))?;
        let rest = image.package.strip_prefix(self.prefix).unwrap_or_default();
        let name = format!("{prefix}{}", rest.trim_end_matches("-unsigned"));
        self.in_suites(directory, |apt| {
            let debs = apt.download_related(&name, "linux-headers-")?;
            let _ = fs::remove_dir_all(&content);
            for deb in debs {
                apt::unpack(&deb, &content)?;
            }
            debian::make_image(&disk, &content, "512M")?;
            fs::remove_dir_all(&content)?;
            Ok(disk.clone())
        })
    }

    fn fetch(&self, directory: &Path, root: &Path) -> Result<String> {
        self.in_suites(directory, |apt| {
            let mut last = anyhow!("no package {}*{} is listed", self.prefix, self.suffix);
            for package in apt.newest(self.prefix, self.suffix)?.into_iter().take(TRIES) {
                match self.unpack(apt, &package, root) {
                    Ok(()) => return Ok(package),
                    Err(error) => {
                        eprintln!("{package} cannot be had: {error:#}");
                        last = error;
                    }
                }
            }
            Err(last)
        })
    }

    /// What the first suite gives that has it; the last one's error if none does.
    fn in_suites<T>(&self, directory: &Path, get: impl Fn(&Apt) -> Result<T>) -> Result<T> {
        let mut last = anyhow!("{} is in no suite", self.name);
        for &(archive, suite) in self.suites {
            let apt = Apt::of(&directory.join("apt"), self.architecture, archive, suite);
            match apt.and_then(|apt| get(&apt)) {
                Ok(got) => return Ok(got),
                Err(error) => {
                    eprintln!("{} cannot be had from {suite}: {error:#}", self.name);
                    last = error;
                }
            }
        }
        Err(last)
    }

    fn unpack(&self, apt: &Apt, package: &str, root: &Path) -> Result<()> {
        apt::unpack(&apt.download(package)?, root)?;
        if let Some(modules) = self.modules {
            let rest = package.strip_prefix(self.prefix).unwrap_or_default();
            apt::unpack(&apt.download(&format!("{modules}{rest}"))?, root)?;
        }
        Ok(())
    }
}
