//! The probe for 64 and for 32 bits: built, and its import table held against the committed list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use goblin::pe::PE;
use rstest::rstest;
use serde::Deserialize;
use softoff_images::cache_root;
use softoff_images::toolchain::{Target, build_probe};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: u32,
    library: BTreeMap<String, BTreeMap<String, Allowed>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    page: String,
    #[serde(default)]
    since: Option<String>,
}

fn list() -> List {
    let list: List = toml::from_str(include_str!("../probe-imports.toml")).unwrap();
    assert_eq!(list.schema, 1);
    list
}

/// What of these imports the list does not have.
fn refused(imports: &[(String, String)], list: &List) -> Vec<String> {
    let known = |(library, name): &&(String, String)| {
        list.library.get(&library.to_ascii_lowercase()).is_some_and(|names| names.contains_key(name))
    };
    imports
        .iter()
        .filter(|import| !known(import))
        .map(|(library, name)| format!("{library}: {name}"))
        .collect()
}

#[rstest]
#[case(Target::X86_64, true)]
#[case(Target::I686, false)]
fn the_probe_imports_nothing_that_is_not_documented(#[case] target: Target, #[case] wide: bool) {
    let path = build_probe(&cache_root(), target, &mut |_| {}).expect("next: cargo xtask doctor --install");
    let bytes = std::fs::read(&path).unwrap();
    let pe = PE::parse(&bytes).unwrap();
    assert_eq!(pe.is_64, wide, "{}", path.display());
    let imports: Vec<(String, String)> =
        pe.imports.iter().map(|import| (import.dll.to_owned(), import.name.to_string())).collect();
    assert!(imports.len() > 50, "{} imports", imports.len());
    let list = list();
    assert_eq!(refused(&imports, &list), Vec::<String>::new());
    // What the modes stand on: a window that refuses, a service that takes PRESHUTDOWN, an abort.
    for name in ["ShutdownBlockReasonCreate", "SetServiceStatus", "AbortSystemShutdownW"] {
        assert!(imports.iter().any(|(_, found)| found == name), "{name}");
    }
    // Rust's standard library needs Windows 10: so a system of NT 5.2 does not start the program, whatever its width.
    let since = |(library, name): &(String, String)| {
        let allowed = list.library.get(&library.to_ascii_lowercase())?.get(name)?;
        allowed.since.clone()
    };
    assert!(imports.iter().filter_map(since).any(|version| version == "10.0"));
}

#[test]
fn a_function_that_nobody_listed_is_refused() {
    let import = |library: &str, name: &str| (library.to_owned(), name.to_owned());
    let list = list();
    let imports = [import("KERNEL32.dll", "CreateFileW"), import("kernel32.dll", "CreateRemoteThread")];
    assert_eq!(refused(&imports, &list), ["kernel32.dll: CreateRemoteThread"]);
    assert_eq!(refused(&[import("wininet.dll", "InternetOpenW")], &list).len(), 1);
}

#[test]
fn every_function_has_a_page_of_its_own() {
    for (library, names) in list().library {
        for (name, allowed) in names {
            let page = &allowed.page;
            let places = ["windows/", "windows-hardware/", "cpp/c-runtime-library/"];
            assert!(places.iter().any(|place| page.starts_with(place)), "{library} {name}: {page}");
            let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
            let startup = page.ends_with("crt-initialization");
            assert!(startup || plain(page).contains(&plain(&name)), "{library} {name}: {page}");
            assert!(
                allowed
                    .since
                    .is_none_or(|version| ["6.0", "6.1", "6.2", "6.3", "10.0"].contains(&version.as_str()))
            );
        }
    }
}
