//! Rules that the compiler does not check: who may depend on whom (as the design says), and that
//! the README tells what is there.

mod dependencies;
mod readme;
mod source;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut violations = dependencies::check(workspace)?;
    violations.extend(readme::check(workspace)?);
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => bail!("1 rule is broken"),
        count => bail!("{count} rules are broken"),
    }
}
