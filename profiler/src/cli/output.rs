//! Where results go. A file appears under its name only when it is complete, or not at all; one that cannot be replaced
//! is written when the result is complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

use super::config::Destination;
use super::unfinished;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A destination that was found writable.
#[derive(Debug)]
pub(crate) struct Sink {
    /// For messages.
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Written as it goes: standard output, a pipe, a device.
    Stream(File),
    /// Written beside the path and then moved there.
    Replace(PathBuf),
}

impl Sink {
    /// Makes sure that the destination can be written, without changing anything that exists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open(destination: &Destination) -> anyhow::Result<Self> {
        match destination {
            Destination::Stdout => Self::stdout(),
            Destination::File(path) => {
                let name = format!("'{}'", path.display());
                let kind = open_path(path).with_context(|| format!("cannot write {name}"))?;
                Ok(Self { name, kind })
            }
        }
    }

    /// Standard output.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub(crate) fn stdout() -> anyhow::Result<Self> {
        // The descriptor itself: `Stdout` would flush at every line and hide some errors.
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        let stdout = stdout.context("cannot write standard output")?;
        Ok(Self { name: "standard output".into(), kind: Kind::Stream(stdout.into()) })
    }

    /// Writes what `fill` writes. A reader that went away is no error: it has seen enough.
    ///
    /// # Errors
    /// When `fill` fails, or writing does. A file is then as it was before.
    pub(crate) fn write(
        self,
        fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Stream(file) => write_to(file, fill).or_else(|error| {
                let closed = error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
                if closed { Ok(()) } else { Err(error) }
            }),
            Kind::Replace(path) => replace(path, fill),
        }
        .with_context(|| format!("cannot write {}", self.name))
    }
}

fn open_path(path: &Path) -> anyhow::Result<Kind> {
    let path = follow_links(path)?;
    let existing = metadata(&path)?;
    match existing {
        Some(found) if found.is_dir() => bail!("it is a directory"),
        // Whatever it is, it has no content that could be replaced. Appending makes a difference
        // only for /dev/stdout and its like, when they lead to a file: what is there stays.
        Some(found) if !found.is_file() || is_in_proc(&path) => {
            Ok(Kind::Stream(OpenOptions::new().append(true).open(&path)?))
        }
        found => {
            if found.is_some() {
                // Moving a file over this one is allowed even where writing it is not.
                OpenOptions::new().write(true).open(&path)?;
            }
            temporary_beside(&path)?;
            Ok(Kind::Replace(path))
        }
    }
}

fn replace(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let temporary = temporary_beside(path)?;
    write_to(temporary.as_file(), fill)?;
    if let Some(existing) = metadata(path)? {
        // A new owner is a privilege, and the file is complete without it.
        let _ = fchown(temporary.as_file(), Some(existing.uid()), Some(existing.gid()));
        temporary.as_file().set_permissions(existing.permissions())?;
    }
    // Some file systems tell only now that they are full.
    temporary.as_file().sync_all()?;
    match temporary.persist(path) {
        Ok(_) => Ok(()),
        // One that is a mount of its own, as in a container, has to stay.
        Err(failed) if metadata(path)?.is_some() => Ok(overwrite(path, failed.file.reopen()?)?),
        Err(failed) => Err(failed.error.into()),
    }
}

/// Writes a complete file over another one. If that fails, nothing is left in it.
fn overwrite(path: &Path, mut complete: File) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    let result = io::copy(&mut complete, &mut file).and_then(|_| file.sync_all());
    if result.is_err() {
        // What was in there is lost either way.
        let _ = file.set_len(0);
    }
    result
}

/// A new file in the directory of `path`, with the permissions that any new file gets. Removed
/// when dropped, and by signals that end the process.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Not `tempfile_in`: it would hide the error's cause, and make the file private to its owner.
    tempfile::Builder::new().prefix(".offwake-").make_in(directory, |path| {
        unfinished::set(path);
        OpenOptions::new().write(true).create_new(true).open(path)
    })
}

fn write_to(
    file: &File,
    fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(Watched { file, error: None });
    let result = fill(&mut out).and_then(|()| Ok(out.flush()?));
    // Taken apart, or dropping it would write once more.
    let (watched, _unwritten) = out.into_parts();
    match watched.error {
        Some(code) => Err(io::Error::from_raw_os_error(code).into()),
        None => result,
    }
}

/// Keeps the error of a write as it was: what comes back through a library may be wrapped beyond
/// recognition.
struct Watched<'a> {
    file: &'a File,
    error: Option<i32>,
}

impl Watched<'_> {
    fn watch<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.error = self.error.or(error.raw_os_error());
        }
        result
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.watch(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.watch(result)
    }
}

/// What `path` leads to, which need not exist, so that a link stays and its target is replaced.
/// Links in /proc stand for open files: they lead nowhere that could be replaced.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) if !is_in_proc(&path) => {
                path = path.parent().unwrap_or(Path::new("")).join(target);
            }
            _ => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn is_in_proc(path: &Path) -> bool {
    path.parent()
        .and_then(|parent| parent.canonicalize().ok())
        .is_some_and(|parent| parent.starts_with("/proc"))
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
