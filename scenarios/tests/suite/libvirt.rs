//! The documented path from its first step, with the real tools: a libvirtd, a domain, `virsh shutdown
//! --mode acpi`, and what is on the disk afterwards. The engine is not involved.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use softoff_guest_protocol::probe::{ProbeEvent, ProbeLine};
use softoff_harness::disk::{DiskImage, VolumeFlags, system_volume};
use softoff_harness::image::Image;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::libvirt::{Events, Libvirt, Traces};
use softoff_scenarios::libvirt::{Domain, NAME};

use crate::common;

/// From the start to the desktop. 15 to 35 s were seen under TCG; two boots at once on a busy host need more.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// From the request to the end; 3 s were seen.
const END_LIMIT: Duration = Duration::from_secs(300);

/// What the guest tells of a soft shutdown, in this order.
const SOFT: [&str; 7] = [
    "button-pressed",
    "button-policy",
    "session-ending",
    "session-ended",
    "services-stopped",
    "volume-unmounted",
    "powering-off",
];

fn image() -> Arc<Image> {
    static IMAGE: OnceLock<Arc<Image>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let cache = softoff_images::cache::cache_root();
        let image = softoff_images::reference::build_or_open(&cache, &softoff_images::progress::Silent);
        Arc::new(image.expect("the reference image; `cargo xtask image build reference` shows more"))
    });
    image.clone()
}

/// A libvirtd and a domain of the image in its folder. Every host can emulate.
async fn libvirt_with_domain() -> (Libvirt, Domain) {
    let libvirt = Libvirt::start(Accelerator::Tcg).await.unwrap();
    let image = libvirt.image(&image()).unwrap();
    let domain = Domain::make(image, Accelerator::Tcg, libvirt.folder().join("guest")).await.unwrap();
    (libvirt, domain)
}

/// How a domain ended: libvirt's word, the guest's and the disk's.
#[derive(Debug)]
struct End {
    state: String,
    events: Vec<String>,
    told: Vec<String>,
    volume: VolumeFlags,
}

impl End {
    /// Looks at everything, once the domain has stopped.
    async fn of(libvirt: &Libvirt, domain: &Domain, mut events: Events, told_before: usize) -> End {
        let events = events.until_stopped(END_LIMIT).await.unwrap();
        let state = libvirt.virsh(&["domstate", "--reason", NAME]).await.unwrap();
        let told = domain.told().unwrap().iter().skip(told_before).map(name).collect();
        let disk = DiskImage::open(&domain.overlay()).unwrap();
        let volume = system_volume(&disk).unwrap().flags().unwrap();
        End { state, events, told, volume }
    }

    /// What speaks against a soft shutdown; nothing, if it was one.
    fn objections(&self) -> Vec<&'static str> {
        let told: Vec<&str> = self.told.iter().map(String::as_str).filter(|t| SOFT.contains(t)).collect();
        let objections = [
            (self.state != "shut off (shutdown)", "libvirt's state"),
            (
                self.events != ["Shutdown Finished after guest request", "Stopped Shutdown"],
                "libvirt's events",
            ),
            (told != SOFT, "the guest's probe lines"),
            (self.told.last().is_none_or(|t| t != "powering-off"), "the guest's last line"),
            (self.volume.is_dirty(), "the volume's flags"),
        ];
        objections.into_iter().filter(|(raised, _)| *raised).map(|(_, what)| what).collect()
    }
}

/// The event's name as it stands in the line.
fn name(line: &ProbeLine) -> String {
    serde_json::to_value(line).unwrap().get("event").unwrap().as_str().unwrap().to_owned()
}

/// Waits for the guest's desktop; returns how many lines it has told until then.
async fn until_desktop(libvirt: &Libvirt, domain: &Domain) -> usize {
    let began = Instant::now();
    loop {
        let lines = domain.told().unwrap();
        if lines.iter().any(|l| matches!(l.event, ProbeEvent::DesktopReady { .. })) {
            return lines.len();
        }
        let state = libvirt.virsh(&["domstate", "--reason", NAME]).await.unwrap();
        if state != "running (booted)" || began.elapsed() > BOOT_LIMIT {
            let console = std::fs::read(domain.com2()).unwrap_or_default();
            panic!(
                "no desktop-ready on COM1 after {:?}; the domain is {state}; told so far {:?}; QEMU's log:\n{}\nconsole:\n{}",
                began.elapsed(),
                lines.iter().map(name).collect::<Vec<_>>(),
                libvirt.qemu_log(NAME),
                String::from_utf8_lossy(&console)
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Boots a domain to its desktop, ends it by `virsh WORDS DOMAIN`, and looks.
async fn end_by(words: &[&str]) -> End {
    let (libvirt, domain) = libvirt_with_domain().await;
    let events = domain.run(&libvirt).await.unwrap();
    let told = until_desktop(&libvirt, &domain).await;
    let traces = libvirt.traces().unwrap();
    assert_eq!(traces.left().len(), 3, "libvirtd, QEMU and the folder: {traces:?}");
    libvirt.virsh(&[words, &[NAME]].concat()).await.unwrap();
    let end = End::of(&libvirt, &domain, events, told).await;
    println!("{words:?}: {end:?}");
    drop(libvirt);
    assert_eq!(traces.left(), [""; 0]);
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn virsh_shutdown_by_acpi_is_a_soft_shutdown() {
    let _place = common::place().await;
    let end = end_by(&["shutdown", "--mode", "acpi"]).await;
    assert_eq!(end.objections(), [""; 0], "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn virsh_destroy_is_not_mistaken_for_one() {
    let _place = common::place().await;
    let end = end_by(&["destroy"]).await;
    assert_eq!(end.state, "shut off (destroyed)");
    // QEMU obeys SIGTERM, so libvirt tells a `Shutdown` here too: only its detail (`after host request`)
    // shows that the guest had no part in it.
    assert_eq!(end.events.last().map(String::as_str), Some("Stopped Destroyed"));
    assert!(!end.events.iter().any(|e| e.contains("guest request")), "{end:?}");
    // Each of the looks tells the difference, not only libvirt's own word.
    let every = [
        "libvirt's state",
        "libvirt's events",
        "the guest's probe lines",
        "the guest's last line",
        "the volume's flags",
    ];
    assert_eq!(end.objections(), every, "{end:?}");
}

const ROLE: &str = "SOFTOFF_TEST_LIBVIRT_ROLE";

/// A test that fails or is killed half-way leaves no libvirtd, no QEMU and no folder. This test starts
/// itself a second time as the one that does so.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_failed_or_killed_test() {
    if let Some(role) = std::env::var_os(ROLE) {
        return be_a_broken_test(role == "fails").await;
    }
    let _place = common::place().await;
    for role in ["fails", "is-killed"] {
        let mut test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "libvirt::nothing_is_left_of_a_failed_or_killed_test", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(test.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told: Vec<String> =
            lines.skip_while(|l| !l.starts_with("folder=")).take_while(|l| !l.starts_with("end")).collect();
        let value = |key| told.iter().filter_map(move |l| l.strip_prefix(key)).map(str::to_owned);
        let traces = Traces {
            folder: value("folder=").next().expect("a started domain").into(),
            pids: value("pid=").map(|p| p.parse().unwrap()).collect(),
        };
        assert_eq!(traces.pids.len(), 2, "libvirtd and QEMU: {traces:?}");
        if role == "is-killed" {
            test.kill().unwrap();
        }
        assert!(!test.wait().unwrap().success());
        let began = Instant::now();
        while !traces.left().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "{role}: still there: {:?}", traces.left());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn be_a_broken_test(fails: bool) {
    let (libvirt, domain) = libvirt_with_domain().await;
    let _events = domain.run(&libvirt).await.unwrap();
    let traces = libvirt.traces().unwrap();
    println!("\nfolder={}", traces.folder.display());
    traces.pids.iter().for_each(|pid| println!("pid={pid}"));
    println!("end");
    assert!(!fails, "as told");
    std::future::pending().await
}
