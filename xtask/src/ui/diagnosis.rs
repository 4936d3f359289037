//! A diagnosis as people read it: cause, evidence, what is lacking, what to do.

use console::style;
use softoff_harness::condition::remedies;
use softoff_harness::diagnose::Diagnosis;
use softoff_harness::outcome::{Cause, OutcomeKind};
use softoff_harness::text::printable;

/// The cause with how sure it is.
pub(crate) fn cause(diagnosis: &Diagnosis) -> String {
    match diagnosis.confidence {
        Some(confidence) => format!("{} ({} confidence)", diagnosis.cause, word(&confidence)),
        None => diagnosis.cause.to_string(),
    }
}

/// The diagnosis in lines.
pub(crate) fn lines(diagnosis: &Diagnosis, outcome: OutcomeKind) -> Vec<String> {
    let mut out = vec![format!("outcome: {outcome}"), format!("cause:   {}", style(cause(diagnosis)).bold())];
    if let Some(plain) = plain_words(diagnosis.cause, outcome) {
        out.push(format!("         {plain}"));
    }
    for item in &diagnosis.evidence {
        let speaks_for = item.speaks_for.filter(|c| *c != diagnosis.cause);
        let other = speaks_for.map(|c| format!("   (for {c})")).unwrap_or_default();
        out.push(format!("  - {:13}  {}{other}", word(&item.kind), printable(&item.what, 300)));
    }
    if !diagnosis.also.is_empty() {
        let also: Vec<String> = diagnosis.also.iter().map(Cause::to_string).collect();
        out.push(format!("also:    {}", also.join(", ")));
    }
    out.extend(diagnosis.lacks.iter().map(|lack| format!("lacks:   {}", printable(lack, 600))));
    out.extend(remedies(diagnosis.cause).iter().map(|remedy| format!("remedy:  {remedy}")));
    out
}

/// What stands behind a diagnosis that names no cause.
fn plain_words(cause: Cause, outcome: OutcomeKind) -> Option<&'static str> {
    match (cause, outcome) {
        (Cause::Unknown, OutcomeKind::StillRunning) => {
            Some("the machine runs, and nothing that would hold a shutdown was seen")
        }
        (Cause::Unknown, _) => Some("the evidence does not decide"),
        (Cause::None, _) => Some("the machine went down"),
        _ => None,
    }
}

/// The name of a plain enum, as in the records.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "?".to_owned(),
    }
}
