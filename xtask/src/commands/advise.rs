//! `cargo xtask advise`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use softoff_harness::advise::{Advice, Killed, Platform, Seen, advise};
use softoff_harness::history::{HISTORY, History};
use softoff_harness::image::GuestFamily;
use softoff_harness::record::words::seconds;
use softoff_harness::record::{self, RunRecord};
use softoff_harness::text::printable;

use crate::ui::{self, table};
use crate::{Failure, host_tools};

/// How long should a platform wait before it pulls the plug? From repeated runs, per image and cause
///
/// Tells what share of the shutdowns each platform's default would cut short, and what to write into its
/// configuration. A shutdown that was given up at its deadline is of unknown length, never as long as the deadline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask advise
  cargo xtask advise --percentile 99 target/softoff/runs/*
  cargo xtask advise --platform nova --json RUN")]
pub(crate) struct Args {
    /// Folders of runs; every run in the history when absent
    runs: Vec<PathBuf>,
    /// The share of shutdowns, in percent, that must be able to end
    #[arg(long, value_name = "P", default_value_t = 95.0, value_parser = percent)]
    percentile: f64,
    /// Only these platforms
    #[arg(long = "platform", value_name = "ID")]
    platforms: Vec<String>,
    /// Print JSON, with the survival curves, instead of tables
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if percent > 0.0 && percent < 100.0 { Ok(percent) } else { Err("must be between 0 and 100".into()) }
}

pub(crate) fn execute(args: &Args) -> Result<(), Failure> {
    let known: Vec<String> =
        softoff_harness::advise::platforms()?.into_iter().map(|p: Platform| p.id).collect();
    if let Some(unknown) = args.platforms.iter().find(|id| !known.contains(id)) {
        let what = format!("there is no platform `{unknown}`; known are {}", known.join(", "));
        return Err(Failure::Usage(anyhow!(what)));
    }
    let runs = runs(args)?;
    let mut advice = advise(&runs, args.percentile / 100.0)?;
    if !args.platforms.is_empty() {
        advice.iter_mut().for_each(|a| a.platforms.retain(|(p, _)| args.platforms.contains(&p.id)));
    }
    if args.json {
        println!("{}", ui::json(&advice)?);
        return Ok(());
    }
    if advice.is_empty() {
        let what = "no run has a shutdown by the power button; `cargo xtask run --repeat 20` makes some";
        return Err(Failure::Usage(anyhow!(what)));
    }
    for one in &advice {
        println!("{}\n", shown(one, args.percentile));
    }
    Ok(())
}

fn runs(args: &Args) -> Result<Vec<RunRecord>, Failure> {
    if !args.runs.is_empty() {
        return args.runs.iter().map(|dir| record::read_run(dir).map_err(Failure::Usage)).collect();
    }
    let path = host_tools::workspace().join("target/softoff").join(HISTORY);
    if !path.exists() {
        let what = "there is no history yet; name the folders of runs, or make some with `cargo xtask run --repeat 20`";
        return Err(Failure::Usage(anyhow!(what)));
    }
    let history = History::open(&path)?;
    history.runs()?.into_iter().map(|(id, _)| history.run(&id).map_err(Failure::from)).collect()
}

fn shown(advice: &Advice, percentile: f64) -> String {
    let mut out =
        format!("{}, cause {}: {} shutdowns", printable(&advice.image, 40), advice.cause, advice.count);
    if advice.given_up > 0 {
        out.push_str(&format!("; {} not over at their deadline", advice.given_up));
    }
    if advice.never > 0 {
        out.push_str(&format!("; {} would never end by themselves", advice.never));
    }
    if advice.left_out > 0 {
        out.push_str(&format!("; {} left out (helped by keys, or ended otherwise)", advice.left_out));
    }
    if advice.family == GuestFamily::Reference {
        out.push_str("\nThese are the reference guest's times, not Windows times.");
    }
    out.push_str(&format!("\n{}", curve(advice)));
    let wait = advice.wait.map(|w| w.at_most_ms.unwrap_or(w.ms));
    let row = |(platform, killed): &(Platform, Killed)| {
        let set = wait.and_then(|ms| platform.setting(Duration::from_millis(ms)));
        let reported = if platform.seen == Seen::Reported { " (reported)" } else { "" };
        vec![
            format!("{}{reported}", platform.name),
            seconds(platform.seconds * 1000),
            cut_short(killed),
            set.unwrap_or("cannot be set".into()),
        ]
    };
    match advice.wait {
        Some(w) => {
            let sure = match w.at_most_ms {
                Some(ms) => format!("at most {} with 95 % confidence", seconds(ms)),
                None => format!("no bound from {} runs; one needs {}", advice.count, w.needs_runs),
            };
            out.push_str(&format!("\n{percentile} % are off within {} ({sure})", seconds(w.ms)));
            let header = ["platform", "default", "would cut short", "to let them end"];
            out.push_str(&format!("\n{}", table(&header, advice.platforms.iter().map(row).collect())));
        }
        None => {
            let why = if (advice.count - advice.never) as f64 * 100.0 < percentile * advice.count as f64 {
                "so many never go off by themselves: waiting longer is no remedy"
            } else {
                "too many were given up at their deadline; a longer one would tell"
            };
            out.push_str(&format!("\nthere is no wait that lets {percentile} % end: {why}"));
            let short = |one| row(one).into_iter().take(3).collect::<Vec<_>>();
            let header = ["platform", "default", "would cut short"];
            out.push_str(&format!("\n{}", table(&header, advice.platforms.iter().map(short).collect())));
        }
    }
    out
}

fn cut_short(killed: &Killed) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let (low, high) = killed.between;
    let share = match killed.estimate {
        Some(estimate) => percent(estimate),
        None => format!("{} to {}", percent(killed.least), percent(killed.most)),
    };
    format!("{share} (95 % confidence: {} to {})", percent(low), percent(high))
}

/// The survival curve by its quarters.
fn curve(advice: &Advice) -> String {
    let ends = 1.0 - advice.never as f64 / advice.count.max(1) as f64;
    let at = |share: f64| {
        let step = advice.curve.iter().find(|(_, survival)| 1.0 - survival >= share - 1e-9);
        // What was given up may have gone off later; only what the evidence showed to be stuck never does.
        let without = if ends < share { "never" } else { "not known" };
        format!("{:.0} % {}", share * 100.0, step.map_or(without.to_owned(), |(ms, _)| seconds(*ms)))
    };
    format!("off after the request: {}", [0.25, 0.5, 0.75, 1.0].map(at).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::testing::{result, run};
    use softoff_harness::outcome::{Cause, Outcome};

    #[test]
    fn what_never_ends_gets_no_setting_and_few_runs_no_bound() {
        let mut results: Vec<_> = (1..=4).map(|n| result("control", n, Cause::None, Cause::None)).collect();
        for (n, one) in results.iter_mut().enumerate() {
            one.phases.powered_off_ms = Some(20_000 * (n as u64 + 1));
        }
        let mut stuck = result("hang", 1, Cause::UnresponsiveApplication, Cause::UnresponsiveApplication);
        stuck.outcome = Outcome::StillRunning;
        results.push(stuck);
        let mut advice = advise(&[run(results)], 0.95).unwrap();
        let kept = ["nova", "kubevirt", "azure"];
        advice.iter_mut().for_each(|a| a.platforms.retain(|(p, _)| kept.contains(&p.id.as_str())));
        let text: Vec<String> = advice.iter().map(|a| shown(a, 95.0)).collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }
}
