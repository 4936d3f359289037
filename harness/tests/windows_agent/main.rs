//! The Windows driver rehearsed: conversations in the wire format of Windows' guest agent, over a real socket, with every
//! version's answers, and with agents that are slow, noisy, forbidden, or lie. No Windows runs here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod fake;

use std::time::Duration;

use fake::{FakeWindows, Manner, serve};
use rstest::rstest;
use serde_json::{Value, json};
use softoff_harness::disk::{Hive, RegistryValue};
use softoff_harness::guest::collect::collect;
use softoff_harness::guest::driver::LiveValue;
use softoff_harness::guest::power_policy::{AC, Layer, PBUTTONACTION, POLICY, effective_action};
use softoff_harness::guest::registry_facts::RegistryFacts;
use softoff_harness::guest::session::SessionState;
use softoff_harness::guest::upload::upload;
use softoff_harness::guest::windows_versions::identify;
use softoff_harness::inject::HiveEdit;
use softoff_harness::inject::online::{self, OnlineError};
use softoff_harness::machine::agent::AgentError;

const WINLOGON: &str = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon";
const SCHEME: &str = "381b4222-f694-41f0-9685-ff5bb260df2e";

/// `guest-get-osinfo` of each version, as the agent of that time gives it.
fn osinfo(name: &str) -> Value {
    let of = |pretty: &str, id: &str, build: &str, variant: &str| {
        json!({
            "name": "Microsoft Windows", "kernel-release": build, "version": pretty, "pretty-name": pretty,
            "version-id": id, "variant": variant, "variant-id": variant, "kernel-version": "10.0",
            "machine": "x86_64", "id": "mswindows"
        })
    };
    match name {
        "windows-server-2016" => of("Windows Server 2016 Datacenter Evaluation", "2016", "14393", "server"),
        "windows-server-2019" => of("Windows Server 2019 Standard Evaluation", "2019", "17763", "server"),
        // An older agent: its list ended with 2019.
        "windows-server-2022" => of("Windows Server 2022 Standard Evaluation", "2019", "20348", "server"),
        // The release with the typing error.
        "windows-server-2025" => of("MIcrosoft Windows Server 2025", "2025", "26100", "server"),
        "windows-10" => of("Windows 10 Enterprise Evaluation", "10", "19045", "client"),
        // ProductName in the registry still says 10 on Windows 11.
        "windows-11" => of("Windows 10 Enterprise Evaluation", "11", "26200", "client"),
        other => panic!("{other}"),
    }
}

fn windows(name: &str) -> FakeWindows {
    let mut windows = FakeWindows::new(osinfo(name));
    windows.set(WINLOGON, "AutoAdminLogon", "REG_SZ", "1");
    windows.set(WINLOGON, "DefaultUserName", "REG_SZ", "Ada");
    windows.set(r"HKLM\SYSTEM\Setup", "SystemSetupInProgress", "REG_DWORD", "0x0");
    let schemes = r"HKLM\SYSTEM\CurrentControlSet\Control\Power\User\PowerSchemes";
    windows.set(schemes, "ActivePowerScheme", "REG_SZ", SCHEME);
    let button = format!(r"{schemes}\{SCHEME}\4f971e89-eebd-4455-a8de-9e59040e7347\{PBUTTONACTION}");
    windows.set(&button, AC, "REG_DWORD", "0x3");
    windows.set(r"HKU\S-1-5-21-1-2-3-1001\Control Panel\Desktop", "AutoEndTasks", "REG_SZ", "0");
    windows.set(
        r"HKLM\SYSTEM\CurrentControlSet\Services\UsoSvc",
        "PreshutdownTimeout",
        "REG_DWORD",
        "0x36ee800",
    );
    windows
}

fn button(number: u32) -> HiveEdit {
    HiveEdit::new(Hive::Software, format!(r"{POLICY}\{PBUTTONACTION}"), AC, RegistryValue::Dword(number))
}

#[rstest]
#[case::server_2016("windows-server-2016", Manner::Honest)]
#[case::server_2019("windows-server-2019", Manner::Honest)]
#[case::server_2022("windows-server-2022", Manner::Honest)]
#[case::server_2025("windows-server-2025", Manner::Honest)]
#[case::windows_10("windows-10", Manner::Honest)]
#[case::windows_11("windows-11", Manner::Honest)]
#[case::noisy("windows-server-2022", Manner::Noisy)]
#[case::slow("windows-server-2022", Manner::Slow(Duration::from_millis(3)))]
#[tokio::test]
async fn every_version_is_identified_asked_and_changed(#[case] name: &str, #[case] manner: Manner) {
    let dir = tempfile::tempdir().unwrap();
    let (guest, served) = serve(dir.path(), windows(name), manner).await;
    let said = guest.agent().raw("guest-get-osinfo", json!({}), Duration::from_secs(20)).await.unwrap();
    assert_eq!(identify(&said).unwrap().version.name, name);

    let session = SessionState::ask(&guest).await.unwrap();
    assert_eq!((session.users.as_slice(), session.is_settled()), (["Ada".to_owned()].as_slice(), true));

    let facts = RegistryFacts::ask(&guest).await.unwrap();
    assert_eq!(facts.button_action.map(|a| (a.index, a.layer)), Some((3, Layer::Scheme)));
    assert_eq!((facts.auto_end_tasks, facts.preshutdown.len()), (Some(false), 1));

    let user = HiveEdit::new(
        Hive::user("Ada"),
        r"Control Panel\Desktop",
        "AutoEndTasks",
        RegistryValue::String("1".into()),
    );
    online::apply(&guest, &[button(0), user], Some("S-1-5-21-1-2-3-1001")).await.unwrap();
    let action = effective_action(&guest).await.unwrap().unwrap();
    assert_eq!((action.index, action.layer), (0, Layer::Policy));
    assert_eq!(RegistryFacts::ask(&guest).await.unwrap().auto_end_tasks, Some(true));

    for step in online::power_setting("SUB_BUTTONS", "PBUTTONACTION", 3)
        .into_iter()
        .chain(online::service("Backup", &["C:\\softoff\\probe.exe", "service", "Backup"], 60_000).unwrap())
        .chain(online::desktop_task("softoff", &["C:\\softoff\\probe.exe", "refuses"], "Ada").unwrap())
    {
        step.run(&guest).await.unwrap();
    }
    drop(guest);
    let ran = served.await.unwrap().ran;
    assert!(ran.iter().all(|line| line.split(' ').next().unwrap().ends_with(".exe")), "{ran:#?}");
    for program in ["reg.exe add", "powercfg.exe /setactive", "sc.exe create Backup", "schtasks.exe /create"]
    {
        assert!(ran.iter().any(|line| line.starts_with(program)), "{program}: {ran:#?}");
    }
}

#[tokio::test]
async fn what_a_stuck_guest_tells_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(dir.path(), windows("windows-server-2022"), Manner::Honest).await;
    let (files, lacking) = collect(&guest, dir.path()).await;
    // The fake knows `tasklist` without arguments only: what a guest refuses is told.
    assert_eq!(lacking.len(), 2, "{lacking:?}");
    assert!(lacking.iter().all(|what| what.contains("exit code")), "{lacking:?}");
    assert_eq!(files.len(), 4);
    assert!(files.iter().all(|file| dir.path().join(file).metadata().unwrap().len() > 0));
}

#[tokio::test]
async fn a_package_arrives_whole_and_a_wrong_count_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("package.msu");
    let bytes: Vec<u8> = (0..1_300_000u32).flat_map(|n| (n as u8).wrapping_mul(31).to_le_bytes()).collect();
    std::fs::write(&package, &bytes).unwrap();
    let place = r"C:\Windows\Temp\softoff-package.msu";
    let (guest, served) = serve(dir.path(), windows("windows-10"), Manner::Honest).await;
    upload(guest.agent(), &package, place).await.unwrap();
    let missing = upload(guest.agent(), &dir.path().join("none.msu"), place).await.unwrap_err().to_string();
    assert!(missing.contains("none.msu cannot be read"), "{missing}");
    drop(guest);
    assert!(served.await.unwrap().files[place] == bytes);

    let other = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(other.path(), windows("windows-10"), Manner::Overcounts).await;
    let error = upload(guest.agent(), &package, place).await.unwrap_err().to_string();
    assert!(error.contains("it says that it wrote"), "{error}");
}

#[tokio::test]
async fn a_lie_about_writing_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(dir.path(), windows("windows-10"), Manner::LiesAboutWriting).await;
    let error = online::apply(&guest, &[button(0)], None).await.unwrap_err();
    assert!(
        matches!(error, OnlineError::NotThere { wanted: LiveValue::Dword(0), found: None, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_agent_that_may_not_run_programs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(dir.path(), windows("windows-11"), Manner::MayNotExec).await;
    let error = online::apply(&guest, &[button(0)], None).await.unwrap_err();
    assert!(error.to_string().contains("has been disabled"), "{error}");
    let (files, lacking) = collect(&guest, dir.path()).await;
    assert_eq!((files.len(), lacking.len()), (0, 1), "one refusal is enough");
}

#[tokio::test]
async fn garbled_results_are_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(dir.path(), windows("windows-11"), Manner::Garbles).await;
    let error = online::apply(&guest, &[button(0)], None).await.unwrap_err();
    assert!(matches!(error, OnlineError::Refused { code: None, .. }), "{error}");
    assert_eq!(guest.registry(WINLOGON, "AutoAdminLogon").await.unwrap(), None);
}

#[tokio::test]
async fn an_agent_that_answers_pings_only_is_told_from_a_silent_one() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, _served) = serve(dir.path(), windows("windows-10"), Manner::DeafButAlive).await;
    guest.agent().ping(Duration::from_secs(20)).await.unwrap();
    let limit = Duration::from_millis(300);
    let error = guest.agent().raw("guest-get-osinfo", json!({}), limit).await.unwrap_err();
    assert!(
        matches!(&error, AgentError::Timeout { command, .. } if command == "guest-get-osinfo"),
        "{error}"
    );
    // In step again: the next answer is not taken for the one that never came.
    guest.agent().ping(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn a_session_is_awaited_until_the_logon_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut early = windows("windows-server-2025");
    (early.users, early.processes) = (vec![], vec!["System", "LogonUI.exe"]);
    let (guest, _served) = serve(dir.path(), early, Manner::Honest).await;
    let mut told = Vec::new();
    let mut tell = |sentence: &str| told.push(sentence.to_owned());
    let waiting = SessionState::until_settled(&guest, &mut tell);
    // It would wait for ever: nobody logs on here.
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    assert!(told[0].contains("nobody is logged on") && told[0].contains("automatic logon on"), "{told:?}");
}
