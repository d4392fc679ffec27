//! Condition-variable hand-off: a consumer waits for an item until the producer notifies it.

use std::sync::{Condvar, Mutex};

use anyhow::Result;
use clap::Parser;
use offwake_examples::args::Args;
use offwake_examples::clock::pause;
use offwake_examples::ledger::Ledger;
use offwake_examples::rng::Rng;
use offwake_examples::stage::Stage;
use offwake_examples::watch::Watch;
use offwake_examples::{oracle_fn, oracle_name};

/// What the producer hands over.
#[derive(Clone, Copy)]
enum Item {
    More,
    Last,
}

static SHELF: Mutex<Option<Item>> = Mutex::new(None);
static FILLED: Condvar = Condvar::new();

oracle_fn! {
    fn oracle_consume / oracle_consume_inner() -> Option<Item> {
        let shelf = SHELF.lock().expect("nobody panics");
        FILLED.wait_while(shelf, |item| item.is_none()).expect("nobody panics").take()
    }
}

oracle_fn! {
    fn oracle_notify / oracle_notify_inner() { FILLED.notify_one(); }
}

fn main() -> Result<()> {
    let Args { length } = Args::parse();
    let (consumer, producer) = (Stage::role(), Stage::role());
    let waits = Ledger::new();
    let mut stage = Stage::new()?;
    stage.thread(consumer, "consumer", move || {
        loop {
            let since = waits.announce_sleep(consumer);
            let item = oracle_consume();
            waits.slept(since);
            if matches!(item, Some(Item::Last)) {
                return Ok(());
            }
        }
    })?;
    let (mut rng, mut budget) = (Rng::new(length.seed), length.budget(300));
    stage.thread(producer, "producer", move || {
        let mut watch = Watch::new(consumer)?;
        loop {
            let item = if budget.spend() { Item::More } else { Item::Last };
            watch.asleep()?;
            pause(rng.micros(200, 3_000));
            // Unlocked before the notification, so that the consumer does not wait for the lock too.
            *SHELF.lock().expect("nobody panics") = Some(item);
            waits.wake();
            oracle_notify();
            if matches!(item, Item::Last) {
                return Ok(());
            }
        }
    })?;
    let played = stage.perform()?;
    let consumes = oracle_name!(oracle_consume / oracle_consume_inner);
    let notifies = oracle_name!(oracle_notify / oracle_notify_inner);
    played.tell(waits, "futex", (consumer, consumes), (producer, notifies))?;
    played.finish()
}
