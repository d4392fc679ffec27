//! Names of code that was compiled at run time, from a perf map: lines of `START SIZE name`, the
//! numbers in hexadecimal. Written by the target, so anything may be in it.

use std::collections::BTreeSet;

use hashbrown::HashMap;

/// The names of the addresses that the map has. Where lines overlap, the later one counts: the
/// code before it was thrown away, and its memory used again.
pub(super) fn names(map: &[u8], addresses: &[u64]) -> HashMap<u64, String> {
    let mut pending = BTreeSet::from_iter(addresses.iter().copied());
    let mut names = HashMap::new();
    for line in map.rsplit(|&byte| byte == b'\n') {
        if pending.is_empty() {
            break;
        }
        let Some((start, size, name)) = parse(line) else { continue };
        let range = start..start.saturating_add(size);
        while let Some(&address) = pending.range(range.clone()).next() {
            pending.remove(&address);
            names.insert(address, String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut parts = line.trim_ascii().splitn(3, u8::is_ascii_whitespace);
    let start = hexadecimal(parts.next()?)?;
    let size = hexadecimal(parts.next()?)?;
    let name = parts.next()?.trim_ascii_start();
    (!name.is_empty()).then_some((start, size, name))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_win_and_rubbish_is_skipped() {
        let map = b"1000 100 old\n1080 80 new function<int>\n\n0x2000 0x10 prefixed\nzz 1 x\n\
            3000 10\n3000 10 \n-1 5 minus\nffffffffffffffff ffffffffffffffff end\n4000 0 empty\n\
            5000 10 bad\xff\n\0\0\0\r\n6000 10 cut";
        let names = names(
            map,
            &[
                0xfff, 0x1000, 0x107f, 0x1080, 0x10ff, 0x1100, 0x2008, 0x3000, 0x4000, 0x5000,
                0x6001,
            ],
        );
        let mut found: Vec<(u64, &str)> =
            names.iter().map(|(&address, name)| (address, name.as_str())).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                (0x1000, "old"),
                (0x107f, "old"),
                (0x1080, "new function<int>"),
                (0x10ff, "new function<int>"),
                (0x2008, "prefixed"),
                (0x5000, "bad\u{fffd}"),
                (0x6001, "cut"),
            ]
        );
    }
}
