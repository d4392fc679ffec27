//! Where saved profiles come from.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, ensure};
use offwake::profile::Profile;
use offwake::saved::{self, Loaded};

use super::say;

/// Reads one file, and tells on stderr what to know of it.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> anyhow::Result<Profile> {
    let (name, loaded) = if path.as_os_str() == "-" {
        let name = "standard input".to_owned();
        let loaded = saved::read(&name, io::stdin().lock());
        (name, loaded)
    } else {
        let open = || {
            let file = File::open(path)?;
            ensure!(!file.metadata()?.is_dir(), "it is a directory");
            saved::read(&path.file_name().unwrap_or_default().to_string_lossy(), file)
        };
        (format!("'{}'", path.display()), open())
    };
    let Loaded { profile, notes } = loaded.with_context(|| format!("cannot read {name}"))?;
    for note in notes {
        say(format_args!("{name}: {note}"));
    }
    Ok(profile)
}
