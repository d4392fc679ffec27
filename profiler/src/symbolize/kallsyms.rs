//! Names of kernel functions, from `/proc/kallsyms`.

use std::ops::Range;

use hashbrown::HashMap;

use super::alias::preference;
use super::demangle::demangle;
use crate::profile::Frame;

/// Longer than any kernel function. Bounds the last function before a gap: kallsyms has no sizes.
const MAX_FUNCTION: u64 = 1 << 20;

/// What stands for the module of kernel code without a name.
const UNKNOWN_MODULE: &str = "kernel";

/// The symbols of the running kernel.
#[derive(Default)]
pub(super) struct Kallsyms {
    /// The file; symbols are ranges of it.
    text: Vec<u8>,
    /// In order of address.
    symbols: Vec<Symbol>,
    /// Where each module ends.
    modules: HashMap<Vec<u8>, Range<u64>>,
}

struct Symbol {
    address: u64,
    /// The line, without the address: an offset in the text.
    line: Range<usize>,
}

/// A line of kallsyms, after the address.
struct Entry<'a> {
    kind: u8,
    name: &'a [u8],
    module: Option<&'a [u8]>,
}

impl Kallsyms {
    /// Reads the symbols of the running kernel.
    ///
    /// # Errors
    /// One line that says why there are none and what to do.
    pub(super) fn read() -> Result<Self, String> {
        let text = std::fs::read("/proc/kallsyms")
            .map_err(|error| format!("no names of kernel functions: /proc/kallsyms: {error}"))?;
        // Missing in a kernel without modules, which has none to bound.
        let modules = std::fs::read("/proc/modules").unwrap_or_default();
        let kallsyms = Self::parse(text, &modules);
        if kallsyms.symbols.is_empty() {
            return Err("no names of kernel functions: the kernel hides their addresses; run as \
                 root with sysctl kernel.kptr_restrict at 0 or 1"
                .into());
        }
        Ok(kallsyms)
    }

    fn parse(text: Vec<u8>, modules: &[u8]) -> Self {
        let mut symbols = Vec::with_capacity(text.len() / 64);
        let mut start = 0;
        for line in text.split(|&byte| byte == b'\n') {
            let end = start + line.len();
            if let Some(space) = line.iter().position(|&byte| byte == b' ')
                && let Some(address) = address(&line[..space])
                && address != 0
            {
                symbols.push(Symbol { address, line: start + space + 1..end });
            }
            start = end + 1;
        }
        symbols.sort_by_key(|symbol| symbol.address);
        let modules = modules.split(|&byte| byte == b'\n').filter_map(module).collect();
        Self { text, symbols, modules }
    }

    /// The frame of a return address.
    ///
    /// The function is that of the byte before it, which is part of the call. This is also right
    /// for the first frame of a stack, since BPF programs take it from functions that called them;
    /// only the frame that an interrupt interrupted, deeper in a stack, is exact, and there it
    /// would matter only at the first byte of a function.
    pub(super) fn frame(&self, return_address: u64) -> Frame {
        let found = self.function(return_address.saturating_sub(1));
        Frame {
            name: found.as_ref().map(|(_, entry)| demangle(entry.name)),
            module: match &found {
                Some((_, entry)) => {
                    entry.module.map(|module| String::from_utf8_lossy(module).into_owned())
                }
                None => Some(UNKNOWN_MODULE.into()),
            },
            offset: return_address - found.map_or(0, |(start, _)| start),
            kernel: true,
            file: None,
            line: None,
            inlined: false,
        }
    }

    /// The function that an address is in, and where it starts.
    fn function(&self, address: u64) -> Option<(u64, Entry<'_>)> {
        let behind = self.symbols.partition_point(|symbol| symbol.address <= address);
        let start = self.symbols[..behind].last()?.address;
        let first = self.symbols[..behind].partition_point(|symbol| symbol.address < start);
        let entry = self.symbols[first..behind]
            .iter()
            .filter_map(|symbol| entry(&self.text[symbol.line.clone()]))
            .filter(|entry| matches!(entry.kind, b't' | b'T' | b'w' | b'W'))
            .min_by_key(|entry| {
                preference(entry.name, u8::from(entry.kind.eq_ignore_ascii_case(&b'w')))
            })?;
        // A module that was unloaded leaves a gap: what was there has no name any more.
        let module = entry.module.and_then(|module| self.modules.get(module));
        let end = match module {
            Some(module) if module.contains(&start) => module.end,
            _ => u64::MAX,
        };
        (address < end && address - start < MAX_FUNCTION).then_some((start, entry))
    }
}

/// `T name` or `t name\t[module]`.
fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
    let kind = *parts.next()?.first()?;
    let name = parts.next()?;
    let module = parts.next().and_then(|part| part.strip_prefix(b"[")?.strip_suffix(b"]"));
    Some(Entry { kind, name, module })
}

/// A line of `/proc/modules`: `name size references users state address`.
fn module(line: &[u8]) -> Option<(Vec<u8>, Range<u64>)> {
    let mut parts = line.split(|&byte| byte == b' ');
    let name = parts.next()?;
    let size: u64 = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let start = address(parts.nth(3)?.strip_prefix(b"0x")?)?;
    Some((name.to_vec(), start..start.saturating_add(size)))
}

fn address(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"ffffffff81000000 T _stext\n\
        ffffffff81000000 T _text\n\
        ffffffff81000000 T startup_64\n\
        ffffffff81000100 t ep_poll\n\
        ffffffff81000300 D some_data\n\
        ffffffffc0001000 t first_in_module\t[nf_tables]\n\
        ffffffffc0001800 t last_in_module\t[nf_tables]\n\
        ffffffffc0100000 t bpf_prog_7cc47bbf07148bfe_hid_tail_call\t[bpf]\n\
        0000000000000000 A fixed_percpu_data\n\
        garbage\n\
        \n\
        ffffffffzz000000 t bad_address\n\
        ffffffffc0100040";
    const MODULES: &[u8] = b"nf_tables 4096 1 nft_ct, Live 0xffffffffc0001000\nbroken\n";

    fn label(address: u64) -> (String, Option<String>, u64) {
        let frame = Kallsyms::parse(TEXT.to_vec(), MODULES).frame(address);
        assert!(frame.kernel);
        (frame.label(), frame.module, frame.offset)
    }

    #[test]
    fn functions_modules_and_gaps() {
        let kernel = |name: &str, offset| (name.to_owned(), None, offset);
        let module = |name: &str, module: &str, offset| (name.into(), Some(module.into()), offset);
        assert_eq!(label(0xffff_ffff_8100_0010), kernel("startup_64", 0x10));
        assert_eq!(label(0xffff_ffff_8100_0100), kernel("startup_64", 0x100), "a return address");
        assert_eq!(label(0xffff_ffff_8100_0101), kernel("ep_poll", 1));
        assert_eq!(label(0xffff_ffff_c000_1801), module("last_in_module", "nf_tables", 1));
        assert_eq!(
            label(0xffff_ffff_c010_0008),
            module("bpf_prog_7cc47bbf07148bfe_hid_tail_call", "bpf", 8)
        );
        for unnamed in [
            0xffff_ffff_8100_0301, // data
            0xffff_ffff_c000_2001, // behind the end of the module
            0xffff_ffff_c020_0001, // more than a function behind the last symbol
            0xffff_ffff_80ff_ffff, // before the first
            0,
        ] {
            assert_eq!(
                label(unnamed),
                (format!("[kernel+{unnamed:#x}]"), Some("kernel".into()), unnamed)
            );
        }
    }

    #[test]
    fn hidden_addresses_are_no_symbols() {
        let hidden = b"0000000000000000 T _text\n0000000000000000 t ep_poll\n";
        assert!(Kallsyms::parse(hidden.to_vec(), b"").symbols.is_empty());
    }
}
