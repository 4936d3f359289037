//! The profile's forms, and that it means what lint asks for.

use std::collections::BTreeSet;

use rstest::rstest;
use softoff_harness::condition::{Outlook, predict};
use softoff_harness::guest::power_policy::{EffectiveAction, Layer};
use softoff_harness::inspect::DiskReport;
use softoff_harness::outcome::Cause;

use super::*;

#[test]
fn the_forms_of_the_profile() {
    let profile = Profile::own().unwrap();
    let units: Vec<u16> =
        profile.reg_file().unwrap().as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let reg = String::from_utf16(&units).unwrap().trim_start_matches('\u{feff}').replace("\r\n", "\n");
    insta::assert_snapshot!("reg", reg);
    insta::assert_snapshot!("powershell", profile.powershell().unwrap());
    insta::assert_snapshot!("commands", profile.commands().unwrap().join("\n"));
}

#[test]
fn every_expectation_names_a_reason_once() {
    let profile = Profile::own().unwrap();
    let names: BTreeSet<_> = profile.expected.iter().map(|expected| &expected.scenario).collect();
    assert_eq!(names.len(), profile.expected.len());
    assert!(profile.expected.iter().all(|expected| expected.because.len() > 20));
    assert!(profile.expected.iter().any(|expected| !expected.cured), "a cure for everything is none");
    let cured = |setting: &Setting| !setting.source.is_empty() && setting.cause != Cause::Malware;
    assert!(profile.settings.iter().all(cured), "no setting helps against malware");
}

/// A disk where everything stands in the way, before and after, judged by the conditions' own rules.
#[rstest]
#[case::nobody_logs_on("0", Some(Cause::LogonRequired))]
#[case::somebody_does("1", None)]
fn what_the_profile_writes_is_what_the_rules_ask_for(#[case] logon: &str, #[case] too: Option<Cause>) {
    let mut facts = RegistryFacts {
        button_action: Some(EffectiveAction { index: 0, layer: Layer::Policy }),
        shutdown_without_logon: Some(0),
        auto_admin_logon: Some(logon.into()),
        logon_user: Some("Ada".into()),
        shutdown_reason_on: Some(1),
        shutdown_reason_ui: Some(1),
        video_idle: Some(600),
        video_lock_idle: Some(60),
        auto_end_tasks: Some(false),
        fast_startup: Some(1),
        hibernate_enabled: Some(1),
        ..RegistryFacts::default()
    };
    let causes = |facts: &RegistryFacts| -> BTreeSet<Cause> {
        let disk = DiskReport::default();
        predict(&Outlook { registry: facts, disk: &disk }).iter().map(|p| p.cause).collect()
    };
    let wrong = [
        Cause::ShutdownEventTracker,
        Cause::UnresponsiveApplication,
        Cause::PowerButtonPolicy,
        Cause::Asleep,
    ];
    assert_eq!(causes(&facts), wrong.into_iter().chain(too).collect());
    for edit in Profile::own().unwrap().edits(&[Hive::user("Ada")]) {
        let number = match &edit.value {
            RegistryValue::Dword(number) => Some(*number),
            _ => None,
        };
        let key = edit.key.to_ascii_lowercase();
        match (edit.name.as_str(), number) {
            ("ACSettingIndex", Some(index)) if key.ends_with("7648efa3-dd9c-4e3e-b566-50f929386280") => {
                facts.button_action = Some(EffectiveAction { index, layer: Layer::Policy });
            }
            ("ACSettingIndex", number) if key.ends_with("3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e") => {
                facts.video_idle = number;
            }
            ("ACSettingIndex", number) if key.ends_with("8ec4b3a5-6868-48c2-be75-4f3044be88a7") => {
                facts.video_lock_idle = number;
            }
            ("ACSettingIndex", number) if key.ends_with("833a6b62-dfa4-46d1-82f8-e09e34d029d6") => {
                facts.forced_button = number;
            }
            ("ShutdownWithoutLogon", number) => facts.shutdown_without_logon = number,
            ("ShutdownReasonOn", number) => facts.shutdown_reason_on = number,
            ("ShutdownReasonUI", number) => facts.shutdown_reason_ui = number,
            ("HiberbootEnabled", number) => facts.fast_startup = number,
            ("HibernateEnabled", number) => facts.hibernate_enabled = number,
            ("AutoEndTasks", _) => {
                facts.auto_end_tasks = Some(edit.value == RegistryValue::String("1".into()));
            }
            _ => {}
        }
    }
    assert_eq!(causes(&facts), BTreeSet::new());
}
