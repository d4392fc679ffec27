//! Finding the separate file that holds the symbols of a stripped one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::{self, Elf, open_regular};
use crate::recording::MappedFile;

/// Where distributions put separate debug files.
const DEFAULT_DIR: &str = "/usr/lib/debug";

/// The debug file of the mapped file `stripped`, in any of `dirs` or where distributions put it: by
/// build id, else by the name and the checksum in `.gnu_debuglink`.
///
/// Only a file that belongs to this very build is returned.
pub(super) fn find(stripped: &Elf<'_>, file: &MappedFile, dirs: &[PathBuf]) -> Option<File> {
    let build_id = file.build_id.as_deref();
    build_id.and_then(|build_id| by_build_id(build_id, dirs)).or_else(|| {
        let (name, crc) = stripped.debug_link()?;
        link_candidates(&name, &file.path, &with_default(dirs))
            .iter()
            .filter_map(|candidate| open_regular(candidate))
            .find(|file| match (build_id, elf::build_id(file)) {
                (Some(wanted), Some(found)) => *wanted == *found,
                _ => checksum(file) == Some(crc),
            })
    })
}

/// The debug file with this build id, in any of `dirs` or where distributions put it.
pub(super) fn by_build_id(build_id: &[u8], dirs: &[PathBuf]) -> Option<File> {
    let name = build_id_path(build_id)?;
    with_default(dirs)
        .iter()
        .filter_map(|dir| open_regular(&dir.join(&name)))
        .find(|file| elf::build_id(file).as_deref() == Some(build_id))
}

fn with_default(dirs: &[PathBuf]) -> Vec<&Path> {
    dirs.iter().map(PathBuf::as_path).chain([Path::new(DEFAULT_DIR)]).collect()
}

/// `.build-id/ab/cdef.debug`.
fn build_id_path(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug")))
}

/// Where debuggers look for the file of a `.gnu_debuglink`.
fn link_candidates(name: &[u8], path: &Path, dirs: &[&Path]) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    // The target chose the name: it must not lead out of the folders.
    if name.file_name() != Some(name.as_os_str()) {
        return Vec::new();
    }
    let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) else {
        return Vec::new();
    };
    let below_root = folder.strip_prefix("/").unwrap_or(folder);
    let beside = [folder.join(name), folder.join(".debug").join(name)];
    beside.into_iter().chain(dirs.iter().map(|dir| dir.join(below_root).join(name))).collect()
}

/// The CRC-32 of a file, as `.gnu_debuglink` has it.
fn checksum(mut file: &File) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind().ok()?;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_target_do_not_lead_out() {
        let dirs = [Path::new("/usr/lib/debug")];
        let candidates =
            |name: &str, path: &str| link_candidates(name.as_bytes(), Path::new(path), &dirs);
        assert_eq!(
            candidates("envoy.debug", "/opt/bin/envoy"),
            [
                Path::new("/opt/bin/envoy.debug"),
                Path::new("/opt/bin/.debug/envoy.debug"),
                Path::new("/usr/lib/debug/opt/bin/envoy.debug"),
            ]
        );
        for name in ["", "..", "../x", "/etc/passwd", "a/b", "a/"] {
            assert!(candidates(name, "/opt/bin/envoy").is_empty(), "{name:?}");
        }
        assert!(candidates("envoy.debug", "memfd:x").is_empty());
    }

    #[test]
    fn build_ids() {
        assert_eq!(
            build_id_path(&[0xab, 0x0c, 0xff]),
            Some(PathBuf::from(".build-id/ab/0cff.debug"))
        );
        assert_eq!(build_id_path(&[0xab]), None);
        assert_eq!(build_id_path(&[]), None);
    }
}
