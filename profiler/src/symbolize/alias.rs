//! Public names instead of internal ones: a C library has many functions under several names, and
//! blazesym gives any of them, such as `__poll` or `__GI___poll` for `poll`.

use std::collections::BTreeMap;
use std::path::Path;

use blazesym::inspect::{Inspector, source};
use blazesym::symbolize::Sym;

/// The names to show for those of the `symbols` of a file that have a public one too, by address.
pub(super) fn public_names<'a>(
    file: &Path,
    symbols: impl Iterator<Item = &'a Sym<'a>>,
) -> BTreeMap<u64, String> {
    let candidates: BTreeMap<u64, &str> =
        symbols.filter_map(|symbol| Some((symbol.addr, without_prefix(&symbol.name)?))).collect();
    // The lookup makes an index of all names.
    if candidates.is_empty() {
        return BTreeMap::new();
    }
    let mut source = source::Elf::new(file);
    source.debug_syms = false;
    let names: Vec<&str> = candidates.values().copied().collect();
    let inspector = Inspector::new();
    let found = inspector.lookup(&source.into(), &names).unwrap_or_default();
    candidates
        .into_iter()
        .zip(found)
        .filter(|((address, _), same_name)| same_name.iter().any(|found| found.addr == *address))
        .map(|((address, name), _)| (address, name.into()))
        .collect()
}

/// What the public name would be; `None` for a name that is no internal one.
fn without_prefix(name: &str) -> Option<&str> {
    // So begins a mangled name, that is no underscore of its author.
    if name.starts_with("_Z") || name.starts_with("_R") {
        return None;
    }
    let prefixes = ["__GI_", "_IO_", "__libc_", "__vdso_"];
    let prefix = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    let public = prefix.unwrap_or(name).trim_start_matches('_');
    (public != name && !public.is_empty()).then_some(public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for name in ["__poll", "__GI_poll", "__GI___poll", "_IO_poll", "__libc_poll"] {
            assert_eq!(without_prefix(name), Some("poll"), "{name}");
        }
        for name in ["poll", "_ZN3foo3barEv", "_RNvC1a1b", "__", "", "__GI_"] {
            assert_eq!(without_prefix(name), None, "{name:?}");
        }
    }
}
