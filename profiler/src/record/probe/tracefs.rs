//! The kernel's descriptions of its tracepoints.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};

use super::hooks::Event;
use crate::record::descriptor::owned;

/// The root of a tracefs.
pub(super) struct Tracefs {
    root: OwnedFd,
}

/// A tracepoint and the fields of its record.
pub(super) struct Described {
    /// The tracepoint.
    pub(super) id: Event,
    format: String,
}

impl Tracefs {
    /// Where it is mounted, or a mount of offwake's own, which nobody else sees (`fsmount`, 5.2+).
    pub(super) fn open() -> Result<Self> {
        const MOUNTS: [&CStr; 2] = [c"/sys/kernel/tracing", c"/sys/kernel/debug/tracing"];
        let mut denied = false;
        for mount in MOUNTS {
            match open_at(libc::AT_FDCWD, mount, libc::O_PATH | libc::O_DIRECTORY) {
                Ok(root) if open_at(root.as_raw_fd(), c"events", libc::O_PATH).is_ok() => {
                    return Ok(Self { root });
                }
                Ok(root) => {
                    denied |= open_at(root.as_raw_fd(), c"events", libc::O_PATH)
                        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
                }
                Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
            }
        }
        match mount() {
            Ok(root) => Ok(Self { root }),
            Err(error) if denied => bail!(
                "cannot read /sys/kernel/tracing ({error}): it needs root, or the capability \
                 CAP_DAC_READ_SEARCH"
            ),
            Err(error) => bail!(
                "tracefs is not mounted, and mounting it fails ({error}): run `mount -t tracefs \
                 nodev /sys/kernel/tracing` as root"
            ),
        }
    }

    /// A tracepoint of a group.
    pub(super) fn event(&self, group: &str, name: &str) -> Result<Described> {
        let read = |file: &str| {
            self.read(&format!("events/{group}/{name}/{file}"))
                .with_context(|| format!("this kernel has no tracepoint {group}:{name}"))
        };
        let id = read("id")?.trim().parse().context("the number of a tracepoint")?;
        let id = Event { name: format!("{group}:{name}"), id };
        Ok(Described { id, format: read("format")? })
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let path = std::ffi::CString::new(path)?;
        let fd = open_at(self.root.as_raw_fd(), &path, libc::O_RDONLY)?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Described {
    /// Byte offset of a field in the record.
    pub(super) fn offset_of(&self, field: &str) -> Result<u32> {
        offset_of(&self.format, field)
            .with_context(|| format!("the record of {} has no field {field}", self.id.name))
    }
}

/// Lines such as `field:pid_t prev_pid; offset:24; size:4; signed:1;`, with tabs.
fn offset_of(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.rsplit([' ', '*']).next()?;
        let name = name.split('[').next()?;
        let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
        (name == field).then(|| offset.parse().ok())?
    })
}

fn open_at(directory: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path is a string that ends with 0.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), flags | libc::O_CLOEXEC) };
    owned(fd.into())
}

/// A tracefs that is mounted nowhere, and gone when the descriptor is closed.
fn mount() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    // SAFETY: the name is a string that ends with 0; null and 0 stand for no arguments.
    unsafe {
        let context = libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC);
        let context = owned(context)?;
        let fd = context.as_raw_fd();
        let none = std::ptr::null::<libc::c_char>();
        if libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        owned(libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_their_offsets() {
        let format = "name: sched_switch\nID: 318\nformat:\n\
                      \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                      \n\
                      \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
                      \tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
                      \tfield:const char *name;\toffset:32;\tsize:8;\tsigned:0;\n\
                      \nprint fmt: \"prev_pid=%d\", REC->prev_pid\n";
        assert_eq!(offset_of(format, "prev_comm"), Some(8));
        assert_eq!(offset_of(format, "prev_pid"), Some(24));
        assert_eq!(offset_of(format, "name"), Some(32));
        assert_eq!(offset_of(format, "pid"), None);
        assert_eq!(offset_of("field:int x; offset", "x"), None);
    }
}
