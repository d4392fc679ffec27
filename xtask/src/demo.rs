//! Records a bundled example program, so that a first look needs nothing but stable Rust and root.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Group};
use crate::command;
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
    let (_target, pid) = start_target(workspace)?;
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

/// Starts the example and lets it work. It ends with the returned value.
fn start_target(workspace: &Workspace) -> Result<(Group, u64)> {
    let mut program = Command::new(workspace.release_binary(TARGET));
    program.args(["--seconds", WORK_SECONDS]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut group = Group::start(&mut program)?;
    let stdout = group.child().stdout.take().context("the example has no stdout")?;
    // A read cannot time out, but a channel can. The rest of what the example prints is its truth
    // for tests; it is read so that the example never blocks on it.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let line = child::wait_for(Duration::from_secs(10), || {
        group.expect_running()?;
        Ok(receiver.try_recv().ok())
    })?
    .with_context(|| format!("{TARGET} was not ready within 10 s"))?;
    let ready: Value = serde_json::from_str(&line).context("the example printed no JSON")?;
    let pid = ready["ready"]["pid"].as_u64();
    let pid = pid.with_context(|| format!("{TARGET} did not say that it is ready: {line}"))?;
    group.child().stdin.as_mut().context("the example has no stdin")?.write_all(b"\n")?;
    Ok((group, pid))
}
