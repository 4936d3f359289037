//! Stopping reference guests that libvirt runs, as an operator would: by the domain's name, and by sockets.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use softoff_guest_protocol::probe::ProbeEvent;
use softoff_harness::live::{LiveJob, Reach, StopEvent, StopJob, StopReport, look, stop};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::libvirt::{Connection, Libvirt};
use softoff_harness::outcome::{Cause, OutcomeKind};
use softoff_harness::scenario::Scenario;
use softoff_harness::schedule::Place;
use softoff_scenarios::libvirt::{Domain, NAME};

use crate::common;

/// From the start to the desktop; 15 to 35 s were seen under TCG, more on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// A guest with a scenario's conditions, at its desktop. It works until then, and mostly waits for what is asked of it.
async fn guest(scenario: Option<&str>) -> (Place, Libvirt, Domain) {
    let mut place = common::place().await;
    let libvirt = Libvirt::start(Accelerator::Tcg).await.expect("libvirtd");
    let image = libvirt.image(&common::image()).unwrap();
    let domain = Domain::make(image, Accelerator::Tcg, libvirt.folder().join("guest")).await.unwrap();
    if let Some(path) = scenario {
        let scenario = Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        domain.inject(&scenario).unwrap();
    }
    let _events = domain.run(&libvirt).await.unwrap();
    let began = Instant::now();
    while !domain.told().unwrap().iter().any(|l| matches!(l.event, ProbeEvent::DesktopReady { .. })) {
        assert!(began.elapsed() < BOOT_LIMIT, "no desktop; QEMU's log:\n{}", libvirt.qemu_log(NAME));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    place.quiet();
    (place, libvirt, domain)
}

fn by_name(libvirt: &Libvirt) -> StopJob {
    StopJob {
        // As ourselves: pictures go to a folder of ours.
        reach: Reach::Domain {
            connection: Connection::to(libvirt.connection().uri()).unwrap(),
            name: NAME.into(),
        },
        screens: None,
        patience: Duration::from_secs(60),
        force_after: None,
        agent: true,
    }
}

async fn stopped(job: &StopJob) -> (StopReport, Vec<StopEvent>) {
    let events = Mutex::new(Vec::new());
    let report = stop(job, &|event| events.lock().unwrap().push(event)).await.unwrap();
    println!("{report:#?}");
    (report, events.into_inner().unwrap())
}

/// The agent's socket that libvirt made and holds.
fn agent_socket(libvirt: &Libvirt) -> PathBuf {
    fn find(dir: &Path) -> Option<PathBuf> {
        std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.path().is_dir() {
            true => find(&entry.path()),
            false => (entry.file_name() == "org.qemu.guest_agent.0").then(|| entry.path()),
        })
    }
    find(libvirt.folder()).expect("libvirt's socket of the agent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_obeys_goes_down_and_a_held_agent_socket_is_told() {
    let (_place, libvirt, domain) = guest(None).await;
    // libvirt holds the agent's socket: whoever comes second is told so, and not kept waiting.
    let reach = Reach::Sockets { qmp: domain.qmp(), qga: Some(agent_socket(&libvirt)) };
    let report = look(&LiveJob { reach: reach.clone(), press: None, screens: None }, &|_| ()).await.unwrap();
    let lacks = report.diagnosis.lacks.join("\n");
    assert!(lacks.contains("no other client holds its socket"), "{lacks}");
    assert_eq!(report.outcome.kind(), OutcomeKind::StillRunning);

    let job = StopJob { reach: Reach::Sockets { qmp: domain.qmp(), qga: None }, ..by_name(&libvirt) };
    let (report, _) = stopped(&job).await;
    assert_eq!((report.outcome.kind(), report.gave_up), (OutcomeKind::PoweredOff, None));
    assert_eq!(report.did, ["pressed the power button"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_discards_the_press_is_told_with_its_cause_and_the_agent_helps() {
    let (_place, libvirt, _domain) = guest(Some("definitions/power-button-nothing.toml")).await;
    let (report, _) = stopped(&StopJob { agent: false, ..by_name(&libvirt) }).await;
    assert_eq!(report.outcome.kind(), OutcomeKind::StillRunning);
    assert_eq!(report.diagnosis.cause, Cause::PowerButtonPolicy);
    assert!(report.gave_up.is_some_and(|why| why.contains("nothing more will come")), "{:?}", report.did);
    assert!(!report.cost.is_empty());
    assert_eq!(libvirt.virsh(&["domstate", NAME]).await.unwrap(), "running", "nobody asked for a forced end");

    let (report, _) = stopped(&by_name(&libvirt)).await;
    assert_eq!((report.outcome.kind(), report.gave_up), (OutcomeKind::PoweredOff, None));
    assert!(report.did.len() == 2 && report.did[1].contains("guest agent"), "{:?}", report.did);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_work_is_waited_for_as_long_as_it_gets_on() {
    let (_place, libvirt, _domain) = guest(Some("series/windows-update-20.toml")).await;
    // Shorter than the work: only its progress keeps the wait alive.
    let (report, events) = stopped(&StopJob { patience: Duration::from_secs(5), ..by_name(&libvirt) }).await;
    assert_eq!((report.outcome.kind(), report.gave_up), (OutcomeKind::PoweredOff, None));
    assert!(report.took.is_some_and(|took| took > Duration::from_secs(15)), "{:?}", report.took);
    let work = |e: &&StopEvent| matches!(e, StopEvent::Progress(_, what) if what.starts_with("update work"));
    assert!(events.iter().filter(work).count() >= 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plug_is_pulled_only_when_told_to_and_its_cost_is_told_first() {
    let (_place, libvirt, _domain) = guest(Some("definitions/windows-update-exceeds-grace.toml")).await;
    let job = StopJob { force_after: Some(Duration::from_secs(15)), ..by_name(&libvirt) };
    let (report, events) = stopped(&job).await;
    assert_eq!(report.outcome.kind(), OutcomeKind::HostKilled);
    assert!(report.cost.iter().any(|line| line.starts_with("update work is under way")), "{:?}", report.cost);
    let told = events.iter().position(|e| matches!(e, StopEvent::Cost(_))).unwrap();
    let pulled = events.iter().position(|e| *e == StopEvent::Did("pulled the plug".into())).unwrap();
    assert!(told < pulled, "{events:?}");
    assert_eq!(libvirt.virsh(&["domstate", "--reason", NAME]).await.unwrap(), "shut off (destroyed)");
}

/// The button does nothing, so the agent is asked; it takes the request, and update work holds the guest. virsh comes back
/// after a minute and says that it failed. The plug's time counts meanwhile, and without one the wait goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_agents_call_that_lasts_neither_ends_the_ladder_nor_stops_its_clock() {
    const UPDATES: &str = "series/power-button-nothing-in-updates.toml";
    let (_place, libvirt, _domain) = guest(Some(UPDATES)).await;
    let job = StopJob { force_after: Some(Duration::from_secs(30)), ..by_name(&libvirt) };
    let (report, _) = stopped(&job).await;
    assert_eq!(report.outcome.kind(), OutcomeKind::HostKilled);
    assert!(report.did.len() == 3 && report.did[1].contains("guest agent"), "{:?}", report.did);
    // libvirt's minute has not passed by then.
    assert!(report.took.is_some_and(|took| took < Duration::from_secs(55)), "{:?}", report.took);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: cargo test -p softoff-scenarios --test suite -- stop:: --ignored"]
async fn a_refused_agents_call_is_told_and_the_wait_goes_on() {
    let (_place, libvirt, _domain) = guest(Some("series/power-button-nothing-in-updates.toml")).await;
    let (report, _) = stopped(&by_name(&libvirt)).await;
    assert_eq!((report.outcome.kind(), report.gave_up), (OutcomeKind::PoweredOff, None));
    assert!(report.did.len() == 3 && report.did[2].contains("came to nothing"), "{:?}", report.did);
    assert!(report.took.is_some_and(|took| took > Duration::from_secs(75)), "{:?}", report.took);
}
