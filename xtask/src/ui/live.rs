//! The live view: one line a scenario with its stage and elapsed time, which collapses to a result line.
//! Where standard error is no terminal, each stage is a plain line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::{Alignment, pad_str, style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use softoff_harness::outcome::{BackendKind, Phase, Verdict};
use softoff_harness::record::ScenarioRecord;
use softoff_harness::run::{JobName, Listener, RunEvent, Stage};
use softoff_harness::text::printable;

use super::{is_live, seconds};

#[derive(Default)]
struct View {
    lines: HashMap<JobName, ProgressBar>,
    began: HashMap<JobName, Instant>,
}

/// A listener that shows the run on standard error.
pub(crate) fn listener() -> Listener {
    let view = Mutex::new(View::default());
    let bars = is_live().then(MultiProgress::new);
    Arc::new(move |event| {
        let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
        match &bars {
            Some(bars) => live(&mut view, bars, event),
            None => plain(&mut view, event),
        }
    })
}

fn live(view: &mut View, bars: &MultiProgress, event: RunEvent) {
    match event {
        RunEvent::Started { job } => {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:44} {elapsed:>4}  {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(title(&job));
            bar.enable_steady_tick(Duration::from_millis(120));
            view.lines.insert(job, bar);
        }
        RunEvent::Stage { job, stage } => {
            if let Some(bar) = view.lines.get(&job) {
                bar.set_message(stage_text(&stage));
            }
        }
        RunEvent::Finished { job, record } => {
            if let Some(bar) = view.lines.remove(&job) {
                bar.finish_and_clear();
                bars.remove(&bar);
            }
            for line in result_lines(&record) {
                let _shown = bars.println(line);
            }
        }
        RunEvent::Note { job, what } => {
            let _shown = bars.println(note_line(&job, &what));
        }
        RunEvent::Kept { job, attach } => {
            for line in kept_lines(&job, &attach) {
                let _shown = bars.println(line);
            }
        }
    }
}

fn plain(view: &mut View, event: RunEvent) {
    match event {
        RunEvent::Started { job } => {
            eprintln!("start   {}", title(&job));
            view.began.insert(job, Instant::now());
        }
        RunEvent::Stage { job, stage } => {
            let elapsed = view.began.get(&job).map_or(Duration::ZERO, Instant::elapsed);
            eprintln!("        {:44} {:>8}  {}", title(&job), seconds(elapsed), stage_text(&stage));
        }
        RunEvent::Finished { record, .. } => {
            result_lines(&record).iter().for_each(|line| eprintln!("{line}"))
        }
        RunEvent::Note { job, what } => eprintln!("{}", note_line(&job, &what)),
        RunEvent::Kept { job, attach } => {
            kept_lines(&job, &attach).iter().for_each(|line| eprintln!("{line}"))
        }
    }
}

fn title(job: &JobName) -> String {
    let through = match job.backend {
        BackendKind::Qemu => "",
        BackendKind::Libvirt => " (libvirt)",
    };
    match job.repeat {
        1 => format!("{} @ {}{through}", job.scenario, job.image),
        n => format!("{} @ {}{through} #{n}", job.scenario, job.image),
    }
}

fn stage_text(stage: &Stage) -> String {
    match stage {
        Stage::Preparing => "preparing the overlay".into(),
        Stage::Starting => "starting from the saved state".into(),
        Stage::Booting(1) => "booting".into(),
        Stage::Booting(n) => format!("booting (attempt {n})"),
        Stage::Proving => "ready; proving the condition".into(),
        Stage::Waiting(Phase::Request) => "asked; waiting".into(),
        Stage::Waiting(phase) => format!("{phase}; waiting"),
        Stage::Quiet => "waiting; nothing moves".into(),
        Stage::Finishing => "settled; reading evidence".into(),
        Stage::NextBoot => "booting the same disk again".into(),
    }
}

/// A verdict in its colour.
pub(crate) fn verdict(verdict: Verdict) -> String {
    let text = style(verdict.to_string()).for_stderr().bold();
    let text = match verdict {
        Verdict::Pass => text.green(),
        Verdict::Fail => text.red(),
        Verdict::Infra | Verdict::Inconclusive | Verdict::Flaky => text.yellow(),
        Verdict::KnownIssue | Verdict::Skipped => text.dim(),
    };
    text.to_string()
}

fn result_lines(record: &ScenarioRecord) -> Vec<String> {
    let job = JobName {
        scenario: record.scenario.clone(),
        image: record.image.name.clone(),
        repeat: record.repeat,
        backend: record.backend,
    };
    let off = record.phases.powered_off_ms.map(|ms| format!(" {}", seconds(Duration::from_millis(ms))));
    // By the width that is seen: colour codes have none.
    let verdict = verdict(record.verdict);
    let verdict = pad_str(&verdict, 13, Alignment::Left, None);
    let mut lines =
        vec![format!("{verdict} {:44} {}{}", title(&job), record.outcome.kind(), off.unwrap_or_default())];
    lines.extend(record.reasons.iter().map(|reason| format!("        {}", printable(reason, 600))));
    lines
}

fn note_line(job: &JobName, what: &str) -> String {
    format!("note    {}: {}", title(job), printable(what, 600))
}

fn kept_lines(job: &JobName, attach: &[String]) -> Vec<String> {
    let mut lines = vec![format!("kept    {}: the guest runs on; Ctrl-C ends it. To attach:", title(job))];
    lines.extend(attach.iter().map(|a| format!("          {a}")));
    lines
}
