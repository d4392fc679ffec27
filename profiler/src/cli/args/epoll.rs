//! The arguments of `offwake epoll`.

use std::time::Duration;

use clap::Args;
use offwake::record::epoll::CallbackPattern;

use super::{parse_duration, parse_id};

/// What to watch, and how to tell of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct EpollArgs {
    /// Watch the threads of these processes
    ///
    /// It ends when the last of them has ended.
    #[arg(
        short, long, value_name = "PID,...", value_delimiter = ',',
        value_parser = parse_id, allow_negative_numbers = true, required = true
    )]
    pub(crate) pid: Vec<u32>,

    /// Watch for this many seconds
    ///
    /// Fractions are allowed. Without it, until Ctrl-C, SIGTERM, or the end of the last process.
    #[arg(short, long, value_name = "SECS", value_parser = parse_duration, allow_negative_numbers = true)]
    pub(crate) duration: Option<Duration>,

    /// Only the table at the end, without the log
    #[arg(long)]
    pub(crate) summary: bool,

    /// JSON: one object a line for each event, and one for the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Also tell of calls of this function, in each process that has it: a uprobe; may be given several times
    ///
    /// BINARY is a path as the process sees it, or the name of a file that it has mapped. In the name of
    /// the function, as it is in the file or demangled, `*` and `?` stand for any characters, and one. Its
    /// first two arguments are shown as a descriptor and as libevent's event bits: that is what libevent
    /// calls its callbacks with, and Envoy's is '*FileEventImpl*assignEvents*'. A stripped binary has no
    /// names to find it by.
    #[arg(long, value_name = "BINARY:SYMBOL-GLOB", value_parser = parse_callback)]
    pub(crate) callback: Vec<CallbackPattern>,
}

fn parse_callback(text: &str) -> Result<CallbackPattern, String> {
    match text.split_once(':') {
        Some((binary, symbol)) if !binary.is_empty() && !symbol.is_empty() => {
            Ok(CallbackPattern { binary: binary.into(), symbol: symbol.into() })
        }
        _ => {
            Err("a file and a function are needed, such as '/usr/bin/envoy:*assignEvents*'".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_colons_and_paths_have_none() {
        let callback = parse_callback("/bin/envoy:Envoy::*").unwrap();
        assert_eq!((&*callback.binary, &*callback.symbol), ("/bin/envoy", "Envoy::*"));
        for bad in ["", "envoy", ":main", "envoy:"] {
            assert!(parse_callback(bad).is_err(), "{bad}");
        }
    }
}
