//! Where everybody waits while nothing is measured.

use std::io::{self, BufRead};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::Result;

use crate::sys;

/// A gate that threads and forked processes wait at.
#[derive(Debug)]
pub struct Gate {
    wait: OwnedFd,
    open: OwnedFd,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Result<Self> {
        let (wait, open) = sys::pipe()?;
        Ok(Self { wait, open })
    }

    /// Lets `n` of those who wait pass.
    pub fn let_pass(&self, n: usize) -> Result<()> {
        let bytes = vec![0_u8; n];
        // SAFETY: `bytes` is valid for reading.
        let written = unsafe { libc::write(self.open.as_raw_fd(), bytes.as_ptr().cast(), n) };
        sys::check(written as i64, "write")?;
        Ok(())
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.wait.as_raw_fd()
    }

    fn pass(&self) {
        let mut byte = 0_u8;
        // SAFETY: `byte` is valid for writing.
        while unsafe { libc::read(self.wait.as_raw_fd(), (&raw mut byte).cast(), 1) } != 1 {}
    }
}

/// Waits before the play.
#[inline(never)]
pub fn await_start(gate: &Gate) {
    gate.pass();
    std::hint::black_box("start");
}

/// Waits after the play, forever.
#[inline(never)]
pub fn await_end(gate: &Gate) -> ! {
    gate.pass();
    unreachable!("nobody opens the end gate");
}

/// Waits for a line or the end of the input.
#[inline(never)]
pub fn wait_for_line() -> Result<()> {
    io::stdin().lock().read_line(&mut String::new())?;
    std::hint::black_box("line");
    Ok(())
}
