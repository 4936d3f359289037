//! The installation: machine after machine, each from one restart of the guest to the next.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use softoff_harness::disk::DiskImage;
use softoff_harness::disk::fat::fat_volumes;
use softoff_harness::image::{DiskFormat, Image, Manifest, Sha256Hex};
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::machine::backend::Backend;
use softoff_harness::machine::command_line::{AtRestart, Disc, Memory};
use softoff_harness::machine::folder::RunFolder;
use softoff_harness::machine::{Machine, MachineConfig, QMP_LIMIT, overlay};
use softoff_harness::timeline::Timeline;

use super::BuildError;
use super::milestone::Milestone;
use super::stuck::Stuck;
use super::watch::{Ended, Watch, Watched};
use super::work::{Stage, Work};
use crate::catalog::{Entry, FirmwareKind, System};
use crate::progress::{Progress, note};
use crate::tools;

/// Machines before it is given up: Setup restarts two to four times.
const MOST: usize = 12;

/// How long nothing may change at ReactOS' desktop before its button is pressed, should it not shut itself down as its
/// answers say; its whole installation took 104 s (measured).
const DESKTOP: Duration = Duration::from_secs(60);

/// Less than this on the disk is no Windows: a restart before it was the firmware's or the loader's own.
const WINDOWS_BYTES: u64 = 200 << 20;

/// Whether a machine that restarted has left a system on the disk.
fn holds_system(system: System, written: u64, disk: &Path) -> bool {
    match system {
        System::Windows => written >= WINDOWS_BYTES,
        // How much its Setup writes, nobody has measured; it makes the volume in the same run that fills it.
        System::Reactos => {
            DiskImage::open(disk).and_then(|disk| fat_volumes(&disk)).is_ok_and(|found| !found.is_empty())
        }
    }
}

/// What an installation is made of.
pub(super) struct Installation<'a> {
    pub(super) entry: &'a Entry,
    pub(super) firmware: FirmwareKind,
    pub(super) disk_gib: u32,
    /// The one that boots comes first.
    pub(super) discs: &'a [PathBuf],
    pub(super) accelerator: Accelerator,
    pub(super) patience: Duration,
    pub(super) progress: &'a dyn Progress,
}

impl Installation<'_> {
    /// Runs machines until the guest has shut itself down, and gives the disk.
    pub(super) async fn run(&self, work: &mut Work) -> Result<PathBuf, BuildError> {
        if let Some(done) = work.newest().filter(|_| work.milestone() == Milestone::PoweredOff) {
            note(self.progress, "the installation was finished before");
            return Ok(done);
        }
        if work.next() > 1 {
            note(self.progress, format!("going on after: {}", work.milestone()));
        }
        let began = Instant::now();
        while work.next() <= MOST {
            let name = format!("stage-{}.qcow2", work.next());
            let disk = work.folder().join(&name);
            self.make_disk(work.newest().as_deref(), &disk).await?;
            let record_dir = work.folder().join(format!("stage-{}", work.next()));
            fresh_folder(&record_dir)?;
            let started = Instant::now();
            let watched = self.run_one(work, &disk, &record_dir, began).await?;
            let (milestone, off) = match &watched.ended {
                // Whether everything is on the disk, the disk tells: markers on COM1 may be missing.
                Ended::PoweredOff if watched.milestone >= Milestone::SystemWritten => {
                    (Milestone::PoweredOff, true)
                }
                Ended::Restarted if holds_system(self.entry.system, watched.written, &disk) => {
                    (watched.milestone.max(Milestone::SystemWritten), false)
                }
                Ended::Restarted => (watched.milestone, false),
                _ => return Err(self.stuck(work, watched, record_dir)),
            };
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            work.done(Stage { disk: name, milestone, took_ms })?;
            note(self.progress, format!("{:>6.0} s  {milestone}", began.elapsed().as_secs_f64()));
            if off {
                return Ok(disk);
            }
        }
        Err(anyhow::anyhow!("the guest restarted {MOST} times; next: --restart, and look at the pictures")
            .into())
    }

    /// A ReactOS on its disk comes to its desktop and stays there: that is no stand.
    fn patience_after(&self, milestone: Milestone) -> Duration {
        match self.entry.system {
            System::Reactos if milestone >= Milestone::SystemWritten => self.patience.min(DESKTOP),
            _ => self.patience,
        }
    }

    async fn make_disk(&self, below: Option<&Path>, disk: &Path) -> anyhow::Result<()> {
        if disk.exists() {
            std::fs::remove_file(disk).with_context(|| format!("cannot remove {}", disk.display()))?;
        }
        match below {
            Some(below) => overlay::create(below, DiskFormat::Qcow2, disk).await,
            None => {
                let size = format!("{}G", self.disk_gib);
                tools::run(
                    tools::command("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(disk).arg(size),
                )?;
                Ok(())
            }
        }
    }

    async fn run_one(
        &self,
        work: &Work,
        disk: &Path,
        record_dir: &Path,
        began: Instant,
    ) -> anyhow::Result<Watched> {
        let image = self.image(disk);
        let disc = |(number, file): (usize, &PathBuf)| Disc { file: file.clone(), boots: number == 0 };
        let discs: Vec<Disc> = self.discs.iter().enumerate().map(disc).collect();
        let folder = RunFolder::create()?;
        let config = MachineConfig {
            image: &image,
            overlay: disk,
            accelerator: self.accelerator,
            record_dir,
            attach: false,
            memory: Memory::Anonymous,
            spoken: Default::default(),
            discs: &discs,
            at_restart: AtRestart::Stops,
            backend: &Backend::Qemu,
        };
        let timeline = Timeline::start();
        let mut machine = Machine::prepare(config, &folder, timeline.clone()).await?;
        let watched = match machine.run().await {
            Ok(()) => {
                let watch = Watch {
                    machine: &machine,
                    record_dir: record_dir.to_owned(),
                    patience: self.patience_after(work.milestone()),
                    answers_prompt: work.milestone() < Milestone::SystemWritten,
                    progress: self.progress,
                    began,
                };
                let watched = watch.until_ended(work.milestone()).await;
                self.press_if_it_only_waits(&machine, watch, watched, work).await
            }
            Err(error) => {
                machine.clean_up().await;
                return Err(error);
            }
        };
        machine.clean_up().await;
        write_timeline(record_dir, &timeline)?;
        Ok(watched)
    }

    /// ReactOS may not shut itself down after its installation: once the system on its disk shows nothing new any more,
    /// the power button is pressed.
    async fn press_if_it_only_waits(
        &self,
        machine: &Machine,
        watch: Watch<'_>,
        watched: Watched,
        work: &Work,
    ) -> Watched {
        let waits = matches!(watched.ended, Ended::Silent(_)) && work.milestone() >= Milestone::SystemWritten;
        if self.entry.system != System::Reactos || !waits {
            return watched;
        }
        note(self.progress, "the desktop stands still: pressing the power button");
        match machine.qmp.execute_raw("system_powerdown", json!({}), QMP_LIMIT).await {
            Ok(_) => watch.until_ended(watched.milestone).await,
            Err(_) => watched,
        }
    }

    /// The machine's facts as the engine wants them: an image whose disk is the one that is being filled.
    fn image(&self, disk: &Path) -> Image {
        let manifest = Manifest {
            schema: 1,
            name: format!("{}-setup", self.entry.name),
            family: self.entry.family(),
            machine: self.entry.machine(self.firmware),
            boot: self.firmware.boot(),
            system_disk: disk.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            system_format: DiskFormat::Qcow2,
            system_backing: None,
            files: Default::default(),
            recipe: Sha256Hex::default(),
            quirks: Vec::new(),
            provenance: Default::default(),
        };
        let dir = disk.parent().unwrap_or(Path::new("/")).to_owned();
        Image { dir, id: Sha256Hex::default(), manifest, stamps: Default::default() }
    }

    fn stuck(&self, work: &Work, watched: Watched, folder: PathBuf) -> BuildError {
        let silence = match watched.ended {
            Ended::Silent(time) => time,
            _ => Duration::ZERO,
        };
        let ended = match watched.ended {
            Ended::Otherwise(how) => Some(how),
            Ended::PoweredOff => Some("the guest shut down before the installation was finished".to_owned()),
            Ended::Restarted | Ended::Silent(_) => None,
        };
        BuildError::Stuck(Box::new(Stuck {
            name: self.entry.name.clone(),
            last: watched.milestone.max(work.milestone()),
            since: watched.reached.elapsed(),
            silence,
            written_mib: watched.written >> 20,
            ended,
            picture: watched.picture,
            text: watched.text,
            folder,
        }))
    }
}

fn fresh_folder(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

fn write_timeline(dir: &Path, timeline: &Timeline) -> anyhow::Result<()> {
    let mut text = String::new();
    for observation in timeline.snapshot() {
        text += &serde_json::to_string(&observation)?;
        text.push('\n');
    }
    std::fs::write(dir.join("timeline.jsonl"), text).context("writing the timeline")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 64 MiB, with a FAT volume over all of it or with nothing.
    fn disk(dir: &Path, formatted: bool) -> PathBuf {
        let path = dir.join(format!("{formatted}.raw"));
        std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        if formatted {
            tools::run(tools::command("mkfs.fat").args(["-F", "32", "-s", "1"]).arg(&path))
                .expect("next: apt-get install dosfstools");
        }
        path
    }

    #[test]
    fn a_restart_before_anything_was_installed_is_no_milestone() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, formatted) = (disk(dir.path(), false), disk(dir.path(), true));
        assert!(!holds_system(System::Reactos, 1 << 30, &empty));
        assert!(holds_system(System::Reactos, 0, &formatted));
        assert!(!holds_system(System::Reactos, 0, &dir.path().join("none.raw")));
        assert!(!holds_system(System::Windows, WINDOWS_BYTES - 1, &formatted));
        assert!(holds_system(System::Windows, WINDOWS_BYTES, &empty));
    }
}
