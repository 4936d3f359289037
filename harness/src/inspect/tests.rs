//! Reports of whole disks with generated hives: clean, dirty with and without logs, corrupt.

use rstest::rstest;
use softoff_guest_protocol::document::{Document, Kind};

use super::*;
use crate::disk::RegistryValue;
use crate::disk::testing::{
    VOLUME_AT, base_block_sum, change_value, gpt_disk, hive, new_log, overlay_disk, run, sample, scratch,
    set_volume_flags,
};

fn system() -> Vec<u8> {
    hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (
            r"ControlSet001\Control\Windows",
            "ShutdownTime",
            // 2026-11-24T00:00:00Z
            RegistryValue::Binary(((1_795_478_400 + FILETIME_EPOCH) * FILETIME_TICKS).to_le_bytes().to_vec()),
        ),
        (r"ControlSet001\Control", "WaitToKillServiceTimeout", RegistryValue::String("5000".into())),
    ])
}

fn software() -> Vec<u8> {
    hive(&[(
        r"Microsoft\Windows NT\CurrentVersion\Winlogon",
        "DefaultUserName",
        RegistryValue::String("Ada".into()),
    )])
}

fn user() -> Vec<u8> {
    hive(&[(r"Control Panel\Desktop", "AutoEndTasks", RegistryValue::String("1".into()))])
}

const SYSTEM: &str = "Windows/System32/config/SYSTEM";
const SOFTWARE: &str = "Windows/System32/config/SOFTWARE";
const USER: &str = "Users/Ada/NTUSER.DAT";

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![(SYSTEM, system()), (SOFTWARE, software()), (USER, user())]
}

fn inspected(files: &[(&str, Vec<u8>)], written: Option<Written>) -> Inspection {
    let dir = scratch();
    let raw = gpt_disk(dir.path(), files);
    inspect(&DiskImage::open(&raw).unwrap(), written).unwrap()
}

#[test]
fn a_clean_disk() {
    let found = inspected(&files(), None);
    let report = &found.report;
    assert_eq!(report.troubles, [] as [String; 0]);
    assert_eq!(report.volume_dirty(), Some(false));
    // What mkntfs and ntfs-3g leave.
    assert_eq!(report.journal, Some(JournalState::Empty));
    assert_eq!(report.shutdown_time.as_deref(), Some("2026-11-24T00:00:00Z"));
    assert_eq!(report.hibernation, Some(HibernationFile::Absent));
    assert_eq!(report.hives.len(), 3);
    assert!(report.hives.iter().all(|hive| hive.condition == HiveCondition::Clean), "{:?}", report.hives);
    assert_eq!(report.hives[2].hive, r"\Users\Ada\NTUSER.DAT");
    assert!(!report.updates.as_ref().unwrap().any());
    assert_eq!((&report.system_log, &report.documents), (&None, &None));
    let facts = found.registry.unwrap();
    assert_eq!(facts.auto_end_tasks, Some(true));
    assert_eq!(facts.service_timeout.as_deref(), Some("5000"));
}

/// A dirty copy of a hive: the primary sequence number is one ahead, the checksum right.
fn dirty(mut hive: Vec<u8>) -> Vec<u8> {
    hive[4] += 1;
    base_block_sum(&mut hive);
    hive
}

#[rstest]
#[case::system(SYSTEM, system())]
#[case::software(SOFTWARE, software())]
#[case::user(USER, user())]
fn each_hive_is_found_dirty_and_corrupt(#[case] path: &str, #[case] clean: Vec<u8>) {
    let with = |content: Vec<u8>, log: Option<Vec<u8>>| {
        let mut files = files();
        let log_path = format!("{path}.LOG1");
        files.iter_mut().find(|(name, _)| *name == path).unwrap().1 = content;
        files.extend(log.map(|log| (log_path.as_str(), log)));
        let wanted = format!(r"\{}", path.replace('/', r"\"));
        let report = inspected(&files, None).report;
        report.hives.into_iter().find(|hive| hive.hive == wanted).unwrap().condition
    };
    let marked = dirty(clean.clone());
    let log = new_log(&marked, &[(u32::from(marked[8]), vec![(0, clean[4096..4608].to_vec())])]);
    assert_eq!(with(marked.clone(), Some(log)), HiveCondition::DirtyWithLogs { entries: 1 });
    let condition = with(marked, None);
    assert!(matches!(condition, HiveCondition::DirtyWithoutUsableLogs { .. }), "{condition:?}");
    let mut corrupt = clean;
    corrupt[4096] = b'x';
    let condition = with(corrupt, None);
    assert!(matches!(condition, HiveCondition::Corrupt { .. }), "{condition:?}");
}

#[test]
fn values_of_a_dirty_hive_are_those_of_its_log() {
    let clean = system();
    let old = |hive: &[u8]| change_value(hive, "5000", "9000");
    // The hive on the disk is an older one; its log holds the pages that are newer.
    let stale = dirty(old(&clean));
    let pages = clean[4096..]
        .chunks(512)
        .enumerate()
        .filter(|(n, page)| stale[4096 + n * 512..].get(..512) != Some(*page));
    let pages: Vec<_> = pages.map(|(n, page)| ((n * 512) as u32, page.to_vec())).collect();
    assert!(!pages.is_empty());
    let log = new_log(&stale, &[(u32::from(stale[8]), pages)]);
    let with = |log: Option<Vec<u8>>| {
        let mut files = files();
        files[0].1 = stale.clone();
        files.extend(log.map(|log| ("Windows/System32/config/SYSTEM.LOG2", log)));
        inspected(&files, None).registry.unwrap().service_timeout
    };
    assert_eq!(with(Some(log)).as_deref(), Some("5000"));
    assert_eq!(with(None).as_deref(), Some("9000"));
}

#[test]
fn updates_and_dumps_are_found() {
    let mut files = files();
    let renames: Vec<u8> = "\\??\\C:\\a\0\0\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let manager = r"ControlSet001\Control\Session Manager";
    files[0].1 = hive(&[
        ("Select", "Current", RegistryValue::Dword(1)),
        (manager, "PendingFileRenameOperations", RegistryValue::Other { kind: 7, data: renames }),
        (manager, "SetupExecute", RegistryValue::MultiString(vec![r"x\POQEXEC.exe /y".into()])),
    ]);
    let servicing = r"Microsoft\Windows\CurrentVersion\Component Based Servicing";
    files[1].1 = hive(&[
        (&format!(r"{servicing}\RebootPending"), "", RegistryValue::String(String::new())),
        (r"Softoff\Reference\Update", "State", RegistryValue::String("committing".into())),
    ]);
    files.push(("Windows/WinSxS/pending.xml", b"<x/>".to_vec()));
    files.push(("Softoff/Update/step-1.committed", vec![1]));
    files.push(("Softoff/Update/step-2.staged", vec![1]));
    files.push(("Windows/Minidump/112426-1-01.dmp", vec![7; 5000]));
    files.push(("Windows/Minidump/notes.txt", vec![7; 5000]));
    files.push(("Windows/MEMORY.DMP", vec![7; 9000]));
    let report = inspected(&files, None).report;
    let updates = report.updates.unwrap();
    let model = ModelledUpdate { state: "committing".into(), staged: 1, committed: 1 };
    assert!(model.is_interrupted() && updates.any());
    let expected = PendingUpdates {
        reboot_pending: true,
        rename_operations: 1,
        setup_execute: true,
        pending_xml: true,
        modelled: Some(model),
        ..PendingUpdates::default()
    };
    assert_eq!(updates, expected);
    let dumps: Vec<_> = report.dumps.iter().map(|dump| (dump.path.as_str(), dump.size)).collect();
    assert_eq!(dumps, [(r"\Windows\MEMORY.DMP", 9000), (r"\Windows\Minidump\112426-1-01.dmp", 5000)]);
}

#[test]
fn lost_writes_are_told_from_torn_ones() {
    let name = |kind, number| format!("Softoff/LostWrite/{}", Document { kind, number }.file_name());
    let content = |kind, number| Document { kind, number }.encode(&[number as u8; 3000]);
    let mut torn = content(Kind::Unflushed, 2);
    torn.truncate(1000);
    let names =
        [name(Kind::Flushed, 1), name(Kind::Flushed, 2), name(Kind::Unflushed, 1), name(Kind::Unflushed, 2)];
    let contents = [
        content(Kind::Flushed, 1),
        // Another document under this name is no survivor.
        content(Kind::Flushed, 7),
        content(Kind::Unflushed, 1),
        torn,
    ];
    let mut files = files();
    files.extend(names.iter().map(String::as_str).zip(contents));
    let report = inspected(&files, Some(Written { flushed: 2, unflushed: 3 })).report.documents.unwrap();
    let flushed = Survival { written: Some(2), intact: vec![1], torn: vec![2], missing: vec![] };
    let unflushed = Survival { written: Some(3), intact: vec![1], torn: vec![2], missing: vec![3] };
    assert_eq!((report.flushed, report.unflushed.clone()), (flushed, unflushed));
    assert_eq!(report.unflushed.lost(), 2);
    // Nothing is there, although the guest said so: all are missing.
    let none =
        inspected(&self::files(), Some(Written { flushed: 1, unflushed: 0 })).report.documents.unwrap();
    assert_eq!(none.flushed.missing, [1]);
}

#[test]
fn a_dirty_volume_and_a_sleeping_system() {
    let dir = scratch();
    let mut files = files();
    files.push(("hiberfil.sys", [b"HIBR".to_vec(), vec![0; 8000]].concat()));
    let raw = gpt_disk(dir.path(), &files);
    set_volume_flags(&raw, VOLUME_AT, 1);
    let report = inspect(&DiskImage::open(&raw).unwrap(), None).unwrap().report;
    assert_eq!((report.volume_dirty(), report.hibernation), (Some(true), Some(HibernationFile::Live)));
}

#[test]
fn a_damaged_part_leaves_the_others() {
    let mut files = files();
    // The signature in the root key's cell.
    let root = files[1].1[36..40].try_into().map(u32::from_le_bytes).unwrap() as usize;
    files[1].1[4096 + root + 4] = b'?';
    let found = inspected(&files, None);
    assert!(found.registry.is_none());
    assert!(
        found.report.troubles.iter().any(|t| t.starts_with("the registry")),
        "{:?}",
        found.report.troubles
    );
    assert!(found.report.shutdown_time.is_some());
}

/// The real log and the real hive on one disk, as `cargo xtask inspect` meets them.
#[test]
fn real_samples_on_a_disk() {
    let (Some(log), Some(hive)) = (sample("System.evtx"), sample("SYSTEM.xz")) else { return };
    let dir = scratch();
    let mut files = files();
    files[0].1 = hive.clone();
    files.push(("Windows/System32/winevt/Logs/System.evtx", log));
    let (_, overlay) = overlay_disk(dir.path(), hive, &files[1..]);
    let found = inspect(&DiskImage::open(&overlay).unwrap(), None).unwrap();
    assert_eq!(found.report.troubles, [] as [String; 0]);
    assert_eq!(found.report.system_log.as_ref().unwrap().records, 1881);
    println!("{} {:?}", found.report.shutdown_time.clone().unwrap(), found.registry);
    assert!(found.report.shutdown_time.is_some_and(|time| time.starts_with("20")));
}

#[test]
fn a_disk_that_a_running_qemu_writes_to_is_refused() {
    let dir = scratch();
    let (_, overlay) = overlay_disk(dir.path(), system(), &files()[1..]);
    let drive = format!("driver=qcow2,node-name=d,file.driver=file,file.filename={}", overlay.display());
    let server = format!("addr.type=unix,addr.path={}", dir.path().join("nbd").display());
    let mut held = std::process::Command::new("qemu-storage-daemon")
        .args(["--blockdev", &drive, "--nbd-server", &server])
        .args(["--export", "type=nbd,id=e,node-name=d,name=d,writable=on"])
        .args(["--pidfile", dir.path().join("pid").to_str().unwrap()])
        .spawn()
        .expect("next: apt-get install qemu-system-common");
    // It locks before it writes its pid file.
    while !dir.path().join("pid").exists() && held.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let found = DiskImage::open(&overlay);
    held.kill().unwrap();
    held.wait().unwrap();
    assert!(matches!(&found, Err(DiskError::InUse { path }) if *path == overlay), "{found:?}");
    assert!(DiskImage::open(&overlay).is_ok());
    run("qemu-img", "qemu-utils", &["check", "-q", overlay.to_str().unwrap()]);
}
