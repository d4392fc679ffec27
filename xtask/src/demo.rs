//! Records a bundled example program, so that a first look needs nothing but stable Rust and root.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::child::{self, Group};
use crate::command;
use crate::target::Target;
use crate::workspace::{self, Workspace};

const TARGET: &str = "epoll_server";
const OUTPUT: &str = "offwake-demo.svg";
/// How long the example works: until after the recording.
const WORK_SECONDS: &str = "8";
/// How much of the text output is a first look.
const LINES: usize = 60;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if !command::is_root() {
        bail!("recording needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask demo`");
    }
    let mut build = command::cargo(&workspace.root);
    build.args(["build", "--release", "-p", "offwake", "-p", "offwake-examples"]);
    command::run(build.args(["--bin", "offwake", "--bin", TARGET]))?;

    child::unwind_on_signals()?;
    let mut program = Command::new(workspace.release_binary(TARGET));
    let mut target =
        Target::start(program.args(["--seconds", WORK_SECONDS]), Duration::from_secs(10))?;
    target.go()?;
    let pid = target.pid;
    let text = workspace.target.join("offwake-demo.txt");
    let mut offwake = Command::new(workspace.release_binary("offwake"));
    offwake
        .current_dir(&workspace.root)
        .args(["-p", &pid.to_string(), "-d", "5", "-o", OUTPUT, "-o"])
        .arg(&text);
    eprintln!("+ offwake -p {pid} -d 5 -o {OUTPUT}");
    let status = Group::start(&mut offwake)?.wait(Duration::from_secs(120))?;
    if !status.success() {
        bail!("offwake failed ({status})");
    }

    for line in workspace::read(&text)?.lines().take(LINES) {
        println!("{line}");
    }
    println!("\nThe whole of it is in {OUTPUT}: open it in a browser, click to zoom.");
    Ok(())
}
