//! Where in which file an address of a process is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};

/// A module and an address in it, as offwake's JSON has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) module: Option<String>,
    pub(crate) offset: u64,
}

/// The executable mappings of a process.
pub(crate) struct Mappings(Vec<Mapping>);

struct Mapping {
    start: u64,
    end: u64,
    module: String,
    /// What is to be subtracted from an address to get that in the ELF file.
    bias: u64,
}

impl Mappings {
    /// Those of a process that lives.
    pub(crate) fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
        Self(maps.lines().filter_map(|line| Mapping::parse(pid, line)).collect())
    }

    /// Where an address is.
    pub(crate) fn place(&self, address: u64) -> Place {
        match self.0.iter().find(|mapping| (mapping.start..mapping.end).contains(&address)) {
            Some(mapping) => Place {
                module: Some(mapping.module.clone()),
                offset: address.wrapping_sub(mapping.bias),
            },
            None => Place { module: None, offset: address },
        }
    }
}

impl Mapping {
    /// `start-end perms offset device inode path`, if it is executable.
    fn parse(pid: u32, line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let range = fields.next()?;
        let (start, end) = range.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (start, end) = (hex(start), hex(end));
        if !fields.next()?.contains('x') {
            return None;
        }
        let offset = hex(fields.next()?);
        let path = fields.nth(2).unwrap_or("").trim_start();
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let (module, bias) = match path {
            "[vdso]" => ("vdso", start),
            path if path.starts_with('/') => {
                let file = File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}"))
                    .expect("a mapped file");
                let name = Path::new(path).file_name()?.to_str()?;
                // No ELF file: code by its offset.
                let address = file_address(&file, offset).unwrap_or(offset);
                (name, start.wrapping_sub(address))
            }
            _ => ("anon", 0),
        };
        Some(Self { start, end, module: module.into(), bias })
    }
}

/// The address that the ELF file wants its byte at `offset` to have.
fn file_address(file: &File, offset: u64) -> Option<u64> {
    let mut head = vec![0; 4096];
    let length = file.read_at(&mut head, 0).ok()?;
    let head = &head[..length];
    let header = elf::FileHeader64::<object::Endianness>::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, head).ok()?;
    let holds = |segment: &&elf::ProgramHeader64<object::Endianness>| {
        let begin = segment.p_offset(endian) & !0xfff;
        segment.p_type(endian) == elf::PT_LOAD
            && (begin..segment.p_offset(endian) + segment.p_filesz(endian)).contains(&offset)
    };
    // Of two that share a page of the file, the one that is executable.
    let mut candidates: Vec<_> = segments.iter().filter(holds).collect();
    candidates.sort_by_key(|segment| segment.p_flags(endian) & elf::PF_X == 0);
    let segment = candidates.first()?;
    Some(offset.wrapping_sub(segment.p_offset(endian)).wrapping_add(segment.p_vaddr(endian)))
}
