//! Functions of a file, by their names.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, SymbolKind};

use super::demangle::demangle;
use super::elf::{Elf, open_regular};

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
}

/// The functions of an ELF file whose name, as it is in the file or demangled, matches the whole pattern, in which `*`
/// stands for any characters and `?` for one. Each place once, in their order.
///
/// # Errors
/// When the file cannot be read, is stripped, or has no such function.
pub fn matching(path: &Path, pattern: &str) -> Result<Vec<Function>> {
    let file = open_regular(path).context("it is no file that can be read")?;
    let elf = Elf::new(&file).context("it is no ELF file")?;
    ensure!(elf.is_sound(), "it is damaged");
    let segments = elf.executable_segments();
    let cache = ReadCache::new(&file);
    let parsed: ElfFile64<'_, Endianness, _> =
        ElfFile64::parse(&cache).context("it is no 64-bit ELF file")?;
    let mut found: Vec<Function> = Vec::new();
    for symbol in parsed.symbols().chain(parsed.dynamic_symbols()) {
        let is_function = symbol.kind() == SymbolKind::Text && symbol.is_definition();
        let Ok(name) = symbol.name() else { continue };
        if !is_function {
            continue;
        }
        let demangled = demangle(name);
        if !is_match(pattern, name) && !is_match(pattern, &demangled) {
            continue;
        }
        let address = symbol.address();
        let offset = segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.file.end - segment.file.start).then_some(segment.file.start + into)
        });
        found.extend(offset.map(|offset| Function { name: demangled, offset }));
    }
    found.sort_by(|one, other| (one.offset, &one.name).cmp(&(other.offset, &other.name)));
    found.dedup_by_key(|function| function.offset);
    ensure!(
        !found.is_empty() || parsed.symbols().next().is_some(),
        "it is stripped, and none of what is left, the functions that it exports, matches '{pattern}': use a build \
         that is not"
    );
    ensure!(!found.is_empty(), "none of its functions matches '{pattern}'");
    Ok(found)
}

/// Whether all of the text matches.
fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Behind the last `*`, and how much of the text that stands for now.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((behind, end)) => {
                    *end += 1;
                    (at, from) = (*behind, *end);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, is) in [
            ("*FileEventImpl*assignEvents*", "Envoy::FileEventImpl::assignEvents(int)::$_0", true),
            ("*FileEventImpl*assignEvents*", "Envoy::FileEventImpl::assign", false),
            ("main", "main", true),
            ("main", "main2", false),
            ("m?in*", "main", true),
            ("*", "", true),
            ("", "x", false),
            ("a*b*c", "abcbc", true),
            ("a*b*c", "abcb", false),
        ] {
            assert_eq!(is_match(pattern, text), is, "{pattern} {text}");
        }
    }

    #[test]
    fn functions_of_this_program() {
        let own = std::env::current_exe().unwrap();
        let found = matching(&own, "*functions_of_this_program*").unwrap();
        assert!(found[0].name.contains("functions_of_this_program"), "{found:?}");
        let error = matching(&own, "no such function").unwrap_err();
        assert_eq!(error.to_string(), "none of its functions matches 'no such function'");
        assert!(matching(Path::new("/"), "*").is_err());
    }
}
