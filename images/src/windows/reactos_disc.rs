//! ReactOS' boot CD with our answers in the place of its own: a copy, in which nothing else is another.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::media::{XORRISO, named};
use super::medium::extract;
use crate::answer::{REACTOS_ANSWERS, REACTOS_MENU, ReactosAnswers, reactos_menu};
use crate::tools;

/// Makes the copy at `out`, by way of a folder of that name with `.tree` behind it.
pub(super) fn make(
    disc: &Path,
    answer_files: &[String],
    answers: &ReactosAnswers,
    out: &Path,
) -> anyhow::Result<()> {
    let tree = PathBuf::from(format!("{}.tree", out.display()));
    for old in [&tree, out] {
        let removed = if old.is_dir() { std::fs::remove_dir_all(old) } else { std::fs::remove_file(old) };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("removing an old {}", old.display()));
        }
    }
    std::fs::create_dir_all(&tree).with_context(|| format!("making {}", tree.display()))?;
    let ours = tree.join(REACTOS_ANSWERS);
    std::fs::write(&ours, answers.document()?).with_context(|| format!("writing {}", ours.display()))?;
    let mut copy = tools::command(XORRISO);
    // `replay`: what boots the disc is taken over as it is.
    copy.arg("-indev").arg(disc).arg("-outdev").arg(out).args(["-boot_image", "any", "replay"]);
    if has_joliet(disc).with_context(|| format!("reading {}", disc.display()))? {
        copy.args(["-joliet", "on", "-compliance", "joliet_long_names"]);
    }
    for place in answer_files {
        copy.arg("-map").arg(&ours).arg(place);
    }
    let menu = named(disc, REACTOS_MENU)?.into_iter().find(|path| path.matches('/').count() == 1);
    if let Some(place) = menu {
        let file = tree.join(REACTOS_MENU);
        extract(disc, place.trim_start_matches('/'), &file)?;
        let text = std::fs::read(&file).with_context(|| format!("reading the disc's {place}"))?;
        if let Some(text) = reactos_menu(&String::from_utf8_lossy(&text)) {
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            copy.arg("-map").arg(&file).arg(&place);
        }
    }
    tools::run(copy.arg("-commit")).context("copying the disc with other answers")?;
    let boots =
        tools::run(tools::command(XORRISO).arg("-indev").arg(out).args(["-report_el_torito", "plain"]))?;
    anyhow::ensure!(
        boots.contains("El Torito"),
        "the copy of {} does not boot any more: its boot image is no file of the disc; next: take the boot CD as ReactOS \
         publishes it",
        disc.display()
    );
    std::fs::remove_dir_all(&tree).context("removing the answers' folder")
}

/// Whether a disc has a second tree of names, Joliet's, which systems prefer; xorriso makes one only when told to. It is
/// announced by a supplementary volume descriptor with one of three escape sequences (ECMA-119, 8.5; Joliet
/// Specification).
fn has_joliet(disc: &Path) -> std::io::Result<bool> {
    const SECTOR: u64 = 2048;
    let mut file = File::open(disc)?;
    let mut descriptor = [0; SECTOR as usize];
    for number in 16..32 {
        file.seek(SeekFrom::Start(number * SECTOR))?;
        file.read_exact(&mut descriptor)?;
        match (descriptor.first(), descriptor.get(88..91)) {
            (Some(2), Some(b"%/@" | b"%/C" | b"%/E")) => return Ok(true),
            (Some(255), _) => break,
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disc with these files; the first one boots it.
    fn disc(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
        let (tree, out) = (dir.join("tree"), dir.join("disc.iso"));
        for (path, text) in files {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let boots = ["-b", files[0].0, "-no-emul-boot", "-boot-load-size", "4", "-o"];
        let mut make = tools::command(XORRISO);
        make.args(["-as", "mkisofs", "-quiet", "-J", "-r"]).args(boots).arg(&out).arg(&tree);
        tools::run(&mut make).unwrap();
        out
    }

    /// All files of a disc, by other code than made it.
    fn contents(disc: &Path) -> Vec<(String, String)> {
        let isoinfo = |args: &[&str]| {
            tools::run(tools::command("isoinfo").arg("-J").args(args).arg("-i").arg(disc))
                .expect("next: cargo xtask doctor --install")
        };
        let paths: Vec<String> = isoinfo(&["-f"]).lines().map(str::to_owned).collect();
        // The boot catalogue tells where things lie, which may be elsewhere.
        let is_file = |path: &str| {
            path.rsplit('/').next().is_some_and(|name| name.contains('.') && !name.starts_with("boot.cat"))
        };
        let files = paths.into_iter().filter(|path| is_file(path));
        files.map(|path| (path.clone(), isoinfo(&["-x", &path]))).collect()
    }

    const MENU: &str = "[FREELOADER]\nDefaultOS=Live\n[Setup]\nBootType=ReactOSSetup\n";

    #[test]
    fn the_copy_has_our_answers_and_is_otherwise_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("loader/isoboot.bin", "boots"),
            ("I386/unattend.inf", "[Unattend]\n"),
            ("reactos/Unattend.inf", "[Unattend]\n"),
            ("reactos/other.inf", "[Other]\n"),
            ("freeldr.ini", MENU),
        ];
        let original = disc(dir.path(), &files);
        let found = named(&original, REACTOS_ANSWERS).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let (copy, answers) = (dir.path().join("copy.iso"), ReactosAnswers::default());
        make(&original, &found, &answers, &copy).unwrap();
        let ours = |(path, text): (String, String)| match path.to_ascii_lowercase() {
            name if name.ends_with("unattend.inf") => (path, answers.document().unwrap()),
            name if name.ends_with("freeldr.ini") => (path, MENU.replace("=Live", "=Setup")),
            _ => (path, text),
        };
        let wanted: Vec<(String, String)> = contents(&original).into_iter().map(ours).collect();
        assert_eq!(contents(&copy), wanted);
        assert!(wanted.len() >= files.len() && !dir.path().join("copy.iso.tree").exists());
        // A second time over the first.
        make(&original, &found, &answers, &copy).unwrap();
    }
}
