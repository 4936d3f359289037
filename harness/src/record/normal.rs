//! The normalised record: what must be the same in every run of a scenario, as text for snapshots. Times,
//! hashes and hosts are left out; phases with their order, cause and kinds of evidence stay.

use super::schema::ScenarioRecord;
use crate::evidence::EvidenceKind;

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
    lines.iter().map(|(name, value)| format!("{name}: {value}").trim_end().to_owned() + "\n").collect()
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
