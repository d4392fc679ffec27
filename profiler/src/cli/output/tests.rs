use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn open(path: &Path) -> anyhow::Result<Sink> {
    Sink::open(&Destination::File(path.into()))
}

fn hello(out: &mut dyn Write) -> anyhow::Result<()> {
    Ok(out.write_all(b"hello")?)
}

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_appears_only_when_it_is_complete() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out.svg");
    let sink = open(&path).unwrap();
    assert!(names(&directory).is_empty(), "opening must leave nothing behind");
    sink.write(|out| {
        hello(out)?;
        out.flush()?;
        assert!(!path.exists());
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert_eq!(names(&directory), ["out.svg"]);
}

#[test]
fn a_new_file_has_the_permissions_of_any_new_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ours");
    open(&path).unwrap().write(hello).unwrap();
    let plain = directory.path().join("plain");
    File::create(&plain).unwrap();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn an_existing_file_is_replaced_and_keeps_its_mode() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "something longer than hello").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    open(&path).unwrap().write(hello).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn a_failure_leaves_an_existing_file_as_it_was_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "before").unwrap();
    let error = open(&path)
        .unwrap()
        .write(|out| {
            hello(out)?;
            bail!("no more")
        })
        .unwrap_err();
    assert_eq!(format!("{error:#}"), format!("cannot write '{}': no more", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(names(&directory), ["out"]);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    let target = directory.path().join("sub/target");
    let first = directory.path().join("first");
    let second = directory.path().join("sub/second");
    symlink("sub/second", &first).unwrap();
    symlink("target", &second).unwrap();
    for existing in [false, true] {
        open(&first).unwrap().write(hello).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"hello", "existing: {existing}");
        assert!(first.is_symlink() && second.is_symlink());
        fs::write(&target, "again").unwrap();
    }
}

#[test]
fn links_in_a_circle_are_an_error() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("out");
    symlink("out", &path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(format!("{error:#}").contains("symbolic links"), "{error:#}");
}

#[test]
fn what_cannot_be_written_is_an_error_at_once() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let cases = [
        (directory.path().to_path_buf(), "it is a directory"),
        (directory.path().join("missing/out"), "No such file or directory"),
        (file.join("out"), "Not a directory"),
        // Not even root can create a file here.
        (PathBuf::from("/proc/offwake.svg"), "No such file or directory"),
    ];
    for (path, expected) in cases {
        let error = format!("{:#}", open(&path).unwrap_err());
        assert!(error.starts_with(&format!("cannot write '{}': ", path.display())), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(".offwake-"), "{error}");
    }
}

#[test]
fn a_full_device_is_one_clear_error() {
    let error = open(Path::new("/dev/full")).unwrap().write(hello).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "cannot write '/dev/full': No space left on device (os error 28)"
    );
}

#[test]
fn the_cause_of_a_failed_write_survives_any_wrapping() {
    let error = open(Path::new("/dev/full")).unwrap().write(|out| {
        out.write_all(&[b'x'; 100_000]).map_err(|_| anyhow::anyhow!("the renderer gave up"))
    });
    assert_eq!(
        format!("{:#}", error.unwrap_err()),
        "cannot write '/dev/full': No space left on device (os error 28)"
    );
}

#[test]
fn a_pipe_is_written_and_its_end_is_no_error() {
    let (reader, writer) = io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    open(Path::new(&path)).unwrap().write(hello).unwrap();
    let sink = open(Path::new(&path)).unwrap();
    drop(writer);
    let mut bytes = [0; 5];
    io::Read::read_exact(&mut &reader, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    drop(reader);
    sink.write(|out| Ok(out.write_all(&[b'x'; 100_000])?)).unwrap();
}

#[test]
fn a_file_behind_a_descriptor_is_appended_to() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "before ").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let link = directory.path().join("link");
    symlink(descriptor, &link).unwrap();
    open(&link).unwrap().write(hello).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before hello");
}
