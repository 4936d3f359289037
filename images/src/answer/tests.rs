//! Answer files of every Windows of the catalogue, held against the table, read back by another XML reader's events.

use std::collections::BTreeSet;

use quick_xml::Reader;
use quick_xml::events::Event;
use rstest::rstest;

use super::*;
use crate::catalog::{Catalog, System};
use crate::hardening::Profile;

fn document(name: &str, firmware: FirmwareKind, hardening: Vec<String>) -> String {
    let catalog = Catalog::load(None).unwrap();
    let entry = catalog.get(name).unwrap();
    let edition = entry.editions.as_ref().unwrap().index;
    Answers { entry, firmware, edition, account: Account::default(), hardening, ending: Ending::ShutDown }
        .document()
        .unwrap()
}

/// (pass, component) pairs and texts, read by a parser that checks that every tag is closed.
pub(super) fn read(xml: &str) -> (BTreeSet<(String, String)>, Vec<String>) {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let (mut pass, mut pairs, mut texts, mut depth) = (String::new(), BTreeSet::new(), Vec::new(), 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                depth += 1;
                let attribute = |name: &str| {
                    let found = tag.try_get_attribute(name).unwrap();
                    found.map(|a| String::from_utf8(a.value.into_owned()).unwrap()).unwrap_or_default()
                };
                match tag.name().as_ref() {
                    b"settings" => pass = attribute("pass"),
                    b"component" => {
                        assert_eq!(attribute("processorArchitecture"), "amd64");
                        pairs.insert((pass.clone(), attribute("name")));
                    }
                    _ => {}
                }
            }
            Event::End(_) => depth -= 1,
            Event::Text(text) => texts.push(text.decode().unwrap().into_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0);
    (pairs, texts)
}

#[rstest]
fn every_windows_by_every_firmware(
    #[values(
        "windows-server-2016",
        "windows-server-2019",
        "windows-server-2022",
        "windows-server-2025",
        "windows-10",
        "windows-11"
    )]
    name: &str,
    #[values(FirmwareKind::Uefi, FirmwareKind::Bios)] firmware: FirmwareKind,
) {
    let xml = document(name, firmware, vec![]);
    let (pairs, _) = read(&xml);
    let table: BTreeSet<(String, String)> = TABLE
        .iter()
        .flat_map(|row| row.passes.iter().map(|pass| (pass.name().to_owned(), row.name.to_owned())))
        .collect();
    assert!(pairs.is_subset(&table), "{:?}", pairs.difference(&table));
    assert!(pairs.len() >= 8, "{pairs:?}");
    insta::assert_snapshot!(format!("{name}.{firmware}"), xml);
}

#[test]
fn the_catalogue_has_no_windows_without_a_snapshot() {
    let catalog = Catalog::load(None).unwrap();
    let windows = catalog.images.iter().filter(|entry| entry.system == System::Windows).count();
    assert_eq!(windows, 6, "a new Windows belongs into the cases above");
}

#[test]
fn the_table_has_one_row_for_each_component_and_a_page_for_each_row() {
    let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for row in TABLE {
        assert_eq!(row.component.row().unwrap().name, row.name);
        assert!(row.page().starts_with("https://learn.microsoft.com/") && row.source.len() > 10);
        assert!(
            row.name.to_ascii_lowercase().starts_with(row.source.split("-driverpaths").next().unwrap_or("?"))
                || row.source.starts_with(&row.name.to_ascii_lowercase())
        );
    }
}

#[test]
fn a_component_in_a_wrong_pass_cannot_be_written() {
    let wrong = Section::new(Pass::OobeSystem, Component::Setup, vec![]);
    assert_eq!(wrong, Err(WrongPass { component: Component::Setup, pass: Pass::OobeSystem }));
}

#[test]
fn what_means_something_to_xml_arrives_as_text() {
    let catalog = Catalog::load(None).unwrap();
    let account = Account { name: "Ada & <Co> ]]>".into(), password: "\"'&amp;".into() };
    let entry = catalog.get("windows-server-2022").unwrap();
    let answers = Answers {
        entry,
        firmware: FirmwareKind::Uefi,
        edition: 2,
        account,
        hardening: vec![],
        ending: Ending::ShutDown,
    };
    let xml = answers.document().unwrap();
    let (_, texts) = read(&xml);
    // Entities are events of their own to this reader: nothing of them stands among the texts.
    assert!(!texts.iter().any(|text| text.contains('<') || text.contains('&')));
    assert!(xml.contains("Ada &amp; &lt;Co&gt; ]]&gt;") && xml.contains("&amp;amp;"), "{xml}");
}

#[test]
fn a_command_that_setup_would_cut_is_refused() {
    assert!(checked("x".repeat(PATH), PATH).is_ok());
    let error = checked("x".repeat(PATH + 1), PATH).unwrap_err();
    assert!(matches!(error, AnswerError::TooLong { length: 260, limit: 259, .. }), "{error}");
}

#[test]
fn the_first_logon_script() {
    let catalog = Catalog::load(None).unwrap();
    let entry = catalog.get("windows-server-2025").unwrap();
    let account = Account { name: "A & B".into(), password: "100% safe".into() };
    let hardening = Profile::own().unwrap().commands().unwrap();
    let (firmware, ending) = (FirmwareKind::Uefi, Ending::ShutDown);
    let answers = Answers { entry, firmware, edition: 2, account, hardening, ending };
    let script = answers.first_logon_script("qemu-ga-x86_64.msi").unwrap();
    assert!(script.split('\n').all(|line| line.is_empty() || line.ends_with('\r')));
    let place = |text: &str| script.find(text).unwrap();
    assert!(place("AutoEndTasks") < place("shutdown.exe") && place("msiexec") < place("shutdown.exe"));
    insta::assert_snapshot!(script.replace("\r\n", "\n"));
    let plain = Answers { hardening: vec![], ..answers };
    assert!(!plain.first_logon_script("a.msi").unwrap().contains("AutoEndTasks"));
}
