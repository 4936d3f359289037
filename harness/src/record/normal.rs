//! The normalised record: what must be the same in every run of a scenario, as text for snapshots. Times,
//! hashes and hosts are left out; phases with their order, cause and kinds of evidence stay.

use super::schema::{Damage, ScenarioRecord};
use crate::disk::event_log::EventLogReport;
use crate::evidence::EvidenceKind;
use crate::inspect::{DocumentsReport, Survival};

/// The text that a snapshot holds.
pub fn normalised(record: &ScenarioRecord) -> String {
    let mut kinds: Vec<EvidenceKind> = record.diagnosis.evidence.iter().map(|e| e.kind).collect();
    kinds.sort();
    kinds.dedup();
    let kinds: Vec<String> =
        kinds.iter().map(|k| plain(&serde_json::to_value(k).unwrap_or_default())).collect();
    let phases: Vec<String> = record.phase_sources.iter().map(|p| p.phase.to_string()).collect();
    let also: Vec<String> = record.diagnosis.also.iter().map(|c| c.to_string()).collect();
    let lines = [
        ("image", plain(&serde_json::to_value(record.image.family).unwrap_or_default())),
        ("request", format!("{} x {}", record.request.presses, record.request.by)),
        ("condition proven", answer(record.condition_proven)),
        ("press taken", answer(record.delivery.taken)),
        ("outcome", record.outcome.kind().to_string()),
        ("phases", phases.join(" -> ")),
        ("cause", record.diagnosis.cause.to_string()),
        ("also", also.join(", ")),
        ("evidence", kinds.join(", ")),
        ("volume dirty", answer(record.damage.volume_dirty)),
    ];
    let mut lines = lines.to_vec();
    if let Some(next) = &record.next_boot {
        lines.extend(left_on_disk(&record.damage));
        lines.push(("next boot: volume check", answer(Some(next.volume_check.is_some()))));
        lines.push(("next boot: unexpected shutdown", list(&next.unexpected_shutdown_events)));
        lines.push(("next boot: update", next.update_state.clone().unwrap_or("-".into())));
        let outcome = next.outcome.as_ref().map_or("-".to_owned(), |o| o.kind().to_string());
        lines.push(("next boot: outcome", outcome));
        lines.push(("next boot: volume dirty", answer(next.damage.volume_dirty)));
    }
    lines.iter().map(|(name, value)| format!("{name}: {value}").trim_end().to_owned() + "\n").collect()
}

/// What the end has left, where the scenario goes on to look what becomes of it.
fn left_on_disk(damage: &Damage) -> Vec<(&'static str, String)> {
    let Some(disk) = &damage.disk else { return vec![("disk", "-".into())] };
    let lost = |survival: &Survival| {
        let all = survival.intact.len() + survival.lost();
        format!("{} of {all}", survival.lost())
    };
    let documents = |kind: fn(&DocumentsReport) -> &Survival| {
        disk.documents.as_ref().map_or("-".into(), |documents| lost(kind(documents)))
    };
    let update = disk.updates.as_ref().and_then(|updates| updates.modelled.as_ref());
    // Whether 1074 is among them is left out: it is written as the session begins to end, when the plug may be pulled.
    let ids =
        |log: &EventLogReport| log.events.iter().map(|event| event.id).filter(|id| *id != 1074).collect();
    let events = disk.system_log.as_ref().map(ids);
    vec![
        ("flushed documents lost", documents(|d| &d.flushed)),
        ("unflushed documents lost", documents(|d| &d.unflushed)),
        ("update", update.map_or("-".into(), |update| update.state.clone())),
        ("update interrupted", answer(update.map(|update| update.is_interrupted()))),
        ("System log", list(&events.unwrap_or_else(Vec::new))),
        ("ShutdownTime", disk.shutdown_time.as_ref().map_or("-".into(), |time| written(time))),
    ]
}

/// Whether there was a clean shutdown at all: the time itself differs from run to run.
fn written(shutdown_time: &str) -> String {
    if shutdown_time == "never" { "never".into() } else { "written".into() }
}

fn list(ids: &[u32]) -> String {
    if ids.is_empty() { "-".into() } else { ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn answer(value: Option<bool>) -> String {
    match value {
        Some(true) => "yes".into(),
        Some(false) => "no".into(),
        None => "-".into(),
    }
}
