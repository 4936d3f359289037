//! From a user's media to an image: unattended installation of a Windows (or ReactOS) under QEMU.
//!
//! Read as it runs: look at the media ([`media`]), make the answer disc ([`medium`]; for ReactOS, a copy of its disc with
//! the answers on it), run machines and watch them
//! ([`milestone`], `watch`), finish. A machine stops at each restart of its guest; that is a place to go on
//! from ([`work`]). What comes to a stand ends with a diagnosis ([`stuck`]).

mod error;
mod finish;
mod install;
pub mod media;
pub mod medium;
pub mod milestone;
mod reactos_disc;
pub mod stuck;
mod watch;
pub mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use softoff_harness::image::{Image, MANIFEST, Sha256Hex};
use softoff_harness::machine::accel::Accelerator;

pub use error::BuildError;
pub use finish::PROVENANCE;
use install::Installation;
use media::{CheckedMedia, Media};
use work::Work;

use crate::answer::{Account, AnswerError, Answers, Ending, ReactosAnswers};
use crate::catalog::{Catalog, Entry, FirmwareKind, System};
use crate::hardening::{Profile, SUFFIX};
use crate::progress::{Progress, note, step};
use crate::toolchain;

/// Room for the disk while it grows, and for its compressed copy: what an installed Windows and its image take, GiB.
const ROOM_GIB: u64 = 24;

/// What is built.
#[derive(Debug)]
pub struct Build<'a> {
    /// The catalogue.
    pub catalog: &'a Catalog,
    /// The system.
    pub entry: &'a Entry,
    /// Its firmware.
    pub firmware: FirmwareKind,
    /// Index of the edition instead of the catalogue's.
    pub edition: Option<u32>,
    /// Size of its disk instead of the catalogue's, GiB.
    pub disk_gib: Option<u32>,
    /// Whether the hardening profile is applied.
    pub hardened: bool,
    /// Whether it is generalised by sysprep in the end, for handing out.
    pub sysprep: bool,
    /// The media.
    pub media: Media,
    /// How to run the guest's instructions.
    pub accelerator: Accelerator,
    /// How long nothing may happen before it counts as a stand.
    pub patience: Duration,
    /// Whether to begin anew.
    pub restart: bool,
    /// The cache.
    pub cache: &'a Path,
}

impl Build<'_> {
    /// The image's name: the system's, with what is special about it.
    pub fn image_name(&self) -> String {
        let usual = self.entry.firmware.first() == Some(&self.firmware);
        let firmware = if usual { String::new() } else { format!("-{}", self.firmware) };
        let sysprep = if self.sysprep { "-sysprep" } else { "" };
        let hardened = if self.hardened { SUFFIX } else { "" };
        format!("{}{firmware}{sysprep}{hardened}", self.entry.name)
    }

    /// Builds the image, or opens it where the cache has it.
    pub async fn run(&self, progress: &dyn Progress) -> Result<Image, BuildError> {
        if !self.entry.firmware.contains(&self.firmware) {
            let known = self.entry.firmware.iter().map(FirmwareKind::to_string).collect();
            return Err(BuildError::Firmware { name: self.entry.name.clone(), known });
        }
        for (wanted, option) in [(self.hardened, "--hardened"), (self.sysprep, "--sysprep")] {
            if wanted && self.entry.system != System::Windows {
                return Err(BuildError::NotAWindows { name: self.entry.name.clone(), option });
            }
        }
        let disk_gib = self.disk_gib.unwrap_or(self.entry.disk.default_gib);
        let media = media::check(self.catalog, self.entry, self.firmware, disk_gib, &self.media, progress)?;
        let answers = self.answers()?;
        let said = answers.text()?;
        let key = self.key(&media, &said, disk_gib);
        let done = finish::location(self, &key);
        if done.join(MANIFEST).exists() && !self.restart {
            return Ok(step(progress, "check the image", || Ok(Image::open(&done)?))?);
        }
        let folder = self.cache.join("building").join(format!("{}-{}", self.image_name(), key.short()));
        let mut work = Work::open(&folder, self.restart)?;
        self.check_room(&work, disk_gib)?;
        let discs = match &answers {
            Answering::Windows(answers) => {
                [media.iso.clone(), self.answer_disc(answers, &media, &work, progress)?].into()
            }
            Answering::Reactos(answers) => vec![self.answered_disc(answers, &media, &work, progress)?],
        };
        let installation = Installation {
            entry: self.entry,
            firmware: self.firmware,
            disk_gib,
            discs: &discs,
            accelerator: self.accelerator,
            patience: self.patience,
            progress,
        };
        let installed = installation.run(&mut work).await?;
        let image =
            finish::finish(self, &key, &media, &Sha256Hex::of_bytes(said.as_bytes()), &installed, progress)?;
        work.remove()?;
        Ok(image)
    }

    fn answers(&self) -> Result<Answering<'_>, BuildError> {
        if self.entry.system == System::Reactos {
            return Ok(Answering::Reactos(ReactosAnswers::default()));
        }
        let edition = self.edition.or(self.entry.editions.as_ref().map(|edition| edition.index));
        let hardening = match self.hardened {
            true => Profile::own()?.commands()?,
            false => Vec::new(),
        };
        Ok(Answering::Windows(Answers {
            entry: self.entry,
            firmware: self.firmware,
            edition: edition.context("the catalogue names no edition")?,
            account: Account::default(),
            hardening,
            ending: if self.sysprep { Ending::Generalize } else { Ending::ShutDown },
        }))
    }

    /// What decides the image: another medium, answer or disk is another image.
    fn key(&self, media: &CheckedMedia, said: &str, disk_gib: u32) -> Sha256Hex {
        let mut text = format!("{}\n{}\n{disk_gib}\n{}\n", self.entry.name, self.firmware, media.iso_sha256);
        if let Some((_, drivers)) = &media.drivers {
            text += &format!("{drivers}\n{}\n", media.driver_folders.join(" "));
        }
        Sha256Hex::of_bytes((text + said).as_bytes())
    }

    fn check_room(&self, work: &Work, disk_gib: u32) -> Result<(), BuildError> {
        let stat = nix::sys::statvfs::statvfs(work.folder())
            .with_context(|| format!("asking for the room in {}", work.folder().display()))?;
        let free_gib = (stat.blocks_available() * stat.fragment_size()) >> 30;
        // A small system does not fill what a Windows does.
        let needed_gib = ROOM_GIB.min(u64::from(disk_gib));
        if free_gib < needed_gib && work.next() == 1 {
            return Err(BuildError::NoRoom { folder: work.folder().to_owned(), free_gib, needed_gib });
        }
        Ok(())
    }

    fn answer_disc(
        &self,
        answers: &Answers<'_>,
        media: &CheckedMedia,
        work: &Work,
        progress: &dyn Progress,
    ) -> Result<PathBuf, BuildError> {
        let disc = work.folder().join("answers.iso");
        let probe = step(progress, "build the Win32 programs", || {
            toolchain::build_windows_programs(self.cache, &mut |text| note(progress, text))
        })?
        .probe;
        step(progress, "make the answer disc", || {
            let contents = medium::Contents { answers, probe: &probe };
            medium::make(self.catalog, &contents, media, &disc)
        })?;
        Ok(disc)
    }

    fn answered_disc(
        &self,
        answers: &ReactosAnswers,
        media: &CheckedMedia,
        work: &Work,
        progress: &dyn Progress,
    ) -> Result<PathBuf, BuildError> {
        let copy = work.folder().join("installation.iso");
        step(progress, "copy the disc with the answers on it", || {
            reactos_disc::make(&media.iso, &media.answer_files, answers, &copy)
        })?;
        Ok(copy)
    }
}

/// What answers Setup's questions.
enum Answering<'a> {
    /// A disc of our own, beside the installation disc.
    Windows(Answers<'a>),
    /// A file on the installation disc itself, in a copy of it.
    Reactos(ReactosAnswers),
}

impl Answering<'_> {
    /// All that is said.
    fn text(&self) -> Result<String, BuildError> {
        Ok(match self {
            Answering::Windows(answers) => {
                let script = answers.first_logon_script("agent");
                let next_start = answers.generalized_document()?.unwrap_or_default();
                answers.document()? + &script.map_err(|why| BuildError::Other(why.into()))? + &next_start
            }
            Answering::Reactos(answers) => answers.document().map_err(AnswerError::from)?,
        })
    }
}

/// The newest image of a name in the cache.
pub fn newest(cache: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(crate::cache::images(cache)).into_iter().flatten().flatten();
    let of_name = |path: &Path| Image::open_unverified(path).is_ok_and(|image| image.manifest.name == name);
    entries
        .map(|entry| entry.path())
        .filter(|path| of_name(path))
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
}
