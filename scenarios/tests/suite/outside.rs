//! The phases of a guest that has none of our programs, taken from outside: the screen, the agent's channel,
//! QMP. Tried on a real shutdown whose probe lines are taken out of the timeline.

use softoff_harness::outcome::Phase;
use softoff_harness::record::read_timeline;
use softoff_harness::settle::phases;
use softoff_harness::timeline::{Seen, Source};

use crate::common;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_a_probe_shows_its_phases_all_the_same() {
    let control = softoff_scenarios::definitions_dir().join("control.toml");
    let (_, dir) = common::run_in_folder(&common::job(&control, false)).await;
    let told = read_timeline(&dir).unwrap();
    let silent: Vec<_> = told.iter().filter(|o| !matches!(o.what, Seen::Probe(_))).cloned().collect();
    assert_ne!(told.len(), silent.len());
    println!("told:    {:?}", phases(&told));
    println!("outside: {:?}", phases(&silent));
    let shown: Vec<_> = phases(&silent).iter().map(|r| (r.phase, r.source)).collect();
    // A guest that is gone within a second may go between two looks at its screen; the rest must show.
    let sure = shown.iter().filter(|(phase, _)| *phase != Phase::Reacted).copied().collect::<Vec<_>>();
    let expected = [
        (Phase::Request, Source::Host),
        (Phase::ServicesStopped, Source::Qmp),
        (Phase::PoweredOff, Source::Qmp),
    ];
    assert_eq!(sure, expected, "{shown:?}");
    assert!(shown.iter().all(|(phase, source)| *phase != Phase::Reacted || *source == Source::Screen));
}
