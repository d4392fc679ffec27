//! Names that attack whoever prints them. A name is any 15 bytes without a 0: each sleeper has one, and
//! the waker too.

use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Result, ensure};
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::pause;
use offwake_examples::ledger::Ledger;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::sys::{self, read_byte, write_byte};
use offwake_examples::watch::Watch;
use offwake_examples::{oracle_fn, oracle_name};

const SLEEPERS: [&[u8]; 9] = [
    b"</text><script>",
    b";--;[irq] 99999",
    b"two\nlines 12345",
    b"\r\t\x1b[31mred\x07",
    b"<![CDATA[\"'&>]]",
    b"&lt;&#x41;%s%n{",
    b"\xff\xfe\xc0\x80 not UTF",
    b"\xe2\x80\xaegpj.exe\xc3\xbc",
    b"  spaces  ",
];
const WAKER: &[u8] = b"</g>;\n-;--;<g>";

oracle_fn! {
    fn oracle_hostile_read / oracle_hostile_read_inner(fd: RawFd) -> Option<u8> { read_byte(fd) }
}

oracle_fn! {
    fn oracle_hostile_write / oracle_hostile_write_inner(fd: RawFd, byte: u8) -> bool { write_byte(fd, byte) }
}

const ON: u8 = 1;
const LAST: u8 = 0;

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let mut stage = Stage::new()?;
    let mut sleepers = Vec::new();
    for comm in SLEEPERS {
        let (role, waits, pipe) = (Stage::role(), Ledger::new(), sys::pipe()?);
        let read = pipe.0.as_raw_fd();
        stage.thread(role, comm, move || {
            loop {
                let since = waits.announce_sleep(role);
                let byte = oracle_hostile_read(read);
                waits.slept(since);
                ensure!(byte.is_some(), "read failed");
                if byte == Some(LAST) {
                    return Ok(());
                }
            }
        })?;
        sleepers.push((role, waits, pipe));
    }
    let waker = Stage::role();
    let targets: Vec<_> =
        sleepers.iter().map(|(role, waits, pipe)| (*role, *waits, pipe.1.as_raw_fd())).collect();
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(20));
    stage.thread(waker, WAKER, move || {
        let mut watches =
            targets.iter().map(|(role, ..)| Watch::new(role)).collect::<Result<Vec<_>>>()?;
        loop {
            let byte = if budget.spend() { ON } else { LAST };
            for ((_, waits, write), watch) in targets.iter().zip(&mut watches) {
                watch.asleep()?;
                pause(rng.micros(100, 1_000));
                waits.wake();
                ensure!(oracle_hostile_write(*write, byte), "write failed");
            }
            if byte == LAST {
                return Ok(());
            }
        }
    })?;
    let played = stage.perform()?;
    let reads = oracle_name!(oracle_hostile_read / oracle_hostile_read_inner);
    let writes = oracle_name!(oracle_hostile_write / oracle_hostile_write_inner);
    for (role, waits, _) in &sleepers {
        played.tell(waits, "read", (role, reads), (waker, writes))?;
    }
    played.finish()
}
