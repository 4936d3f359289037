//! Reading the screen: the tesseract program, where it is installed.
//!
//! Exact on plain 16 to 30 point text, 140 to 268 ms a picture (measured, tesseract 5). A picture that was read once
//! is not read again: guests of one image show the same desktop, to the pixel, in every run. Optional: without
//! it a diagnosis says what it lacks.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::process::Command;

use super::confine::{Bounds, confine, program};
use crate::image::Sha256Hex;
use crate::screen_texts::Language;

/// How long one picture may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Texts that are remembered, and the longest of them, bytes: 4 MiB in all, whatever guests show.
const REMEMBERED: usize = 1024;
const LONGEST: usize = 4096;

/// Whether tesseract is here.
pub fn available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("tesseract").is_file())
}

/// The languages of our tables that tesseract has data for, as its `-l` wants them; its default where it does
/// not tell.
fn languages() -> &'static str {
    static LANGUAGES: OnceLock<String> = OnceLock::new();
    LANGUAGES.get_or_init(|| {
        let list = std::process::Command::new("tesseract").arg("--list-langs").stderr(Stdio::null()).output();
        let list = list.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let here = Language::ALL.map(Language::tesseract).into_iter();
        let here: Vec<&str> = here.filter(|name| list.lines().any(|line| line.trim() == *name)).collect();
        if here.is_empty() { "eng".into() } else { here.join("+") }
    })
}

/// The text of a picture; `None` when it cannot be read.
pub async fn read(picture: &Path) -> Option<String> {
    // tesseract takes a file that is no picture for a list of paths to read.
    let bytes =
        tokio::fs::read(picture).await.ok().filter(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))?;
    let content = Sha256Hex::of_bytes(&bytes);
    if let Some(text) = texts().get(&content) {
        return Some(text.clone());
    }
    let text = run(picture).await?;
    let mut texts = texts();
    if texts.len() < REMEMBERED && text.len() <= LONGEST {
        texts.insert(content, text.clone());
    }
    Some(text)
}

/// Texts of pictures by the pictures' content.
fn texts() -> MutexGuard<'static, HashMap<Sha256Hex, String>> {
    static TEXTS: LazyLock<Mutex<HashMap<Sha256Hex, String>>> = LazyLock::new(Mutex::default);
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(picture: &Path) -> Option<String> {
    let mut command = Command::new("tesseract");
    // Page segmentation 11: sparse text in any order, which is what a desktop is. One thread: the guests
    // need the processors.
    command.arg(picture).args(["-", "-l", languages(), "--psm", "11"]).env("OMP_THREAD_LIMIT", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // What it reads was painted by a guest.
    let scratch = tempfile::tempdir().ok()?;
    command.env("TMPDIR", scratch.path());
    let bounds = Bounds {
        read: [vec![picture.to_owned()], program("tesseract")].concat(),
        write: vec![scratch.path().to_owned()],
    };
    confine(command.as_std_mut(), &bounds).ok()?;
    let child = super::process::spawn(command).await.ok()?;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
