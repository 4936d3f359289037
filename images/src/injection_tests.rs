//! What the conditions write into a stopped disk: exactly the values that they name change. One test for each edit set on
//! generated hives, and one for all of them on a real hive, where that is at hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rstest::rstest;
use softoff_harness::condition::Condition;
use softoff_harness::disk::{DiskImage, Hive, RegistryValue, system_volume};
use softoff_harness::image::{GuestFamily, Sha256Hex};
use softoff_harness::inject::{self, HiveEdit};
use softoff_harness::scenario::Scenario;

use crate::measure_disk::build_with;
use crate::registry_diff::{Contents, DISK, generated_system, hive, intended, overlay, system};

/// One test for each edit set, and the list of all of them.
macro_rules! edit_sets {
    ($($name:ident: $definition:literal,)*) => {
        const EDIT_SETS: &[&str] = &[$($definition),*];

        #[rstest]
        $(#[case::$name($definition)])*
        fn an_injection_changes_exactly_the_intended_values(#[case] definition: &str) {
            let disk = Disk::with(generated_system(), software());
            disk.check("edits", &condition(definition).offline(GuestFamily::Windows));
            disk.is_untouched();
        }
    };
}

edit_sets! {
    windows_update: "kind = 'windows-update'\nseconds = 30",
    shutdown_event_tracker: "kind = 'shutdown-event-tracker'",
    logon_required: "kind = 'logon-required'",
    logon_required_locked: "kind = 'logon-required'\nlogged_on = true\nlocked = true",
    application: "kind = 'unresponsive-application'\nbehaviour = 'refuses'\ntext = 'Unsaved: 100 %'",
    application_ended: "kind = 'unresponsive-application'\nbehaviour = 'hangs'\nauto_end_tasks = true",
    service: "kind = 'unresponsive-service'\nservice = 'Stubborn'\nseconds = 600",
    ordinary_service: "kind = 'unresponsive-service'\nservice = 'Plain'\nseconds = 1\npreshutdown = false",
    power_button: "kind = 'power-button-policy'\naction = 'nothing'",
    display_asleep: "kind = 'asleep'\nstate = 'display'",
    abort_loop: "kind = 'malware'\ntechnique = 'abort-loop'",
    damaged_system: "kind = 'malware'\ntechnique = 'damaged-system'",
    reboots: "kind = 'faulty-end'\nend = 'reboots'",
    powers_itself_off: "kind = 'faulty-end'\nend = 'by-itself'",
}

fn condition(definition: &str) -> Condition {
    toml::from_str(definition).unwrap()
}

const USER: &str = "Softoff";

/// Some of the values that conditions write are there with other data, and beside each stands one that they do not write.
fn software() -> Vec<u8> {
    let text = |text: &str| RegistryValue::String(text.into());
    hive(&[
        (r"Microsoft\Windows NT\CurrentVersion\Winlogon", "DefaultUserName", text(USER)),
        (r"Microsoft\Windows NT\CurrentVersion\Winlogon", "AutoAdminLogon", text("2")),
        (r"Microsoft\Windows\CurrentVersion\Policies\System", "EnableLUA", RegistryValue::Dword(1)),
        (r"Microsoft\Windows\CurrentVersion\Policies\System", "ShutdownWithoutLogon", text("1")),
        (r"Microsoft\Windows\CurrentVersion\Run", "Neighbour", text(r"C:\neighbour.exe")),
        (r"Policies\Microsoft\Windows NT\Reliability", "ShutdownReasonOn", RegistryValue::Dword(0)),
        (r"Policies\Microsoft\Power\PowerSettings", "ActivePowerScheme", text("x")),
    ])
}

fn user() -> Vec<u8> {
    let text = |text: &str| RegistryValue::String(text.into());
    hive(&[
        (r"Control Panel\Desktop", "AutoEndTasks", text("0")),
        (r"Control Panel\Desktop", "Wallpaper", text("x")),
    ])
}

/// A disk, and what its hives hold.
struct Disk {
    dir: tempfile::TempDir,
    base: PathBuf,
    digest: Sha256Hex,
    hives: [(Hive, Contents); 3],
}

impl Disk {
    fn with(system: Vec<u8>, software: Vec<u8>) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("Windows/System32/config/SYSTEM", system),
            ("Windows/System32/config/SOFTWARE", software),
            ("Users/Softoff/NTUSER.DAT", user()),
        ];
        let base = build_with(dir.path(), DISK, &files).unwrap();
        let hives = [Hive::System, Hive::Software, Hive::user(USER)];
        let hives = hives.map(|hive| (hive.clone(), Contents::read(&base, &hive)));
        let digest = Sha256Hex::of_file(&base).unwrap();
        Disk { dir, base, digest, hives }
    }

    /// What the overlays stand on.
    fn is_untouched(&self) {
        assert_eq!(Sha256Hex::of_file(&self.base).unwrap(), self.digest);
    }

    /// Edits an overlay on it, and holds every key and value against what was there and what was intended.
    fn check(&self, name: &str, edits: &[HiveEdit]) {
        assert!(!edits.is_empty());
        let overlay = overlay(&self.base, &self.dir.path().join(format!("{name}.qcow2")));
        let written = inject::apply(&overlay, std::slice::from_ref(&self.base), edits).unwrap();
        assert_eq!(written.iter().map(|write| write.values).sum::<usize>(), edits.len());
        let control_set = self.hives[0].1.control_set();
        for (hive, before) in &self.hives {
            let wanted = intended(edits, hive, &control_set);
            if wanted.is_empty() {
                let bytes = |disk: &Path| {
                    let volume = system_volume(&DiskImage::open(disk).unwrap()).unwrap();
                    volume.read_file(&hive.path(), 256 << 20).unwrap()
                };
                assert!(bytes(&overlay) == bytes(&self.base), "{name}: {} is another", hive.path());
                continue;
            }
            let after = Contents::read(&overlay, hive);
            assert_eq!(after.unintended(before, &wanted), Vec::<String>::new(), "{name}: {}", hive.path());
            // None of the values was there before with the same data.
            assert_eq!(after.changed(before), wanted.len(), "{name}: {}", hive.path());
        }
    }
}

/// The real hive stands in the place of SYSTEM and of SOFTWARE: of the latter there is no sample.
#[test]
fn every_injection_changes_exactly_the_intended_values_of_a_real_hive() {
    let (real, true) = system() else { return };
    let disk = Disk::with(real.clone(), real);
    assert!(disk.hives[0].1.values.len() > 5_000, "{} values", disk.hives[0].1.values.len());
    for (number, definition) in EDIT_SETS.iter().enumerate() {
        let edits = condition(definition).offline(GuestFamily::Windows);
        disk.check(&format!("edits-{number}"), &edits);
    }
    disk.is_untouched();
}

/// An edit that nobody named must be seen on a disk as well.
#[test]
fn an_edit_too_many_is_seen() {
    let disk = Disk::with(generated_system(), software());
    let overlay = overlay(&disk.base, &disk.dir.path().join("overlay.qcow2"));
    let edits = condition("kind = 'power-button-policy'\naction = 'nothing'").offline(GuestFamily::Windows);
    let before = Contents::read(&overlay, &Hive::Software);
    inject::apply(&overlay, &[], &edits).unwrap();
    let wanted = intended(&edits[..1], &Hive::Software, "");
    let told = Contents::read(&overlay, &Hive::Software).unintended(&before, &wanted);
    assert!(told.len() == 1 && told[0].contains("DCSETTINGINDEX"), "{told:?}");
}

#[rstest]
#[case::a_package("kind = 'staged-update'\npackage = 'x.msu'")]
#[case::s3("kind = 'asleep'\nstate = 's3'")]
#[case::s4("kind = 'asleep'\nstate = 's4'")]
#[case::the_agent("kind = 'guest-agent'\nfailing = 'absent'")]
fn what_is_entered_online_writes_nothing_offline(#[case] definition: &str) {
    assert_eq!(condition(definition).offline(GuestFamily::Windows), []);
}

/// Which values an edit set writes, whatever it calls its service.
fn values(edits: &[HiveEdit]) -> BTreeSet<(String, String, String)> {
    let value = |edit: &HiveEdit| {
        let key = match edit.key.strip_prefix(r"CurrentControlSet\Services\") {
            Some(_) => "a service's",
            None => &edit.key,
        };
        (edit.hive.path(), key.to_owned(), edit.name.clone())
    };
    edits.iter().map(value).collect()
}

#[test]
fn no_definition_writes_an_edit_set_that_is_not_checked() {
    let checked: BTreeSet<_> =
        EDIT_SETS.iter().map(|text| values(&condition(text).offline(GuestFamily::Windows))).collect();
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut seen = BTreeSet::new();
    for folder in ["definitions", "negative", "series", "libvirt"] {
        for entry in std::fs::read_dir(scenarios.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            for condition in Scenario::load(&path).unwrap().conditions {
                for family in [GuestFamily::Windows, GuestFamily::Reference] {
                    let edits = values(&condition.offline(family));
                    assert!(edits.is_empty() || checked.contains(&edits), "{}: {edits:?}", path.display());
                    seen.insert(edits);
                }
            }
        }
    }
    assert!(seen.len() > 10, "{} edit sets in the definitions", seen.len());
}
