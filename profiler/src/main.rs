//! The command `offwake`. `offwake --help` says what it does; the library says how.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
