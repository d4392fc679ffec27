//! Parsing `/proc/PID/maps` (`show_map_vma` in fs/proc/task_mmu.c, Linux 6.18).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What the kernel appends to the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// An executable line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: u64,
    pub(super) end: u64,
    /// In the file, in bytes.
    pub(super) offset: u64,
    pub(super) content: Content,
}

/// What a line says is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    File(FileKey),
    Vdso,
    Anonymous,
}

/// What makes two mappings the same file.
///
/// The device is the one of the superblock. On btrfs that is another one than `stat(2)` gives, and
/// all subvolumes share it although each counts its inodes from the start; on overlayfs older
/// kernels show the inode of a layer. So device and inode alone are not enough: the path belongs
/// to the key. A file that is mapped under two paths counts as two files, which costs a little time
/// and no truth.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// As the process sees it, without ` (deleted)`.
    pub(super) path: PathBuf,
}

/// The executable mappings in the text of a maps file. Lines that are none are left out.
pub(super) fn parse(text: &[u8]) -> Vec<Line> {
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

/// `start-end perms offset major:minor inode      path`.
fn line(line: &[u8]) -> Option<Line> {
    let (range, rest) = field(line)?;
    let (permissions, rest) = field(rest)?;
    let (offset, rest) = field(rest)?;
    let (device, rest) = field(rest)?;
    let (inode, path) = field(rest)?;
    if *permissions.get(2)? != b'x' {
        return None;
    }
    let (start, end) = pair(range, b'-')?;
    if start >= end {
        return None;
    }
    let (major, minor) = pair(device, b':')?;
    let device = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    let inode = str::from_utf8(inode).ok()?.parse().ok()?;
    let path = path.trim_ascii_start();
    let content = if path == b"[vdso]" {
        Content::Vdso
    } else if inode == 0 || path.is_empty() {
        // `[vsyscall]`, `[uprobes]`, `[heap]`, `[anon:name]`, and no name at all.
        Content::Anonymous
    } else {
        Content::File(FileKey { device, inode, path: unescape(path) })
    };
    Some(Line { start, end, offset: number(offset)?, content })
}

/// The bytes before the first space, and those behind it.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    (end > 0).then(|| (&line[..end], line.get(end + 1..).unwrap_or_default()))
}

fn pair(text: &[u8], separator: u8) -> Option<(u64, u64)> {
    let middle = text.iter().position(|&byte| byte == separator)?;
    Some((number(&text[..middle])?, number(&text[middle + 1..])?))
}

fn number(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// The path: the kernel writes a newline as `\012`, and nothing else in another way, so that a
/// path which really contains `\012` cannot be told apart; nor one that ends in ` (deleted)`.
fn unescape(path: &[u8]) -> PathBuf {
    let mut rest = path.strip_suffix(DELETED).unwrap_or(path);
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\012") {
            bytes.push(b'\n');
            rest = tail;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(device: (u32, u32), inode: u64, path: &str) -> Content {
        Content::File(FileKey { device, inode, path: path.into() })
    }

    #[test]
    fn every_kind_of_line() {
        let text = br"55d0c0a00000-55d0c0a2d000 r-xp 0002d000 fe:01 1835                       /usr/bin/with two  spaces
55d0c0a2d000-55d0c0a30000 r--p 0005a000 fe:01 1835                       /usr/bin/with two  spaces
7f10a0000000-7f10a0001000 r-xp 00000000 103:0a 18446744073709551615      /tmp/gone (deleted)
7f10a0001000-7f10a0002000 r-xs 00000000 00:01 7                          /memfd:jit (deleted)
7f10a0002000-7f10a0003000 rwxp 00000000 00:00 0 
7f10a0003000-7f10a0004000 rwxp 00000000 00:00 0                          [anon:v8]
7f10a0004000-7f10a0005000 r-xp 00001000 fe:01 9                          /tmp/a\012b\134
7ffd1b5f0000-7ffd1b5f2000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
08048000-0804c000 r-xp 00000000 08:01 12 /32bit
";
        let contents = [
            (0x55d0_c0a0_0000, 0x2d000, file((0xfe, 1), 1835, "/usr/bin/with two  spaces")),
            (0x7f10_a000_0000, 0, file((0x103, 10), u64::MAX, "/tmp/gone")),
            (0x7f10_a000_1000, 0, file((0, 1), 7, "/memfd:jit")),
            (0x7f10_a000_2000, 0, Content::Anonymous),
            (0x7f10_a000_3000, 0, Content::Anonymous),
            (0x7f10_a000_4000, 0x1000, file((0xfe, 1), 9, "/tmp/a\nb\\134")),
            (0x7ffd_1b5f_0000, 0, Content::Vdso),
            (0xffff_ffff_ff60_0000, 0, Content::Anonymous),
            (0x0804_8000, 0, file((8, 1), 12, "/32bit")),
        ];
        let parsed: Vec<_> =
            parse(text).into_iter().map(|line| (line.start, line.offset, line.content)).collect();
        assert_eq!(parsed, contents);
    }

    #[test]
    fn hostile_lines_are_left_out() {
        for text in [
            "",
            "\n\n",
            "   ",
            "1000-2000",
            "1000-2000 r-xp",
            "1000-2000 r-xp 0 00:00",
            "2000-1000 r-xp 0 00:00 0",
            "1000-1000 r-xp 0 00:00 0",
            "1000 r-xp 0 00:00 0",
            "-1-5 r-xp 0 00:00 0",
            "10000000000000000-20000000000000000 r-xp 0 00:00 0",
            "1000-2000 r- 0 00:00 0",
            "1000-2000 r-xp zz 00:00 0",
            "1000-2000 r-xp 0 0000 0",
            "1000-2000 r-xp 0 100000000:0 0",
            "1000-2000 r-xp 0 00:00 x",
        ] {
            assert_eq!(parse(text.as_bytes()), [], "{text:?}");
        }
        assert_eq!(parse(b"1000-2000 \xff\xffx\xff 0 00:00 1 \xff\xfe").len(), 1, "any bytes");
    }
}
