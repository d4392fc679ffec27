//! Files of processes that have another root.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a file is that the process with this `/proc` folder has, by the path that `/proc` tells of it; `None` for one
/// outside of its root.
///
/// Such a path is as it is seen from here, and where none leads there from here, as into another mount namespace, from
/// the top of that one (`prepend_path` in fs/d_path.c). What the link to the root says is told likewise: more than
/// `/` for a process that did chroot.
pub(super) fn below(process: &Path, path: &Path) -> Option<PathBuf> {
    let root = process.join("root");
    let told = fs::read_link(&root).unwrap_or_else(|_| "/".into());
    Some(root.join(path.strip_prefix(told).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_root_is_no_part_of_the_way_from_it() {
        let process = tempfile::tempdir().unwrap();
        let root = process.path().join("root");
        for (told, path, expected) in [
            ("/", "/bin/sh", Some("bin/sh")),
            ("/jail", "/jail/bin/sh", Some("bin/sh")),
            ("/jail", "/jailer/bin/sh", None),
            ("/jail", "/bin/sh", None),
        ] {
            symlink(told, &root).unwrap();
            assert_eq!(below(process.path(), path.as_ref()), expected.map(|it| root.join(it)));
            fs::remove_file(&root).unwrap();
        }
        let unreadable = below(process.path(), "/bin/sh".as_ref());
        assert_eq!(unreadable, Some(root.join("bin/sh")), "who may not read the link may use it");
    }
}
