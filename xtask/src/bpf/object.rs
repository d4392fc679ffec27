//! The object file after the linker.

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// Removes DWARF. BTF, which the kernel reads, stays.
pub(crate) fn without_debug_sections(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("the linker wrote no ELF file")?;
    for section in &mut builder.sections {
        let name: &[u8] = &section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    ensure!(
        builder.sections.iter().any(|section| &*section.name == b".BTF"),
        "the linker wrote no BTF: bpf-linker {} or newer is needed",
        super::install::LINKER_VERSION
    );
    // LLVM keeps the names of sections and of symbols in one table; the builder wants two.
    if !builder.sections.iter().any(|one| matches!(one.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the object without debug sections")?;
    Ok(stripped)
}
