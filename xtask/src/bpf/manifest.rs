//! What the committed objects were built from, and by whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Objects;
use super::toolchain::Toolchain;
use crate::workspace::{self, Workspace};

/// The content of `profiler/bpf/manifest.json`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// By variant.
    objects: BTreeMap<String, String>,
    sources: BTreeMap<String, String>,
    rustc: String,
    linker: String,
    aya_ebpf: String,
}

impl Manifest {
    /// Of objects that were just built.
    pub(crate) fn describe(
        workspace: &Workspace,
        toolchain: &Toolchain,
        objects: &Objects,
    ) -> Result<Self> {
        Ok(Self {
            objects: hash_objects(objects),
            sources: hash_sources(workspace)?,
            rustc: toolchain.rustc_version.clone(),
            linker: toolchain.linker_version.clone(),
            aya_ebpf: locked_version(workspace, "aya-ebpf")?,
        })
    }

    /// Reads the committed one.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let path = path(workspace);
        let json: Value = serde_json::from_str(&workspace::read(&path)?)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        let text = |pointer: &str| {
            let value = json.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("{}: no {pointer}", path.display()))
        };
        let hashes = |name: &str| {
            let listed = json[name].as_object();
            let listed = listed.with_context(|| format!("the manifest lists no {name}"))?;
            let hash = |hash: &Value| hash.as_str().unwrap_or_default().to_owned();
            anyhow::Ok(listed.iter().map(|(of, value)| (of.clone(), hash(value))).collect())
        };
        Ok(Self {
            objects: hashes("objects")?,
            sources: hashes("sources")?,
            rustc: text("/toolchain/rustc")?,
            linker: text("/toolchain/bpf-linker")?,
            aya_ebpf: text("/toolchain/aya-ebpf")?,
        })
    }

    /// Writes it beside the objects.
    pub(crate) fn write(&self, workspace: &Workspace) -> Result<()> {
        let Self { objects, sources, rustc, linker, aya_ebpf } = self;
        let json = json!({
            "objects": objects,
            "sources": sources,
            "toolchain": { "rustc": rustc, "bpf-linker": linker, "aya-ebpf": aya_ebpf },
        });
        let path = path(workspace);
        fs::write(&path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether this describes the objects.
    pub(crate) fn is_of(&self, objects: &Objects) -> bool {
        self.objects == hash_objects(objects)
    }

    /// Whether the objects were built by this toolchain.
    pub(crate) fn is_by(&self, toolchain: &Toolchain) -> bool {
        self.rustc == toolchain.rustc_version && self.linker == toolchain.linker_version
    }

    /// Who built the objects.
    pub(crate) fn toolchain(&self) -> String {
        format!("{} with {}", self.rustc, self.linker)
    }

    /// Names the files that were added, changed or removed since.
    pub(crate) fn changed_sources(&self, now: &BTreeMap<String, String>) -> Vec<String> {
        let then = &self.sources;
        let mut changed: Vec<String> =
            now.keys().filter(|&file| now.get(file) != then.get(file)).cloned().collect();
        changed.extend(then.keys().filter(|&file| !now.contains_key(file)).cloned());
        changed
    }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("profiler/bpf/manifest.json")
}

fn hash_objects(objects: &Objects) -> BTreeMap<String, String> {
    let hash = |(&architecture, object): (&&str, &Vec<u8>)| (architecture.into(), sha256(object));
    objects.iter().map(hash).collect()
}

/// SHA-256 of every file of the checkout that is compiled into the objects or says how.
pub(crate) fn hash_sources(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let root = &workspace.root;
    let mut files = workspace::files_below(&root.join("profiler-ebpf/src"))?;
    files.extend(workspace::files_below(&root.join("shared/src"))?);
    files.extend(
        ["profiler-ebpf/Cargo.toml", "profiler-ebpf/Cargo.lock", "shared/Cargo.toml"]
            .map(|file| root.join(file)),
    );
    let mut hashes = BTreeMap::new();
    for file in files {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        hashes.insert(name, sha256(&content));
    }
    Ok(hashes)
}

/// The version of a dependency of the BPF programs.
fn locked_version(workspace: &Workspace, package: &str) -> Result<String> {
    let lock = workspace::read(&workspace.root.join("profiler-ebpf/Cargo.lock"))?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("profiler-ebpf/Cargo.lock has no {package}"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(of_x86_64: &[u8]) -> Objects {
        Objects::from([("aarch64", b"other".to_vec()), ("x86_64", of_x86_64.to_vec())])
    }

    fn manifest(sources: &[(&str, &str)]) -> Manifest {
        Manifest {
            objects: hash_objects(&objects(b"object")),
            sources: sources.iter().map(|&(file, hash)| (file.into(), hash.into())).collect(),
            rustc: "rustc 1".into(),
            linker: "bpf-linker 1".into(),
            aya_ebpf: "1".into(),
        }
    }

    #[test]
    fn sha256_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let then = manifest(&[("changed", "1"), ("removed", "1"), ("same", "1")]);
        let now = manifest(&[("added", "1"), ("changed", "2"), ("same", "1")]);
        assert_eq!(then.changed_sources(&now.sources), ["added", "changed", "removed"]);
        assert!(then.changed_sources(&then.sources).is_empty());
    }

    #[test]
    fn another_object_is_noticed() {
        assert!(manifest(&[]).is_of(&objects(b"object")));
        assert!(!manifest(&[]).is_of(&objects(b"object.")));
    }
}
