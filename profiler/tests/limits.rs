//! What hostile files make a reader of saved profiles use: each ends in one error that says where, or in a
//! result, and never takes more memory than is allowed.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

/// The most resident memory of a process that reads one file, in bytes: its budget, and itself.
const MAX_RESIDENT: u64 = 470_000_000;

/// How a report of a file ends: what it says on stderr, and the peak of its resident memory.
fn report(file: &Path) -> (bool, String, u64) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_offwake"));
    command.args(["report", "-o", "/dev/null", "-F", "folded"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen().unwrap());
    // Should a limit fail, so does the process, not the machine. An address space has more in it than what
    // is resident.
    let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
    // SAFETY: setrlimit is async-signal-safe, and the pointer is to a live value.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
            Ok(())
        })
    };
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
    let child = command.spawn().unwrap();
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values, and nobody else waits for this child.
    let waited =
        unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, child.id() as libc::pid_t);
    let mut text = String::new();
    said.reopen().unwrap().read_to_string(&mut text).unwrap();
    // In KiB (getrusage(2)).
    (status == 0, text, usage.ru_maxrss as u64 * 1024)
}

/// Asserts that a file is refused, with this in the error.
fn assert_refused(
    name: &str,
    directory: &TempDir,
    expected: &[&str],
    fill: impl FnOnce(&mut dyn Write),
) {
    let path = directory.path().join(name);
    let mut file = BufWriter::new(File::create(&path).unwrap());
    fill(&mut file);
    file.flush().unwrap();
    drop(file);
    let (succeeded, said, bytes) = report(&path);
    fs::remove_file(&path).unwrap();
    eprintln!("{name}: {:.0} MB; {said}", bytes as f64 / 1e6);
    assert!(!succeeded, "{name}: {said}");
    let error = said.lines().last().unwrap_or_default();
    for part in expected.iter().chain(&["408 MiB of memory"]) {
        assert!(error.contains(part), "{name}: {said} has no {part}");
    }
    assert!(bytes <= MAX_RESIDENT, "{name}: {bytes} bytes");
}

/// A field of a protobuf message: its number, and its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

/// A varint.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// What begins every pprof file.
fn head() -> Vec<u8> {
    [field(1, &[0x08, 0x00, 0x10, 0x00]), field(6, b"")].concat()
}

/// Packed as gzip.
fn packed(out: &mut dyn Write, fill: impl FnOnce(&mut dyn Write)) {
    let mut gzip = GzEncoder::new(out, Compression::fast());
    fill(&mut gzip);
    gzip.finish().unwrap();
}

#[test]
fn folded_stacks() {
    let directory = TempDir::new().unwrap();
    assert_refused("short lines", &directory, &["line "], |out| {
        for line in 0..6_000_000 {
            writeln!(out, "{line:x} 1").unwrap();
        }
    });
    assert_refused("frames", &directory, &["line "], |out| {
        for line in 0..300_000 {
            write!(out, "t").unwrap();
            for frame in 0..16 {
                write!(out, ";{:x}", line * 16 + frame).unwrap();
            }
            writeln!(out, ";--;w 1").unwrap();
        }
    });
    assert_refused("long names", &directory, &["line "], |out| {
        let name = "n".repeat(1 << 20);
        for line in 0..300 {
            writeln!(out, "t;{line}{name};--;w 1").unwrap();
        }
    });
    assert_refused("fields", &directory, &["line "], |out| {
        let line = "t".to_owned() + &";a".repeat(2_000_000);
        for number in 0..100 {
            writeln!(out, "{line};{number} 1").unwrap();
        }
    });
    assert_refused("large", &directory, &[], |out| {
        let zeros = vec![b'x'; 1 << 20];
        for _ in 0..600 {
            out.write_all(&zeros).unwrap();
        }
    });
    assert_refused("bomb.gz", &directory, &["unpacking gzip"], |out| {
        packed(out, |out| {
            let zeros = vec![b'x'; 1 << 20];
            for _ in 0..600 {
                out.write_all(&zeros).unwrap();
            }
        });
    });
}

#[test]
fn pprof() {
    let directory = TempDir::new().unwrap();
    let repeat = |out: &mut dyn Write, count: u64, entry: &dyn Fn(u64) -> Vec<u8>| {
        packed(out, |out| {
            out.write_all(&head()).unwrap();
            for number in 1..=count {
                out.write_all(&entry(number)).unwrap();
            }
        });
    };
    let with_id = |number| [&[0x08], &varint(number)[..]].concat();
    assert_refused("locations", &directory, &["byte "], |out| {
        repeat(out, 4_000_000, &|number| field(4, &with_id(number)));
    });
    assert_refused("functions", &directory, &["byte "], |out| {
        repeat(out, 4_000_000, &|number| field(5, &with_id(number)));
    });
    assert_refused("mappings", &directory, &["byte "], |out| {
        repeat(out, 4_000_000, &|number| field(3, &with_id(number)));
    });
    assert_refused("strings", &directory, &["byte "], |out| {
        let text = vec![b's'; 96];
        repeat(out, 4_000_000, &|_| field(6, &text));
    });
    assert_refused("labels", &directory, &["sample at byte "], |out| {
        // One message that is all labels, behind so many others that there is not enough left.
        let text = vec![b's'; 90];
        packed(out, |out| {
            out.write_all(&field(1, &[0x08, 0x01, 0x10, 0x01])).unwrap();
            for name in ["", "blocked", "run-queue", "count"] {
                out.write_all(&field(6, name.as_bytes())).unwrap();
            }
            for _ in 0..3_800_000 {
                out.write_all(&field(6, &text)).unwrap();
            }
            for kind in 2..=3 {
                out.write_all(&field(1, &[0x08, kind, 0x10, 0x01])).unwrap();
            }
            out.write_all(&field(2, &[0x1a, 0x00].repeat(500_000))).unwrap();
        });
    });
}
