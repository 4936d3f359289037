//! Hives written here are read by libhivex, and hives that libhivex has edited are read here: the harness injects
//! with it. Needs `hivexregedit` (Debian: libwin-hivex-perl); run with `cargo test -- --ignored`.

#![allow(clippy::unwrap_used, reason = "the whole file is test code")]

use std::path::Path;
use std::process::Command;

use softoff_guest_registry::{Key, Value, read_hive, write_hive};

fn sample() -> Key {
    let mut root = Key::new();
    root.key("Select").dword("Current", 1);
    root.key(r"ControlSet001\Control").sz("WaitToKillServiceTimeout", "5000");
    root.key(r"ControlSet001\Services\Stubborn")
        .set("ImagePath", Value::ExpandSz(r"%SystemDrive%\softoff\probe.exe".into()))
        .set("DependOnService", Value::MultiSz(vec!["RpcSs".into(), "PlugPlay".into()]))
        .set("Blob", Value::Binary(vec![0, 1, 255]));
    // More than one leaf of subkeys, and names whose order depends on case.
    for number in 0..1200 {
        root.key(&format!("Many\\{}{number:04}", if number % 2 == 0 { "key_" } else { "KEYa" }))
            .dword("n", number);
    }
    root
}

fn hivexregedit(arguments: &[&str], hive: &Path, last: &str) -> String {
    let out = Command::new("hivexregedit").args(arguments).arg(hive).arg(last).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
#[ignore = "needs hivexregedit"]
fn libhivex_reads_our_hives_and_we_read_what_it_edited() {
    let folder = tempfile::tempdir().unwrap();
    let hive = folder.path().join("SYSTEM");
    std::fs::write(&hive, write_hive(&sample()).unwrap()).unwrap();

    let export = hivexregedit(&["--export"], &hive, r"\ControlSet001");
    assert!(export.contains(r"[\ControlSet001\Services\Stubborn]"), "{export}");
    // "5000" as hivexregedit prints a REG_SZ: UTF-16 bytes.
    assert!(
        export.contains(r#""WaitToKillServiceTimeout"=hex(1):35,00,30,00,30,00,30,00,00,00"#),
        "{export}"
    );
    assert!(export.contains(r#""Blob"=hex(3):00,01,ff"#), "{export}");

    let change = folder.path().join("change.reg");
    let text = "Windows Registry Editor Version 5.00\n\n[\\ControlSet001\\Control]\n\
                \"WaitToKillServiceTimeout\"=\"60000\"\n\n[\\ControlSet001\\Control\\Power]\n\"New\"=dword:00000007\n\n\
                [\\ControlSet001\\Services\\Zeta]\n\"Start\"=dword:00000002\n\n[\\Many\\key_0500x]\n\"n\"=dword:00000001\n";
    std::fs::write(&change, text).unwrap();
    hivexregedit(&["--merge"], &hive, change.to_str().unwrap());

    let mut expected = sample();
    expected.key(r"ControlSet001\Control").sz("WaitToKillServiceTimeout", "60000");
    expected.key(r"ControlSet001\Control\Power").dword("New", 7);
    expected.key(r"ControlSet001\Services\Zeta").dword("Start", 2);
    expected.key(r"Many\key_0500x").dword("n", 1);
    let edited = read_hive(&std::fs::read(&hive).unwrap()).unwrap();
    assert_eq!(edited.sorted(), expected.sorted());
}
