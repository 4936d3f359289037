//! Faults of disks, images and the cache.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::bench::Bench;
use super::faults::{Fault, SETTLED, Seen};
use super::look;
use super::provoke::{and_next, judged, said};
use super::trial::{Ended, Trial, tail};

/// A file system of its own, as small as wanted; gone when dropped.
struct Small(PathBuf);

impl Small {
    /// `Err` with why this host cannot.
    fn mount(at: &Path, options: &str) -> Result<Small, String> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "softoff-torture"]).arg(at);
        match command.output() {
            Ok(output) if output.status.success() => Ok(Small(at.to_owned())),
            Ok(output) => Err(format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(super) fn overlay_full(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let tmp = trial.place.tmp.clone();
    let small = match Small::mount(&tmp, "size=24m") {
        Ok(small) => small,
        Err(why) => return Ok(Seen::Unavailable(why)),
    };
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let ended = trial.run(vec![(
        "asked; waiting",
        Box::new(move |living| {
            let (path, stop) = (living.place.tmp.join("filler"), stop.clone());
            let mut filler = File::create(path)?;
            // What a picture gives back is taken again.
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if filler.write_all(&[1; 4096]).is_err() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            Ok(())
        }),
    )]);
    over.store(true, Ordering::SeqCst);
    let seen = judged(&ended?, fault);
    drop(small);
    and_next(seen, &trial)
}

pub(super) fn overlay_limit(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let ended = trial.run(vec![(
        "asked; waiting",
        Box::new(|living| {
            for pid in living.qemus() {
                let limit =
                    Command::new("prlimit").arg(format!("--pid={pid}")).arg("--fsize=300000").status()?;
                anyhow::ensure!(limit.success(), "prlimit: {limit}");
            }
            Ok(())
        }),
    )])?;
    and_next(judged(&ended, fault), &trial)
}

pub(super) fn tmp_read_only(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let small = match Small::mount(&trial.place.tmp, "size=1m,ro") {
        Ok(small) => small,
        Err(why) => return Ok(Seen::Unavailable(why)),
    };
    let ended = trial.run(vec![])?;
    let seen = judged(&ended, fault);
    drop(small);
    and_next(seen, &trial)
}

pub(super) fn overlay_corrupted(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let ended = trial.run(vec![(
        "asked; waiting",
        Box::new(|living| {
            let overlay = living.folder()?.join("system.qcow2");
            let file = File::options().write(true).open(&overlay)?;
            let bytes = vec![0xff; usize::try_from(file.metadata()?.len().min(512 << 10))?];
            file.write_all_at(&bytes, 0).context("overwriting the overlay")
        }),
    )])?;
    and_next(judged(&ended, fault), &trial)
}

/// A file with something wrong in it, put right when dropped.
struct Broken {
    path: PathBuf,
    length: u64,
    byte: Option<(u64, u8)>,
}

impl Broken {
    /// A byte more at the end.
    fn longer(path: &Path) -> anyhow::Result<Broken> {
        let mut file = File::options().append(true).open(path)?;
        let length = file.metadata()?.len();
        file.write_all(b"x")?;
        Ok(Broken { path: path.to_owned(), length, byte: None })
    }

    /// Another byte in the middle.
    fn flipped(path: &Path) -> anyhow::Result<Broken> {
        let file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let mut byte = [0];
        file.read_exact_at(&mut byte, length / 2)?;
        let [old] = byte;
        file.write_all_at(&[!old], length / 2)?;
        Ok(Broken { path: path.to_owned(), length, byte: Some((length / 2, old)) })
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let Ok(file) = File::options().write(true).open(&self.path) else { return };
        let _whole = file.set_len(self.length);
        if let Some((at, byte)) = self.byte {
            let _whole = file.write_all_at(&[byte], at);
        }
    }
}

/// A trial in which the image becomes a byte longer when the harness says these words.
fn image_changes_at(words: &str, bench: &Bench, trial: &Trial) -> anyhow::Result<Ended> {
    let disk = bench.image()?.join("system.qcow2");
    let mut broken = None;
    let ended = trial.run(vec![(
        words,
        Box::new(|_| {
            broken = Some(Broken::longer(&disk)?);
            Ok(())
        }),
    )]);
    drop(broken);
    ended
}

pub(super) fn base_changed(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options).with(&["--repeat", "2"]);
    let ended = image_changes_at(SETTLED, bench, &trial)?;
    let mut seen = judged(&ended, fault);
    let verdicts = look::Records::newest(&ended.place.out).map(|r| r.verdicts()).unwrap_or_default();
    if let Seen::Result { problems, .. } = &mut seen
        && verdicts.last().map(String::as_str) != Some("infra")
    {
        problems.push(format!("booted from a changed image: {verdicts:?}"));
    }
    and_next(seen, &trial)
}

pub(super) fn base_changed_below(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    let ended = image_changes_at("asked; waiting", bench, &trial)?;
    and_next(judged(&ended, fault), &trial)
}

pub(super) fn image_damaged(bench: &mut Bench, _: &Fault) -> anyhow::Result<Seen> {
    let trial = Trial::control(bench.place()?);
    let broken = Broken::flipped(&bench.image()?.join("system.qcow2"))?;
    let ended = trial.run(vec![])?;
    drop(broken);
    let mut problems = look::words(&ended);
    problems.extend(look::left(&ended.place.tmp));
    if ended.status.code() != Some(3) || !ended.stderr.contains("is damaged") {
        problems.push(format!("{}: {}", ended.status, tail(&ended.stderr)));
    }
    let said = format!("exit 3: {}", tail(ended.stderr.lines().last().unwrap_or_default()));
    and_next(Seen::Result { said, problems }, &trial)
}

/// A run on a saved state that was broken: it says so, boots, and passes.
fn state_broken(
    bench: &mut Bench,
    fault: &Fault,
    name: &str,
    harm: fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    let trial = Trial::of(bench.place()?, fault.options);
    for state in bench.states()? {
        harm(&state.join(name))?;
    }
    let ended = trial.run(vec![])?;
    let mut seen = judged(&ended, fault);
    if let Seen::Result { problems, .. } = &mut seen
        && !(ended.stderr.contains("cannot be used") && ended.stderr.contains("is removed"))
    {
        problems.push(format!("it was not told: {}", tail(&ended.stderr)));
    }
    and_next(seen, &trial)
}

pub(super) fn state_damaged(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    state_broken(bench, fault, "memory", |path| {
        let file = File::options().write(true).open(path)?;
        Ok(file.write_all_at(b"x", file.metadata()?.len() / 2)?)
    })
}

pub(super) fn state_cut(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    state_broken(bench, fault, "state.json", |path| {
        let file = File::options().write(true).open(path)?;
        Ok(file.set_len(file.metadata()?.len() / 2)?)
    })
}

pub(super) fn two_runs(bench: &mut Bench, fault: &Fault) -> anyhow::Result<Seen> {
    for state in bench.states()? {
        std::fs::remove_dir_all(state)?;
    }
    let (one, two) = (Trial::of(bench.place()?, fault.options), Trial::of(bench.place()?, fault.options));
    let (first, second) = (one.start()?, two.start()?);
    let (first, second) = (first.finish(vec![])?, second.finish(vec![])?);
    let mut problems = look::problems(&first, fault.right);
    problems.extend(look::problems(&second, fault.right));
    let states = bench.states()?.len();
    if states != 1 {
        problems.push(format!("{states} states were saved"));
    }
    let said = format!("{}; {}; one state was made", said(&first), said(&second));
    and_next(Seen::Result { said, problems }, &one)
}
