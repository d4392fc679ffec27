//! Names of kernel functions: blazesym finds them in `/proc/kallsyms`, here is decided what is
//! certain, and which module they are in.

use std::ops::Range;
use std::path::Path;

use blazesym::MaybeDefault;
use blazesym::symbolize::{Input, Reason, Sym, Symbolized, Symbolizer, source};

use super::demangle::demangle;
use crate::profile::Frame;

/// Longer than any kernel function. Bounds the last function before a gap: kallsyms has no sizes.
const MAX_FUNCTION: usize = 1 << 20;

/// What stands for the module of kernel code without a name.
const UNKNOWN_MODULE: &str = "kernel";

/// The frames of return addresses in the running kernel, in the same order.
///
/// The function is that of the byte before, which is part of the call. This is also right for the
/// first frame of a stack, since BPF programs take it from functions that called them; only the
/// frame that an interrupt interrupted, deeper in a stack, is exact, and there it would matter only
/// at the first byte of a function.
///
/// When there are no names at all, one line is added to `warnings`, that says why and what to do.
pub(super) fn frames(return_addresses: &[u64], warnings: &mut Vec<String>) -> Vec<Frame> {
    // Missing in a kernel without modules, which has none to bound.
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    frames_by(Path::new("/proc/kallsyms"), &modules, return_addresses).unwrap_or_else(|warning| {
        warnings.push(format!("no names of kernel functions: {warning}"));
        return_addresses.iter().map(|&address| frame(address, None, None)).collect()
    })
}

fn frames_by(
    kallsyms: &Path,
    modules: &str,
    return_addresses: &[u64],
) -> Result<Vec<Frame>, String> {
    let source = source::Kernel {
        kallsyms: MaybeDefault::Some(kallsyms.into()),
        vmlinux: MaybeDefault::None,
        debug_syms: false,
        ..Default::default()
    };
    let calls: Vec<u64> =
        return_addresses.iter().map(|&address| address.saturating_sub(1)).collect();
    let symbolizer = Symbolizer::builder().enable_demangling(false).build();
    let symbols = symbolizer
        .symbolize(&source.into(), Input::AbsAddr(&calls))
        .map_err(|error| format!("{}: {error}", kallsyms.display()))?;
    if matches!(symbols.first(), Some(Symbolized::Unknown(Reason::MissingSyms))) {
        return Err("the kernel hides their addresses; run as root with sysctl \
            kernel.kptr_restrict at 0 or 1"
            .into());
    }
    let modules = Modules::parse(modules);
    let found = return_addresses.iter().zip(&calls).zip(&symbols);
    Ok(found
        .map(|((&return_address, &call), symbol)| {
            // kallsyms has no sizes: a symbol reaches to the next one, but not out of its module.
            // One that was unloaded leaves a gap: what was there has no name any more.
            let module = modules.at(call);
            let symbol = symbol
                .as_sym()
                .filter(|symbol| symbol.offset < MAX_FUNCTION && modules.at(symbol.addr) == module);
            frame(return_address, symbol, module)
        })
        .collect())
}

fn frame(return_address: u64, symbol: Option<&Sym<'_>>, module: Option<&Module>) -> Frame {
    Frame {
        name: symbol.map(|symbol| demangle(&symbol.name)),
        module: match symbol {
            Some(_) => module.map(|module| module.name.clone()),
            None => Some(UNKNOWN_MODULE.into()),
        },
        offset: return_address - symbol.map_or(0, |symbol| symbol.addr),
        kernel: true,
        file: None,
        line: None,
        inlined: false,
    }
}

/// Where the kernel's modules are, in order of address.
struct Modules(Vec<Module>);

#[derive(PartialEq, Eq)]
struct Module {
    name: String,
    range: Range<u64>,
}

impl Modules {
    /// Lines of `/proc/modules`: `name size references users state address`.
    fn parse(text: &str) -> Self {
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let size: u64 = words.next()?.parse().ok()?;
            let start = u64::from_str_radix(words.nth(3)?.strip_prefix("0x")?, 16).ok()?;
            Some(Module { name, range: start..start.saturating_add(size) })
        };
        let mut modules: Vec<Module> = text.lines().filter_map(parse).collect();
        modules.sort_unstable_by_key(|module| module.range.start);
        Self(modules)
    }

    /// The module at an address. Since Linux 6.4 the size counts memory that is elsewhere, and a
    /// range may reach into the next one; its start is always right.
    fn at(&self, address: u64) -> Option<&Module> {
        let behind = self.0.partition_point(|module| module.range.start <= address);
        self.0[..behind].last().filter(|module| module.range.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "ffffffff81000000 T startup_64\n\
        ffffffff81000100 t ep_poll\n\
        ffffffffc0001000 t first_in_module\t[nf_tables]\n\
        ffffffffc0001800 t last_in_module\t[nf_tables]\n\
        ffffffffc0100000 t bpf_prog_7cc47bbf07148bfe_hid_tail_call\t[bpf]\n\
        0000000000000000 A fixed_percpu_data\n\
        garbage\n\
        \n\
        ffffffffzz000000 t bad_address\n\
        ffffffffc0100040";
    const MODULES: &str = "nf_tables 4096 1 nft_ct, Live 0xffffffffc0001000\nbroken\n";

    fn frames(kallsyms: &str, addresses: &[u64]) -> Result<Vec<Frame>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kallsyms).unwrap();
        frames_by(file.path(), MODULES, addresses)
    }

    fn label(address: u64) -> (String, Option<String>, u64) {
        let frame = frames(KALLSYMS, &[address]).unwrap().remove(0);
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
            kernel("bpf_prog_7cc47bbf07148bfe_hid_tail_call", 8)
        );
        for unnamed in [
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
        let hidden = "0000000000000000 T _text\n0000000000000000 t ep_poll\n";
        assert!(frames(hidden, &[8]).unwrap_err().contains("kptr_restrict"));
        assert!(frames_by(Path::new("/nonexistent"), "", &[8]).is_err());
    }
}
