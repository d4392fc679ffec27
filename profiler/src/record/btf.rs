//! The kernel's own type information: where the members of its structures are.
//!
//! Rust BPF programs carry no relocations, so their member offsets are constants that are looked
//! up here, in `/sys/kernel/btf/vmlinux`, before the programs are loaded.
//! Format: Documentation/bpf/btf.rst of the kernel.

use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::{Btf, Endianness};
use hashbrown::HashMap;

use crate::snapshot::system;

/// As in a chroot or container that was made by hand.
const NO_SYS: &str = "/sys is not mounted (`mount -t sysfs sysfs /sys`)";

const MAGIC: u16 = 0xeb9f;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// How the names of types begin that stand for tracepoints, and for iterators.
const TRACEPOINT: &str = "btf_trace_";
const ITERATOR: &str = "bpf_iter_";

/// Type information of the running kernel.
pub(crate) struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Byte position of each type, by id; id 0 is `void`.
    types: Vec<usize>,
    /// Ids of named structures.
    structs: HashMap<String, u32>,
    /// Ids of `typedef btf_trace_NAME`, by NAME: the tracepoints that BTF programs can attach to.
    tracepoints: HashMap<String, u32>,
    /// Ids of functions `bpf_iter_NAME`, by NAME: among them are the iterators that programs can be.
    iterators: HashMap<String, u32>,
}

/// What is needed where there are no types.
pub(super) fn needed() -> String {
    let needed = "needs the kernel's type information (BTF)";
    if system::is_sys_mounted() { needed.into() } else { format!("{needed}, and {NO_SYS}") }
}

impl KernelTypes {
    /// Reads the type information of the running kernel.
    pub(crate) fn of_running_kernel() -> Result<Self> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let data = std::fs::read(path).with_context(|| {
            let why = match system::is_sys_mounted() {
                true => "the kernel has no BTF type information (CONFIG_DEBUG_INFO_BTF)",
                false => NO_SYS,
            };
            format!("cannot read {}: {why}", path.display())
        })?;
        Self::parse(data).with_context(|| format!("{} is malformed", path.display()))
    }

    fn parse(data: Vec<u8>) -> Result<Self> {
        let mut this = Self {
            data,
            strings: 0,
            types: vec![0],
            structs: HashMap::new(),
            tracepoints: HashMap::new(),
            iterators: HashMap::new(),
        };
        if this.u32(0)? as u16 != MAGIC {
            bail!("not BTF of this machine's byte order");
        }
        let header = this.u32(4)? as usize;
        let types = header + this.u32(8)? as usize;
        let types_end = types + this.u32(12)? as usize;
        this.strings = header + this.u32(16)? as usize;

        let mut at = types;
        while at < types_end {
            let id = u32::try_from(this.types.len())?;
            this.types.push(at);
            let (kind, len) = this.kind(at)?;
            match kind {
                KIND_STRUCT => {
                    let name = this.string(this.u32(at)?)?;
                    if !name.is_empty() {
                        this.structs.entry(name.to_owned()).or_insert(id);
                    }
                }
                KIND_TYPEDEF => {
                    let name = this.string(this.u32(at)?)?;
                    if let Some(tracepoint) = name.strip_prefix(TRACEPOINT) {
                        this.tracepoints.insert(tracepoint.to_owned(), id);
                    }
                }
                KIND_FUNC => {
                    let name = this.string(this.u32(at)?)?;
                    if let Some(iterator) = name.strip_prefix(ITERATOR) {
                        this.iterators.insert(iterator.to_owned(), id);
                    }
                }
                _ => {}
            }
            at += 12
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * len,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * len,
                    _ => 0,
                };
        }
        Ok(this)
    }

    /// Byte offset in `structure` of the member `path`, such as `["self_exec_id"]`; each further
    /// name is a member of the one before. Members of anonymous structures count as the outer's.
    pub(crate) fn offset_of(&self, structure: &str, path: &[&str]) -> Result<u32> {
        Ok(self.bit_of(structure, path)? / 8)
    }

    /// The same in bits: a member may be a part of a byte.
    pub(crate) fn bit_of(&self, structure: &str, path: &[&str]) -> Result<u32> {
        let describe = || format!("{structure}::{}", path.join("::"));
        let mut id = *self
            .structs
            .get(structure)
            .with_context(|| format!("this kernel has no struct {structure}"))?;
        let mut offset = 0;
        for name in path {
            let (member_offset, member_type) = self
                .member(id, name)?
                .with_context(|| format!("this kernel has no member {}", describe()))?;
            offset += member_offset;
            id = member_type;
        }
        Ok(offset)
    }

    /// The name of a member's type, as of `typedef struct {…} spinlock_t`.
    pub(crate) fn type_of(&self, structure: &str, member: &str) -> Result<&str> {
        let missing = || format!("this kernel has no member {structure}::{member}");
        let id = *self.structs.get(structure).with_context(missing)?;
        let (_, id) = self.member(id, member)?.with_context(missing)?;
        let at = *self.types.get(id as usize).context("type id out of range")?;
        self.string(self.u32(at)?)
    }

    /// How many bytes a structure has.
    pub(crate) fn size_of(&self, structure: &str) -> Result<u32> {
        let id = self.structs.get(structure);
        let id = *id.with_context(|| format!("this kernel has no struct {structure}"))?;
        self.u32(self.types[id as usize] + 8)
    }

    /// How many arguments the tracepoint passes; `None` where there is no such tracepoint.
    pub(crate) fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        // Of a pointer to a prototype whose first parameter is the tracepoint's own data.
        let typedef = *self.types.get(*self.tracepoints.get(name)? as usize)?;
        let pointer = *self.types.get(self.u32(typedef + 8).ok()? as usize)?;
        let prototype = *self.types.get(self.u32(pointer + 8).ok()? as usize)?;
        let (kind, len) = self.kind(prototype).ok()?;
        (kind == KIND_FUNC_PROTO).then(|| len.saturating_sub(1))
    }

    /// The tracepoints and iterators that programs are loaded for, each under its id: all that aya asks for. To read the
    /// kernel's other types, too, takes it a multiple of the time; here each of them is a forward declaration.
    pub(super) fn of_programs(&self) -> Result<Btf> {
        let tracepoints =
            self.tracepoints.iter().map(|(name, &id)| (id, KIND_TYPEDEF, TRACEPOINT, name));
        let iterators = self.iterators.iter().map(|(name, &id)| (id, KIND_FUNC, ITERATOR, name));
        // The name, the kind, and what it is of.
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        let mut types = words(&[0, KIND_FWD << 24, 0]).repeat(self.types.len() - 1);
        let mut strings = vec![0];
        for (id, kind, prefix, name) in tracepoints.chain(iterators) {
            let at = 12 * (id as usize - 1);
            types[at..at + 12].copy_from_slice(&words(&[strings.len() as u32, kind << 24, 0]));
            strings.extend(format!("{prefix}{name}\0").bytes());
        }
        let [types_len, strings_len] = [types.len() as u32, strings.len() as u32];
        // Version 1; then the length of the header, and from its end on where types and strings are.
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, types_len, types_len, strings_len];
        let data = [words(&header), types, strings].concat();
        Ok(Btf::parse(&data, Endianness::default())?)
    }

    /// Offset in bits and type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, name: &str) -> Result<Option<(u32, u32)>> {
        let at = self.strip_modifiers(id)?;
        let (kind, len) = self.kind(at)?;
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return Ok(None);
        }
        let bitfields = self.u32(at + 4)? >> 31 == 1;
        for i in 0..len {
            let member = at + 12 + 12 * i;
            let (member_name, member_type) =
                (self.string(self.u32(member)?)?, self.u32(member + 4)?);
            let bits = self.u32(member + 8)?;
            let offset = if bitfields { bits & 0x00ff_ffff } else { bits };
            if member_name == name {
                return Ok(Some((offset, member_type)));
            }
            if member_name.is_empty()
                && let Some((inner, inner_type)) = self.member(member_type, name)?
            {
                return Ok(Some((offset + inner, inner_type)));
            }
        }
        Ok(None)
    }

    /// Position of the type behind typedefs and qualifiers.
    fn strip_modifiers(&self, mut id: u32) -> Result<usize> {
        loop {
            let at = *self.types.get(id as usize).context("type id out of range")?;
            match self.kind(at)?.0 {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = self.u32(at + 8)?;
                }
                _ => return Ok(at),
            }
        }
    }

    fn kind(&self, at: usize) -> Result<(u32, usize)> {
        let info = self.u32(at + 4)?;
        Ok((info >> 24 & 0x1f, (info & 0xffff) as usize))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        let bytes = self.data.get(at..at + 4).context("truncated")?;
        Ok(u32::from_ne_bytes(bytes.try_into()?))
    }

    fn string(&self, offset: u32) -> Result<&str> {
        let tail = self.data.get(self.strings + offset as usize..).context("string offset")?;
        let end = tail.iter().position(|&byte| byte == 0).context("unterminated string")?;
        Ok(std::str::from_utf8(&tail[..end])?)
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::BtfKind;

    use super::*;

    #[test]
    fn programs_are_loaded_for_the_ids_of_this_kernel() {
        let all = Btf::from_sys_fs().unwrap();
        let some = KernelTypes::of_running_kernel().unwrap().of_programs().unwrap();
        for (name, kind) in [
            ("btf_trace_sched_switch", BtfKind::Typedef),
            ("btf_trace_sched_waking", BtfKind::Typedef),
            ("bpf_iter_task", BtfKind::Func),
            ("bpf_iter_task_file", BtfKind::Func),
        ] {
            let id = some.id_by_type_name_kind(name, kind).unwrap();
            assert_eq!(id, all.id_by_type_name_kind(name, kind).unwrap(), "{name}");
        }
        assert!(some.id_by_type_name_kind("task_struct", BtfKind::Struct).is_err());
    }

    #[test]
    fn finds_members_of_this_kernel() {
        let types = KernelTypes::of_running_kernel().unwrap();
        let pid = types.offset_of("task_struct", &["pid"]).unwrap();
        assert_eq!(types.offset_of("task_struct", &["tgid"]).unwrap(), pid + 4);
        // Inside an anonymous structure since 4.x.
        assert!(types.offset_of("mm_struct", &["start_stack"]).unwrap() > 0);
        assert!(types.size_of("pt_regs").unwrap().is_multiple_of(8));
        let error = types.offset_of("task_struct", &["no_such_member"]).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no member task_struct::no_such_member");
        assert_eq!(types.type_of("task_struct", "pid").unwrap(), "pid_t");
        assert!(types.type_of("task_struct", "no_such_member").is_err());
        assert_eq!(types.tracepoint_arguments("sched_waking"), Some(1));
        assert_eq!(types.tracepoint_arguments("no_such_tracepoint"), None);
    }

    #[test]
    fn malformed_types_are_errors() {
        assert!(KernelTypes::parse(vec![]).is_err());
        assert!(KernelTypes::parse(vec![0; 64]).is_err());
        let mut truncated = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        truncated.truncate(1000);
        assert!(KernelTypes::parse(truncated).is_err());
    }
}
