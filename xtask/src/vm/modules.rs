//! The kernel's modules that a disk needs, and what those need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::{Object as _, ObjectSection as _};

use crate::workspace;

/// Each is a module in some kernels and built into others. ext4 asks for its checksums by another name
/// than that of their module.
const NEEDED: [&str; 6] =
    ["virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "crc32c-generic", "ext4"];

/// Puts the modules into a directory, numbered in the order in which they can be loaded.
pub(crate) fn copy(kernel: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let mut files = BTreeMap::new();
    for path in workspace::files_below(kernel)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((name, end)) = name.split_once(".ko")
            && matches!(end, "" | ".xz" | ".zst")
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    let mut order = Vec::new();
    for name in NEEDED {
        add(&name.replace('-', "_"), &files, &mut order)?;
    }
    for (index, (name, bytes)) in order.iter().enumerate() {
        fs::write(into.join(format!("{index:02}-{name}.ko")), bytes)?;
    }
    Ok(())
}

/// Adds what a module needs, and then itself. One without a file is built in.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Some(path) = files.get(name) else { return Ok(()) };
    if order.iter().any(|(added, _)| added == name) {
        return Ok(());
    }
    let bytes = read(path)?;
    for needed in depends(&bytes).with_context(|| format!("{}", path.display()))? {
        add(&needed, files, order)?;
    }
    order.push((name.to_owned(), bytes));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::read(path)?),
    };
    let output = Command::new(program).arg("-dc").arg(path).output().context(program)?;
    if !output.status.success() {
        bail!("{program} -dc {} failed ({})", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// The modules that one names in its section of strings (`depends=a,b`).
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let text = String::from_utf8_lossy(section.data()?);
    let depends = text.split('\0').find_map(|word| word.strip_prefix("depends="));
    let names = depends.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}
