//! Debian's packages of any suite, by its own client, without a change to this machine: lists, cache
//! and what counts as installed are in a directory of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command;

/// The packages of one suite.
pub(crate) struct Apt {
    architecture: &'static Architecture,
    directory: PathBuf,
}

impl Apt {
    /// Fetches the lists of a suite. `archive`: `debian` or `debian-security`.
    pub(crate) fn of(
        directory: &Path,
        architecture: &'static Architecture,
        archive: &str,
        suite: &str,
    ) -> Result<Self> {
        let directory = directory.join(format!("{suite}-{}", architecture.debian));
        let apt = Self { architecture, directory };
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.directory.join(name))?;
        }
        let source = format!("deb {} {suite} main\n", mirror(archive));
        fs::write(apt.directory.join("sources.list"), source)?;
        // Nothing is installed: what a package needs comes with it.
        fs::write(apt.directory.join("status"), "")?;
        command::run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    /// The names of packages that begin and end so, the newest first.
    pub(crate) fn newest(&self, prefix: &str, suffix: &str) -> Result<Vec<String>> {
        let names = command::capture(self.command("apt-cache").args(["pkgnames", prefix]))?;
        let mut names: Vec<String> = names
            .lines()
            .filter(|name| name.strip_prefix(prefix).is_some_and(|it| it.ends_with(suffix)))
            .map(str::to_owned)
            .collect();
        names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
        Ok(names)
    }

    /// Downloads one package, and returns its file.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        let directory = self.directory.join("download").join(package);
        fs::create_dir_all(&directory)?;
        let mut download = self.command("apt-get");
        command::run(download.current_dir(&directory).args(["-qq", "download", package]))?;
        let mut files = debs(&directory)?;
        files.pop().with_context(|| format!("apt-get downloaded no {package}"))
    }

    /// Downloads packages and all that they need, and returns the files.
    pub(crate) fn download_closure(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut install = self.command("apt-get");
        install.args(["-qq", "-y", "--no-install-recommends", "--download-only", "install"]);
        command::run(install.args(packages))?;
        debs(&self.directory.join("cache/archives"))
    }

    /// Downloads a package and what it depends on whose names begin so, and returns the files.
    pub(crate) fn download_related(&self, package: &str, prefix: &str) -> Result<Vec<PathBuf>> {
        let depends = command::capture(self.command("apt-cache").args(["depends", package]))?;
        let related = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let related = related.filter(|name| name.starts_with(prefix));
        std::iter::once(package).chain(related).map(|name| self.download(name)).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, name) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg(format!("-o{option}={}", self.directory.join(name).display()));
        }
        command.args([
            "-oDir::Etc::sourceparts=/dev/null",
            // The directory is ours, not the user's that apt drops to.
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        for option in ["APT::Architecture", "APT::Architectures"] {
            command.arg(format!("-o{option}={}", self.architecture.debian));
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// Unpacks a package.
pub(crate) fn unpack(deb: &Path, into: &Path) -> Result<()> {
    command::capture(Command::new("dpkg").arg("-x").arg(deb).arg(into)).map(|_| ())
}

fn debs(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Debian's mirror: the one that this machine uses, if it is a Debian.
fn mirror(archive: &str) -> String {
    let default = format!("http://deb.debian.org/{archive}");
    let configured = configuration().unwrap_or_default();
    mirror_in(&configured, archive).unwrap_or(default)
}

/// The lists of sources of this machine.
fn configuration() -> Result<String> {
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for entry in fs::read_dir("/etc/apt/sources.list.d")? {
        text += &fs::read_to_string(entry?.path())?;
    }
    if text.is_empty() {
        bail!("no sources");
    }
    Ok(text)
}

fn mirror_in(configuration: &str, archive: &str) -> Option<String> {
    let lines = configuration.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut addresses = lines.flat_map(str::split_whitespace);
    let of_archive = |word: &&str| {
        word.contains("://") && word.trim_end_matches('/').rsplit('/').next() == Some(archive)
    };
    addresses.find(of_archive).map(str::to_owned)
}

/// The numbers in a name: of two versions the newer has the greater ones.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_this_machine() {
        let sources = "# http://old/debian\nTypes: deb\nURIs: http://a.example/debian/\n\
            deb http://a.example/debian-security x-security main\n";
        assert_eq!(mirror_in(sources, "debian").unwrap(), "http://a.example/debian/");
        let security = mirror_in(sources, "debian-security").unwrap();
        assert_eq!(security, "http://a.example/debian-security");
        assert_eq!(mirror_in("deb http://b.example/ubuntu x main", "debian"), None);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("linux-6.1.0-56-x") > numbers("linux-6.1.0-9-x"));
        assert!(numbers("linux-6.12.90+deb12.1-x") > numbers("linux-6.12.90+deb12-x"));
    }
}
