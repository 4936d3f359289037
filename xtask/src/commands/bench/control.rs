//! (g) The whole control scenario, from nothing to a recorded power-off with everything cleaned up: ours against
//! what others do with the same image on the same accelerator, each from a cold boot, in turns.

use softoff_harness::record::schema::StartMode;

use super::avocado::Avocado;
use super::machines::{Bench, whole_control};
use super::row::{Row, Samples, Unit, figure};
use super::virsh::Virsh;

/// Cold boots of each side at most: they take a quarter of a minute or more.
const MOST: u32 = 10;

const NAME: &str = "control-vs-peer";
const WHAT: &str = "the whole control scenario, cold: ours / virsh with 1 s polling";

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Row> {
    let (image, accelerator, samples) = bench.subject();
    let unavailable = |why: anyhow::Error| Row::unavailable(NAME, WHAT, format!("virsh: {why:#}"));
    let virsh = match Virsh::start(image, accelerator).await {
        Ok(virsh) => virsh,
        Err(why) => return Ok(unavailable(why)),
    };
    let mut avocado = Avocado::install(image, accelerator).await;
    let (mut ours, mut theirs, mut jobs) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..samples.min(MOST) {
        ours.extend(whole_control(bench, StartMode::Cold, 1).await?);
        match virsh.control().await {
            Ok(time) => theirs.push(time),
            Err(why) => return Ok(unavailable(why)),
        }
        if let Ok(peer) = &avocado {
            match peer.control().await {
                Ok(time) => jobs.push(time),
                Err(why) => avocado = Err(why),
            }
        }
    }
    drop(virsh);
    let warm = whole_control(bench, StartMode::Warm, samples).await?;

    let text = |s: &Samples| s.median().map_or("-".into(), |m| figure(m.as_secs_f64(), Unit::Seconds));
    let peer = match &avocado {
        Ok(_) => text(&jobs),
        Err(why) => format!("unavailable: {why:#}"),
    };
    let row = Row::timed(NAME, WHAT, &ours, &theirs);
    let below = row.ratio.is_some_and(|ratio| ratio < 1.0);
    Ok(row
        .goal("below virsh with 1 s polling", below)
        .note(format!("ours warm: {}; avocado-vt, cold: {peer}", text(&warm))))
}
