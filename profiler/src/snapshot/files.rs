//! The files that processes map, each once, opened while it can be.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::maps::FileKey;
use super::{root, system};
use crate::recording::MappedFile;
use crate::symbolize::{build_id, open_regular};

/// File descriptors that are left for everything else, beside one for each CPU: BPF, outputs, debug files.
const RESERVED: u64 = 256;

/// Files, each once.
pub(super) struct Files {
    files: Vec<MappedFile>,
    index: HashMap<FileKey, usize>,
    /// Those that could not be opened.
    missing: HashSet<usize>,
    /// Those whose build ids were not read yet.
    unread: Vec<usize>,
    /// How many more files may stay open.
    budget: u64,
}

impl Files {
    /// Raises the limit of open files to what is allowed.
    pub(super) fn new() -> Self {
        let reserved = RESERVED + system::cpus();
        Self::with_budget(system::raise_file_limit().saturating_sub(reserved))
    }

    fn with_budget(budget: u64) -> Self {
        Self {
            files: Vec::new(),
            index: HashMap::new(),
            missing: HashSet::new(),
            unread: Vec::new(),
            budget,
        }
    }

    /// The index of a file that the process with this `/proc` folder maps at `start..end`.
    /// Opens a new file, and one that could not be opened before: the process through which it was to be may have ended.
    /// Quick: this one may end any moment, too, and what can be done later is left to [`Files::read_build_ids`].
    pub(super) fn add(&mut self, process: &Path, start: u64, end: u64, key: &FileKey) -> usize {
        let index = match self.index.get(key) {
            Some(index) if !self.missing.contains(index) => return *index,
            Some(index) => *index,
            None => self.new_file(key),
        };
        if let Some(file) = open(process, start, end, key) {
            self.files[index].handle = Some(Arc::new(file));
            self.missing.remove(&index);
            self.unread.push(index);
        }
        index
    }

    fn new_file(&mut self, key: &FileKey) -> usize {
        let index = self.files.len();
        self.files.push(MappedFile {
            path: key.path.clone(),
            device: key.device,
            inode: key.inode,
            build_id: None,
            handle: None,
        });
        self.index.insert(key.clone(), index);
        self.missing.insert(index);
        index
    }

    /// A file.
    pub(super) fn get(&self, index: usize) -> Option<&MappedFile> {
        self.files.get(index)
    }

    /// Reads the build ids of the files that were opened since the last call. When the file descriptors run out
    /// it closes them again: they are then found by their path, and recognized by the build id.
    pub(super) fn read_build_ids(&mut self) {
        for index in std::mem::take(&mut self.unread) {
            let file = &mut self.files[index];
            let Some(handle) = &file.handle else { continue };
            file.build_id = build_id(handle);
            match self.budget.checked_sub(1) {
                Some(left) => self.budget = left,
                None => file.handle = None,
            }
        }
    }

    /// The files, by index.
    pub(super) fn into_vec(self) -> Vec<MappedFile> {
        self.files
    }
}

/// Opens a mapped file: the very file by `map_files`, which needs `CAP_CHECKPOINT_RESTORE` or
/// `CAP_SYS_ADMIN`; else by its path, if that still leads to the same inode. (Not compared: the
/// device, see [`FileKey`].)
fn open(process: &Path, start: u64, end: u64, key: &FileKey) -> Option<File> {
    let exact = process.join(format!("map_files/{start:x}-{end:x}"));
    if let Some(file) = open_regular(&exact) {
        return Some(file);
    }
    let in_root = root::below(process, &key.path);
    in_root
        .iter()
        .chain([&key.path])
        .filter_map(|path| open_regular(path))
        .find(|file| file.metadata().is_ok_and(|metadata| metadata.ino() == key.inode))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn key(path: PathBuf, inode: u64) -> FileKey {
        FileKey { device: (8, 1), inode, path }
    }

    #[test]
    fn a_path_counts_only_while_it_leads_to_the_same_inode() {
        let path = std::env::current_exe().unwrap();
        let inode = path.metadata().unwrap().ino();
        let gone = Path::new("/proc/0");
        assert!(open(gone, 0, 1, &key(path.clone(), inode)).is_some());
        assert!(open(gone, 0, 1, &key(path, inode + 1)).is_none());
        assert!(open(gone, 0, 1, &key("memfd:x".into(), inode)).is_none());
        let in_root = Path::new("/proc/self");
        let path = std::env::current_exe().unwrap();
        assert!(open(in_root, 0, 1, &key(path, inode)).is_some());
    }

    #[test]
    fn without_file_descriptors_the_build_id_remains() {
        let path = std::env::current_exe().unwrap();
        let inode = path.metadata().unwrap().ino();
        let mut files = Files::with_budget(1);
        let gone = Path::new("/proc/0");
        let first = files.add(gone, 0, 1, &key(path.clone(), inode));
        let second = files.add(gone, 0, 1, &FileKey { device: (8, 2), ..key(path.clone(), inode) });
        assert_eq!(files.add(gone, 5, 6, &key(path, inode)), first, "the same file again");
        files.read_build_ids();
        let files = files.into_vec();
        assert_eq!(files.len(), 2);
        assert!(files[first].handle.is_some());
        assert!(files[second].handle.is_none());
        assert!(files[second].build_id.is_some());
    }

    #[test]
    fn what_could_not_be_opened_is_opened_through_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("library");
        std::fs::write(&path, "content").unwrap();
        let inode = path.metadata().unwrap().ino();
        let mut files = Files::with_budget(10);
        // A path of its own mount namespace, which led to the file.
        let key = key("/nowhere/library".into(), inode);
        let (gone, alive) = (directory.path().join("1"), directory.path().join("2"));
        let first = files.add(&gone, 0, 1, &key);
        files.read_build_ids();
        assert!(files.get(first).unwrap().handle.is_none());
        std::fs::create_dir_all(alive.join("root/nowhere")).unwrap();
        std::fs::hard_link(&path, alive.join("root/nowhere/library")).unwrap();
        assert_eq!(files.add(&alive, 0, 1, &key), first, "the same file");
        assert!(files.get(first).unwrap().handle.is_some());
    }

    #[test]
    fn a_named_pipe_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(open_regular(&path).is_none());
    }
}
