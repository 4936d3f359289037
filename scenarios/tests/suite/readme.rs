//! README.md shows the scenarios, and the probe's modes, as they are.

use std::collections::{BTreeMap, BTreeSet};

use arguments::{Behaviour, Mode};
use softoff_harness::disk::RegistryValue;
use softoff_harness::image::GuestFamily;
use softoff_harness::scenario::Scenario;

// The probe's own reader of its command line: the package itself is one of the guest's, and not linked on the host.
#[path = "../../../images/guest/probe/src/arguments.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the probe itself uses of it")]
mod arguments;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_table_in_the_readme_is_that_of_the_definitions() {
    let table = softoff_scenarios::readme_table(&softoff_scenarios::load_all().expect("the definitions"));
    assert!(
        README.contains(&table),
        "the table under \"The scenarios\" in README.md is not this one; `cargo xtask list --markdown` prints it:\n{table}"
    );
}

/// A mode as README.md names it. A new one does not compile until it has a name here, and then wants a row there.
fn named(mode: &Mode) -> &'static str {
    match mode {
        Mode::Window { behaviour, .. } => match behaviour {
            Behaviour::Answers => "answers",
            Behaviour::Hangs(None) => "hangs",
            Behaviour::Hangs(Some(_)) => "hangs --seconds N",
            Behaviour::Refuses => "refuses",
            Behaviour::Slow(_) => "slow --seconds N",
            Behaviour::Aborts => "abort-loop",
        },
        Mode::Service { preshutdown: false, .. } => "service NAME",
        Mode::Service { preshutdown: true, .. } => "service NAME --preshutdown",
    }
}

/// What `named` knows.
const MODES: [&str; 8] = [
    "answers",
    "hangs",
    "hangs --seconds N",
    "refuses",
    "slow --seconds N",
    "abort-loop",
    "service NAME",
    "service NAME --preshutdown",
];

/// The row for the other build, which is no mode.
const NARROW: &str = "any of them, built for 32 bits";

/// The words of a Windows command line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The modes that a scenario starts the probe in, in the reference guest.
fn started_by(scenario: &Scenario) -> BTreeSet<&'static str> {
    let edits = scenario.conditions.iter().flat_map(|c| c.offline(GuestFamily::Reference));
    let command = |value: RegistryValue| match value {
        RegistryValue::String(text) | RegistryValue::ExpandString(text) => {
            text.strip_prefix(r"C:\softoff\probe.exe ").map(str::to_owned)
        }
        _ => None,
    };
    let commands = edits.filter_map(|edit| command(edit.value));
    commands.map(|line| named(&arguments::parse(words(&line)).unwrap())).collect()
}

fn scenarios() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut all = BTreeMap::new();
    for folder in ["definitions", "negative"] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let scenario = Scenario::load(&entry.unwrap().path()).unwrap();
            all.insert(scenario.name.0.clone(), started_by(&scenario));
        }
    }
    all
}

/// What is wrong with a table of the modes; nothing where it names each of them, and scenarios that do run them.
fn faults(readme: &str) -> Vec<String> {
    let rows = readme.lines().skip_while(|line| !line.starts_with("| probe.exe |")).skip(2);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let scenarios = scenarios();
    let mut faults = Vec::new();
    for mode in MODES {
        let Some(row) = rows.iter().find(|row| row.first() == Some(&format!("`{mode}`").as_str())) else {
            faults.push(format!("`{mode}` has no row"));
            continue;
        };
        let names: Vec<&str> = row.get(1).unwrap_or(&"").split('`').skip(1).step_by(2).collect();
        let runs = |name: &&str| scenarios.get(*name).is_some_and(|modes| modes.contains(mode));
        if names.is_empty() && scenarios.values().any(|modes| modes.contains(mode)) {
            faults.push(format!("`{mode}` is run, and its row names no scenario"));
        }
        let wrong = names.iter().filter(|name| !runs(name));
        faults.extend(wrong.map(|name| format!("`{name}` does not run `{mode}`")));
        if row.get(2).is_none_or(|modelled| modelled.is_empty()) {
            faults.push(format!("`{mode}`: what is modelled is not said"));
        }
    }
    let others = rows.iter().filter_map(|row| row.first()).filter(|name| {
        let name = name.trim_matches('`');
        name != NARROW && !MODES.contains(&name)
    });
    faults.extend(others.map(|name| format!("{name} is no mode")));
    if !rows.iter().any(|row| row.first() == Some(&NARROW)) {
        faults.push(format!("{NARROW}: no row"));
    }
    faults
}

#[test]
fn the_probes_modes_are_in_the_readme_with_the_scenarios_that_run_them() {
    assert_eq!(faults(README), Vec::<String>::new());
}

#[test]
fn every_mode_can_be_started_and_is_run_by_a_scenario_under_wine() {
    let samples = ["answers", "hangs", "hangs --seconds 3", "refuses", "slow --seconds 3", "abort-loop"];
    let services = ["service S", "service S --preshutdown"];
    let parsed = samples.iter().chain(&services).map(|line| arguments::parse(words(line)).unwrap());
    assert_eq!(parsed.map(|mode| named(&mode)).collect::<Vec<_>>(), MODES);
    let run: BTreeSet<&str> = scenarios().into_values().flatten().collect();
    assert_eq!(run, BTreeSet::from(MODES));
}

/// The comparison must see what is missing, and what is not so.
#[test]
fn a_table_that_has_fallen_behind_is_seen() {
    let without = |row: &str| README.lines().filter(|l| !l.starts_with(row)).collect::<Vec<_>>().join("\n");
    assert_eq!(faults(&without("| `refuses` |")), ["`refuses` has no row"]);
    let renamed = README.replace("| `malware-abort-loop` |", "| `control` |");
    assert_eq!(faults(&renamed), ["`control` does not run `abort-loop`"]);
    let unnamed = README.replace("| `malware-abort-loop` |", "| nothing |");
    assert_eq!(faults(&unnamed), ["`abort-loop` is run, and its row names no scenario"]);
    let more = README.replace("| `refuses` |", "| `dances` | - | - |\n| `refuses` |");
    assert_eq!(faults(&more), ["`dances` is no mode"]);
}
