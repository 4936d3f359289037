//! Predictions as a table for people.

use softoff_harness::condition::{Prediction, PressEffect, Sureness};
use softoff_harness::lint::{Judgement, Lint};

use super::table;

/// The predictions and the judgement.
pub(crate) fn render(lint: &Lint) -> String {
    let rows = lint.predictions.iter().map(|prediction| {
        let Prediction { cause, effect, sureness, because, remedy } = prediction;
        let remedy: Vec<String> = remedy.iter().map(|edit| edit.name.clone()).collect();
        vec![
            cause.to_string(),
            effect_text(*effect).to_owned(),
            because.clone(),
            sureness_text(*sureness).to_owned(),
            if remedy.is_empty() { "-".to_owned() } else { remedy.join(", ") },
        ]
    });
    let mut text = String::new();
    if !lint.predictions.is_empty() {
        let header = ["cause", "a press", "because", "the rule is", "remedy sets"];
        text = format!("{}\n", table(&header, rows.collect()));
    }
    let judgement = match &lint.judgement {
        Judgement::Obeyed => {
            "a press of the power button will be obeyed, by all that the disk tells".to_owned()
        }
        Judgement::NotObeyed => "a press of the power button will NOT be obeyed".to_owned(),
        Judgement::Unknown { .. } => "nothing can be said".to_owned(),
    };
    text + &judgement
}

pub(crate) fn effect_text(effect: PressEffect) -> &'static str {
    match effect {
        PressEffect::Discarded => "is discarded",
        PressEffect::Suspends => "suspends it (S3)",
        PressEffect::Hibernates => "hibernates it (S4)",
        PressEffect::WaitsForPerson => "waits for a person",
        PressEffect::LightsDisplay => "only lights the display",
        PressEffect::TakesLonger => "is obeyed, later",
        PressEffect::MayBeHeld => "may be held up",
        PressEffect::Undecided => "is not decided by this",
    }
}

fn sureness_text(sureness: Sureness) -> &'static str {
    match sureness {
        Sureness::Documented => "documented",
        Sureness::Observed => "observed by others",
        Sureness::Reported => "reported, not shown on Windows",
    }
}
