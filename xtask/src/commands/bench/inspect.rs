//! (f) Reading a disk: ours against libguestfs' appliance, and against qemu-nbd with ntfs-3g.

use std::time::Duration;

use super::disk_peers::{Peer, measure as compare};
use super::row::{Row, Samples, Unit, figure};

const NAME: &str = "inspect";
const WHAT: &str = "a 10 GiB disk's hives, logs and flags: cargo xtask inspect / guestfish --ro";

/// The whole process, release build.
const LIMIT: Duration = Duration::from_millis(150);

/// So many times faster than guestfish.
const TIMES: f64 = 100.0;

pub(super) fn measure(samples: u32) -> anyhow::Result<Row> {
    let found = compare(samples)?;
    let ours: Samples = found.ours.into_iter().collect();
    let fast = ours.median().is_some_and(|median| median < LIMIT);
    let nbd = match found.qemu_nbd {
        Peer::Measured(times) => match times.into_iter().collect::<Samples>().median() {
            Some(median) => figure(median.as_secs_f64(), Unit::Seconds),
            None => "nothing measured".into(),
        },
        Peer::Unavailable(why) => format!("unavailable: {why}"),
    };
    let note = format!("qemu-nbd and ntfs-3g: {nbd}");
    Ok(match found.guestfish {
        Peer::Measured(times) => {
            let row = Row::timed(NAME, WHAT, &ours, &times.into_iter().collect());
            let met = fast && row.ratio.is_some_and(|ratio| ratio * TIMES <= 1.0);
            row.goal("under 150 ms, and 100 times faster", met).note(note)
        }
        // Without the peer, our own limit still says something.
        Peer::Unavailable(why) => {
            let row = Row::limited(NAME, "cargo xtask inspect on a 10 GiB disk / limit", &ours, LIMIT);
            row.note(format!("guestfish unavailable: {why}; {note}"))
        }
    })
}
