//! Does a fault, looks at what is left, and runs a plain scenario afterwards. A fault that could not be done has shown
//! nothing, and is no right one.

use std::time::Duration;

use super::bench::Bench;
use super::faults::{Fault, How, SETTLED, Seen};
use super::look::{self, Records};
use super::trial::{Ended, Trial};
use super::wire;

/// Does it.
pub(super) fn run(fault: &Fault, bench: &mut Bench) -> anyhow::Result<Seen> {
    match &fault.how {
        How::Own(run) => run(bench, fault),
        How::Wire(wrong) => {
            let mut trial = Trial::of(bench.place()?, fault.options);
            trial.environment = bench.wire(wrong)?;
            let ended = trial.run(vec![])?;
            let mut seen = judged(&ended, fault);
            if let Seen::Result { problems, .. } = &mut seen {
                problems.extend(wired(&ended));
            }
            trial.environment.clear();
            and_next(seen, &trial)
        }
        How::Signal(signal, at, seconds) => {
            let trial = Trial::of(bench.place()?, fault.options);
            let mut sent = false;
            let ended = trial.run(vec![(
                at,
                Box::new(|living| {
                    std::thread::sleep(Duration::from_secs(*seconds));
                    // At the end it may have gone.
                    sent = living.signal_qemu(*signal).is_ok();
                    Ok(())
                }),
            )])?;
            let mut seen = judged(&ended, fault);
            if let Seen::Result { problems, said } = &mut seen
                && !sent
            {
                match *at == SETTLED {
                    true => said.push_str(" (QEMU had gone by then)"),
                    false => problems
                        .push("no QEMU was there to be signalled: this trial has shown nothing".into()),
                }
            }
            and_next(seen, &trial)
        }
    }
}

/// The most that a harness may take, whatever it is told. One healthy run has some 60 MiB.
const PEAK_KIB: u64 = 300 << 10;

/// What is wrong with a trial on a bad wire besides its verdict.
pub(super) fn wired(ended: &Ended) -> Vec<String> {
    let mut problems = Vec::new();
    if ended.peak_kib > PEAK_KIB {
        problems.push(format!("the harness took {} MiB", ended.peak_kib / 1024));
    }
    if !look::in_qemu_log(&ended.place.out, wire::DID) {
        problems.push("nothing was done to the wire: this trial has shown nothing".into());
    }
    problems
}

/// What a trial came to.
pub(super) fn judged(ended: &Ended, fault: &Fault) -> Seen {
    let problems = look::problems(ended, fault.right);
    Seen::Result { said: said(ended), problems }
}

/// The results in a few words.
pub(super) fn said(ended: &Ended) -> String {
    let results = Records::newest(&ended.place.out).map(|records| records.results()).unwrap_or_default();
    let one = |(verdict, outcome, result): &(String, String, serde_json::Value)| {
        let why = result["reasons"][0].as_str().unwrap_or_default();
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(": {}", softoff_harness::text::printable(why, 90))
        };
        format!("{verdict} ({outcome}){why}")
    };
    match results.as_slice() {
        [] => super::trial::tail(ended.stderr.lines().last().unwrap_or("nothing was said")),
        all => all.iter().map(one).collect::<Vec<_>>().join("; "),
    }
}

/// A plain run in the same place must pass now.
pub(super) fn and_next(seen: Seen, trial: &Trial) -> anyhow::Result<Seen> {
    let Seen::Result { said, mut problems } = seen else { return Ok(seen) };
    let next = Trial::control(trial.place.clone());
    problems.extend(look::next_run_works(&next)?);
    Ok(Seen::Result { said, problems })
}
